"""What fails for a moment is tried again: deadlocks, lost connections, a server that restarts.

The driver's own repetition stops at a commit whose answer was lost, repeats what needs more
memory than there is, and waits where nobody can interrupt it; this one does none of these.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from cntgraph.database.attending import Lost, Silent
from cntgraph.errors import DatabaseError

__all__ = ["TooLarge", "repeated"]

T = TypeVar("T")

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
_AFTER_SILENCE = 1.0  # long enough for a load to say that it waits


class TooLarge(DatabaseError):
    """A transaction needs more memory than the server grants it; a smaller one may not."""


def repeated(attempt: Callable[[], T], *, patience: float, pause: Callable[[float], object]) -> T:
    """The result of the first attempt that succeeds.

    What passes by itself is waited for, ``patience`` seconds from the first failure on, of which
    the silence of a server before it is a part. The attempt must be harmless to make twice, for its
    commit may have been heard and not its answer.

    Raises `TooLarge` where memory is short, else the driver's last error.
    """
    from neo4j.exceptions import DriverError, Neo4jError

    limit = None
    lost = False
    for delay in _delays():
        begun = time.monotonic()
        try:
            return attempt()
        except (Neo4jError, DriverError, OSError) as error:
            if isinstance(error, Neo4jError) and _memory_is_short(error):
                raise _too_large(error) from error
            now = time.monotonic()
            if limit is None:
                limit = patience + (begun if _says_nothing(error) else now)
            lost = lost or not isinstance(error, Neo4jError)
            if _says_nothing(error):
                delay = max(delay, _AFTER_SILENCE)
            if now + delay > limit or not _passes(error, lost=lost):
                raise
        pause(delay)
    raise AssertionError("delays have no end")


def _says_nothing(error: Exception) -> bool:
    """Whether it is the server that is silent, and not one connection to it."""
    return isinstance(error, Silent) and not isinstance(error, Lost)


def _delays() -> Iterator[float]:
    """Twice as long each time; not to the millisecond, for others may wait for the same."""
    for power in itertools.count():
        yield min(_LONGEST_DELAY, _FIRST_DELAY * 2**power) * random.uniform(0.7, 1.0)


def _passes(error: Exception, *, lost: bool) -> bool:
    """Whether it may be over in a moment."""
    from neo4j.exceptions import DriverError, Neo4jError, ServiceUnavailable

    if isinstance(error, Neo4jError):
        # a server that comes back listens before its databases are there
        return error.is_retryable() or (lost and (error.code or "").endswith("DatabaseNotFound"))
    if isinstance(error, DriverError):
        return error.is_retryable() or isinstance(error, ServiceUnavailable)
    return True


def _memory_is_short(error: Exception) -> bool:
    code = getattr(error, "code", None) or ""
    return "OutOfMemory" in code or "MemoryLimit" in code


def _too_large(error: Exception) -> TooLarge:
    return TooLarge(
        "the transaction needs more memory than the server grants",
        why=str(getattr(error, "message", "") or error).strip(),
        fix="raise db.memory.transaction.max (or dbms.memory.transaction.total.max) of the server",
    )
