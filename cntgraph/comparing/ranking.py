"""How far two lists of numbers agree: in value, in order, and in who comes first.

Equal weights summed in another order differ in their last digits, as in a convolution, where one
kernel serves many neurons. Such values are ties here: the order of rounding errors is no order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Values", "at_most", "constant", "kendall", "levels", "pearson", "spearman", "strongest"]

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


def constant(values: Values) -> bool:
    """True where no two values differ: such a list has no order."""
    return not levels(values).any()


def pearson(a: Values, b: Values) -> float:
    """Pearson's correlation; NaN where a list is constant.

    >>> pearson(np.array([1.0, 2.0, 3.0]), np.array([-1.0, -2.0, -3.0]))
    -1.0
    """
    if constant(a) or constant(b):
        return float("nan")
    a, b = _centred(a), _centred(b)
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))


def spearman(a: Values, b: Values) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing the mean rank."""
    from scipy.stats import rankdata

    return pearson(rankdata(levels(a)), rankdata(levels(b)))


def kendall(a: Values, b: Values) -> float:
    """Kendall's tau-b: pairs in the same order less pairs in the other, ties counted out."""
    from scipy.stats import kendalltau

    if constant(a) or constant(b):
        return float("nan")
    return float(kendalltau(levels(a), levels(b)).statistic)


def at_most(top: int, count: int) -> int:
    """How many neurons of a layer count as its strongest: never more than half of them.

    >>> at_most(20, 100), at_most(20, 10), at_most(20, 1)
    (20, 5, 0)
    """
    return min(top, count // 2)


def strongest(values: Values, count: int) -> set[int]:
    """The places of the largest values, of equal ones the first; none where all are equal.

    >>> sorted(strongest(np.array([1.0, 3.0, 2.0, 2.0]), 2))
    [1, 2]
    """
    found = levels(values)
    return set(np.argsort(-found, kind="stable")[:count].tolist()) if found.any() else set()


def _centred(values: Values) -> Values:
    scaled: Values = values / np.abs(values).max()  # squares of large numbers overflow
    scaled -= scaled.mean()
    return scaled
