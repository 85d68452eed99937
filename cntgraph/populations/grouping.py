"""Which networks are put together: one architecture, one initialisation, one bin of accuracy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.errors import CntWarning, InputRefused, did_you_mean
from cntgraph.measures.divergences import sample
from cntgraph.populations.snapshots import Snapshot, Values, number

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEYS", "network_table"]

KEYS = ("architecture", "initialisation", "bin")
_COLUMNS = (*KEYS, "low", "high", "run", "path", "epoch", "weight_std", "steps", "finite")
_UNKNOWN = "unknown"


def network_table(
    snapshots: Sequence[Snapshot], by: str, bins: Any, *, pool_initialisations: bool
) -> pd.DataFrame:
    """A row per network in the order given: its group, what it was recorded with, baselines."""
    import pandas as pd

    values = _recorded(snapshots, by)
    low, high, name = _binned(values, bins)
    rows = {
        "architecture": _architectures(snapshots),
        "initialisation": _initialisations(snapshots, pool_initialisations),
        "bin": name,
        "low": low,
        "high": high,
        "run": [s.run.name for s in snapshots],
        "path": [str(s.run.path) for s in snapshots],
        "epoch": [s.epoch for s in snapshots],
        by: values,
        "weight_std": [s.weight_std for s in snapshots],
        "steps": [s.steps for s in snapshots],
        "finite": [s.finite for s in snapshots],
    }
    return pd.DataFrame(rows)


# -- by what was recorded ---------------------------------------------------------------------


def _recorded(snapshots: Sequence[Snapshot], by: str) -> Values:
    """What each network was recorded with under a name; NaN where it was not."""
    if by in _COLUMNS:
        raise InputRefused(f"networks cannot be binned by {by!r}", why="the table has that column")
    for snapshot in snapshots:
        value = snapshot.recorded.get(by)
        if isinstance(value, str):
            raise InputRefused(
                f"{by!r} of the run {snapshot.run.name} is {value!r}",
                why="bins are of numbers",
                fix=f"name what was recorded as a number: by={_numbers([snapshot]) or '...'}",
            )
    values = np.array([number(s.recorded.get(by)) for s in snapshots])
    if not np.isfinite(values).any():
        known = _numbers(snapshots)
        raise InputRefused(
            f"no run was recorded with a number {by!r}",
            why=did_you_mean(by, known) if known else "no numbers were recorded at all",
            fix=f"record it with every snapshot: recorder.snapshot(epoch, {by}=...)",
        )
    return values


def _numbers(snapshots: Iterable[Snapshot]) -> list[str]:
    found = {n for s in snapshots for n, v in s.recorded.items() if math.isfinite(number(v))}
    return sorted(found)


def _binned(values: Values, bins: Any) -> tuple[Values, Values, list[str]]:
    """The lower and upper edge of each value's bin, and the bin's name."""
    edges = _edges(values, bins)
    place = np.searchsorted(edges, values, "right") - 1
    place[values == edges[-1]] = len(edges) - 2
    known = np.isfinite(values)
    inside = known & (place >= 0) & (place < len(edges) - 1)
    place = np.where(inside, place, 0)
    low = np.where(inside, edges[place], np.nan)
    high = np.where(inside, edges[place + 1], np.nan)
    ends = np.where(high == edges[-1], "]", ")")
    names = [f"[{a:.12g}, {b:.12g}{end}" for a, b, end in zip(low, high, ends, strict=True)]
    other = np.where(known, "outside", _UNKNOWN)
    return low, high, np.where(inside, names, other).tolist()


def _edges(values: Values, bins: Any) -> Values:
    if isinstance(bins, bool) or (isinstance(bins, (int, np.integer)) and bins < 1):
        raise InputRefused(f"bins={bins!r}", fix="give a number of bins, or their edges")
    if not isinstance(bins, (int, np.integer)):
        edges = sample(bins, "bins")
        if len(edges) < 2 or not bool((np.diff(edges) > 0).all()):
            raise InputRefused(f"bins={bins!r}", fix="give two edges or more, rising")
        return edges
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    if low >= 0.0 and high <= 1.0:  # a share: tenths compare between populations
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    found: Values = np.linspace(low, high, int(bins) + 1)
    return found


# -- by what the networks are -----------------------------------------------------------------


def _architectures(snapshots: Sequence[Snapshot]) -> list[str]:
    """The sizes of the layers, numbered where networks of the same sizes differ in all else."""
    names: dict[str, str] = {}
    for snapshot in snapshots:
        key = snapshot.architecture
        if key not in names:
            name = _shown(snapshot.layers["size"].tolist())
            alike = sum(other.partition(" (")[0] == name for other in names.values())
            names[key] = f"{name} ({alike + 1})" if alike else name
    return [names[s.architecture] for s in snapshots]


def _shown(sizes: list[int]) -> str:
    if len(sizes) <= 8:
        return "-".join(map(str, sizes))
    ends = "-".join(map(str, sizes[:3])), "-".join(map(str, sizes[-2:]))
    return f"{ends[0]}-...-{ends[1]}, {len(sizes)} layers"


def _initialisations(snapshots: Sequence[Snapshot], pooled: bool) -> list[str]:
    if pooled:
        return ["pooled"] * len(snapshots)
    found = [s.initialisation for s in snapshots]
    if not any(found):
        warnings.warn(
            "no run was recorded with its initialisation: whichever there were are pooled, though "
            "the fluctuation follows accuracy for small initial weights and not for large ones; "
            "record it: recorder.snapshot(epoch, initialisation=...)",
            CntWarning,
            stacklevel=4,
        )
        return ["not recorded"] * len(snapshots)
    return [name or _UNKNOWN for name in found]
