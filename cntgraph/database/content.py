"""What a run holds, as rows for the database: one dict of properties for every node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cntgraph.database.schema import measure_name, property_value
from cntgraph.measures import STRENGTH_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from cntgraph.network import Layer, Network
    from cntgraph.network.expressions import Expression
    from cntgraph.runs import Run

__all__ = [
    "Content",
    "Row",
    "layer_rows",
    "layer_state_rows",
    "neuron_table",
    "rows_of",
    "state_table",
]

Row = dict[str, Any]

_METRIC_CLASHES = frozenset(
    "id run epoch first status steps fingerprint links loaded carried kept measures".split()
)


@dataclass(frozen=True)
class Content:
    """A run under the name it has in the database."""

    run: Run
    name: str

    @property
    def network_hash(self) -> str:
        """The hash of the wiring: equal for equal networks, whatever their weights."""
        return str(self.run.manifest.network["file"]["sha256"])

    @property
    def convention(self) -> str:
        """The convention of the strengths."""
        return str(self.run.provenance["options"]["convention"])

    @property
    def measures(self) -> list[str]:
        """Names of the measures that are stored for every neuron."""
        return [measure_name(name) for name in self.run.provenance["options"]["measures"]]

    @cached_property
    def epochs(self) -> list[int]:
        """The run's epochs in order."""
        return [int(epoch) for epoch in self.run.epochs["epoch"]]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """The layers of all epochs."""
        return self.run.layers()

    def network(self, epoch: int) -> Network:
        """The network of an epoch; without weights where the run keeps none."""
        return self.run.network(epoch) if self.run.keeps_weights else self.run.wiring

    def metrics(self, epoch: int) -> Row:
        """What was recorded of an epoch; a name that the snapshot itself needs gets a prefix."""
        found = {str(name): property_value(v) for name, v in self.run.metrics(epoch).items()}
        return {f"metric_{n}" if n in _METRIC_CLASHES else n: v for n, v in found.items()}


def layer_rows(content: Content, network: Network, first: int) -> list[Row]:
    """A row per layer, ids from ``first``."""
    return [
        {
            "id": first + place,
            "run": content.name,
            "index": place,
            "name": layer.name,
            "kind": layer.kind,
            "size": layer.size,
            "shape": list(layer.shape),
            "activation": layer.activation,
            "join": None if layer.join is None else str(layer.join),
        }
        for place, layer in enumerate(network.layers)
    ]


def neuron_table(content: Content, network: Network, first: int) -> pd.DataFrame:
    """A row per neuron, ids from ``first`` in the network's own order."""
    table = network.neurons()
    table["id"] = table["neuron"] + first
    table["run"] = content.name
    table["name"] = table["layer"] + "[" + table["index"].astype(str) + "]"
    return table


def layer_state_rows(content: Content, epoch: int) -> list[Row]:
    """A row per layer at an epoch."""
    table = content.layers
    here = table[table["epoch"] == epoch].drop(columns=["kind", "size"])
    return rows_of(here.assign(run=content.name))


def state_table(content: Content, epoch: int, network: Network, first: int) -> pd.DataFrame:
    """A row per neuron at an epoch: strengths, measures, bias; ids from ``first``."""
    import pandas as pd

    columns = ["neuron", "layer", "index", *STRENGTH_COLUMNS, *content.measures]
    table = content.run.neurons(epoch)[columns]
    if content.run.keeps_weights:
        table = table.assign(**_affine(network))
    lost = table[list(STRENGTH_COLUMNS)].isna().any(axis=1)
    return table.assign(
        id=table["neuron"] + first,
        run=content.name,
        epoch=epoch,
        magnitude=table["strength"].abs(),
        has_nan=pd.arrays.BooleanArray(lost.to_numpy(), ~lost.to_numpy()),  # there only if true
    )


def _affine(network: Network) -> dict[str, NDArray[np.float64]]:
    """What a layer does to its sums beside the links, for every neuron; NaN where it does not."""
    import numpy as np

    found: dict[str, NDArray[np.float64]] = {}
    for layer in network.layers:
        for name in ("bias", "gain", "shift", "value"):
            part: Expression | None = getattr(layer, name)
            if part is not None:
                column = found.setdefault(name, np.full(network.neuron_count, np.nan))
                column[layer.first : layer.last] = _broadcast(layer, part, network.weights)
    return found


def _broadcast(layer: Layer, part: Expression, weights: Mapping[str, Any]) -> Any:
    """A tensor of the layer in float64, one number per neuron."""
    import numpy as np

    stored = part.array(weights)
    if stored is not None:
        wide = stored.astype(np.float64)
        return np.broadcast_to(
            wide, layer.traced if wide.size != layer.size else wide.shape
        ).ravel()
    import torch

    value = part.evaluate(weights, torch.float64).detach().cpu().to(torch.float64)
    shape = layer.traced if value.numel() != layer.size else value.shape
    return value.expand(shape).reshape(-1).numpy()


def rows_of(table: pd.DataFrame) -> list[Row]:
    """The rows as plain values, None for what is missing."""
    plain = {str(name): _plain(table[name]) for name in table}
    return [dict(zip(plain, values, strict=True)) for values in zip(*plain.values(), strict=True)]


def _plain(column: pd.Series[Any]) -> list[Any]:
    missing = column.isna().tolist()
    values = column.astype(object).tolist()
    return [None if gone else property_value(v) for v, gone in zip(values, missing, strict=True)]
