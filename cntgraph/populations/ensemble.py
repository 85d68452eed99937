"""Networks in groups: what is pooled within each, and how far apart the bins of accuracy are."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.errors import CntWarning, InputRefused, RunDamaged, did_you_mean
from cntgraph.graphs.memory import available_memory
from cntgraph.measures.divergences import Bins, Divergence, between
from cntgraph.populations.grouping import KEYS
from cntgraph.populations.snapshots import QUANTITIES, Snapshot, Values, known_quantity

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ensemble"]

_QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
_SUMMARY = ("count", "mean", "std", "skewness", "kurtosis", "min", *_QUANTILES, "max")


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks grouped by architecture, initialisation and bin; made by `Population.ensemble`.

    ``networks`` has a row per network: its group (architecture, initialisation, bin, and the edges
    low and high), run, path, epoch, the number it was binned by, the baselines weight_std (the
    deviation of all its trained weights) and steps, and finite: False where a weight is NaN or
    infinite. Such a network is counted as not_finite and left out; the others of its bin stay.
    """

    by: str
    networks: pd.DataFrame = field(repr=False)
    snapshots: Sequence[Snapshot] = field(repr=False)

    def __repr__(self) -> str:
        groups, bad = len(self.groups), int((~self.networks["finite"]).sum())
        more = f"; {bad} not finite" if bad else ""
        return f"<Ensemble of {len(self.networks)} networks in {groups} groups by {self.by}{more}>"

    @cached_property
    def groups(self) -> pd.DataFrame:
        """A row per group: its key, edges, networks, runs, not_finite, and means of the baselines.

        ``networks`` counts those that are pooled, ``runs`` the runs they are of; the number they
        were binned by, weight_std and steps are means over them.
        """
        import pandas as pd

        rows = []
        for key, table in self._grouped():
            pooled = table[table["finite"]]
            means = pooled[[self.by, "weight_std", "steps"]].mean()
            counts = len(pooled), pooled["path"].nunique(), len(table) - len(pooled)
            rows.append((*key, *table[["low", "high"]].iloc[0], *counts, *means))
        names = ("low", "high", "networks", "runs", "not_finite", self.by, "weight_std", "steps")
        return pd.DataFrame(rows, columns=[*KEYS, *names])

    @cached_property
    def layers(self) -> pd.DataFrame:
        """A row per group, layer and quantity: the pooled distribution, beside the baselines.

        Quantities: ``weights`` (of the links into the layer, each once), ``strength`` (of its
        neurons) and ``fluctuation`` (one value a network). ``networks`` have given values,
        ``not_finite`` were left out. Columns: count, mean, std (ddof 0), skewness, kurtosis
        (excess), min, q05, q25, median, q75, q95, max; weight_std and steps are the means of the
        group. Runs without weights are left out of ``weights`` alone.

        A difference between bins that weight_std or steps show as well is no merit of the measure.
        """
        import pandas as pd

        rows = []
        means = self.groups[["not_finite", "weight_std", "steps"]].itertuples(index=False)
        for (key, table), (bad, weight_std, steps) in zip(self._grouped(), means, strict=True):
            for layer, quantity, values in self._pooled(table.index[table["finite"]].tolist()):
                summary = _summary(np.concatenate(values))
                counts = len(values), bad
                rows.append((*key, layer, quantity, *counts, *summary, weight_std, steps))
        names = ("layer", "quantity", "networks", "not_finite", *_SUMMARY, "weight_std", "steps")
        return pd.DataFrame(rows, columns=[*KEYS, *names])

    def values(self, layer: str, quantity: str = "strength") -> pd.DataFrame:
        """Every value of a layer, for plots of one's own: group, run, path, epoch, value.

        Raises `InputRefused` for an unknown layer or quantity, and for the weights of runs that
        keep none.
        """
        import pandas as pd

        parts = []
        for place, found in self._of_layer(layer, quantity):
            row = self.networks.iloc[place][[*KEYS, "run", "path", "epoch"]]
            parts.append(pd.DataFrame({**row.to_dict(), "value": found}))
        texts = dict.fromkeys([*KEYS, "run", "path"], "category")
        return pd.concat(parts, ignore_index=True).astype(texts)

    def divergences(
        self,
        layer: str,
        quantity: str = "strength",
        *,
        kind: str = "jensen-shannon",
        bootstrap: int = 0,
        seed: int = 0,
        bins: Bins = None,
    ) -> pd.DataFrame:
        """How far apart the bins are: a row per pair within an architecture and initialisation.

        Columns: architecture, initialisation, bin, other, runs, runs_other, value (see
        `cntgraph.divergence`), and with ``bootstrap`` low, high and floor. What is drawn again, and
        dealt out for the floor, are whole runs, for the values of one network are not independent:
        with a run in each bin nothing is above the floor.

        Raises `InputRefused` as `values` does, and where there are no two bins to compare.
        """
        import pandas as pd

        rows = []
        for key, units in self._units(layer, quantity).items():
            for one, other in itertools.combinations(units, 2):
                found = between(units[one], units[other], kind, bootstrap, seed, bins=bins)
                rows.append((*key, one, other, len(units[one]), len(units[other]), *_told(found)))
        if not rows:
            raise InputRefused(
                "there are no two bins to compare",
                why=f"the bins with networks: {', '.join(dict.fromkeys(self.groups['bin']))}",
                fix="give other bins: population.ensemble(bins=[...])",
            )
        names = [*KEYS, "other", "runs", "runs_other", "value", "low", "high", "floor"]
        return pd.DataFrame(rows, columns=names if bootstrap else names[:-3])

    # -- reading ------------------------------------------------------------------------------

    def _grouped(self) -> Iterator[tuple[Any, pd.DataFrame]]:
        """The networks of each group; bins rise, and those without edges come last."""
        order = dict.fromkeys(self.networks["architecture"])
        places = {name: place for place, name in enumerate(order)}
        rows = self.networks.assign(_place=self.networks["architecture"].map(places))
        rows = rows.sort_values(["_place", "initialisation", "low", "bin"], kind="stable")
        yield from rows.drop(columns="_place").groupby(list(KEYS), sort=False)

    def _pooled(self, members: Sequence[int]) -> Iterator[tuple[str, str, list[Values]]]:
        """The values of each layer and quantity, an array a network."""
        found: dict[tuple[str, str], list[Values]] = {}
        weighed = [place for place in members if self.snapshots[place].run.keeps_weights]
        _require_room([self.snapshots[place] for place in weighed])
        for quantity in QUANTITIES:
            for place in weighed if quantity == "weights" else members:
                for layer, values in self._read(place, quantity).items():
                    found.setdefault((layer, quantity), []).append(values)
        names = self.snapshots[members[0]].layers["layer"] if members else ()
        for layer, quantity in itertools.product(names, QUANTITIES):
            if (layer, quantity) in found:
                yield layer, quantity, found[layer, quantity]

    def _units(self, layer: str, quantity: str) -> dict[Any, dict[str, list[Values]]]:
        """The values of each run, by architecture and initialisation, then by bin."""
        found: dict[Any, dict[str, dict[str, list[Values]]]] = {}
        for place, values in self._of_layer(layer, quantity):
            row = self.networks.iloc[place]
            if np.isfinite(row["low"]):  # what is in no bin is not compared
                bins = found.setdefault((row["architecture"], row["initialisation"]), {})
                bins.setdefault(row["bin"], {}).setdefault(row["path"], []).append(values)
        return {
            key: {name: [np.concatenate(x) for x in runs.values()] for name, runs in bins.items()}
            for key, bins in found.items()
        }

    def _of_layer(self, layer: str, quantity: str) -> Iterator[tuple[int, Values]]:
        """The place of each network that has the layer, with the layer's values."""
        known_quantity(quantity)
        names: set[str] = set()
        empty = True
        for _, table in self._grouped():
            for place in table.index[table["finite"]]:
                found = self._read(place, quantity)
                names |= found.keys()
                if layer in found:
                    empty = False
                    yield place, found[layer]
        if empty:
            raise InputRefused(
                f"no network has {quantity} of a layer {layer!r}",
                why=did_you_mean(str(layer), names) if names else "no network is finite",
            )

    def _read(self, place: int, quantity: str) -> dict[str, Values]:
        """What a network has of a quantity; nothing, with a warning, if its files are damaged."""
        try:
            return self.snapshots[place].of(quantity)
        except RunDamaged as damage:
            warnings.warn(f"left out: {damage.what}", CntWarning, stacklevel=4)
            return {}


