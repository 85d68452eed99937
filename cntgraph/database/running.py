"""A server's process is launched and waited for until it answers, or its last words are told."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cntgraph.database.dialling import Address
from cntgraph.database.health import State, causes, state
from cntgraph.database.home import (
    USER,
    Record,
    admitted,
    keep,
    password_file,
    prepare,
    refuse_without_room,
    release_of,
)
from cntgraph.database.jars import fetch, pinned
from cntgraph.database.java import jar_folder, java_environment, java_runtime
from cntgraph.database.process import launch
from cntgraph.database.releases import Release
from cntgraph.database.settings import Options
from cntgraph.errors import DatabaseError

__all__ = ["Progress", "Server", "condition", "running"]

Progress = Callable[[int, int], None]

_LOG = "server.log"
_START_SECONDS = 300  # on a loaded machine; a quiet one needs eight


@dataclass(frozen=True)
class Server:
    """A server that answered; its repr leaves the password out."""

    uri: str
    user: str
    password: str = field(repr=False)
    pid: int
    home: Path
    version: str


def running(home: Path, options: Options, progress: Progress | None = None) -> Server:
    """The server of this home, launched with these options unless it runs already."""
    record = admitted(home)
    if record.process.runs and (server := _answering(home, record)):
        return server
    refuse_without_room(home)
    record.process.kill()  # where it broke and did not end; it must not write what it still holds
    release = release_of(home)
    java = java_runtime(release)
    jars = fetch(
        pinned("server", release), jar_folder(release), title=release.title, progress=progress
    )
    plugins = _plugins(release, progress) if options.gds else []
    before = record.options
    record = replace(record, neo4j=release.version, port=_free_port(record.port), options=options)
    arguments = prepare(home, record, java, jars, plugins)
    process = launch(
        [str(java.path), f"@{arguments}"], folder=home, log=_LOG, environment=java_environment()
    )
    record = replace(record, process=process)
    try:
        keep(home, record)
        if server := _answering(home, record):
            return server
        raise _failed(f"{'broke' if process.runs else 'ended'} while it started", home)
    except BaseException:  # Ctrl-C as well: a start that failed leaves nothing running
        process.end(patience=2)
        keep(home, replace(record, options=before))
        raise


def _plugins(release: Release, progress: Progress | None) -> list[Path]:
    jars = pinned("gds", release)
    if not jars:
        raise DatabaseError(
            f"there is no Graph Data Science for {release.title} here",
            why="the one that is pinned is built for Neo4j 2026",
            fix="cntgraph db start --neo4j 2026.08 --gds",
        )
    return fetch(
        jars, jar_folder(release, "gds"), title="Graph Data Science 2.26.0", progress=progress
    )


def _free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as probe:
            # without this the port of a server that stopped a moment ago seems taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DatabaseError(
        "no port is free on 127.0.0.1",
        why="this machine's loopback address has none left",
        fix="end what holds them, or set NEO4J_URI to a server that runs",
    )


def condition(home: Path, record: Record) -> State:
    """How the database of a server that runs is."""
    return state(Address(record.uri, USER, _password(home)))


def _password(home: Path) -> str:
    return password_file(home).read_text(encoding="utf-8").strip()


def _answering(home: Path, record: Record) -> Server | None:
    """The server, once a query with its password was answered; None where it broke or ended."""
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit:
        found = condition(home, record)
        if found is State.READY:
            return Server(record.uri, USER, _password(home), record.process.pid, home, record.neo4j)
        if found is State.BROKEN or not record.process.runs:
            return None
        if found is State.LOCKED:
            raise _locked_out(home)
        if found is State.CLOSED:
            raise _not_opened(home)
        time.sleep(0.1)
    raise _failed(f"did not answer within {_START_SECONDS} s", home)


def _not_opened(home: Path) -> DatabaseError:
    told = causes(home / "logs" / "debug.log")
    return DatabaseError(
        f"{release_of(home).title} runs, and cannot open its database in {home}",
        why="\n       ".join(told or ["it does not say"]),
        fix="bring a dump back: cntgraph db restore FILE, or make it anew from the run folders: "
        "cntgraph db rebuild RUNS",
    )


def _locked_out(home: Path) -> DatabaseError:
    return DatabaseError(
        f"the local server does not take the password in {password_file(home)}",
        why="the password was changed in the database, or the file was",
        fix="write the right one into the file, "
        "or delete the data and load again: cntgraph db reset",
    )


def _failed(what: str, home: Path) -> DatabaseError:
    log = home / _LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    told = [line.strip() for line in lines if line.strip() and not line.startswith("\tat ")]
    if any("newer version of neo4j" in line for line in told):
        return DatabaseError(
            f"the data in {home} was written by a Neo4j newer than {release_of(home).version}",
            why="an older Neo4j cannot read it",
            fix="give it back to the release that wrote it, "
            "or delete the data and load again: cntgraph db reset",
        )
    return DatabaseError(
        f"{release_of(home).title} {what}",
        why="\n       ".join([f"the last lines of {log} are", *told[-8:]]),
        fix="cntgraph doctor, or set NEO4J_URI to a server that runs",
    )
