"""Several sessions work side by side; what ends one of them ends all, soon and in good order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

__all__ = ["Halt", "Halted", "side_by_side"]

T = TypeVar("T")

_FAREWELL = 10.0  # seconds an interrupted caller waits for transactions that are under way


class Halted(Exception):
    """Raised in a session when another one, or the caller, has ended the work."""


class Halt:
    """Tells every session of a piece of work that it is over."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """End the work."""
        self._event.set()

    def pause(self, seconds: float = 0.0) -> None:
        """Wait so long; `Halted` as soon as the work is over."""
        if self._event.wait(seconds) if seconds else self._event.is_set():
            raise Halted


def side_by_side(
    work: Callable[[int], T], items: Sequence[int], *, sessions: int, halt: Halt
) -> list[T]:
    """The result of every item, in order; items are taken up in order by so many threads.

    The first error is raised when all have stopped. ``work`` calls ``halt.pause()`` where it can
    be left.
    """
    if min(sessions, len(items)) <= 1:
        return [work(item) for item in items]
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    waiting = iter(list(enumerate(items)))
    lock = threading.Lock()

    def session() -> None:
        try:
            while True:
                halt.pause()
                with lock:
                    place, item = next(waiting, (None, 0))
                if place is None:
                    return
                results[place] = work(item)
        except BaseException as error:
            errors.append(error)
            halt.set()

    threads = [threading.Thread(target=session, daemon=True) for _ in items[:sessions]]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: what is under way ends with its transaction
        halt.set()
        until = time.monotonic() + _FAREWELL
        for thread in filter(threading.Thread.is_alive, threads):
            thread.join(max(0.0, until - time.monotonic()))
        raise
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(items))]
