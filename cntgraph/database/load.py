"""A run goes into the database epoch by epoch, and a load that was cut goes on where it stopped.

Epochs share no node but those of the run, which come first; so several sessions write epochs side
by side. After the last part of an epoch the server is asked to count and to sum what it holds, and
only then is the epoch complete and seen by queries.
"""

from __future__ import annotations

import dataclasses
import shlex
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cntgraph.database.checks import Mismatch, SelfCheck, compare, expected, found_there
from cntgraph.database.choosing import (
    check_choice,
    check_weights,
    chosen_epochs,
    linked_part,
)
from cntgraph.database.content import Content, Row
from cntgraph.database.journal import (
    Label,
    begin_run,
    begin_snapshot,
    complete,
    mark,
    write_stretch,
)
from cntgraph.database.part import Part, Portion
from cntgraph.database.parts import run_parts, snapshot_parts
from cntgraph.database.reconciling import reconciled
from cntgraph.database.retrying import TooLarge
from cntgraph.database.schema import COMPLETE, DAMAGED, prepare
from cntgraph.database.sessions import Halt, side_by_side
from cntgraph.errors import CntWarning, DatabaseError, InputRefused, LoadInterrupted

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection
    from cntgraph.network import Network

__all__ = ["SESSIONS", "LoadReport", "Progress", "load"]

Progress = Callable[[int, int], None]

SESSIONS = 3
_PATIENCE = 60.0  # seconds: a server that is restarted is back by then


@dataclass(frozen=True)
class LoadReport:
    """What one call of `load` wrote; the same call again writes nothing.

    ``neurons`` and ``links`` (trained weights) are counted over the loaded ``epochs``; epochs
    that were there are ``skipped``; ``kept`` is the share of the total |weight| that is in the
    links, the smallest of all these epochs. ``checks`` is what the server found in each epoch
    that was loaded.
    """

    neurons: int
    links: int
    epochs: tuple[int, ...]
    skipped: tuple[int, ...]
    seconds: float
    kept: float
    checks: tuple[SelfCheck, ...] = field(default=(), repr=False)


@dataclass
class _Tally:
    """How far a call has come; items that were there count as done, not as written."""

    progress: Progress | None
    total: int = 0
    done: int = 0
    neurons: int = 0
    links: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, links: int) -> None:
        """About so many links altogether."""
        with self.lock:
            self.total = self.total or links

    def add(self, part: Part, count: int, *, written: bool) -> None:
        with self.lock:
            self.neurons += count * (written and part.kind == "neurons")
            self.links += count * (written and part.kind == "links")
            self.done += count * (part.kind != "neurons")
            if self.progress is not None:
                self.progress(self.done, self.total)


@dataclass(frozen=True)
class _Loading:
    """What the sessions of one call share."""

    connection: Connection
    content: Content
    choice: str
    tally: _Tally
    portion: Portion = field(default_factory=Portion)

    def whole_run(self, run: Row | None) -> Row:
        """The run's node, with all its layers and neurons."""
        network = self.content.run.wiring
        run = run or begin_run(self.connection, self.content, network)
        if run["status"] == COMPLETE:
            return run
        for _ in self._written("Run", run, run_parts(self.content, network, run)):
            pass
        complete(self.connection, "Run", run["id"])
        return {**run, "status": COMPLETE}

    def epoch(self, epoch: int, of: int, run: Row, there: Row | None) -> tuple[float, SelfCheck]:
        """Write what is missing of an epoch, ``of`` so many; the share kept, and the check."""
        network = self.content.network(epoch)
        linked = linked_part(network, self.choice)
        self.tally.expect(of * _count(linked))
        snapshot = there or begin_snapshot(
            self.connection, self.content, network, run, epoch, self.choice
        )
        parts = snapshot_parts(self.content, network, linked, run, snapshot)
        for part, count, written in self._written("Snapshot", snapshot, parts):
            self.tally.add(part, count, written=written)
        return _finished(self.connection, self.content, linked, snapshot)

    def _written(
        self, label: Label, owner: Row, parts: Iterable[Part]
    ) -> Iterator[tuple[Part, int, bool]]:
        """Write what is not there yet; items of each part, and whether this call wrote them."""
        for number, part in enumerate(parts):
            left, whole = part.size, number < owner["steps"]
            while not whole:
                count, whole = self._stretch(label, owner["id"], number, part)
                left -= count
                if count:
                    yield part, count, True
            if left:
                yield part, left, False

    def _stretch(self, label: Label, owner: int, number: int, part: Part) -> tuple[int, bool]:
        """One transaction, with half as many items where the server's memory is too short."""
        while True:
            self.connection.pause(0.0)  # where a session ends that is to end
            divisor = self.portion.divisor
            most = self.portion.of(part.size)
            try:
                return write_stretch(self.connection, label, owner, number, part, most)
            except TooLarge:
                if not self.portion.halve(divisor):
                    raise


