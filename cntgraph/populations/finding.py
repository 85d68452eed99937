"""The run folders under a folder, whatever else lies there, and what could not be read of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.runs import Run, open_run

__all__ = ["LASTING", "Found", "find_runs", "listed"]

# Facts of a run rather than of an epoch: recorded at its beginning, they hold to its end.
LASTING = ("initialisation", "initialization", "seed")
_OURS = ("run", "path", "epochs", "epoch")
_MARKS = ("manifest.json", "network.json")


@dataclass
class Found:
    """Runs with what was recorded of their last epoch, and folders left out with the reason."""

    runs: list[Run] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def admit(self, folder: Path) -> bool:
        """Take the run in this folder, if it can be read."""
        try:
            run = open_run(folder)
            row = _row(run)
        except InputRefused as refusal:
            self.left_out.append((str(folder), _said(refusal)))
            return False
        self.runs.append(run)
        self.rows.append(row)
        return True


def find_runs(folder: Path) -> Found:
    """Every run in a folder and below it, in the order of their paths."""
    if not folder.is_dir():
        beside = [e.name for e in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = did_you_mean(folder.name, beside) if 0 < len(beside) <= 1000 else ""
        what = "is a file" if folder.exists() else "does not exist"
        raise InputRefused(f"the folder {folder} {what}", why=hint)
    found = Found()
    _search(folder, found, set())
    return found


def _search(folder: Path, found: Found, visited: set[tuple[int, int]]) -> None:
    try:
        status = folder.stat()
        inner = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
        folders = [entry for entry in inner if entry.is_dir()]
    except OSError as error:
        found.left_out.append((str(folder), f"it cannot be read: {error.strerror}"))
        return
    if (status.st_dev, status.st_ino) in visited:  # a link that leads back, or to the same run
        return
    visited.add((status.st_dev, status.st_ino))
    names = {entry.name for entry in inner}
    if names.intersection(_MARKS) and found.admit(folder):
        return
    for entry in folders:
        if not ("network.json" in names and entry.name == "epochs"):
            _search(entry, found, visited)


def _row(run: Run) -> dict[str, Any]:
    """Name, place and epochs of a run, and what was recorded at the last of them."""
    epochs = list(run.manifest.epochs)
    if not epochs:
        raise InputRefused(f"{run.path} holds no epoch", why="nothing was recorded in it")
    last = run.metrics(epochs[-1])
    lacking = [name for name in LASTING if last.get(name) is None]
    if lacking and len(epochs) > 1:
        first = run.metrics(epochs[0])
        last |= {name: first[name] for name in lacking if first.get(name) is not None}
    recorded = {f"recorded_{n}" if n in _OURS else n: value for n, value in last.items()}
    return {
        "run": run.name,
        "path": str(run.path),
        "epochs": len(epochs),
        "epoch": epochs[-1],
        **recorded,
    }


def _said(refusal: InputRefused) -> str:
    return f"{refusal.what}: {refusal.why}" if refusal.why else refusal.what


def listed(left_out: list[tuple[str, str]], most: int = 5) -> Iterator[str]:
    """The first of what was left out, each with its reason."""
    yield from (why if path in why else f"{path}: {why}" for path, why in left_out[:most])
    if len(left_out) > most:
        yield f"and {len(left_out) - most} more"
