"""One network looked at alone: its layers, or its epochs, held against each other in pairs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.divergences import Bins, Divergence, between, sample
from cntgraph.populations.snapshots import Snapshot, Values, known_quantity

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["epoch_divergences", "layer_divergences"]

_QUANTITIES = ("weights", "strength")


def layer_divergences(
    snapshot: Snapshot, quantity: str, kind: str, bootstrap: int, seed: int, bins: Bins
) -> pd.DataFrame:
    """The divergence of every pair of layers of one network."""
    found = _values(snapshot, quantity)
    where = f"in the run {snapshot.run.name} at epoch {snapshot.epoch}"
    samples = {name: sample(x, f"{quantity} of {name} {where}") for name, x in found.items()}
    return _in_pairs(samples, "layer", kind, bootstrap, seed, bins)


def epoch_divergences(
    snapshots: Sequence[Snapshot],
    layer: str,
    quantity: str,
    kind: str,
    bootstrap: int,
    seed: int,
    bins: Bins,
) -> pd.DataFrame:
    """The divergence of every pair of epochs of one layer."""
    samples: dict[Any, Values] = {}
    for snapshot in snapshots:
        found = _values(snapshot, quantity)
        if layer not in found:
            raise InputRefused(
                f"no {quantity} of a layer {layer!r} in the run {snapshot.run.name}",
                why=did_you_mean(str(layer), found),
            )
        where = f"{quantity} of {layer} at epoch {snapshot.epoch}"
        samples[snapshot.epoch] = sample(found[layer], where)
    return _in_pairs(samples, "epoch", kind, bootstrap, seed, bins)


def _values(snapshot: Snapshot, quantity: str) -> dict[str, Values]:
    if quantity == "fluctuation":
        raise InputRefused(
            "the fluctuation of one network has no distribution",
            why="it is one number a layer",
            fix="quantity='strength', or population.ensemble(...) over many networks",
        )
    found = snapshot.of(known_quantity(quantity, _QUANTITIES))
    if not found:
        raise InputRefused(f"the run {snapshot.run.name} has no trained links to compare")
    return found


def _in_pairs(
    samples: Mapping[Any, Values], what: str, kind: str, bootstrap: int, seed: int, bins: Bins
) -> pd.DataFrame:
    """A square table of the divergences, or with a bootstrap a row per pair."""
    import pandas as pd

    places = list(samples)
    square = np.zeros((len(places), len(places)))
    rows = []
    for (i, one), (j, other) in itertools.combinations(enumerate(places), 2):
        found = between(
            [samples[one]], [samples[other]], kind, bootstrap, seed, bins=bins, units="values"
        )
        square[i, j] = square[j, i] = float(found)
        if isinstance(found, Divergence):
            rows.append((one, other, found.value, found.low, found.high, found.floor))
    if bootstrap:
        return pd.DataFrame(rows, columns=[what, "other", "value", "low", "high", "floor"])
    index = pd.Index(places, name=what)
    return pd.DataFrame(square, index=index, columns=index.rename(None))
