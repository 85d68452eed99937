"""What became of a transaction is asked of the server over another connection.

Its own may be dead without a word: then the server has ended it, never heard of it, or waits for
the rest of it, while we wait for the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cntgraph.database.dialling import Address, dial

if TYPE_CHECKING:
    import neo4j

__all__ = ["Inquiry", "State"]

_SHOWN = """
SHOW TRANSACTIONS YIELD transactionId, metaData, currentQuery, status
WHERE metaData.cntgraph = $mark
RETURN transactionId AS id, currentQuery = '' AND status = 'Running' AS idle
"""
_ENDED = "TERMINATE TRANSACTIONS $ids"


class State(Enum):
    """What a transaction does on the server."""

    ABSENT = "it is not there"
    IDLE = "it waits for its next statement"
    WORKING = "it is at work, or waits for a lock"


@dataclass(frozen=True)
class Inquiry:
    """A mark for one transaction, by which the server finds it among all others."""

    place: Address
    mark: str = field(default_factory=lambda: uuid4().hex)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the transaction is begun with."""
        return {"cntgraph": self.mark}

    def state(self) -> State:
        """What the transaction does; raises the driver's errors."""
        with self._session() as session:
            rows = session.run(_SHOWN, mark=self.mark).data()
        if not rows:
            return State.ABSENT
        return State.IDLE if all(row["idle"] for row in rows) else State.WORKING

    def end(self) -> None:
        """End the transaction where it is still there, so that nothing waits for its locks.

        Where the server does not let us, it stays until its connection ends.
        """
        from neo4j.exceptions import Neo4jError

        with suppress(Neo4jError), self._session() as session:
            ids = [row["id"] for row in session.run(_SHOWN, mark=self.mark).data()]
            if ids:
                session.run(_ENDED, ids=ids).consume()

    @contextmanager
    def _session(self) -> Iterator[neo4j.Session]:
        """A session over a connection of its own."""
        with dial(self.place) as driver, driver.session(database=self.place.database) as session:
            yield session
