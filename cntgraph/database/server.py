"""One Neo4j of the user's own: a home folder that says whether it runs, where, and how to log in.

The jars are fetched once into the user's cache folder; the home lies in the user's data folder
(`CNTGRAPH_HOME` and `CNTGRAPH_CACHE` move them). The server listens on the loopback address
only, opens no file or address on behalf of a query, reports to nobody, and knows one user,
whose random password lies in a file of mode 0600.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from cntgraph.database.exchanging import end_exchange, exchange_data, undo_exchange, unproved
from cntgraph.database.home import (
    USER,
    Record,
    admitted,
    bytes_on_disk,
    discard_data,
    ensure_password,
    keep,
    password_file,
    prepare,
    recorded,
)
from cntgraph.database.jars import VERSION, exclusive, fetch, pinned, user_folder
from cntgraph.database.java import jar_folder, java_environment, java_runtime
from cntgraph.database.process import Process, launch
from cntgraph.errors import DatabaseError, InputRefused

__all__ = [
    "Server",
    "Status",
    "marked_home",
    "replacing",
    "reset",
    "start",
    "status",
    "stop",
]

_LOG = "server.log"
_MEMORY = {"heap": "1g", "page_cache": "512m"}
_START_SECONDS = 300  # on a loaded machine; a quiet one needs eight
_STOP_SECONDS = 120  # the last checkpoint writes what the page cache holds


@dataclass(frozen=True)
class Server:
    """A server that answered; its repr leaves the password out."""

    uri: str
    user: str
    password: str = field(repr=False)
    pid: int
    home: Path
    version: str


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
    heap: str = _MEMORY["heap"],
    page_cache: str = _MEMORY["page_cache"],
    progress: Callable[[int, int], None] | None = None,
) -> Server:
    """The local server, with its jars fetched and its process started where that is still to do.

    >>> start()  # doctest: +SKIP
    Server(uri='bolt://127.0.0.1:40123', user='neo4j', pid=4711, home=..., version='2026.08.1')

    `heap` and `page_cache` bound its memory, unless it runs already. `progress` is called with
    the bytes fetched and the bytes to fetch; by default a bar or a line goes to stderr.

    Raises `DatabaseError` where the jars cannot be fetched, Java cannot run, or the server ends
    or stays silent; `InputRefused` for a home folder that is not ours.
    """
    memory = {"heap": _memory("heap", heap), "page_cache": _memory("page_cache", page_cache)}
    home = _home()
    with _alone(home):
        _undo_exchange(home)
        return _running(home, memory, progress)


def _running(
    home: Path, memory: dict[str, str], progress: Callable[[int, int], None] | None = None
) -> Server:
    record = admitted(home)
    if record.process.runs:
        return _answering(home, record)
    java, jars = java_runtime(), fetch(pinned(), jar_folder(), progress=progress)
    record = replace(record, neo4j=VERSION, port=_free_port(record.port))
    arguments = prepare(home, record.port, jars, **memory)
    record = replace(record, process=_launched(home, java, arguments))
    try:
        keep(home, record)
        return _answering(home, record)
    except BaseException:  # Ctrl-C as well: a start that failed leaves nothing running
        record.process.end(patience=2)
        raise


def marked_home() -> Path:
    """The home of the local server, made and marked as ours where it is new."""
    home = _home()
    with _alone(home):
        admitted(home)
    return home


@contextmanager
def replacing(staged: Path) -> Iterator[Server]:
    """Run the local server on the data in ``staged``, which was not made by it.

    When the block ends the new data stays, and the server runs if it ran before; when the block
    or the start fails, the old data is back and so is the server.
    """
    home = _home()
    with _alone(home):
        _undo_exchange(home)
        ran = _stopped(home)
        ensure_password(home)
        try:
            exchange_data(home, staged)
            yield _running(home, _MEMORY)
        except BaseException:
            _undo_exchange(home)
            if ran:
                _running(home, _MEMORY)
            raise
        if not ran:
            _stopped(home)
        end_exchange(home)


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
    with _alone(home):
        return _stopped(home)


def status() -> Status:
    """Whether the local server runs, where it is and what it takes on the disk."""
    home = _home()
    record = recorded(home)
    running = record.process.runs
    return Status(
        running=running,
        uri=record.uri if running else None,
        version=record.neo4j,
        pid=record.process.pid if running else None,
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
    with _alone(home):
        _stopped(home)
        discard_data(home)


def _home() -> Path:
    return user_folder("data") / "neo4j"


def _alone(home: Path) -> AbstractContextManager[None]:
    return exclusive(home.with_name("neo4j.lock"))


# before the start


def _memory(name: str, text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]*[kmg]", text, re.IGNORECASE):
        raise InputRefused(
            f"{name}={text!r} is not a size of memory",
            why="Java reads a whole number followed by k, m or g",
            fix=f'{name}="1g"',
        )
    return text


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


# the running server


def _launched(home: Path, java: Path, arguments: Path) -> Process:
    environment = java_environment()
    return launch([str(java), f"@{arguments}"], folder=home, log=_LOG, environment=environment)


def _stopped(home: Path) -> bool:
    record = recorded(home)
    ran = record.process.runs
    record.process.end(patience=_STOP_SECONDS)
    keep(home, replace(record, process=Process()))
    return ran


def _answering(home: Path, record: Record) -> Server:
    """The server, once a query with its password was answered."""
    password = password_file(home).read_text(encoding="utf-8").strip()
    server = Server(record.uri, USER, password, record.process.pid, home, record.neo4j)
    limit = time.monotonic() + _START_SECONDS
    while time.monotonic() < limit:
        if _answers(server, record.port):
            return server
        if not record.process.runs:
            raise _failed("ended while it started", home)
        time.sleep(0.1)
    raise _failed(f"did not answer within {_START_SECONDS} s", home)


def _answers(server: Server, port: int) -> bool:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return False
    from neo4j import GraphDatabase
    from neo4j.exceptions import DriverError, Neo4jError

    login = (server.user, server.password)
    try:
        with (
            GraphDatabase.driver(server.uri, auth=login, connection_timeout=10) as driver,
            driver.session(database="neo4j") as session,
        ):
            session.run("RETURN 1").consume()
    except Neo4jError as error:
        if (error.code or "").startswith("Neo.ClientError.Security"):
            raise _locked_out(server.home) from error
        return False  # Bolt listens before the database is there
    except DriverError:
        return False
    return True


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
    return DatabaseError(
        f"Neo4j {VERSION} {what}",
        why="\n       ".join([f"the last lines of {log} are", *told[-8:]]),
        fix="cntgraph doctor, or set NEO4J_URI to a server that runs",
    )
