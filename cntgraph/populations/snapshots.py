"""One network of a population: a run at an epoch, with what is stored of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.layers import link_weights
from cntgraph.network import Layer
from cntgraph.runs import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["QUANTITIES", "Snapshot", "Values", "known_quantity"]

Values = NDArray[np.float64]
QUANTITIES = ("weights", "strength", "fluctuation")
STEPS = ("step", "steps", "global_step")
INITIALISATION = ("initialisation", "initialization")


def known_quantity(quantity: str, known: tuple[str, ...] = QUANTITIES) -> str:
    """The quantity, or a refusal with those there are."""
    if quantity not in known:
        raise InputRefused(f"no quantity {quantity!r}", why=did_you_mean(str(quantity), known))
    return quantity


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A run at an epoch; ``recorded`` holds its metrics, and what is known of the whole run."""

    run: Run
    epoch: int
    recorded: Mapping[str, Any]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The columns of `cntgraph.layers`, a row per layer."""
        return self.run.layers(self.epoch)

    @property
    def finite(self) -> bool:
        """False if any trained weight is NaN or infinite: no number says anything then."""
        sizes = self.layers["size"].to_numpy() > 0
        weighted = self.layers["weight_count"].to_numpy() > 0
        strengths = self.layers.loc[sizes, ["fluctuation", "strength_mean"]].to_numpy()
        weights = self.layers.loc[weighted, ["weight_mean", "weight_std"]].to_numpy()
        return bool(np.isfinite(strengths).all() and np.isfinite(weights).all())

    @property
    def architecture(self) -> str:
        """A hash of all there is but the weights: layers, sizes, activations and wiring."""
        return str(self.run.manifest.network["file"]["sha256"])

    @property
    def weight_std(self) -> float:
        """The standard deviation of all trained weights together (ddof 0)."""
        known = self.layers[self.layers["weight_count"] > 0]
        count = known["weight_count"].to_numpy(dtype=np.float64)
        if not len(count):
            return math.nan
        mean, deviation = (known[f"weight_{name}"].to_numpy() for name in ("mean", "std"))
        with np.errstate(invalid="ignore"):
            centred = mean - count @ mean / count.sum()
            return float(np.sqrt(count @ (deviation**2 + centred**2) / count.sum()))

    @property
    def steps(self) -> float:
        """The number of training steps, if it was recorded."""
        return next((number(self.recorded[n]) for n in STEPS if n in self.recorded), math.nan)

    @property
    def initialisation(self) -> str | None:
        """The recorded name of the initialisation."""
        found = (self.recorded.get(name) for name in INITIALISATION)
        return next((str(name) for name in found if not _missing(name)), None)

    def of(self, quantity: str) -> dict[str, Values]:
        """The values of a quantity by layer: weights into it, strengths, or its fluctuation.

        Layers without trained links are not there, and for weights those that no weight leads to.
        """
        if quantity == "weights":
            return self._weights()
        if quantity == "strength":
            return self._strengths()
        known = self.layers.set_index("layer")["fluctuation"]
        return {layer.name: np.array([known[layer.name]]) for layer in self._linked}

    def _weights(self) -> dict[str, Values]:
        network = self.run.network(self.epoch)
        found = {la.name: link_weights(network, la).numpy() for la in network.layers}
        return {name: values for name, values in found.items() if len(values)}

    def _strengths(self) -> dict[str, Values]:
        strength = self.run.neurons(self.epoch)["strength"].to_numpy(np.float64)
        return {layer.name: strength[layer.first : layer.last] for layer in self._linked}

    @property
    def _linked(self) -> list[Layer]:
        """The layers that trained links begin or end at."""
        network = self.run.wiring
        blocks = [block for block in network.blocks if block.link_kind == "weight"]
        ends = {name for block in blocks for name in (block.source, block.target)}
        return [layer for layer in network.layers if layer.name in ends and layer.size]


def number(value: Any) -> float:
    """A recorded number; NaN for what is none."""
    return float(value) if isinstance(value, (bool, int, float)) else math.nan


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
