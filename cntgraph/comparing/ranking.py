"""How far two lists of numbers agree: in value, in order, and in who comes first.

Equal weights summed in another order differ in their last digits, as in a convolution, where one
kernel serves many neurons. Such values are ties here: the order of rounding errors is no order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ranked", "Values", "at_most", "kendall", "levels", "pearson", "spearman"]

Values = NDArray[np.float64]
ROUNDING = 1e-12  # relative to the value
CANCELLED = 1e-15  # relative to the largest: what is left of numbers that cancel


def levels(values: Values) -> NDArray[np.int64]:
    """The place of each value among those that differ, from 0: equal ones have the same.

    >>> levels(np.array([0.1 + 0.2, 7.0, 0.3, -1.0])).tolist()
    [1, 2, 1, 0]
    """
    order = np.argsort(values, kind="stable")
    sizes = np.abs(values[order])
    nearly = ROUNDING * sizes + CANCELLED * sizes.max(initial=0.0)
    found = np.empty(len(values), np.int64)
    found[order] = np.cumsum(np.diff(values[order], prepend=values[order[:1]]) > nearly)
    return found


@dataclass(frozen=True, eq=False)
class Ranked:
    """Finite numbers, and what comparing them with others takes; found once for all of these."""

    values: Values

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """The place of each value among those that differ."""
        return levels(self.values)

    @cached_property
    def constant(self) -> bool:
        """True where no two values differ: such a list has no order."""
        return not self.levels.any()

    @cached_property
    def centred(self) -> Values:
        """The values less their mean, in a unit in which squares do not overflow."""
        scaled: Values = self.values / np.abs(self.values).max()
        scaled -= scaled.mean()
        return scaled

    @cached_property
    def ranks(self) -> Values:
        """Ranks from 1, equal values sharing the mean of theirs; less the mean of all."""
        counts = np.bincount(self.levels)
        last = np.cumsum(counts)
        found: Values = (last - (counts - 1) / 2)[self.levels] - (len(self.values) + 1) / 2
        return found

    def strongest(self, count: int) -> set[int]:
        """The places of the largest values, of equal ones the first; none where all are equal.

        >>> sorted(Ranked(np.array([1.0, 3.0, 2.0, 2.0])).strongest(2))
        [1, 2]
        """
        if self.constant:
            return set()
        return set(np.argsort(-self.levels, kind="stable")[:count].tolist())


def pearson(a: Ranked, b: Ranked) -> float:
    """Pearson's correlation; NaN where a list is constant.

    >>> pearson(Ranked(np.array([1.0, 2.0, 3.0])), Ranked(np.array([-1.0, -2.0, -3.0])))
    -1.0
    """
    return float("nan") if a.constant or b.constant else _cosine(a.centred, b.centred)


def spearman(a: Ranked, b: Ranked) -> float:
    """Spearman's correlation: Pearson's of the ranks."""
    return float("nan") if a.constant or b.constant else _cosine(a.ranks, b.ranks)


def kendall(a: Ranked, b: Ranked) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in the other, ties counted out."""
    from scipy.stats import kendalltau

    if a.constant or b.constant:
        return float("nan")
    return float(kendalltau(a.levels, b.levels).statistic)


def at_most(top: int, count: int) -> int:
    """How many neurons of a layer count as its strongest: never more than half of them.

    >>> at_most(20, 100), at_most(20, 10), at_most(20, 1)
    (20, 5, 0)
    """
    return min(top, count // 2)


def _cosine(a: Values, b: Values) -> float:
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))
