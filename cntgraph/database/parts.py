"""The parts of a run and of a snapshot, in an order that never changes: nodes first, then links.

A load that was cut is continued by number, so equal runs must have equal parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cntgraph.database.content import Content, Row, neuron_table, rows_of, state_table
from cntgraph.database.links import link_parts
from cntgraph.database.part import Part, Stretch
from cntgraph.database.strongest import strongest

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.network import Network

__all__ = ["ROWS", "layer_ids", "run_parts", "snapshot_parts"]

ROWS = 2_000  # nodes a part

_NEURONS = """
UNWIND $rows AS row
MATCH (l:Layer {id: $layers[row.layer]})
CREATE (l)-[:HAS_NEURON]->(n:Neuron)
SET n = row
"""

_STATES = """
UNWIND $rows AS row
MATCH (m:Neuron {id: row.neuron + $first_neuron})
CREATE (m)-[:HAS_STATE]->(n:NeuronState)
SET n = row
"""


def run_parts(content: Content, network: Network, run: Row) -> Iterator[Part]:
    """The neurons, once for all epochs."""
    table = neuron_table(content, network, run["first_neuron"])
    return _row_parts(_NEURONS, table, {"layers": layer_ids(network, run)})


def snapshot_parts(
    content: Content, network: Network, linked: Network | None, run: Row, snapshot: Row
) -> Iterator[Part]:
    """Every neuron's state, then the links of ``linked``: the network, a part of it or None."""
    first = snapshot["first"]
    table = state_table(content, snapshot["epoch"], network, first)
    if linked is not None:
        table = table.assign(**strongest(linked))
    yield from _row_parts(_STATES, table, {"first_neuron": run["first_neuron"]})
    if linked is not None:
        yield from link_parts(linked, first)


def layer_ids(network: Network, run: Row) -> dict[str, int]:
    """The database's id of every layer by its name."""
    return {layer.name: run["first_layer"] + i for i, layer in enumerate(network.layers)}


def _row_parts(text: str, table: pd.DataFrame, parameters: Row) -> Iterator[Part]:
    for at in range(0, len(table), ROWS):
        rows = rows_of(table.iloc[at : at + ROWS])
        yield Part(text, "neurons", len(rows), _some_rows(rows, parameters))


def _some_rows(rows: list[Row], parameters: Row) -> Stretch:
    def stretch(first: int, most: int) -> tuple[Row, int]:
        some = rows[first : first + most]
        return {**parameters, "rows": some}, len(some)

    return stretch
