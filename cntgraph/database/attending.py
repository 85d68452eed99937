"""A call to the server is attended: where nothing comes back, somebody knocks whether it lives.

The driver waits for an answer as long as it takes, and rightly: a query may be long. A server
that works on one still greets whoever else comes; where the way to it swallows everything, or the
server is stuck, nobody is greeted, and the call is given up. Where one connection alone is dead,
the server greets and says that it knows nothing of the call, or that it has been waiting for more.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlsplit

from cntgraph.database.inquiring import Inquiry, State

if TYPE_CHECKING:
    from cntgraph.database.dialling import Address

__all__ = ["Lost", "Silent", "attended"]

T = TypeVar("T")

_SILENCE = 4.0  # seconds without an answer, after which the server is asked for a greeting
_GREETING = 4.5  # seconds it has for that
_CONFIRMING = 1.0  # and to say again that a transaction is not there
_IDLE = 7  # times in a row that it says to wait for us: a slow way takes long to bring a statement
_PORT = 7687
_HELLO = bytes.fromhex("6060b017 00000405 00000404 00000005 00000006")  # Bolt, and some versions


class Silent(TimeoutError):
    """The server answered neither the call nor a greeting."""


class Lost(Silent):
    """The server is there, and the connection of the call is dead."""


class _Task(Generic[T]):
    """Work in a thread of its own, which nobody has to wait for: neither we nor the exit."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.done = threading.Event()
        self._work = work
        self._found: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._found.append(self._work())
        except BaseException as error:
            self._error = error
        finally:
            self.done.set()

    def result(self) -> T:
        """What the work gave or raised."""
        if self._error is not None:
            raise self._error
        return self._found[0]


def attended(work: Callable[[], T], place: Address, inquiry: Inquiry | None = None) -> T:
    """What a call to the server gives; `Silent` within ten seconds where the server is not there.

    With an ``inquiry``: `Lost`, as soon where the server is there and the transaction is not, and
    within a minute where the server only waits for more of it.

    A call that is given up goes on in its thread until its connection ends: it may have been
    heard, as any call may whose answer is lost.
    """
    call = _Task(work)
    idle = 0
    while not call.done.wait(_SILENCE):
        knock = _Task(lambda: _greet(place))
        asked = None if inquiry is None else _Task(inquiry.state)
        if call.done.wait(_GREETING):
            break
        if not _told(knock):
            raise Silent(f"no answer for {_SILENCE + _GREETING:g} s")
        state = _told(asked)
        if inquiry is not None and state is State.ABSENT:
            asked = _Task(inquiry.state)  # it may have been about to begin, or just over
            asked.done.wait(_CONFIRMING)
            if _told(asked) is State.ABSENT and not call.done.is_set():
                raise Lost("the server is there and knows of no such transaction")
        idle = idle + 1 if state is State.IDLE else 0
        if idle == _IDLE:
            raise Lost("the server is there and has been waiting for more all the time")
    return call.result()


def _told(asked: _Task[T] | None) -> T | None:
    """What was found out, if it was."""
    if asked is None or not asked.done.is_set():
        return None
    try:
        return asked.result()
    except Exception:  # whatever it is, it says nothing of the call
        return None


def _greet(place: Address) -> bool:
    """Whether the server greets, as it does a driver before that says who asks; or an OSError."""
    parts = urlsplit(place.uri)
    there = parts.hostname or "localhost", parts.port or _PORT
    connection = socket.create_connection(there, timeout=_GREETING)
    if "+s" in parts.scheme:
        connection = _encrypted(connection)
    with connection:
        connection.sendall(_HELLO)
        return bool(connection.recv(4))


def _encrypted(plain: socket.socket) -> ssl.SSLSocket:
    """Nothing is told or believed here, so whose certificate it is does not matter."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with plain:  # which the wrapping takes over, or which is closed where it fails
        return context.wrap_socket(plain)
