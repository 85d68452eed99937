"""A run or a snapshot leaves the database in transactions of bounded size, links first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cntgraph.database.part import Portion
from cntgraph.database.retrying import TooLarge
from cntgraph.database.schema import DELETING
from cntgraph.errors import InputRefused, did_you_mean

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection

__all__ = ["remove_run", "remove_snapshot"]

_LINKS, _NODES = 20_000, 5_000  # a transaction

# In order of id, so that the next transaction begins where this one ended and not at the start.
_DELETE_LINKS = """
MATCH (n:NeuronState) WHERE n.id >= $low AND n.id < $end
MATCH (n)-[k:LINK|CARRIES]->()
WITH n.id AS id, k ORDER BY id LIMIT $limit
DELETE k
RETURN max(id) AS low, count(*) AS deleted
"""

_DELETE_NODES = """
MATCH (n:{label}) WHERE n.id >= $low AND n.id < $end
WITH n LIMIT $limit
DETACH DELETE n
RETURN count(*) AS deleted
"""


@dataclass(frozen=True)
class _Range:
    label: str
    low: int
    end: int


def remove_run(connection: Connection, name: str) -> None:
    """Everything of the run of that name; nothing of any other."""
    found = connection.rows("MATCH (r:Run {name: $name}) RETURN properties(r) AS run", name=name)
    if not found:
        raise InputRefused(
            f"there is no run {name!r} in the database", why=_names(connection, name)
        )
    run = found[0]["run"]
    connection.change("MATCH (r:Run {id: $id}) SET r.status = $to", id=run["id"], to=DELETING)
    for snapshot in connection.rows(
        "MATCH (x:Snapshot {run: $name}) RETURN x.id AS id ORDER BY id", name=name
    ):
        remove_snapshot(connection, snapshot["id"])
    first = run["first_neuron"]
    _delete_nodes(connection, _Range("Neuron", first, first + run["neurons"]))
    connection.change("MATCH (l:Layer {run: $name}) DETACH DELETE l", name=name)
    connection.change("MATCH (r:Run {id: $id}) DETACH DELETE r", id=run["id"])
    connection.change("MATCH (c:IdCounter) WHERE NOT EXISTS { MATCH (:Run) } DELETE c")


def remove_snapshot(connection: Connection, snapshot: int) -> None:
    """One epoch of a run; from the first moment on, queries do not see it."""
    rows = connection.change(
        "MATCH (x:Snapshot {id: $id}) SET x.status = $to RETURN properties(x) AS snapshot",
        id=snapshot,
        to=DELETING,
    )
    if not rows:
        return
    found: dict[str, Any] = rows[0]["snapshot"]
    states = _Range("NeuronState", found["first"], found["first"] + found["neurons"])
    _delete_links(connection, states)
    _delete_nodes(connection, states)
    connection.change(
        "MATCH (s:LayerState {run: $run, epoch: $epoch}) DETACH DELETE s",
        run=found["run"],
        epoch=found["epoch"],
    )
    connection.change("MATCH (x:Snapshot {id: $id}) DETACH DELETE x", id=snapshot)


def _delete_links(connection: Connection, states: _Range) -> None:
    low, portion = states.low, Portion()
    while low is not None:
        row = _bounded(connection, _DELETE_LINKS, _LINKS, portion, low=low, end=states.end)
        low = row["low"]


def _delete_nodes(connection: Connection, nodes: _Range) -> None:
    text, portion = _DELETE_NODES.format(label=nodes.label), Portion()
    while _bounded(connection, text, _NODES, portion, low=nodes.low, end=nodes.end)["deleted"]:
        pass


def _bounded(
    connection: Connection, text: str, most: int, portion: Portion, **given: object
) -> dict[str, Any]:
    """One transaction; of half the size where the server's memory is too short for it."""
    while True:
        failed = portion.divisor
        try:
            (row,) = connection.change(text, limit=portion.of(most), **given)
            return row
        except TooLarge:
            if not portion.halve(failed):
                raise


def _names(connection: Connection, name: str) -> str:
    known = [row["name"] for row in connection.rows("MATCH (r:Run) RETURN r.name AS name")]
    return did_you_mean(name, known) if known else "it holds no run"
