"""The factors that make the norms at both ends of every unit equal: a convex problem.

With s the factors and x = log s^2, the sum of w_uv^2 exp(x_v - x_u) over the links is convex in x,
and least where the incoming and the outgoing norm of every unit are equal. Setting one unit after
another to its minimum (Osborne, 1960) gets there, slowly where there are many layers; a Newton
step after each round takes all layers along.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.network.geometry import Index

__all__ = ["TOLERANCE", "Balance", "Squares"]

TOLERANCE = 1e-10  # relative, of a unit's two norms
ROUNDS = 1000
LONGEST = 4.0  # step in x of one Newton step: beyond it the quadratic says little
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Squares:
    """The squared weights of a block, summed over the links from one unit to another."""

    weight: Any  # (targets, sources), dense or sparse
    target: Index  # the unit of each row, each once
    source: Index


@dataclass(eq=False)
class Balance:
    """Units 0 .. count - 1, the squared weights between them, and what is found of them."""

    squares: list[Squares]
    count: int

    @cached_property
    def fixed(self) -> NDArray[np.bool_]:
        """Units that keep their scale: 0, and those whose norm at an end is zero or not finite."""
        into, out = self._sums(np.zeros(self.count))
        with np.errstate(invalid="ignore"):
            good = np.isfinite(into) & np.isfinite(out) & (into > 0) & (out > 0)
        good[:1] = False
        return ~good

    def factors(self) -> tuple[Values, bool]:
        """The factor of every unit, and whether all norms are equal to `TOLERANCE`."""
        x = np.zeros(self.count)
        for _ in range(ROUNDS):
            if self._round(x) < TOLERANCE:
                return np.exp(x / 2), True
            x = self._newton(x)
        return np.exp(x / 2), False

    def _sums(self, x: Values) -> tuple[Values, Values]:
        """The squared norms of the incoming and of the outgoing weights of every unit."""
        into, out = np.zeros((2, self.count))
        scale = np.exp(x)
        for one in self.squares:
            into[one.target] += one.weight @ (1 / scale[one.source])
            out[one.source] += one.weight.T @ scale[one.target]
        return into * scale, out / scale

    def _round(self, x: Values) -> float:
        """Set every unit to its minimum, in place; the largest change of a norm it took."""
        moved = 0.0
        for wave, into, out in self._waves:
            reads, feeds = np.zeros((2, self.count))
            for one in into:
                reads[one.target] += one.weight @ np.exp(-x[one.source])
            for one in out:
                feeds[one.source] += one.weight.T @ np.exp(x[one.target])
            new = np.log(feeds[wave] / reads[wave]) / 2
            moved = max(moved, float(np.abs(new - x[wave]).max(initial=0.0)))
            x[wave] = new
        return moved

    @cached_property
    def _waves(self) -> list[tuple[Index, list[Squares], list[Squares]]]:
        """Units without links among them, and the blocks into and out of them, in order."""
        left = ~self.fixed
        waves = []
        for one in self.squares:
            wave = one.target[left[one.target]]
            left[wave] = False
            if len(wave):
                into = [s for s in self.squares if np.isin(s.target, wave).any()]
                out = [s for s in self.squares if np.isin(s.source, wave).any()]
                waves.append((wave, into, out))
        return waves

    def _newton(self, x: Values) -> Values:
        """A step towards the minimum of the quadratic at x, if it brings the norms together."""
        from scipy.sparse.linalg import LinearOperator, cg

        into, out = self._sums(x)
        free = ~self.fixed
        diagonal = np.where(free, into + out, 1.0)
        scale = np.exp(x)

        def curved(y: Values) -> Values:
            found = diagonal * y
            for one in self.squares:
                s, t = one.source, one.target
                found[t] -= scale[t] * (one.weight @ (y[s] / scale[s]))
                found[s] -= (one.weight.T @ (scale[t] * y[t])) / scale[s]
            return np.where(free, found, y)

        shape = self.count, self.count
        hessian = LinearOperator(shape, matvec=curved, dtype=np.float64)
        inverse = LinearOperator(shape, matvec=lambda y: y / diagonal, dtype=np.float64)
        slope = np.where(free, into - out, 0.0)
        step, _ = cg(hessian, -slope, rtol=1e-6, maxiter=200, M=inverse)
        step *= min(1.0, LONGEST / max(float(np.abs(step).max(initial=0.0)), LONGEST))
        return x + step if self._apart(x + step) < self._apart(x) else x

    def _apart(self, x: Values) -> float:
        into, out = (part[~self.fixed] for part in self._sums(x))
        return float(np.abs(np.log(out / into)).max(initial=0.0))
