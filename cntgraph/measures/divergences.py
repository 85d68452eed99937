"""How far two samples of numbers lie apart, with an interval and the level of noise.

Both samples are counted over cells in common (bins, a grid, or the pooled values themselves), and
all else is a function of two rows of counts: the statistic, its bootstrap, and what it would show
if there were no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.supports import KINDS, Bins, Counts, Support, Values, sample

__all__ = ["Bins", "Divergence", "between", "divergence", "sample"]

_LEVEL = (0.025, 0.975)


@dataclass(frozen=True)
class Divergence:
    """A divergence with its 95 % interval, and what two samples of one distribution would show.

    ``low`` above ``floor`` is a difference; a ``value`` that is not above ``floor`` is noise.
    """

    value: float
    low: float
    high: float
    floor: float

    def __float__(self) -> float:
        return self.value


@overload
def divergence(
    a: Any,
    b: Any,
    kind: str = ...,
    bootstrap: Literal[0] = ...,
    seed: int = ...,
    *,
    bins: Bins = ...,
) -> float: ...
@overload
def divergence(
    a: Any, b: Any, kind: str = ..., bootstrap: int = ..., seed: int = ..., *, bins: Bins = ...
) -> float | Divergence: ...
def divergence(
    a: Any,
    b: Any,
    kind: str = "jensen-shannon",
    bootstrap: int = 0,
    seed: int = 0,
    *,
    bins: Bins = None,
) -> float | Divergence:
    """How far two samples of numbers are from each other: 0 for equal samples, and symmetric.

    ``a`` and ``b`` are arrays, columns or tensors, of any sizes; what has more than one dimension
    is flattened. ``kind`` is

    - ``jensen-shannon``: the divergence itself (not its root) in bits, 0 to 1, between histograms
      over common bins. The bins are those of NumPy's ``"auto"`` rule on the pooled sample (the
      finer of Freedman-Diaconis and Sturges); beyond 20 interquartile ranges from the median the
      outermost bins are open, so that a few outliers do not make all others one bin. ``bins`` is
      a number of equal bins over the range, or their edges.
    - ``wasserstein``: the distance W1 in the unit of the values, as SciPy's wasserstein_distance.
    - ``kolmogorov-smirnov``: the largest difference of the distribution functions, 0 to 1, as the
      statistic of SciPy's ks_2samp.
    - ``symmetric-kl``: KL(a, b) + KL(b, a) in nats, an integral over densities: Gaussian kernels
      of Scott's width on a common grid (``bins`` is its number of cells). To each sample one more
      value is added, spread evenly over the grid, so that the result is finite, and it settles as
      the grid is refined. Of heavy tails the kernels make too much: use another kind there.

    With ``bootstrap`` > 0 that many resamples give a `Divergence`: ``low`` and ``high`` are the
    percentile interval of 95 %, shifted by the bias of the bootstrap (a resample of a sample lies
    further off than the sample does); ``floor`` is the mean of the same statistic between random
    parts of the pooled sample, as large as ``a`` and ``b`` (halves, if they are of one size).
    Values are drawn as if independent, which the weights of one network are not: to compare groups
    of networks use `Population.ensemble`, which draws networks.

    >>> import cntgraph as cnt
    >>> round(cnt.divergence([0.0, 1.0, 2.0], [3.0, 4.0, 5.0], "wasserstein"), 9)
    3.0
    >>> round(cnt.divergence([0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], bins=2), 4)
    0.3113

    Raises `InputRefused` for an empty sample, values that are NaN or infinite (they are counted),
    and an unknown kind.

    Source: Lin 1991; Freedman and Diaconis 1981; Efron and Tibshirani 1993.
    """
    one, other = [sample(a, "a")], [sample(b, "b")]
    return between(one, other, kind, bootstrap, seed, bins=bins, units="values")


def between(
    a: Sequence[Values],
    b: Sequence[Values],
    kind: str = "jensen-shannon",
    bootstrap: int = 0,
    seed: int = 0,
    *,
    bins: Bins = None,
    units: Literal["values", "samples"] = "samples",
) -> float | Divergence:
    """The divergence of two groups of samples, pooled within each; see `divergence`.

    What is drawn again in a bootstrap, and dealt out anew for the floor, is a whole sample (all
    values of one network) or, with ``units="values"``, a single value.
    """
    if kind not in KINDS:
        raise InputRefused(f"no divergence {kind!r}", why=did_you_mean(str(kind), KINDS))
    if isinstance(bootstrap, bool) or not isinstance(bootstrap, (int, np.integer)) or bootstrap < 0:
        raise InputRefused(f"bootstrap={bootstrap!r}", fix="give a number of resamples, say 500")
    support = KINDS[kind](np.concatenate([*a, *b]), bins)
    pair = Pair(support, _sizes(a, b, units), len(a) if units == "samples" else sum(map(len, a)))
    value = pair.value
    if not bootstrap:
        return value
    rng = np.random.default_rng(seed)
    drawn = np.array([pair.redrawn(rng) for _ in range(bootstrap)])
    floor = float(np.mean([pair.dealt(rng) for _ in range(bootstrap)]))
    low, high = np.quantile(drawn, _LEVEL) - (drawn.mean() - value)
    low, high = max(0.0, min(low, value)), min(support.most, max(high, value))
    return Divergence(value, float(low), float(high), floor)


def _sizes(a: Sequence[Values], b: Sequence[Values], units: str) -> Counts | None:
    return None if units == "values" else np.array([len(one) for one in (*a, *b)])


@dataclass(frozen=True, eq=False)
class Pair:
    """Two samples over their support; the first ``split`` units are those of a.

    ``sizes`` says how many values each unit has; None if each value is a unit of its own.
    """

    support: Support
    sizes: Counts | None
    split: int

    @property
    def value(self) -> float:
        """The statistic of the samples as they are."""
        return self.support.distance(*self._counts)

    def redrawn(self, rng: np.random.Generator) -> float:
        """The statistic of as many units, drawn with replacement from each sample."""
        if self.sizes is None:
            a, b = (_drawn(counts, rng) for counts in self._counts)
            return self.support.distance(a, b)
        count = len(self.sizes), len(self.sizes) - self.split
        times = np.zeros((2, count[0]))
        times[0, : self.split] = _times(self.split, rng)
        times[1, self.split :] = _times(count[1], rng)
        return self._weighted(times, self.sizes)

    def dealt(self, rng: np.random.Generator) -> float:
        """The statistic of two samples as large, dealt out from both at random."""
        if self.sizes is None:
            pooled = self._counts[0] + self._counts[1]
            by: Literal["marginals", "count"] = "marginals" if _few(pooled) else "count"
            a = rng.multivariate_hypergeometric(pooled, self.split, method=by)
            return self.support.distance(a, pooled - a)
        times = np.zeros((2, len(self.sizes)))
        order = rng.permutation(len(self.sizes))
        times[0, order[: self.split]] = 1.0
        times[1, order[self.split :]] = 1.0
        return self._weighted(times, self.sizes)

    @cached_property
    def _counts(self) -> tuple[Counts, Counts]:
        at = self.split if self.sizes is None else int(self.sizes[: self.split].sum())
        parts = self.support.cells[:at], self.support.cells[at:]
        first, second = (np.bincount(part, minlength=self.support.size) for part in parts)
        return first, second

    def _weighted(self, times: Values, sizes: Counts) -> float:
        """The statistic of two samples that hold each unit so many times."""
        support = self.support
        a, b = (
            np.bincount(support.cells, np.repeat(row, sizes), minlength=support.size)
            for row in times
        )
        return support.distance(a, b)


def _times(count: int, rng: np.random.Generator) -> Counts:
    return np.bincount(rng.integers(0, count, count), minlength=count)


def _few(counts: Counts) -> bool:
    """True if it is cheaper to draw how many fall into each cell than value by value."""
    return len(counts) * 20 < int(counts.sum())


def _drawn(counts: Counts, rng: np.random.Generator) -> Counts:
    total = int(counts.sum())
    if _few(counts):
        return rng.multinomial(total, counts / total)
    cells = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(cells[rng.integers(0, total, total)], minlength=len(counts))
