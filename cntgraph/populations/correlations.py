"""Whether the fluctuation follows accuracy over networks, and whether plain baselines do."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.populations.snapshots import Snapshot, Values

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["correlations"]

_EXACT = 8  # networks up to which every order is looked at: 40,320 of them
_WHOLE = "(all)"  # the layer of what belongs to the whole network


def correlations(networks: pd.DataFrame, snapshots: Sequence[Snapshot], by: str) -> pd.DataFrame:
    """A row per architecture, initialisation, layer and quantity; see `Population.correlations`."""
    import pandas as pd

    rows = []
    known = networks[networks["finite"] & np.isfinite(networks[by])]
    for group, table in known.groupby(["architecture", "initialisation"], sort=False):
        members = [snapshots[place] for place in table.index]
        accuracy = table[by].to_numpy()
        quantities = [*_of_layers(members), *_of_networks(table)]
        for layer, quantity, values in quantities:
            rows.append((*group, layer, quantity, *_spearman(values, accuracy)))
    columns = ["architecture", "initialisation", "layer", "quantity", "spearman", "p", "networks"]
    return pd.DataFrame(rows, columns=columns)


def _of_networks(table: pd.DataFrame) -> Iterator[tuple[str, str, Values]]:
    for name in ("weight_std", "steps"):
        yield _WHOLE, name, table[name].to_numpy()


def _of_layers(members: Sequence[Snapshot]) -> Iterator[tuple[str, str, Values]]:
    """Quantities of each layer, a value per network; left out where no network has one."""
    first = [_beginning(snapshot) for snapshot in members]
    for place, layer in enumerate(members[0].layers["layer"]):
        for name in ("fluctuation", "weight_std"):
            last = np.array([s.layers[name].iloc[place] for s in members])
            begun = np.array([math.nan if t is None else t[name].iloc[place] for t in first])
            with np.errstate(divide="ignore", invalid="ignore"):
                growth = np.where(begun > 0, last / begun, np.nan)
            for quantity, values in ((name, last), (f"{name}_growth", growth)):
                if np.isfinite(values).any():
                    yield layer, quantity, values


def _beginning(snapshot: Snapshot) -> pd.DataFrame | None:
    """The layers of the run's first epoch, if the network is of a later one."""
    first = min(snapshot.run.manifest.epochs)
    return snapshot.run.layers(first) if first < snapshot.epoch else None


def _spearman(x: Values, y: Values) -> tuple[float, float, int]:
    """Rank correlation, its two-sided p, and the number of networks that have the value."""
    from scipy.stats import rankdata, spearmanr

    known = np.isfinite(x)
    x, y = x[known], y[known]
    count = len(x)
    if count < 3 or not np.ptp(x) or not np.ptp(y):
        return math.nan, math.nan, count
    if count > _EXACT:
        found = spearmanr(x, y)
        return float(found.statistic), float(found.pvalue), count
    ranks: list[Any] = [rankdata(v) - (count + 1) / 2 for v in (x, y)]
    scale = math.sqrt(float(ranks[0] @ ranks[0]) * float(ranks[1] @ ranks[1]))
    orders = ranks[1][_orders(count)] @ ranks[0] / scale
    found = float(ranks[0] @ ranks[1] / scale)
    return found, float((np.abs(orders) >= abs(found) - 1e-12).mean()), count


@functools.cache
def _orders(count: int) -> Any:
    return np.array(list(itertools.permutations(range(count))))
