"""A measure is declared once, where it is computed: the declaration feeds the API, the command,
the documentation and the checks.

    @declared(level="neuron", signs=("absolute",), kinds=PATH_KINDS, cost="sweep", ...)
    def katz(graph: Weighted, *, alpha: float = 0.1) -> Values: ...

The function's name is the measure's, its keyword arguments are the options, and it is given the
network under one convention, a `Weighted`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.costs import COSTS, Cost

if TYPE_CHECKING:
    from cntgraph.measures.weighted import Weighted

__all__ = ["LENGTHS", "LEVELS", "MEASURES", "PATH_KINDS", "SIGNS", "TRAINED", "Measure", "declared"]

LEVELS = ("neuron", "block", "network")
SIGNS = ("absolute", "signed", "positive", "negative")
LENGTHS = ("inverse", "log", "weight", "unit")
TRAINED = ("weight",)
PATH_KINDS = ("weight", "identity", "fixed", "scale", "select")

MEASURES: dict[str, Measure] = {}  # by name; `catalogue` imports every module that declares


@dataclass(frozen=True)
class Measure:
    """What is known of a measure, and how it is computed."""

    name: str
    level: str
    signs: tuple[str, ...]  # what it can do with signs; the first unless asked
    lengths: tuple[str, ...]  # the lengths it can give a link; none if it knows no length
    kinds: tuple[str, ...]  # the links it follows unless asked
    cost: Cost
    formula: str
    sees: str
    leave: str
    degenerate: str
    igraph: str
    reference: str
    options: Mapping[str, Any]
    compute: Callable[..., Any]

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return (inspect.getdoc(self.compute) or "").partition("\n")[0]

    def sign(self, asked: str) -> str:
        """What it does with signs: as asked if it can, by itself where nothing special is asked."""
        if asked in self.signs:
            return asked
        if asked == SIGNS[0]:  # the default of every call
            return self.signs[0]
        why = did_you_mean(asked, SIGNS) if asked not in SIGNS else self._known("sign", self.signs)
        raise InputRefused(f"{self.name} does not know sign={asked!r}", why=why)

    def length(self, asked: str) -> str:
        """The length it gives a link; empty where it knows no length."""
        if not self.lengths and asked in LENGTHS:
            return ""
        if asked in self.lengths:
            return asked
        known = self._known("length", self.lengths) if asked in LENGTHS else ""
        raise InputRefused(
            f"{self.name} does not know length={asked!r}", why=known or did_you_mean(asked, LENGTHS)
        )

    def _known(self, what: str, words: tuple[str, ...]) -> str:
        return f"its {what} is {' or '.join(words)}"


def declared(  # noqa: PLR0913 - a declaration says everything, once
    *,
    level: str,
    cost: str,
    formula: str,
    sees: str,
    leave: str,
    reference: str,
    signs: tuple[str, ...] = ("absolute",),
    lengths: tuple[str, ...] = (),
    kinds: tuple[str, ...] = TRAINED,
    degenerate: str = "",
    igraph: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a measure of the function below it.

    ``formula`` is in the mathematics of Markdown (between dollar signs), ``sees`` says what a high
    value means, ``leave`` when to use another measure, ``degenerate`` on which networks it says
    nothing, ``igraph`` the call that gives the same numbers on ``network.to_igraph()``.
    """

    def keep(compute: Callable[..., Any]) -> Callable[..., Any]:
        parameters = inspect.signature(compute).parameters.values()
        options = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        MEASURES[compute.__name__] = Measure(
            compute.__name__,
            level,
            signs,
            lengths,
            kinds,
            COSTS[cost],
            formula,
            sees,
            leave,
            degenerate,
            igraph,
            reference,
            options,
            compute,
        )
        return compute

    return keep


def found_in(graph: Weighted, measure: Measure, options: Mapping[str, Any]) -> Any:
    """The measure of a network, with those of the options that it has."""
    return measure.compute(graph, **{n: v for n, v in options.items() if n in measure.options})
