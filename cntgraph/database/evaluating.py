"""The network runs in the database: the forward pass of an epoch, layer by layer, in Cypher.

What is loaded of a network with dense layers, convolutions, pooling and skips is all there is to
it: trained links (LINK), what carries values (CARRIES), and at every neuron its bias and what a
batch norm does. A layer is one query, the values of the layers before it its parameter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.database.activations import activated
from cntgraph.database.answering import explain_missing
from cntgraph.database.schema import COMPLETE
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database.connection import Connection

__all__ = ["evaluate", "uncomputable"]

Rows = Callable[..., list[dict[str, Any]]]

_LAYERS = """
MATCH (r:Run {name: $run})-[:HAS_SNAPSHOT]->(x:Snapshot {epoch: $epoch, status: $status})
MATCH (r)-[:HAS_LAYER]->(l:Layer)
WITH x, l ORDER BY l.index
RETURN x.first AS first, x.neurons AS neurons, x.choice AS choice, collect(properties(l)) AS layers
"""

# What a layer computes is in `cntgraph.network.layers`: bias and batch norm act on what the
# trained links bring, or on what is carried where nothing trained arrives.
_SUMS = """
MATCH (t:NeuronState {run: $run, epoch: $epoch, layer: $layer})
CALL (t) {
  OPTIONAL MATCH (t)<-[k:LINK]-(s)
  RETURN sum(k.weight * $values[s.id - $first]) AS trained, count(k) AS links
}
CALL (t) {
  OPTIONAL MATCH (t)<-[k:CARRIES]-(s)
  RETURN sum(k.weight * $values[s.id - $first]) AS carried, max($values[s.id - $first]) AS largest
}
WITH t, trained, carried, largest, links, t.value AS constant,
     coalesce(t.bias, 0.0) AS bias, coalesce(t.gain, 1.0) AS gain, coalesce(t.shift, 0.0) AS shift
WITH t, CASE $join
       WHEN 'constant' THEN constant
       WHEN 'largest' THEN largest
       WHEN 'trained' THEN (trained + bias) * gain + shift + carried
       ELSE (carried + bias) * gain + shift END AS z
RETURN t.index AS index, z, %s AS a ORDER BY index
"""

_ARRIVES = """
MATCH (t:NeuronState {run: $run, epoch: $epoch, layer: $layer})
RETURN max(COUNT { (t)<-[:LINK]-() }) > 0 OR count(t.bias) > 0 AS trained
"""

# A join that picks the largest of what it is given; any other has no formula in the graph.
_LARGEST = re.compile(r"(adaptive_)?max_pool[123]d|amax|max")


@dataclass(frozen=True)
class _Epoch:
    """The part of the database that one epoch of a run is."""

    rows: Rows
    run: str
    epoch: int
    first: int
    neurons: int
    layers: tuple[dict[str, Any], ...]

    def values(self, inputs: Sequence[NDArray[np.float64]]) -> list[float]:
        """The value of every neuron for one sample: a flat input for each input layer."""
        values = [0.0] * self.neurons
        given = iter(inputs)
        at = 0
        for layer in self.layers:
            found = next(given).tolist() if layer["kind"] == "input" else self._layer(layer, values)
            values[at : at + layer["size"]] = found
            at += layer["size"]
        return values

    def _layer(self, layer: dict[str, Any], values: list[float]) -> list[float]:
        expression, across = activated(layer.get("activation"), layer["shape"], layer["name"])
        found = self.rows(
            _SUMS % expression,
            run=self.run,
            epoch=self.epoch,
            layer=layer["name"],
            first=self.first,
            values=values,
            join=self._how(layer),
        )
        result = [row["a"] for row in found]
        return self.rows(across, values=result)[0]["found"] if across else result

    def _how(self, layer: dict[str, Any]) -> str:
        """What a layer does with what arrives."""
        if layer["kind"] == "constant":
            return "constant"
        if layer.get("join") is not None:
            if _LARGEST.match(layer["join"]):
                return "largest"
            raise InputRefused(
                f"layer {layer['name']!r} cannot be computed in the database",
                why=f"it joins what it reads by {layer['join']}, which is no sum of links",
                fix="run.network(epoch).forward(inputs) computes it by operators",
            )
        where = {"run": self.run, "epoch": self.epoch, "layer": layer["name"]}
        return "trained" if self.rows(_ARRIVES, **where)[0]["trained"] else "carried"


def evaluate(connection: Connection, run: str, epoch: int, inputs: Any) -> pd.DataFrame:
    """The outputs of an epoch for a batch of inputs; see `Database.evaluate`."""
    import pandas as pd

    there = _epoch(connection, run, epoch)
    given = [layer for layer in there.layers if layer["kind"] == "input"]
    batches = _flat(inputs, given)
    outputs = [
        (f"{layer['name']}[{place}]", first + place)
        for layer, first in zip(there.layers, _firsts(there.layers), strict=True)
        if layer["kind"] == "output"
        for place in range(layer["size"])
    ]
    table = []
    for sample in zip(*batches, strict=True):
        values = there.values(sample)
        table.append([values[place] for _, place in outputs])
    return pd.DataFrame(table, columns=[name for name, _ in outputs], dtype="float64")


def uncomputable(layers: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The layers (rows of the database) that have no formula there, each with the reason."""
    found: dict[str, str] = {}
    for layer in layers:
        join = layer.get("join")
        if join is not None and layer["kind"] == "input":
            found[layer["name"]] = "it encodes words"
        elif join is not None and not _LARGEST.match(join):
            found[layer["name"]] = f"it joins what it reads by {join}, which is no sum of links"
        else:
            try:
                activated(layer.get("activation"), layer["shape"], layer["name"])
            except InputRefused as refused:
                found[layer["name"]] = refused.why
    return found


