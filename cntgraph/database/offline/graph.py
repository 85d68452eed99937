"""The graph that a load makes, as files: the same nodes, relationships, properties and ids.

What was recorded of an epoch has names and types of its own, which no column could have: each
such value is a node (:ImportedValue)-[:BELONGS_TO]->(:Snapshot), and becomes a property when the
import is finished. Until then a snapshot is ``damaged``: no query sees it, and a load would
remove it and begin anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.database.checks import Expected, expected
from cntgraph.database.content import (
    Content,
    Row,
    layer_rows,
    layer_state_rows,
    neuron_table,
    state_table,
)
from cntgraph.database.journal import run_row, snapshot_row
from cntgraph.database.links import link_columns
from cntgraph.database.offline.selecting import Selection
from cntgraph.database.offline.tables import END, ID, START, Tables, of_frame, of_rows
from cntgraph.database.parts import ROWS
from cntgraph.database.schema import COMPLETE, DAMAGED
from cntgraph.database.strongest import strongest

if TYPE_CHECKING:
    from cntgraph.network import Network

__all__ = ["Graph", "Progress", "Written", "write_graph"]

Progress = Callable[[str, float], None]  # what is being done, and the share of it that is

_INTEGER, _NUMBER, _FLAG, _TEXT = "integer", "number", "flag", "text"
_KINDS = {bool: _FLAG, int: _INTEGER, float: _NUMBER, str: _TEXT}


@dataclass(frozen=True)
class Written:
    """A snapshot in the files: whose it is, where its neurons' ids begin, what it must hold."""

    run: str
    epoch: int
    id: int
    first: int
    expected: Expected = field(repr=False)
    kept: float


@dataclass(frozen=True)
class Graph:
    """The files of a graph, with their rows, by label and by relationship type."""

    folder: Path
    nodes: dict[str, dict[str, int]] = field(repr=False)
    relationships: dict[str, dict[str, int]] = field(repr=False)
    snapshots: tuple[Written, ...] = field(repr=False)

    @property
    def node_count(self) -> int:
        """Number of nodes that the database will have in the end."""
        kinds = {name: sum(files.values()) for name, files in self.nodes.items()}
        return sum(kinds.values()) - kinds.get("ImportedValue", 0)

    @property
    def relationship_count(self) -> int:
        """Number of relationships, likewise."""
        kinds = {name: sum(files.values()) for name, files in self.relationships.items()}
        return sum(kinds.values()) - kinds.get("BELONGS_TO", 0)


def write_graph(
    folder: Path, selected: Sequence[Selection], progress: Progress | None = None
) -> Graph:
    """Write the graph of these runs into a folder, run after run and epoch after epoch.

    Ids are those that loads in this order would give. Memory does not grow with the number of
    epochs or links. Raises `RunDamaged` where a run is not what was exported.
    """
    total = sum(len(each.epochs) for each in selected)
    snapshots: list[Written] = []
    with Tables(folder) as tables:
        writer = _Writer(tables, _Ids(1), _Ids(1 + _ids_needed(selected)))
        for each in selected:
            for written in writer.run(each):
                snapshots.append(written)
                if progress is not None:
                    progress("writing Parquet", len(snapshots) / total)
        writer.counter()
    return Graph(folder, *tables.files, tuple(snapshots))


@dataclass
class _Ids:
    next: int

    def take(self, count: int = 1) -> int:
        first = self.next
        self.next += count
        return first


def _ids_needed(selected: Sequence[Selection]) -> int:
    """How many ids the graph takes; those behind are for the importer alone."""
    wirings = [(each.content.run.wiring, len(each.epochs)) for each in selected]
    return sum(
        1 + len(network.layers) + network.neuron_count + epochs * (1 + network.neuron_count)
        for network, epochs in wirings
    )


