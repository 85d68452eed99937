"""One Neo4j of the user's own: a home folder that says whether it runs, where, and how to log in.

The jars are fetched once into the user's cache folder; the home lies in the user's data folder
(`CNTGRAPH_HOME` and `CNTGRAPH_CACHE` move them). The server listens on the loopback address
only, opens no file or address on behalf of a query, reports to nobody, and knows one user,
whose random password lies in a file of mode 0600. It is of one release at a time, and each
release has a home of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cntgraph.database.exchanging import end_exchange, exchange_data, undo_exchange, unproved
from cntgraph.database.health import State
from cntgraph.database.home import (
    Record,
    admitted,
    bytes_on_disk,
    discard_data,
    ensure_password,
    has_room,
    keep,
    password_file,
    recorded,
)
from cntgraph.database.jars import exclusive, user_folder
from cntgraph.database.process import Process
from cntgraph.database.releases import LATEST, RELEASES, Release, find_release
from cntgraph.database.running import Progress, Server, condition, running
from cntgraph.database.settings import Options
from cntgraph.errors import DatabaseError, InputRefused

__all__ = [
    "Server",
    "Status",
    "marked_home",
    "paused",
    "replacing",
    "reset",
    "start",
    "status",
    "stop",
]

_STOP_SECONDS = 120  # the last checkpoint writes what the page cache holds
_CHOICE = "neo4j.release"


@dataclass(frozen=True)
class Status:
    """What is known without asking the server; `uri` and `pid` are None while nothing runs."""

    running: bool
    uri: str | None
    version: str
    pid: int | None
    home: Path
    password_file: Path
    size_bytes: int


def start(
    *,
    neo4j: str | None = None,
    heap: str | None = None,
    page_cache: str | None = None,
    gds: bool = False,
    progress: Progress | None = None,
) -> Server:
    """The local server, with its jars fetched and its process started where that is still to do.

    >>> start()  # doctest: +SKIP
    Server(uri='bolt://127.0.0.1:40123', user='neo4j', pid=4711, home=..., version='2026.08.1')

    `neo4j` chooses the release (`"5.26"`), and `heap` and `page_cache` bound its memory; all
    three are remembered. `gds` adds Graph Data Science, for this start. `progress` is called with
    the bytes fetched and the bytes to fetch; by default a bar or a line goes to stderr.

    Raises `DatabaseError` where the jars cannot be fetched, no Java fits, the server ends or stays
    silent, or runs already in another way; `InputRefused` for a home folder that is not ours.
    """
    wanted = _current() if neo4j is None else find_release(neo4j)
    home = _home(wanted)
    with _alone():
        _refuse_another(wanted)
        _undo_exchange(home)
        record = recorded(home)
        options = replace(
            record.options,
            heap=record.options.heap if heap is None else heap,
            page_cache=record.options.page_cache if page_cache is None else page_cache,
            gds=gds,
        )
        if record.process.runs:
            _refuse_otherwise(record.options, options)
        server = running(home, options, progress)
        _choose(wanted)
        return server


def marked_home() -> Path:
    """The home of the local server, made and marked as ours where it is new."""
    home = _home()
    with _alone():
        admitted(home)
    return home


@contextmanager
def replacing(staged: Path) -> Iterator[Server]:
    """Run the local server on the data in ``staged``, which was not made by it.

    When the block ends the new data stays, and the server runs if it ran before; when the block
    or the start fails, the old data is back and so is the server.
    """
    home = _home()
    with _alone():
        _undo_exchange(home)
        options = recorded(home).options
        ran = _stopped(home)
        ensure_password(home)
        try:
            exchange_data(home, staged)
            yield running(home, options)
        except BaseException:
            _undo_exchange(home)
            if ran:
                running(home, options)
            raise
        if not ran:
            _stopped(home)
        end_exchange(home)


@contextmanager
def paused(home: Path) -> Iterator[None]:
    """Stop the server for the block, and start it again as it was if it ran."""
    with _alone():
        _undo_exchange(home)
        options = recorded(home).options
        ran = _stopped(home)
        try:
            yield
        finally:
            if ran:
                running(home, options)


def _undo_exchange(home: Path) -> None:
    """Bring the old data back where an exchange failed, or was killed before it was proved."""
    if unproved(home):
        recorded(home).process.end(patience=2)
        undo_exchange(home)


def stop() -> bool:
    """End the local server and wait until it is gone; False where none ran."""
    home = _home()
    if not home.exists():
        return False
    with _alone():
        return _stopped(home)


def status() -> Status:
    """Whether the local server runs, where it is and what it takes on the disk."""
    home = _home()
    record = recorded(home)
    runs = record.process.runs
    return Status(
        running=runs,
        uri=record.uri if runs else None,
        version=record.neo4j,
        pid=record.process.pid if runs else None,
        home=home,
        password_file=password_file(home),
        size_bytes=bytes_on_disk(home),
    )


def reset() -> None:
    """Stop the local server and delete its data: the next start finds an empty database.

    Nothing goes but what the server wrote; port and password stay as they are.
    """
    home = _home()
    if not home.exists():
        return
    with _alone():
        _stopped(home)
        discard_data(home)


def _stopped(home: Path) -> bool:
    record = recorded(home)
    ran = record.process.runs
    if ran and (not has_room(home) or _is_broken(home, record)):
        # it would wait for room to write, or write what did not go through into the midst of
        # what did and never start again; what was committed is in its log, and is recovered
        record.process.kill()
    record.process.end(patience=_STOP_SECONDS)
    with suppress(DatabaseError):  # on a full disk; the mark of a process that is gone will do
        keep(home, replace(record, process=Process()))
    return ran


def _is_broken(home: Path, record: Record) -> bool:
    return password_file(home).exists() and condition(home, record) is State.BROKEN


# which release


def _current() -> Release:
    """The release that runs, else the one that was chosen last."""
    for release in RELEASES:
        if _runs(release):
            return release
    try:
        return find_release((user_folder("data") / _CHOICE).read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError, InputRefused):  # none yet, or one of a newer cntgraph
        return LATEST


def _choose(release: Release) -> None:
    (user_folder("data") / _CHOICE).write_text(release.name + "\n", encoding="ascii")


def _runs(release: Release) -> bool:
    home = _home(release)
    return home.exists() and recorded(home).process.runs


def _home(release: Release | None = None) -> Path:
    return user_folder("data") / (release or _current()).folder


def _alone() -> AbstractContextManager[None]:
    """One at a time, whatever the release."""
    return exclusive(user_folder("data") / "neo4j.lock")


def _refuse_another(wanted: Release) -> None:
    for release in RELEASES:
        if release is not wanted and _runs(release):
            raise DatabaseError(
                f"the local server runs, and it is Neo4j {release.version}",
                why="one release runs at a time; the data of the other stays where it is",
                fix=f"cntgraph db stop && cntgraph db start --neo4j {wanted.name}",
            )


def _refuse_otherwise(has: Options, wanted: Options) -> None:
    """Say so where a running server is not what was asked for; without GDS is no wish."""
    if wanted.gds and not has.gds:
        raise DatabaseError(
            "the local server runs without Graph Data Science",
            why="plugins are taken in when it starts",
            fix="cntgraph db stop && cntgraph db start --gds",
        )
    if has.memory != wanted.memory:
        raise DatabaseError(
            f"the local server runs with {has.memory}",
            why="its memory is set when it starts",
            fix=f"cntgraph db stop && cntgraph db start "
            f"--heap {wanted.heap} --page-cache {wanted.page_cache}",
        )