def load(
    connection: Connection,
    content: Content,
    epochs: Iterable[int] | None,
    links: str,
    *,
    replace: bool = False,
    sessions: int = SESSIONS,
    progress: Progress | None = None,
) -> LoadReport:
    """Write the chosen epochs of a run; see `Database.load`."""
    begun = time.monotonic()
    chosen = chosen_epochs(content, epochs)
    check_choice(links)
    check_weights(content, links)
    _check_sessions(sessions)
    _ = content.measures  # refuses a bad name before anything is written
    prepare(connection)
    halt = Halt()
    patient = _patient(connection, halt)
    with _resumable(content, [] if chosen == content.epochs else chosen, links):
        run, there = reconciled(patient, content, chosen, links, replace=replace)
        skipped = [e for e in chosen if e in there and there[e]["status"] == COMPLETE]
        missing = [e for e in chosen if e not in skipped]
        loading = _Loading(patient, content, links, _Tally(progress))
        if missing:
            whole = loading.whole_run(run)
            _ = content.layers  # read once, before sessions ask for it side by side
        found = side_by_side(
            lambda epoch: loading.epoch(epoch, len(missing), whole, there.get(epoch)),
            missing,
            sessions=sessions,
            halt=halt,
        )
    return LoadReport(
        loading.tally.neurons,
        loading.tally.links,
        tuple(missing),
        tuple(skipped),
        time.monotonic() - begun,
        min([float(there[e]["kept"]) for e in skipped] + [kept for kept, _ in found], default=0.0),
        tuple(check for _, check in found),
    )


def _check_sessions(sessions: int) -> None:
    if isinstance(sessions, bool) or not isinstance(sessions, int) or sessions < 1:
        raise InputRefused(
            f"sessions={sessions!r} is no number of sessions",
            why="so many epochs are loaded side by side: one at least",
            fix=f"sessions={SESSIONS}",
        )


def _finished(
    connection: Connection, content: Content, linked: Network | None, snapshot: Row
) -> tuple[float, SelfCheck]:
    """The snapshot checked and made complete; the share of |weight| in its links."""
    everything = snapshot["choice"] == "all" and content.convention == "plain"
    wanted = expected(linked, snapshot["neurons"], strengths=everything)
    found = found_there(connection, snapshot["first"], snapshot["neurons"])
    try:
        check = compare(found, wanted, snapshot["epoch"], content.name)
    except Mismatch:
        mark(connection, snapshot["id"], DAMAGED)
        raise
    kept = 0.0 if linked is None else linked.kept
    facts = {"links": wanted.links, "carried": wanted.carried, "kept": kept}
    complete(connection, "Snapshot", snapshot["id"], **facts)
    return kept, check


def _count(linked: Network | None) -> int:
    return 0 if linked is None else sum(b.link_count for b in linked.blocks if b.certain)


def _patient(connection: Connection, halt: Halt) -> Connection:
    """The connection for a load: it survives a restart of the server, and says that it waits."""
    told: list[bool] = []

    def pause(seconds: float) -> None:
        if seconds >= 1 and not told:
            told.append(True)
            uri = connection.place.uri
            warnings.warn(
                f"{uri} does not answer as it should; the load waits for it, up to "
                f"{_PATIENCE:.0f} s",
                CntWarning,
                stacklevel=2,
            )
        halt.pause(seconds)

    return dataclasses.replace(connection, patience=_PATIENCE, pause=pause)


@contextmanager
def _resumable(content: Content, epochs: Sequence[int], links: str) -> Iterator[None]:
    try:
        yield
    except (LoadInterrupted, Mismatch, TooLarge):
        raise
    except DatabaseError as error:
        if _forbidden(error):
            raise
        words = ["cntgraph", "load", str(content.run.path)]
        words += ["--epochs", ",".join(map(str, epochs))] if epochs else []
        words += ["--links", links] if links != "all" else []
        words += ["--name", content.name] if content.name != content.run.name else []
        raise LoadInterrupted(
            f"the load of {content.name!r} was interrupted: {error.what}",
            why=error.why,
            fix=f"the same command goes on where it stopped: {shlex.join(words)}",
        ) from error


def _forbidden(error: DatabaseError) -> bool:
    """Whether the server would refuse the same command again until somebody allows it."""
    code = getattr(error.__cause__, "code", None) or ""
    return code.startswith("Neo.ClientError.Security") or "ReadOnly" in code