def _firsts(layers: Sequence[dict[str, Any]]) -> list[int]:
    """The place of every layer's first neuron."""
    sizes = [layer["size"] for layer in layers]
    return [sum(sizes[:k]) for k in range(len(sizes))]


def _epoch(connection: Connection, run: str, epoch: int) -> _Epoch:
    """The epoch, if all of it is there."""
    found = connection.rows(_LAYERS, run=run, epoch=epoch, status=COMPLETE)
    if not found or not found[0]["layers"]:
        explain_missing(connection, {"run": run, "epoch": epoch})
        raise InputRefused(f"epoch {epoch} of {run!r} is not in the database")
    (there,) = found
    if there["choice"] != "all":
        raise InputRefused(
            f"epoch {epoch} of {run!r} cannot be computed in the database",
            why=f"it was loaded with links={there['choice']!r}, and every link takes part",
            fix=f"cntgraph load RUN --epochs {epoch} --links all --replace",
        )
    return _Epoch(
        connection.rows, run, epoch, there["first"], there["neurons"], tuple(there["layers"])
    )


def _flat(inputs: Any, layers: Sequence[dict[str, Any]]) -> list[NDArray[np.float64]]:
    """For every input layer its values (samples, size), in float64."""
    given = inputs if isinstance(inputs, (tuple, list)) and len(layers) > 1 else (inputs,)
    if len(given) != len(layers):
        raise InputRefused(f"{len(given)} inputs given, the network has {len(layers)}")
    return [_samples(one, layer) for one, layer in zip(given, layers, strict=True)]


def _samples(given: Any, layer: dict[str, Any]) -> NDArray[np.float64]:
    if layer.get("join") is not None:
        raise InputRefused(
            f"input {layer['name']!r} encodes words, which the database does not",
            fix="run.network(epoch).forward(inputs) computes it by operators",
        )
    array = given.detach().cpu().double().numpy() if hasattr(given, "detach") else given
    values = np.asarray(array, dtype=np.float64)
    shape = tuple(layer["shape"])
    size = math.prod(shape)
    single = values.shape in (shape, (size,))
    if not single and values.shape[1:] not in (shape, (size,)):
        raise InputRefused(
            f"the inputs have the shape {values.shape}",
            why=f"{layer['name']} takes samples of the shape {shape}",
            fix=f"give (batch, {', '.join(map(str, shape))})",
        )
    return values.reshape(-1, size)
