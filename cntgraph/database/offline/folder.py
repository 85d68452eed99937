"""A folder that carries a graph to a server elsewhere: whole under its name, or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cntgraph.database.jars import VERSION
from cntgraph.database.offline.finishing import post_import
from cntgraph.database.offline.graph import Graph, Progress, write_graph
from cntgraph.database.offline.scripts import docker_script, import_script, readme
from cntgraph.database.offline.selecting import Selection, bytes_of_files
from cntgraph.errors import InputRefused

__all__ = ["OfflineReport", "told", "write_offline"]

_OURS = ".cntgraph-"  # begins the name of a folder that is not finished
_FORMAT, _FORMAT_VERSION = "cntgraph offline graph", 1


@dataclass(frozen=True)
class OfflineReport:
    """What a folder holds: nodes, relationships, epochs, bytes; and the seconds it took."""

    folder: Path
    nodes: int
    relationships: int
    epochs: int
    size_bytes: int
    seconds: float


def write_offline(
    selected: Sequence[Selection],
    folder: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> OfflineReport:
    """Write the graph of these runs for Neo4j's importer, with scripts, and a manifest.

    The folder must not exist, or be empty. Raises `InputRefused` where it cannot be written and
    `RunDamaged` where a run is not what was exported; nothing is left of it then.

    >>> write_offline(selections([(open_run("runs/lenet"), None)], "all"), "for-the-server")
    ...                                                                # doctest: +SKIP
    """
    begun = time.monotonic()
    target = Path(folder).expanduser().absolute()
    with told(target, selected), _beside(target) as part:
        graph = write_graph(part, selected, progress)
        _write_texts(part, graph, selected)
        size = _seal(part, graph, selected, progress)
    return OfflineReport(
        target,
        graph.node_count,
        graph.relationship_count,
        len(graph.snapshots),
        size,
        time.monotonic() - begun,
    )


def _write_texts(part: Path, graph: Graph, selected: Sequence[Selection]) -> None:
    epochs = sum(len(each.epochs) for each in selected)
    what = (
        f"{len(selected)} runs with {epochs} epochs: {graph.node_count:,} nodes and "
        f"{graph.relationship_count:,} relationships."
    )
    texts = {
        "import.sh": import_script(graph),
        "import-docker.sh": docker_script(),
        "post-import.cypher": post_import(),
        "README.md": readme(what),
    }
    for name, text in texts.items():
        (part / name).write_text(text, encoding="utf-8")
        if name.endswith(".sh"):
            (part / name).chmod(0o755)


def _seal(
    part: Path, graph: Graph, selected: Sequence[Selection], progress: Progress | None
) -> int:
    """Write hashes and manifest, and wait until all is on the disk; the bytes of all files."""
    rows = {
        name: count
        for tables in (graph.nodes, graph.relationships)
        for files in tables.values()
        for name, count in files.items()
    }
    paths = sorted(part.iterdir())
    files: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(paths):
        if progress is not None:
            progress("hashing", number / len(paths))
        counted = {"rows": rows[path.name]} if path.name in rows else {}
        files[path.name] = {"bytes": path.stat().st_size, **counted, "sha256": _hash(path)}
    manifest = {"format": _FORMAT, "version": _FORMAT_VERSION, **_contents(graph, selected)}
    text = json.dumps({**manifest, "files": files}, indent=1, ensure_ascii=False) + "\n"
    sums = "".join(f"{facts['sha256']}  {name}\n" for name, facts in files.items())
    for name, content in (("manifest.json", text), ("SHA256SUMS", sums)):
        (part / name).write_text(content, encoding="utf-8")
        _hash(part / name)
    return sum(path.stat().st_size for path in part.iterdir())


def _contents(graph: Graph, selected: Sequence[Selection]) -> dict[str, Any]:
    return {
        "neo4j": VERSION,
        "runs": [
            {"name": each.content.name, "epochs": list(each.epochs), "links": each.links}
            for each in selected
        ],
        "nodes": {name: sum(files.values()) for name, files in graph.nodes.items()},
        "relationships": {name: sum(files.values()) for name, files in graph.relationships.items()},
    }


def _hash(path: Path) -> str:
    """The sha256 of a file that is on the disk by then."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- whole or not at all ----------------------------------------------------------------------


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder to write to, which takes the target's name in the end."""
    _refuse_taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{_OURS}{target.name}")
    handle = _claimed(part)
    try:
        for entry in part.iterdir():  # what a killed attempt left
            entry.unlink()
        try:
            yield part
            os.fsync(handle)
            _refuse_taken(target)
            os.rename(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    finally:
        os.close(handle)
    _sync(target.parent)


def _refuse_taken(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InputRefused(f"{target} is no folder", fix="give a folder that does not exist")
    if target.exists() and (names := sorted(entry.name for entry in target.iterdir())):
        raise InputRefused(
            f"{target} is not empty",
            why=f"{names[0]!r} is there, and nothing is ever written over",
            fix="give a folder that is empty or does not exist",
        )


def _claimed(part: Path) -> int:
    """The folder made and locked: the lock is on the folder itself, and ends with the process."""
    while True:
        part.mkdir(exist_ok=True)
        handle = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if part.exists() and os.path.samestat(part.stat(), os.fstat(handle)):
                return handle
        except BlockingIOError:
            os.close(handle)
            raise InputRefused(
                f"{part.with_name(part.name.removeprefix(_OURS))} is being written by another "
                "process",
                why="two of them would undo each other's work",
                fix="wait until it is done, or give another folder",
            ) from None
        os.close(handle)  # whoever held it before gave it its final name, or removed it


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def told(
    place: Path, selected: Sequence[Selection], otherwise: str = "give a folder that you may write"
) -> Iterator[None]:
    """Say of a failed write where it was, what the graph takes, and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        needed = f"; its files take some {bytes_of_files(selected):,} bytes" if full else ""
        raise InputRefused(
            f"the graph cannot be written to {place}",
            why=(error.strerror or str(error)) + needed,
            fix="make room there and run the same command, or give fewer epochs (--epochs) or "
            "fewer links (--links top:32)"
            if full
            else otherwise,
        ) from error