@dataclass(frozen=True)
class _Writer:
    tables: Tables
    ids: _Ids
    others: _Ids  # of nodes that have no id in the database

    def run(self, selected: Selection) -> Iterator[Written]:
        content, run = selected.content, None
        for epoch in selected.epochs:
            network = content.network(epoch)
            run = run or self._begun(content, network)
            yield self._snapshot(selected, run, network, epoch)

    def counter(self) -> None:
        row = {ID: self.others.take(), "name": "cntgraph", "next": self.ids.next}
        self.tables.nodes("IdCounter", of_rows([row]))

    def _begun(self, content: Content, network: Network) -> Row:
        """The run with its layers and neurons."""
        import numpy as np

        count = network.neuron_count
        run = run_row(content, network, self.ids.take(1 + len(network.layers) + count))
        layers = layer_rows(content, network, run["first_layer"])
        parts = math.ceil(count / ROWS)
        self.tables.nodes("Run", of_rows([{**run, "status": COMPLETE, "steps": parts}]))
        self.tables.nodes("Layer", of_rows(layers))
        ids = [row["id"] for row in layers]
        self.tables.relationships("HAS_LAYER", {START: [run["id"]] * len(ids), END: ids})
        self.tables.nodes("Neuron", of_frame(neuron_table(content, network, run["first_neuron"])))
        sizes = [layer.size for layer in network.layers]
        neurons = np.arange(count) + run["first_neuron"]
        self.tables.relationships("HAS_NEURON", {START: np.repeat(ids, sizes), END: neurons})
        return run

    def _snapshot(self, selected: Selection, run: Row, network: Network, epoch: int) -> Written:
        content, linked = selected.content, selected.linked(network)
        whole = selected.links == "all" and content.convention == "plain"
        wanted = expected(linked, network.neuron_count, strengths=whole)
        id_ = self.ids.take(1 + network.neuron_count)
        self._states(content, run, network, linked, epoch, id_ + 1)
        self._layer_states(content, run, network, epoch)
        parts = math.ceil(network.neuron_count / ROWS) + self._links(linked, id_ + 1)
        kept = 0.0 if linked is None else linked.kept
        row = snapshot_row(content, network, epoch, selected.links) | {
            "id": id_,
            "first": id_ + 1,
            "status": DAMAGED,
            "steps": parts,
            "links": wanted.links,
            "carried": wanted.carried,
            "kept": kept,
        }
        self.tables.nodes("Snapshot", of_rows([row]))
        self.tables.relationships("HAS_SNAPSHOT", {START: [run["id"]], END: [id_]})
        self._recorded(id_, {k: v for k, v in content.metrics(epoch).items() if k not in row})
        return Written(content.name, epoch, id_, id_ + 1, wanted, kept)

    def _states(
        self,
        content: Content,
        run: Row,
        network: Network,
        linked: Network | None,
        epoch: int,
        first: int,
    ) -> None:
        import numpy as np

        states = state_table(content, epoch, network, first)
        if linked is not None:
            states = states.assign(**strongest(linked))
        self.tables.nodes("NeuronState", of_frame(states))
        neurons = np.arange(network.neuron_count)
        ends = {START: neurons + run["first_neuron"], END: neurons + first}
        self.tables.relationships("HAS_STATE", ends)

    def _layer_states(self, content: Content, run: Row, network: Network, epoch: int) -> None:
        layers = {layer.name: run["first_layer"] + i for i, layer in enumerate(network.layers)}
        rows = layer_state_rows(content, epoch)
        ids = [self.others.take() for _ in rows]
        keyed = [{ID: id_, **row} for id_, row in zip(ids, rows, strict=True)]
        self.tables.nodes("LayerState", of_rows(keyed))
        ends = {START: [layers[row["layer"]] for row in rows], END: ids}
        self.tables.relationships("HAS_STATE", ends)

    def _links(self, linked: Network | None, first: int) -> int:
        """Write the links; the number of transactions that a load would take for them."""
        parts = 0
        for links in link_columns(linked, first) if linked is not None else ():
            columns: dict[str, Any] = {START: links.source, END: links.target}
            if links.kind == "weight":
                self.tables.relationships("LINK", {**columns, "weight": links.weight})
            else:
                kinds = [links.kind] * len(links.weight)
                carried = {**columns, "kind": kinds, "weight": links.weight}
                self.tables.relationships("CARRIES", carried)
            parts += 1
        return parts

    def _recorded(self, snapshot: int, metrics: Row) -> None:
        values = {name: value for name, value in metrics.items() if value is not None}
        if not values:
            return
        ids = [self.others.take() for _ in values]
        columns = {ID: ids, "name": list(values)}
        for kind in (_INTEGER, _NUMBER, _FLAG, _TEXT):
            columns[kind] = [v if _KINDS[type(v)] == kind else None for v in values.values()]
        self.tables.nodes("ImportedValue", _typed_values(columns))
        ends = {START: ids, END: [snapshot] * len(ids)}
        self.tables.relationships("BELONGS_TO", ends)


def _typed_values(columns: dict[str, Any]) -> Any:
    import pyarrow as pa

    types = {
        ID: pa.int64(),
        "name": pa.string(),
        _INTEGER: pa.int64(),
        _NUMBER: pa.float64(),
        _FLAG: pa.bool_(),
        _TEXT: pa.string(),
    }
    return pa.table({name: pa.array(columns[name], types[name]) for name in types})
