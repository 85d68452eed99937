"""Sums over paths kept with an exponent for each layer: products of many weights stay in range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.network.geometry import Index

if TYPE_CHECKING:
    from cntgraph.measures.steps import Step, Turned, Values
    from cntgraph.measures.weighted import Weighted

__all__ = ["Scaled", "swept"]

COMFORT = 2.0**400  # a step multiplies by far less than what is left of the range


@dataclass(frozen=True, eq=False)
class Scaled:
    """A value for each neuron, ``values * 2 ** exponents``; a layer has one exponent.

    Below 1e-308 of the largest of its layer a value is 0.
    """

    values: Values
    exponents: Index

    def times(self, other: Scaled) -> Scaled:
        """The product, neuron by neuron."""
        return Scaled(self.values * other.values, self.exponents + other.exponents)

    def over_total(self, of: Values) -> Scaled:
        """Divided by the sum of the values of the neurons that are marked in ``of``."""
        marked = self.values * of
        most = int(self.exponents[marked != 0].max())
        total = np.ldexp(marked, self.exponents - most).sum()
        return Scaled(self.values / total, self.exponents - most)

    def plain(self) -> Values:
        """As float64: infinite above its range, 0 below."""
        with np.errstate(over="ignore", under="ignore"):
            return np.ldexp(self.values, self.exponents)

    def magnitude(self) -> float:
        """The decimal logarithm of the largest finite value; minus infinity if all are 0."""
        known = np.isfinite(self.values) & (self.values != 0)
        logarithms = np.log2(np.abs(self.values[known])) + self.exponents[known]
        return float(logarithms.max(initial=-math.inf)) * math.log10(2)


def swept(graph: Weighted, steps: Sequence[Step | Turned], start: Values) -> Scaled:
    """What ``start`` becomes if everything that arrives at a neuron is passed on, and stays.

    The steps are in topological order, so a layer is complete before it is passed on.
    """
    values, exponents = start.copy(), np.zeros(graph.neuron_count, np.int64)
    for step in steps:
        _normalise(values, exponents, step.source)
        _add(values, exponents, step)
    for layer in graph.network.layers:
        _normalise(values, exponents, slice(layer.first, layer.last), comfort=1.0)
    return Scaled(values, exponents)


def _add(values: Values, exponents: Index, step: Step | Turned) -> None:
    arrived = step.push(values[step.source])
    if not arrived.any():
        return
    from_, here = int(exponents[step.source.start]), int(exponents[step.target.start])
    there = values[step.target]
    if from_ != here:
        most = max(from_, here) if there.any() else from_
        there, arrived = np.ldexp(there, here - most), np.ldexp(arrived, from_ - most)
        exponents[step.target] = most
    values[step.target] = there + arrived


def _normalise(values: Values, exponents: Index, where: slice, *, comfort: float = COMFORT) -> None:
    """Move the size of a layer's largest value into its exponent; no digit changes."""
    largest = float(np.abs(values[where]).max(initial=0.0))
    if not math.isfinite(largest) or largest == 0 or 1 / comfort <= largest <= comfort:
        return
    shift = math.frexp(largest)[1]
    values[where] = np.ldexp(values[where], -shift)
    exponents[where] += shift
