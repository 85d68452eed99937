"""A read ends in time even where the server does not end it: the connection is cut.

The server's own limit is looked at between rows. A query can stay within one expression for
hours, or within its parser, and a connection can die without a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Timer
from typing import TYPE_CHECKING

from cntgraph.errors import DatabaseError

if TYPE_CHECKING:
    import neo4j

__all__ = ["cut_after"]

_GRACE = 2.0  # in which a server that keeps the limit itself says so


@contextmanager
def cut_after(session: neo4j.Session, seconds: float | None) -> Iterator[None]:
    """Cut the session's connection if the block lasts longer; None for no limit."""
    from neo4j.exceptions import DriverError, Neo4jError

    if seconds is None:
        yield
        return
    late = Event()

    def cut() -> None:
        late.set()
        # the driver has no public word for it where it is not asynchronous
        if (connection := getattr(session, "_connection", None)) is not None:
            connection.socket.close()

    timer = Timer(seconds + _GRACE, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (DriverError, Neo4jError, OSError, ValueError) as error:
        if not late.is_set():
            raise
        raise DatabaseError(
            "the query was cut because it ran too long",
            why=f"the server did not end it after {seconds:g} s, and may still be busy with it",
            fix="ask for less, or allow more: db.within(seconds=300)",
        ) from error
    finally:
        timer.cancel()
