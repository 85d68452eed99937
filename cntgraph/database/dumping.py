"""The local server's database in one file, and back: Neo4j's own dump, which is for keeping.

Nobody loses by either: a dump takes no file's place, and what a restore replaces is kept until the
new data has answered.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from cntgraph.database.admin import admin
from cntgraph.database.exchanging import DATABASE
from cntgraph.database.home import release_of
from cntgraph.database.jars import exclusive
from cntgraph.database.server import marked_home, paused, replacing
from cntgraph.errors import DatabaseError, InputRefused

__all__ = ["dump", "restore"]

_HEAP = "512m"
_COMPILER = "-XX:TieredStopAtLevel=1"  # the quick one alone: it reads and writes, and is soon over


def dump(file: Path) -> int:
    """Write the database to a new file and return its size; the server pauses meanwhile.

    Raises `InputRefused` where the file is there already or cannot be written, and
    `DatabaseError` where the dump fails.
    """
    if file.exists():
        raise InputRefused(f"{file} is there already", why="a dump takes no file's place")
    home = marked_home()
    if not (home / "data" / "databases" / DATABASE).exists():
        raise InputRefused("there is no data to dump", why=f"{home} holds none yet")
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    except OSError as error:
        raise InputRefused(f"{file} cannot be written", why=str(error)) from error
    beside = Path(name)
    try:
        with open(descriptor, "wb") as out, paused(home):
            _admin(home, home, ["dump", DATABASE, "--to-stdout"], output=out)
        os.link(beside, file)  # unlike a rename, it takes the place of nothing
    except FileExistsError as error:
        raise InputRefused(
            f"{file} is there already", why="a dump takes no file's place"
        ) from error
    finally:
        beside.unlink()
    return file.stat().st_size


def restore(file: Path) -> None:
    """Replace the database by that of a dump; the server runs afterwards if it ran before.

    Raises `DatabaseError` where the file is no dump that this release reads, and then the
    database is the old one.
    """
    home = marked_home()
    try:
        source = file.open("rb")
    except OSError as error:
        raise InputRefused(f"{file} cannot be read", why=error.strerror or str(error)) from error
    place = home / "restoring"
    with source, exclusive(home.with_name("neo4j.rebuild.lock")):
        shutil.rmtree(place, ignore_errors=True)  # what a killed restore left
        place.mkdir()
        try:
            _admin(home, place, ["load", DATABASE, "--from-stdin"], source=source)
            with replacing(place / "data"):
                pass  # that it started and answered is the proof
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _admin(
    home: Path,
    place: Path,
    command: list[str],
    *,
    source: IO[bytes] | None = None,
    output: IO[bytes] | None = None,
) -> None:
    """Neo4j's administration command on the data in ``place``, by the release of ``home``."""
    with tempfile.TemporaryDirectory(prefix="cntgraph-") as folder:
        done = subprocess.run(
            **admin(
                command,
                release=release_of(home),
                home=place,
                conf=Path(folder),
                heap=_HEAP,
                options=[_COMPILER],
            ),
            cwd=place,
            stdin=source or subprocess.DEVNULL,
            stdout=output or subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").splitlines()
        words = [line for line in told if line.strip() and not line.startswith("\tat ")]
        raise DatabaseError(
            f"Neo4j's {command[0]} failed",
            why="\n       ".join(words[-6:]) or "it said nothing",
            fix="nothing was changed; run the same command with room on the disk and a whole file",
        )
