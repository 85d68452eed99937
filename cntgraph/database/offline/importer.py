"""Neo4j's own importer, run over the files of a graph on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from cntgraph.database.admin import admin
from cntgraph.database.exchanging import DATABASE
from cntgraph.database.offline.graph import Graph, Progress
from cntgraph.database.process import Process
from cntgraph.database.releases import Release
from cntgraph.errors import DatabaseError

__all__ = ["end_import", "files_of", "import_graph"]

_HEAP = "1g"
_PROCESS = "importer.json"
_STEP = re.compile(r"\((\d)/(\d)\) (.+?) \d{4}-")
_PERCENT = re.compile(r" (\d+)% ")


def import_graph(
    graph: Graph, home: Path, release: Release, progress: Progress | None = None
) -> Path:
    """A database of this release made of the files, in a home of its own; the path of its data.

    Raises `DatabaseError` with the importer's last words where it fails.
    """
    conf = home / "conf"
    conf.mkdir(parents=True)
    process = subprocess.Popen(
        **admin(
            ["import", "full", DATABASE, *_options(graph)],
            release=release,
            home=home,
            conf=conf,
            heap=_HEAP,
            purposes=("server", "import"),
        ),
        cwd=graph.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C comes to us, and we end it
    )
    try:
        (home / _PROCESS).write_text(json.dumps(asdict(Process.of(process.pid))))
        said = list(_heard(process, progress))
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.wait() != 0:
        raise _failed(said)
    return home / "data"


def end_import(home: Path) -> None:
    """End an import that outlived a killed process of ours."""
    try:
        kept = json.loads((home / _PROCESS).read_text(encoding="utf-8"))
        Process(**kept).end(patience=0)
    except (FileNotFoundError, ValueError, TypeError):  # none, or killed before it was noted
        return


def files_of(graph: Graph) -> list[str]:
    """Which file holds which nodes and relationships, as arguments of the importer.

    >>> files_of(graph)                                            # doctest: +SKIP
    ['--nodes=Run=./Run-00001.parquet', ...]

    Names are relative to the folder of the files: what a path says never reaches the importer,
    which would read it as a pattern and as a list.
    """
    return [
        f"--{what}={name}={','.join(f'./{file}' for file in files)}"
        for what, tables in (("nodes", graph.nodes), ("relationships", graph.relationships))
        for name, files in tables.items()
    ]


def _options(graph: Graph) -> list[str]:
    return [
        "--overwrite-destination",
        "--input-type=parquet",
        "--id-type=actual",  # an id is the place of its node, and nothing is looked up by it
        "--bad-tolerance=0",
        "--strict",
        f"--threads={os.cpu_count() or 1}",
        f"--max-off-heap-memory={_off_heap()}",
        *files_of(graph),
    ]


def _off_heap() -> int:
    """Bytes: half of the memory that is to be had, as a server may run beside."""
    wanted, least = 4 << 30, 512 << 20
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        facts = dict(line.split(":") for line in lines)
        free = int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return max(least, min(wanted, free // 2))


def _heard(process: subprocess.Popen[str], progress: Progress | None) -> Iterator[str]:
    """The importer's lines, its steps and percents passed on."""
    share = 0.0, 1.0
    for line in process.stdout or ():
        if progress is not None:
            if step := _STEP.match(line):
                number, total = int(step[1]), int(step[2])
                share = (number - 1) / total, 1 / total
                progress("importing", share[0])
            elif percent := _PERCENT.search(line):
                progress("importing", share[0] + share[1] * int(percent[1]) / 100)
        yield line.rstrip()


def _failed(said: list[str]) -> DatabaseError:
    told = [line for line in said if line.strip() and not line.startswith((".", "\tat "))]
    full = any("No space left" in line or "not enough" in line.lower() for line in told)
    return DatabaseError(
        "Neo4j's importer failed",
        why="\n       ".join(["its last lines are", *told[-8:]]),
        fix="make room on the disk and run the same command"
        if full
        else "load over the connection instead: cntgraph load RUN...",
    )
