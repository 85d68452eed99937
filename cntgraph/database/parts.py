"""The parts of a run and of a snapshot: each is one transaction, and their order never changes.

A load that was cut is continued by number, so equal runs must have equal parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cntgraph.database.content import Content, Row, neuron_table, rows_of, state_table
from cntgraph.database.links import link_batches
from cntgraph.database.strongest import strongest

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.network import Network

__all__ = ["ROWS", "Part", "layer_ids", "run_parts", "snapshot_parts"]

ROWS = 2_000  # nodes a transaction

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


@dataclass(frozen=True)
class Part:
    """The Cypher of one transaction, its parameters, and how much it writes."""

    text: str
    parameters: Row = field(repr=False)
    neurons: int = 0
    links: int = 0
    carried: int = 0


def run_parts(content: Content, network: Network, run: Row) -> Iterator[Part]:
    """The neurons, once for all epochs."""
    for batch in _batches(neuron_table(content, network, run["first_neuron"])):
        yield Part(_NEURONS, {"rows": batch, "layers": layer_ids(network, run)})


def snapshot_parts(
    content: Content, network: Network, linked: Network | None, run: Row, snapshot: Row
) -> Iterator[Part]:
    """Every neuron's state, then the links of ``linked``: the network, a part of it or None."""
    first = snapshot["first"]
    table = state_table(content, snapshot["epoch"], network, first)
    if linked is not None:
        table = table.assign(**strongest(linked))
    for batch in _batches(table):
        parameters = {"rows": batch, "first_neuron": run["first_neuron"]}
        yield Part(_STATES, parameters, neurons=len(batch))
    for links in link_batches(linked, first) if linked is not None else ():
        yield Part(links.text, links.parameters, links=links.trained, carried=links.carried)


def layer_ids(network: Network, run: Row) -> dict[str, int]:
    """The database's id of every layer by its name."""
    return {layer.name: run["first_layer"] + i for i, layer in enumerate(network.layers)}


def _batches(table: pd.DataFrame) -> Iterator[list[Row]]:
    return (rows_of(table.iloc[at : at + ROWS]) for at in range(0, len(table), ROWS))
