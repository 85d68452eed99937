"""A run goes into the database epoch by epoch, and a load that was cut goes on where it stopped.

After the last part of an epoch the server is asked to count and to sum what it holds, and only
then is the epoch complete and seen by queries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cntgraph.database.checks import compare, expected, found_there
from cntgraph.database.choosing import (
    check_choice,
    check_weights,
    chosen_epochs,
    linked_part,
)
from cntgraph.database.content import Content, Row
from cntgraph.database.journal import Label, begin_run, begin_snapshot, complete, mark, write_part
from cntgraph.database.parts import Part, run_parts, snapshot_parts
from cntgraph.database.reconciling import reconciled
from cntgraph.database.schema import COMPLETE, DAMAGED, prepare
from cntgraph.errors import DatabaseError, LoadInterrupted

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection
    from cntgraph.network import Network

__all__ = ["LoadReport", "Progress", "load"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LoadReport:
    """What one call of `load` wrote; the same call again writes nothing.

    ``neurons`` and ``links`` (trained weights) are counted over the loaded ``epochs``; epochs
    that were there are ``skipped``; ``kept`` is the share of the total |weight| that is in the
    links, the smallest of all these epochs.
    """

    neurons: int
    links: int
    epochs: tuple[int, ...]
    skipped: tuple[int, ...]
    seconds: float
    kept: float


@dataclass
class _Tally:
    """How far a call has come; links of parts that were there count as done, not as written."""

    progress: Progress | None
    total: int = 0
    done: int = 0
    neurons: int = 0
    links: int = 0

    def add(self, part: Part, *, written: bool) -> None:
        self.done += part.links + part.carried
        if written:
            self.neurons += part.neurons
            self.links += part.links
        if self.progress is not None:
            self.progress(self.done, self.total)


def load(
    connection: Connection,
    content: Content,
    epochs: Iterable[int] | None,
    links: str,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> LoadReport:
    """Write the chosen epochs of a run; see `Database.load`."""
    begun = time.monotonic()
    chosen = chosen_epochs(content, epochs)
    check_choice(links)
    check_weights(content, links)
    _ = content.measures  # refuses a bad name before anything is written
    prepare(connection)
    run, there = reconciled(connection, content, chosen, links, replace=replace)
    skipped = [e for e in chosen if e in there and there[e]["status"] == COMPLETE]
    missing = [e for e in chosen if e not in skipped]
    kept = [float(there[e]["kept"]) for e in skipped]
    tally = _Tally(progress)
    for epoch in missing:
        network = content.network(epoch)
        linked = linked_part(network, links)
        tally.total = tally.total or len(missing) * _count(linked)
        with _resumable(content):
            run = _whole_run(connection, content, network, run)
            snapshot = there.get(epoch)
            if snapshot is None:
                snapshot = begin_snapshot(connection, content, network, run, epoch, links)
            parts = snapshot_parts(content, network, linked, run, snapshot)
            for part, written in _parts(connection, "Snapshot", snapshot, parts):
                tally.add(part, written=written)
        kept.append(_finished(connection, content, linked, snapshot))
    return LoadReport(
        tally.neurons,
        tally.links,
        tuple(missing),
        tuple(skipped),
        time.monotonic() - begun,
        min(kept, default=0.0),
    )


def _whole_run(connection: Connection, content: Content, network: Network, run: Row | None) -> Row:
    """The run's node, with all its layers and neurons."""
    run = run or begin_run(connection, content, network)
    if run["status"] == COMPLETE:
        return run
    for _ in _parts(connection, "Run", run, run_parts(content, network, run)):
        pass
    complete(connection, "Run", run["id"])
    return {**run, "status": COMPLETE}


def _parts(
    connection: Connection, label: Label, owner: Row, parts: Iterable[Part]
) -> Iterator[tuple[Part, bool]]:
    """Write what is not there yet; each part, and whether this call wrote it."""
    for number, part in enumerate(parts):
        done = number < owner["steps"]
        yield part, not done and write_part(connection, label, owner["id"], number, part)


def _finished(
    connection: Connection, content: Content, linked: Network | None, snapshot: Row
) -> float:
    """The snapshot checked and made complete; the share of |weight| in its links."""
    everything = snapshot["choice"] == "all" and content.convention == "plain"
    wanted = expected(linked, snapshot["neurons"], strengths=everything)
    found = found_there(connection, snapshot["first"], snapshot["neurons"])
    try:
        compare(found, wanted, f"epoch {snapshot['epoch']} of {content.name!r}")
    except DatabaseError:
        mark(connection, snapshot["id"], DAMAGED)
        raise
    kept = 0.0 if linked is None else linked.kept
    facts = {"links": wanted.links, "carried": wanted.carried, "kept": kept}
    complete(connection, "Snapshot", snapshot["id"], **facts)
    return kept


def _count(linked: Network | None) -> int:
    return 0 if linked is None else sum(b.link_count for b in linked.blocks if b.certain)


@contextmanager
def _resumable(content: Content) -> Iterator[None]:
    try:
        yield
    except LoadInterrupted:
        raise
    except DatabaseError as error:
        raise LoadInterrupted(
            f"the load of {content.name!r} was interrupted: {error.what}",
            why=error.why,
            fix=f"the same command goes on where it stopped: cntgraph load {content.run.path}",
        ) from error
