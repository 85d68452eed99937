"""The driver's errors in our words: its own name neither the address nor a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cntgraph.database.attending import Lost
from cntgraph.database.health import is_broken
from cntgraph.errors import CntError, DatabaseError, InputRefused

if TYPE_CHECKING:
    import neo4j

    from cntgraph.database.dialling import Address

__all__ = ["translated"]


@contextmanager
def translated(place: Address) -> Iterator[None]:
    """The driver's errors as ours."""
    from neo4j.exceptions import ConfigurationError, DriverError, Neo4jError

    try:
        yield
    except CntError:
        raise
    except ConfigurationError as error:
        raise InputRefused(f"{place.uri} cannot be used", why=_text(error)) from error
    except Neo4jError as error:
        raise _answered(error, place) from error
    except (DriverError, OSError) as error:
        raise _unanswered(error, place) from error


def _answered(error: neo4j.exceptions.Neo4jError, place: Address) -> DatabaseError:
    """What a server that answered was unhappy with."""
    code, message = error.code or "", (error.message or "").strip()
    who = f"user {place.user!r}" if place.user else "a login without user and password"
    last = code.rpartition(".")[2]
    if last == "Unauthorized":
        return DatabaseError(
            f"{place.uri} does not let {who} in",
            why="the password or the user name is wrong; it was tried once",
            fix="set NEO4J_USERNAME and NEO4J_PASSWORD to what the server knows",
        )
    if last == "AuthenticationRateLimit":
        return DatabaseError(
            f"{place.uri} locks {who} out for a while",
            why="there were too many wrong passwords",
            fix="wait some seconds, then try the right one",
        )
    if last == "CredentialsExpired":
        return DatabaseError(
            f"{place.uri} wants {who} to choose another password first",
            why=message,
            fix="ALTER CURRENT USER SET PASSWORD FROM 'old' TO 'new', in cypher-shell -d system",
        )
    if last == "DatabaseNotFound":
        return DatabaseError(
            f"{place.uri} has no database {place.database!r}",
            why="Neo4j Community holds one, named neo4j",
            fix="leave the name out, or set NEO4J_DATABASE to one that is there",
        )
    if "ReadOnlyAccess" in last or "ReadOnlyDatabase" in last:
        return DatabaseError(
            f"the database at {place.uri} can only be read",
            why=message,
            fix="take it out of server.databases.read_only in neo4j.conf and restart the server, "
            "or set NEO4J_URI to another",
        )
    if code.startswith("Neo.ClientError.Security"):
        return DatabaseError(f"{place.uri} does not allow {who} to do this", why=message)
    if "gds." in message and ("ProcedureNotFound" in last or "Unknown function" in message):
        return DatabaseError(
            f"{place.uri} is without Graph Data Science",
            why="the query asks for it, and plugins are taken in when a server starts",
            fix="cntgraph db stop && cntgraph db start --gds; "
            "or add the plugin to the server that NEO4J_URI names",
        )
    if is_broken(error):
        return DatabaseError(
            f"the database at {place.uri} cannot write and has ended itself",
            why="its disk is full or broken; what was committed is safe there, and it must be "
            "restarted once there is room",
            fix="make room on the disk of the server, then: cntgraph db stop && cntgraph db start "
            "(or restart the server that NEO4J_URI names)",
        )
    if "TransactionTimedOut" in last:
        return DatabaseError(
            "the query was ended because it ran too long",
            why=message,
            fix="ask for less, or allow more: db.within(seconds=300)",
        )
    if "MemoryPoolOutOfMemory" in last:
        return DatabaseError(
            "the query needs more memory than the server grants",
            why=message,
            fix="ask for less, or raise dbms.memory.transaction.total.max of the server",
        )
    return DatabaseError("the query failed", why=f"{message} ({code})")


def _unanswered(error: Exception, place: Address) -> DatabaseError:
    """Why no server of Neo4j answered, as far as the chain of causes tells."""
    causes = list(_causes(error))
    told, reason = " ".join(map(_text, causes)), _text(causes[-1])
    encrypted = "+s" in place.uri.partition("://")[0]
    if "CERTIFICATE_VERIFY_FAILED" in told or "certificate verify failed" in told:
        return DatabaseError(
            f"{place.uri} shows a certificate that nobody known here has signed",
            why="it is self-signed, or for another host",
            fix=f"trust it by the scheme: {_with_scheme(place, 'ssc')}",
        )
    if "looks like HTTP" in told:
        return DatabaseError(
            f"{place.host} answers in HTTP",
            why="that is the port of Neo4j's web pages",
            fix="use the Bolt port: bolt://HOST:7687",
        )
    if encrypted and ("SSL" in told or "ecure" in told):
        return DatabaseError(
            f"{place.uri} does not speak TLS",
            why="the server at that port answers unencrypted",
            fix=f"use {place.uri.partition('+')[0]}://{place.host}, or switch TLS on in the server",
        )
    if "DNS resolve" in told:
        return DatabaseError(
            f"the host of {place.uri} is not known",
            why=reason,
            fix="check the spelling of the host",
        )
    if lost := next((each for each in causes if isinstance(each, Lost)), None):
        return DatabaseError(
            f"the connection to {place.uri} was lost without a word",
            why=str(lost),
            fix="run the same command again; what drops it lies between here and the server",
        )
    if any(isinstance(each, TimeoutError) for each in causes):
        return DatabaseError(
            f"{place.uri} accepts the connection and then says nothing",
            why="that is no Neo4j, or one that is stuck",
            fix="look at what listens on that port, or correct NEO4J_URI",
        )
    return DatabaseError(
        f"no Neo4j answers at {place.uri}",
        why=reason,
        fix="start it, or correct NEO4J_URI; without NEO4J_URI this machine's own server is used"
        + ("" if encrypted else f"; if the server wants TLS: {_with_scheme(place, 's')}"),
    )


def _with_scheme(place: Address, security: str) -> str:
    return f"{place.uri.partition('://')[0].partition('+')[0]}+{security}://{place.host}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that; of a group the first."""
    for _ in range(20):
        if error is None:
            return
        yield error
        group = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        error = next(iter(group), None) or error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
