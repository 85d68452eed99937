"""The sums at a neuron as measures, so that they stand beside others in one table.

Unless ``kinds`` says otherwise they are those of `cnt.strength`, over trained links.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.measures.declaring import declared
from cntgraph.measures.families.distribution import signed_sums

if TYPE_CHECKING:
    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []


def _declared(
    formula: str, sees: str, igraph: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return declared(
        level="neuron",
        signs=("signed",),
        cost="sums",
        formula=formula,
        sees=sees,
        leave="positive and negative weights cancel; ReLU rescaling changes it without changing "
        "the function: `path_score` is invariant, `balanced` offers a gauge",
        igraph=igraph,
        reference="La Malfa et al. 2021; Barrat et al. 2004",
    )


@_declared(
    r"$s_k = \sum_i w_{ik} + \sum_j w_{kj}$",
    "neurons whose links pull one way",
    'strength(mode="all", weights="weight")',
)
def strength(graph: Weighted) -> Values:
    """Node strength: the sum of the weights of all the neuron's links, signed."""
    return _added(*signed_sums(graph).sum(0))


@_declared(
    r"$s^{in}_k = \sum_i w_{ik}$",
    "neurons that are driven one way by what they read",
    'strength(mode="in", weights="weight")',
)
def strength_in(graph: Weighted) -> Values:
    """The sum of the neuron's incoming weights, signed."""
    return _added(*signed_sums(graph)[0])


@_declared(
    r"$s^{out}_k = \sum_j w_{kj}$",
    "neurons that drive what reads them one way",
    'strength(mode="out", weights="weight")',
)
def strength_out(graph: Weighted) -> Values:
    """The sum of the neuron's outgoing weights, signed."""
    return _added(*signed_sums(graph)[1])


@_declared(
    r"$\sum_i |w_{ik}| + \sum_j |w_{kj}|$",
    "neurons with much weight on them, whatever its sign",
    'strength(weights=[abs(w) for w in graph.es["weight"]])',
)
def strength_absolute(graph: Weighted) -> Values:
    """The sum of the sizes of the weights of all the neuron's links."""
    positive, negative = signed_sums(graph).sum(0)
    return _added(positive, -negative)


def _added(positive: Values, negative: Values) -> Values:
    with np.errstate(invalid="ignore"):  # of infinities of both signs the sum is NaN
        return positive + negative
