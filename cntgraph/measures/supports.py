"""What two samples are counted over (bins, a grid, their own values), and the statistic of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused

__all__ = ["KINDS", "Bins", "Counts", "Support", "Values", "sample"]

Values = NDArray[np.float64]
Counts = NDArray[Any]
Bins = int | Sequence[float] | None
Distance = Callable[[Counts, Counts], float]

_FENCE = 20.0  # interquartile ranges from the median, beyond which bins are of no use
_NARROWEST = 1e-3  # of the range: the least width of a kernel; the grid below resolves it
_CELLS = 8192


@dataclass(frozen=True, eq=False)
class Support:
    """The cells over which two samples are counted, and the statistic of their counts."""

    cells: NDArray[np.int64]  # of the pooled sample, those of a first
    size: int
    distance: Distance
    most: float = np.inf


def sample(values: Any, name: str) -> Values:
    """The values flat in float64, or a refusal that counts what is no number."""
    if hasattr(values, "detach"):  # a tensor, of a type that NumPy may not know
        values = values.detach().cpu().double().numpy()
    try:
        if np.iscomplexobj(values):
            raise TypeError("they are complex")
        found = np.asarray(values, dtype=np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InputRefused(f"{name} does not hold numbers", why=str(error)) from error
    if not len(found):
        raise InputRefused(f"{name} is empty", why="nothing is known of its distribution")
    bad = int((~np.isfinite(found)).sum())
    if bad:
        missing = int(np.isnan(found).sum())
        raise InputRefused(
            f"{name} holds {missing:,} NaN and {bad - missing:,} infinite values of {len(found):,}",
            why="they have no place in a distribution",
            fix="leave them out if you mean to: x[numpy.isfinite(x)]",
        )
    return found


# -- Jensen-Shannon ---------------------------------------------------------------------------


def _binned(pooled: Values, bins: Bins) -> Support:
    if bins is None or isinstance(bins, (int, np.integer)):
        pooled = _from_zero(pooled)
        edges = _edges(pooled, _whole(bins))
    else:
        edges = _given_edges(bins, pooled)
    size = len(edges) - 1
    cells = np.clip(np.searchsorted(edges, pooled, "right") - 1, 0, size - 1)
    return Support(cells, size, _jensen_shannon, most=1.0)


def _jensen_shannon(a: Counts, b: Counts) -> float:
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = [np.where(x > 0, x * np.log2(x / middle), 0.0).sum() for x in (p, q)]
    return float(min(1.0, max(0.0, sum(bits) / 2)))


def _edges(pooled: Values, count: int | None) -> Values:
    """Edges of equal bins over the pooled sample, or over all of it that is no outlier."""
    low, high = 0.0, float(pooled.max())
    if count is None:
        lower, middle, upper = np.quantile(pooled, (0.25, 0.5, 0.75))
        fence = _FENCE * (upper - lower)
        if fence:
            low, high = max(low, middle - fence), min(high, middle + fence)
        count = _automatic(len(pooled), high - low, upper - lower)
    return np.linspace(low, high, count + 1) if high > low else np.array([0.0, 1.0])


def _automatic(values: int, span: float, quartiles: float) -> int:
    """The number of bins by the rule that NumPy calls "auto", the same in all its versions."""
    if not span:
        return 1
    sturges = span / (np.log2(values) + 1)
    diaconis = max(2 * quartiles * values ** (-1 / 3), span / np.sqrt(values) / 2)
    return int(np.ceil(span / min(sturges, diaconis)))


def _given_edges(bins: Any, pooled: Values) -> Values:
    edges = sample(bins, "bins")
    if len(edges) < 2 or not bool((np.diff(edges) > 0).all()):
        raise InputRefused("the edges of the bins do not rise", fix="give two or more, rising")
    outside = int(((pooled < edges[0]) | (pooled > edges[-1])).sum())
    if outside:
        raise InputRefused(
            f"{outside:,} of {len(pooled):,} values lie outside of the bins",
            why=f"the bins go from {edges[0]:g} to {edges[-1]:g}, the values from "
            f"{pooled.min():g} to {pooled.max():g}",
            fix="give edges that cover them: what is not counted would be lost",
        )
    return edges


def _whole(bins: Any) -> int | None:
    if bins is None:
        return None
    if isinstance(bins, bool) or not isinstance(bins, (int, np.integer)) or bins < 1:
        raise InputRefused(f"bins={bins!r}", fix="give a whole number from 1 on")
    return int(bins)


def _from_zero(pooled: Values) -> Values:
    """The values moved and scaled to begin at 0, so that no difference of two is infinite."""
    found: Values = np.ldexp(pooled, -int(np.frexp(np.abs(pooled).max())[1]))
    found -= found.min()
    return found


# -- Wasserstein and Kolmogorov-Smirnov -------------------------------------------------------


def _ranked(pooled: Values, bins: Bins) -> Support:
    _refuse_bins("kolmogorov-smirnov", bins)
    values, cells = np.unique(pooled, return_inverse=True)
    return Support(cells, len(values), lambda a, b: float(_apart(a, b).max()), most=1.0)


def _moved(pooled: Values, bins: Bins) -> Support:
    _refuse_bins("wasserstein", bins)
    exponent = int(np.frexp(np.abs(pooled).max())[1])
    values, cells = np.unique(np.ldexp(pooled, -exponent), return_inverse=True)
    gaps = np.diff(values)

    def distance(a: Counts, b: Counts) -> float:
        return float(np.ldexp(_apart(a, b)[:-1] @ gaps, exponent))

    return Support(cells, len(values), distance)


def _apart(a: Counts, b: Counts) -> Values:
    """The difference of the two distribution functions at each of the pooled values."""
    found: Values = np.abs(np.cumsum(a) / a.sum() - np.cumsum(b) / b.sum())
    return found


def _refuse_bins(kind: str, bins: Bins) -> None:
    if bins is not None:
        raise InputRefused(f"{kind} has no bins", why="it compares the values themselves")


# -- symmetric Kullback-Leibler ---------------------------------------------------------------


def _smoothed(pooled: Values, bins: Bins) -> Support:
    """A grid over the values and as far again to either side, for the tails of the kernels."""
    pooled = _from_zero(pooled)
    span = float(pooled.max())
    if not span:
        return Support(np.zeros(len(pooled), np.int64), 1, lambda a, b: 0.0)
    cells = _whole(bins) or _CELLS
    width = 3 * span / cells
    least = _NARROWEST * span
    at = np.minimum(((pooled + span) / width).astype(np.int64), cells - 1)

    def distance(a: Counts, b: Counts) -> float:
        p, q = (_density(counts, width, least) for counts in (a, b))
        # masses of cells: the width of the grid is in them, and cancels in the logarithm
        return float((p - q) @ (np.log(p) - np.log(q)))

    return Support(at, cells, distance)


def _density(counts: Counts, width: float, least: float) -> Values:
    """The mass in each cell: Gaussian kernels, and one more value spread evenly over them all."""
    cells, total = len(counts), float(counts.sum())
    place = np.arange(cells) * width
    mean = place @ counts / total
    deviation = np.sqrt((place - mean) ** 2 @ counts / max(1.0, total - 1))
    kernel = max(least, deviation * total**-0.2)
    frequency = np.fft.rfftfreq(2 * cells, width)
    passed = np.fft.rfft(counts, 2 * cells) * np.exp(-2 * (np.pi * kernel * frequency) ** 2)
    mass = np.maximum(np.fft.irfft(passed, 2 * cells)[:cells], 0.0)
    found: Values = (total * mass / mass.sum() + 1 / cells) / (total + 1)
    return found


KINDS: dict[str, Callable[[Values, Bins], Support]] = {
    "jensen-shannon": _binned,
    "wasserstein": _moved,
    "kolmogorov-smirnov": _ranked,
    "symmetric-kl": _smoothed,
}