def _require_room(members: Sequence[Snapshot]) -> None:
    """Refuse to pool the weights of so many networks that they do not fit in memory."""
    if not members:
        return
    counts = np.sum([s.layers["weight_count"].to_numpy() for s in members], axis=0)
    needed, there = int(8 * (counts.sum() + 4 * counts.max())), available_memory()
    if there is not None and needed > there:
        raise InputRefused(
            f"the weights of {len(members):,} networks do not fit in memory together",
            why=f"a group of them needs about {needed:,} bytes, {there:,} are available",
            fix="give more bins, or ensemble.divergences(layer, 'strength')",
        )


def _told(found: float | Divergence) -> tuple[float, ...]:
    if isinstance(found, Divergence):
        return found.value, found.low, found.high, found.floor
    return (found,)


def _summary(values: Values) -> tuple[float, ...]:
    """Count, moments and quantiles; skewness and kurtosis are NaN where all values are one."""
    mean = values.mean()
    centred = values - mean
    variance = float((centred**2).mean())
    skewness = kurtosis = np.nan
    if variance > (np.finfo(np.float64).eps * mean) ** 2:
        skewness = (centred**3).mean() / variance**1.5
        kurtosis = (centred**4).mean() / variance**2 - 3.0
    levels = np.quantile(values, (0.0, *_QUANTILES.values(), 1.0))
    moments = (mean, variance**0.5, skewness, kurtosis)
    return (len(values), *map(float, moments), *map(float, levels))
