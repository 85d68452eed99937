"""One family of errors: what happened with your values, why, and the command that mends it.

::

    CntError
    ├── InputRefused          3   a file, a value or a name that cannot be used
    │   ├── ModelRefused      3   a model that cannot be traced
    │   ├── DegenerateMeasure 3   a measure that says nothing on this network
    │   └── RunDamaged        3   a run folder that is unfinished or was altered
    └── DatabaseError         4   no server, no access, a refused or failed query
        └── LoadInterrupted   5   partly done: the same command goes on where it stopped

The number is the exit status of the command line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CntError",
    "CntWarning",
    "DatabaseError",
    "DegenerateMeasure",
    "InputRefused",
    "LoadInterrupted",
    "ModelRefused",
    "RunDamaged",
    "did_you_mean",
]


class CntError(Exception):
    """What happened, why, and the one thing that mends it.

    >>> print(InputRefused("epoch 7 is not in this run", why="it holds 0, 1, 2", fix="use epoch=2"))
    epoch 7 is not in this run
      why: it holds 0, 1, 2
      fix: use epoch=2
    """

    exit_status = 70

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(what)

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.why, self.fix)


def _rebuild(kind: type[CntError], what: str, why: str, fix: str) -> CntError:
    return kind(what, why=why, fix=fix)


class InputRefused(CntError):
    """A file, a value or a name that cannot be used."""

    exit_status = 3


class ModelRefused(InputRefused):
    """A model that cannot be traced."""


class DegenerateMeasure(InputRefused):
    """A known measure that is constant or empty on this network."""


class RunDamaged(InputRefused):
    """A run folder that is unfinished, incomplete or was altered after its export."""


class DatabaseError(CntError):
    """No server, no access, a query that was refused or failed."""

    exit_status = 4


class LoadInterrupted(DatabaseError):
    """Partly done; running the same command again completes it."""

    exit_status = 5


class CntWarning(UserWarning):
    """Something was done that a careful reader would want to know of."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint that names the closest known words, or lists them all.

    >>> did_you_mean("strong_neuron", ["strong_neurons", "risers"])
    'did you mean strong_neurons?'
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=3)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(known)}"
