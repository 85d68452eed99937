"""Whether a server's database takes queries, and where it does not, whether waiting helps."""

from __future__ import annotations

import re
import socket
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cntgraph.database.dialling import Address, dial

if TYPE_CHECKING:
    import neo4j

__all__ = ["State", "causes", "is_broken", "state"]

_DATABASE = "neo4j"
_SHOWN = 3


class State(Enum):
    """What became of a query that does nothing."""

    READY = "it was answered"
    SILENT = "not answered, which may be over in a moment"
    LOCKED = "the password was refused"
    BROKEN = "the database ended by a failure of its own; a restart recovers it"
    CLOSED = "the database could not be opened"


def state(place: Address) -> State:
    """The state of the database of this machine's server that listens at ``place``."""
    from neo4j.exceptions import DriverError, Neo4jError

    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", urlsplit(place.uri).port or 0)) != 0:
            return State.SILENT
    try:
        with dial(place) as driver:
            try:
                with driver.session(database=_DATABASE) as session:
                    session.run("RETURN 1").consume()
            except Neo4jError as error:
                return _told(error, driver)
    except (DriverError, Neo4jError):  # Bolt listens before anything else is there
        return State.SILENT
    return State.READY


def _told(error: neo4j.exceptions.Neo4jError, driver: neo4j.Driver) -> State:
    if (error.code or "").startswith("Neo.ClientError.Security"):
        return State.LOCKED
    if is_broken(error):
        return State.BROKEN
    with driver.session(database="system") as session:
        asked = "SHOW DATABASES YIELD name, currentStatus AS status, statusMessage AS words"
        rows = [row.data() for row in session.run(asked)]
    closed = any(
        row["name"] == _DATABASE and row["status"] != "online" and row["words"] for row in rows
    )
    return State.CLOSED if closed else State.SILENT


def is_broken(error: neo4j.exceptions.Neo4jError) -> bool:
    """Whether the database could not write, and takes nothing more until it is restarted."""
    last = (error.code or "").rpartition(".")[2]
    return last == "TransactionLogError" or "critical error" in (error.message or "")


def causes(log: Path) -> list[str]:
    """The causes that the newest entry of Neo4j's own log names, the deepest last."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    # one entry is one line or a line and its stack, by the release; in the former \n is escaped
    chains = re.split(r"(?:Failed to start|failed to start|Exception occurred while)", text)
    found = re.findall(r"Caused by: (?:[\w.$]+: )?(.+?)(?=\\n|\\t|\n|\"|$)", chains[-1])
    return list(dict.fromkeys(found))[-_SHOWN:]
