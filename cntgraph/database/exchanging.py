"""The data of a (stopped) server is replaced by renames, and the old kept until the new is proved.

Whenever this is killed, all of the one or all of the other is there; and where the old data is
still kept while nobody is at work, the new was never proved and goes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = [
    "DATABASE",
    "KEPT",
    "discard",
    "end_exchange",
    "exchange_data",
    "undo_exchange",
    "unproved",
]

DATABASE = "neo4j"
KEPT = "replaced"  # the data before an exchange


def exchange_data(home: Path, staged: Path) -> None:
    """Put another graph in the place of the server's own, whose data is kept aside.

    What is no graph goes along: users and their passwords lie in a database of their own.
    """
    data = home / "data"
    shutil.copytree(data, staged, ignore=_graphs, dirs_exist_ok=True)
    os.replace(data, home / KEPT)
    os.replace(staged, data)


def _graphs(folder: str, names: list[str]) -> list[str]:
    return [DATABASE] if Path(folder).name in ("databases", "transactions") else []


def unproved(home: Path) -> bool:
    """Whether the old data is still kept."""
    return (home / KEPT).exists()


def undo_exchange(home: Path) -> None:
    """Put the old data back, if it is still kept."""
    if unproved(home):
        discard(home / "data")
        os.replace(home / KEPT, home / "data")


def end_exchange(home: Path) -> None:
    """Delete the old data, now that the new is proved."""
    discard(home / KEPT)


def discard(folder: Path) -> None:
    """Delete a folder; by one rename, so that nobody meets half of a database under its name."""
    trash = folder.with_name("discarded")
    if trash.is_symlink():  # a folder of the user's own, lying elsewhere: the link alone goes
        trash.unlink()
    shutil.rmtree(trash, ignore_errors=True)
    if folder.exists():
        os.replace(folder, trash)
        shutil.rmtree(trash, ignore_errors=True)
