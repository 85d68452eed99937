"""How a server is reached: an address that was checked, one try to log in, soon told if it fails.

Some of the driver's own waits are a minute long; here every refusal comes within ten seconds. A
password is in no repr and in no message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

from cntgraph.database.attending import Silent, attended
from cntgraph.database.dialling import SECONDS, Address, dial
from cntgraph.database.inquiring import Inquiry
from cntgraph.database.retrying import repeated
from cntgraph.database.translating import translated
from cntgraph.errors import DatabaseError, InputRefused, did_you_mean

if TYPE_CHECKING:
    import neo4j

__all__ = ["Address", "Connection", "address", "reach"]

T = TypeVar("T")

SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
_HTTP_PORTS = (7473, 7474)


def address(
    uri: str | None = None,
    *,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
) -> Address:
    """The address from the arguments, else the environment, else this machine's own server.

    >>> address("bolt://ada:secret@db.example:7687")
    Address(uri='bolt://db.example:7687', user='ada', database=None)

    Raises `InputRefused` for a URI that no server of Neo4j answers to.
    """
    uri = uri or os.environ.get("NEO4J_URI") or None
    user = user or os.environ.get("NEO4J_USERNAME") or None
    password = password or os.environ.get("NEO4J_PASSWORD") or None
    database = database or os.environ.get("NEO4J_DATABASE") or None
    if uri is None:
        return _local(user, password, database)
    bare, inside = _checked(uri.strip())
    user, password = user or inside[0], password or inside[1]
    return Address(bare, user or ("neo4j" if password else None), password, database)


def _local(user: str | None, password: str | None, database: str | None) -> Address:
    from cntgraph.database.server import start

    found = start()
    if user is not None or password is not None:
        return Address(found.uri, user or found.user, password or found.password, database)
    return Address(found.uri, found.user, found.password, database)


def _checked(uri: str) -> tuple[str, tuple[str | None, str | None]]:
    """The URI without what is in front of an @, and user and password from there."""
    scheme, separator, rest = uri.partition("://")
    inside, at, place = rest.rpartition("@")
    user, _, password = inside.partition(":")
    if not separator:
        place = uri.rpartition("@")[2]
        raise InputRefused(
            f"{place!r} is not a URI",
            why="it does not say how to talk to the server",
            fix=f"did you mean bolt://{_on_bolt(place)}?",
        )
    shown = f"{scheme}://{place}"
    if scheme in ("http", "https") or (scheme in SCHEMES and _port(shown) in _HTTP_PORTS):
        raise InputRefused(
            f"{shown} is the address of Neo4j's web pages",
            why="programs talk to it by the Bolt protocol, on port 7687 by default",
            fix=f"use bolt://{_on_bolt(place)}",
        )
    if scheme not in SCHEMES:
        raise InputRefused(
            f"{shown} has the scheme {scheme!r}",
            why=did_you_mean(scheme, SCHEMES),
            fix=f"use bolt://{place}",
        )
    if not urlsplit(shown).hostname:
        raise InputRefused(f"{shown} names no host", fix="use bolt://localhost:7687, say")
    return shown, ((unquote(user), unquote(password) or None) if at else (None, None))


def _port(uri: str) -> int | None:
    try:
        return urlsplit(uri).port
    except ValueError as error:
        raise InputRefused(f"{uri} has no usable port", why=str(error)) from error


def _on_bolt(place: str) -> str:
    """The host with Bolt's port in the place of a port of the web pages."""
    place = place.partition("/")[0]
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdigit():
        return f"{place}:7687"
    return f"{host}:7687" if int(port) in _HTTP_PORTS else f"{host}:{port}"


@dataclass(frozen=True)
class Connection:
    """A driver that has logged in, and where it leads to.

    What fails for a moment is tried again for ``patience`` seconds, with ``pause`` in between.
    """

    driver: neo4j.Driver
    place: Address
    patience: float = SECONDS
    pause: Callable[[float], object] = field(default=time.sleep, repr=False)

    def rows(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a short query."""
        return self._repeated("READ", lambda tx: tx.run(text, parameters).data())

    def change(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        """Carry out a change in a transaction of its own, and return its rows.

        It is repeated after a deadlock or a lost connection, which it may have survived: it must
        be harmless to do twice.
        """
        return self._repeated("WRITE", lambda tx: tx.run(text, parameters).data())

    def transaction(self, work: Callable[[neo4j.Transaction], T]) -> T:
        """Several changes in one transaction, repeated like `change`."""
        return self._repeated("WRITE", work)

    def define(self, statement: str) -> None:
        """Create a constraint or an index that is to be there IF NOT EXISTS."""
        try:
            self.change(statement)
        except DatabaseError as error:
            # somebody else created it between the server's look and its own creation; a second
            # look finds it, unless it is another than this one
            if "AlreadyExists" not in (getattr(error.__cause__, "code", None) or ""):
                raise
            self.change(statement)

    def _repeated(self, access: str, work: Callable[[neo4j.Transaction], T]) -> T:
        lost: list[Inquiry] = []

        def attempt() -> T:
            inquiry = Inquiry(self.place)
            try:
                return attended(
                    lambda: self._once(access, work, inquiry, lost), self.place, inquiry
                )
            except Silent:
                lost.append(inquiry)
                raise

        with translated(self.place):
            return repeated(attempt, patience=self.patience, pause=self.pause)

    def _once(
        self,
        access: str,
        work: Callable[[neo4j.Transaction], T],
        inquiry: Inquiry,
        lost: list[Inquiry],
    ) -> T:
        """The work in a transaction, after those are ended that were given up before it."""
        for each in tuple(lost):
            each.end()
        with (
            self.driver.session(
                database=self.place.database, default_access_mode=access
            ) as session,
            session.begin_transaction(metadata=inquiry.metadata) as transaction,
        ):
            found = work(transaction)
            transaction.commit()
            return found


def reach(place: Address) -> Connection:
    """The server reached, the login accepted and the database found, each tried once."""
    with translated(place):
        driver = dial(place)

    def enter() -> None:
        # a plain session: inside a managed one the driver would try again for half a minute
        with driver.session(database=place.database) as session:
            session.run("RETURN 1").consume()

    try:
        with translated(place):
            attended(enter, place)
    except BaseException:
        driver.close()
        raise
    return Connection(driver, place)
