"""A run or a snapshot begins, grows by numbered parts, each exactly once, and becomes complete.

The node itself is the journal: `steps` on it counts its parts, and `within` the items of the next
part that are there where it came in several pieces. Whoever adds to it holds a lock on the node
from before these are read until what is new is there with the new count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cntgraph.database.content import Content, Row, layer_rows, layer_state_rows
from cntgraph.database.part import Part
from cntgraph.database.parts import layer_ids
from cntgraph.database.schema import COMPLETE, LOADING
from cntgraph.errors import DatabaseError

if TYPE_CHECKING:
    import neo4j

    from cntgraph.database.connection import Connection
    from cntgraph.network import Network

__all__ = [
    "Label",
    "begin_run",
    "begin_snapshot",
    "complete",
    "mark",
    "run_row",
    "snapshot_row",
    "write_stretch",
]

Label = Literal["Run", "Snapshot"]

# A change locks what it changes until the transaction ends. It must be a change that reads nothing:
# what is read in the same statement may be read before the lock is waited for. Whoever begins a run
# or a snapshot does so alone, and looks after it has the lock whether somebody else just did.
_LOCK = """
MERGE (c:IdCounter {name: 'cntgraph'})
ON CREATE SET c.next = 1
SET c.locked = true
REMOVE c.locked
"""

_ALLOCATE = """
MATCH (c:IdCounter {name: 'cntgraph'})
SET c.next = c.next + $count
RETURN c.next - $count AS first
"""

_RUN = """
CREATE (r:Run) SET r = $run
WITH r
UNWIND $layers AS row
CREATE (r)-[:HAS_LAYER]->(l:Layer) SET l = row
"""

_SNAPSHOT = """
MATCH (r:Run {id: $run})
CREATE (r)-[:HAS_SNAPSHOT]->(x:Snapshot) SET x = $snapshot
WITH x
UNWIND $states AS row
MATCH (l:Layer {id: $layers[row.layer]})
CREATE (l)-[:HAS_STATE]->(s:LayerState) SET s = row
"""

# The node is matched a second time after its lock, for what was read of the first may be older.
_LOOK = """
MATCH (x:%s {id: $owner})
SET x.locked = true
REMOVE x.locked
WITH count(x) AS locked
MATCH (x:%s {id: $owner})
RETURN x.steps AS steps, coalesce(x.within, 0) AS within, x.status AS status
"""

# at the end of what writes the items
_ADVANCE = """
WITH count(*) AS rows
MATCH (x:%s {id: $owner})
SET x += $after
"""


def run_row(content: Content, network: Network, first: int) -> Row:
    """The properties of a run that begins; ``first`` is its own id, layers and neurons follow."""
    return {
        "id": first,
        "name": content.name,
        "network": content.network_hash,
        "convention": content.convention,
        "batch_norm": network.batch_norm,
        "neurons": network.neuron_count,
        "links": network.link_count,
        "first_layer": first + 1,
        "first_neuron": first + 1 + len(network.layers),
        "status": LOADING,
        "steps": 0,
    }


def snapshot_row(content: Content, network: Network, epoch: int, choice: str) -> Row:
    """The properties of a snapshot that begins, but for its ids and what was recorded of it."""
    return {
        "run": content.name,
        "epoch": epoch,
        "fingerprint": content.run.fingerprint(epoch),
        "measures": content.measures,
        "neurons": network.neuron_count,
        "choice": choice,
        "status": LOADING,
        "steps": 0,
    }


def begin_run(connection: Connection, content: Content, network: Network) -> Row:
    """The run's node and those of its layers; the properties of the run."""

    def work(tx: neo4j.Transaction) -> Row:
        tx.run(_LOCK).consume()
        query = "MATCH (r:Run {name: $name}) RETURN properties(r) AS r"
        if (row := tx.run(query, name=content.name).single()) is not None:
            return dict(row["r"])
        count = 1 + len(network.layers) + network.neuron_count
        first = _allocated(tx, count)
        run = run_row(content, network, first)
        tx.run(_RUN, run=run, layers=layer_rows(content, network, first + 1)).consume()
        return run

    return connection.transaction(work)


def begin_snapshot(
    connection: Connection, content: Content, network: Network, run: Row, epoch: int, choice: str
) -> Row:
    """The snapshot's node and the states of the layers; the properties of the snapshot."""
    states = layer_state_rows(content, epoch)
    facts = {**content.metrics(epoch), **snapshot_row(content, network, epoch, choice)}

    def work(tx: neo4j.Transaction) -> Row:
        tx.run(_LOCK).consume()
        query = "MATCH (x:Snapshot {run: $run, epoch: $epoch}) RETURN properties(x) AS x"
        if (row := tx.run(query, run=content.name, epoch=epoch).single()) is not None:
            return dict(row["x"])
        first = _allocated(tx, 1 + network.neuron_count)
        snapshot = {**facts, "id": first, "first": first + 1}
        parameters = {"snapshot": snapshot, "states": states, "layers": layer_ids(network, run)}
        tx.run(_SNAPSHOT, parameters, run=run["id"]).consume()
        return snapshot

    return connection.transaction(work)


def _allocated(tx: neo4j.Transaction, count: int) -> int:
    row = tx.run(_ALLOCATE, count=count).single(strict=True)
    return int(row["first"])


def write_stretch(
    connection: Connection, label: Label, owner: int, number: int, part: Part, most: int
) -> tuple[int, bool]:
    """Write the next items of a part: how many this call wrote, and whether all are there now."""

    def work(tx: neo4j.Transaction) -> tuple[int, bool]:
        # the lock first, then a look: another loader may have written this part a moment ago
        row = tx.run(_LOOK % (label, label), owner=owner).single()
        if row is None or row["status"] not in (LOADING, COMPLETE) or row["steps"] < number:
            raise DatabaseError(
                "what was being loaded is no longer there",
                why="it was removed or begun anew by somebody else meanwhile",
            )
        if row["steps"] > number:
            return 0, True
        parameters, count = part.stretch(row["within"], most)
        there = row["within"] + count
        whole = there >= part.size
        after = {"steps": number + whole, "within": None if whole else there}
        tx.run(part.text + _ADVANCE % label, parameters, owner=owner, after=after).consume()
        return count, whole

    return connection.transaction(work)


def complete(connection: Connection, label: Label, owner: int, **facts: object) -> None:
    """Say that all parts are there."""
    connection.change(
        f"MATCH (x:{label} {{id: $id}}) SET x += $facts, x.status = $status",
        id=owner,
        facts=facts,
        status=COMPLETE,
    )


def mark(connection: Connection, snapshot: int, status: str) -> None:
    """Give a snapshot another status."""
    connection.change(
        "MATCH (x:Snapshot {id: $id}) SET x.status = $status", id=snapshot, status=status
    )
