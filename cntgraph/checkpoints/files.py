"""A file is opened once, and what was read of it counts only if it did not change meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cntgraph.checkpoints.refusal import refused
from cntgraph.errors import InputRefused, did_you_mean

if TYPE_CHECKING:
    from io import BufferedReader

__all__ = ["Held", "digest", "existing", "steady"]

# A file written this recently can change again without a new time stamp.
_STAMP_IS_COARSE = 2_000_000_000


def existing(path: str | os.PathLike[str]) -> Path:
    """The path, if something is there that can be opened; else names that are close to it."""
    place = Path(path).expanduser()
    try:
        place.stat()
    except FileNotFoundError:
        beside = [entry.name for entry in place.parent.iterdir()] if place.parent.is_dir() else []
        why = "" if place.parent.is_dir() else f"there is no folder {str(place.parent)!r}"
        hint = did_you_mean(place.name, beside) if 0 < len(beside) <= 1000 else ""
        raise refused(place, "no such file", why=why, fix=hint) from None
    except (OSError, ValueError) as error:
        raise refused(place, "the file cannot be opened", why=str(error)) from error
    return place


@dataclass
class Held:
    """An open file, its size, and its hash once someone has taken it."""

    file: BufferedReader
    size: int
    sha256: str = ""


@contextmanager
def steady(path: Path) -> Iterator[Held]:
    """Hold a regular file open, and refuse what was read of it if it changed in that time."""
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            why = "a pipe or a device has no end to check"
            raise refused(path, "this is not a regular file", why=why)
        with path.open("rb") as file:
            held = Held(file, before.st_size)
            try:
                yield held
            except InputRefused as error:
                if _changed(path, before, held):
                    raise _change_refused(path) from error
                raise
            if _changed(path, before, held):
                raise _change_refused(path)
    except OSError as error:
        raise refused(path, "the file cannot be read", why=str(error)) from error


def _changed(path: Path, before: os.stat_result, held: Held) -> bool:
    for after in (path.stat(), os.fstat(held.file.fileno())):
        if _print(after) != _print(before):
            return True
    recent = time.time_ns() - before.st_mtime_ns < _STAMP_IS_COARSE
    if not recent or not held.sha256:
        return False
    with path.open("rb") as again:  # the first handle may still hold the old bytes in its buffer
        return digest(again) != held.sha256


def _print(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _change_refused(path: Path) -> InputRefused:
    return refused(
        path,
        "the file changed while it was read",
        why="something is still writing it",
        fix="run the same command again once it is written",
    )


def digest(file: BufferedReader) -> str:
    """The sha256 of an open file, from its beginning."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
