"""What the database holds under a run's name is compared with the run before anything is written.

A run in the database is the same run if its network is and every epoch of it there has the same
fingerprint; then missing epochs are added and cut ones are gone on with. Anything else is another
run of the same name, and stays untouched unless it is to be replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cntgraph.database.content import Content, Row
from cntgraph.database.removal import remove_run, remove_snapshot
from cntgraph.database.schema import COMPLETE, DAMAGED, DELETING
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection

__all__ = ["reconciled"]

_THERE = """
MATCH (r:Run {name: $name})
OPTIONAL MATCH (r)-[:HAS_SNAPSHOT]->(x:Snapshot)
RETURN properties(r) AS run, collect(properties(x)) AS snapshots
"""


def reconciled(
    connection: Connection, content: Content, chosen: Sequence[int], choice: str, *, replace: bool
) -> tuple[Row | None, dict[int, Row]]:
    """The run's node and its snapshots by epoch, as far as they can stay.

    Raises `InputRefused` for another run of that name, and for an epoch that was loaded with
    another choice of links, unless ``replace``.
    """
    rows = connection.rows(_THERE, name=content.name)
    if not rows:
        return None, {}
    run: Row = rows[0]["run"]
    there = {int(x["epoch"]): x for x in rows[0]["snapshots"]}
    reason = "" if run["status"] == DELETING else _other(content, run, there)
    if reason and not replace:
        raise InputRefused(
            f"the database holds another run named {content.name!r}",
            why=reason,
            fix="load with replace=True (--replace), or under another name: name=... (--name)",
        )
    if reason or run["status"] == DELETING:
        remove_run(connection, content.name)
        return None, {}
    stale = [e for e in chosen if e in there and _stale(there[e], choice, replace=replace)]
    for epoch in stale:
        remove_snapshot(connection, there.pop(epoch)["id"])
    return run, there


def _other(content: Content, run: Row, there: dict[int, Row]) -> str:
    """Why the database's run is not this one; empty if it is."""
    if run["network"] != content.network_hash:
        return f"its network is another: {run['neurons']:,} neurons, {run['links']:,} links"
    for epoch, snapshot in sorted(there.items()):
        if snapshot["status"] == DELETING:
            continue
        if epoch not in content.epochs:
            return f"it has an epoch {epoch}, which {content.run.path} does not have"
        if snapshot["fingerprint"] != content.run.fingerprint(epoch):
            return f"its epoch {epoch} has other weights, measures or metrics"
    return ""


def _stale(snapshot: Row, choice: str, *, replace: bool) -> bool:
    """True if an epoch that is there must be loaded anew."""
    before = snapshot["choice"]
    if snapshot["status"] in (DELETING, DAMAGED):
        return True
    if snapshot["status"] != COMPLETE:
        return bool(before != choice)
    if replace or choice in (before, "none"):
        return replace
    if before == "none":  # only its neurons are there, and they are quickly written
        return True
    raise InputRefused(
        f"epoch {snapshot['epoch']} of {snapshot['run']!r} is loaded with links={before!r}",
        why=f"links={choice!r} was asked for",
        fix="load it again with replace=True (--replace)",
    )
