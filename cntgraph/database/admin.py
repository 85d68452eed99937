"""Neo4j's administration program, as it is called on the data of a home that no server holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from cntgraph.database.jars import fetch, pinned
from cntgraph.database.java import (
    jar_folder,
    java_environment,
    java_options,
    java_runtime,
    quoted,
)
from cntgraph.database.releases import Release

__all__ = ["Call", "admin"]

_MAIN = ("org.neo4j.cli.AdminTool", "database")
_SETTINGS = "db.tx_log.preallocate=false\ndbms.usage_report.enabled=false\n"


class Call(TypedDict):
    """What a process is started with."""

    args: list[str]
    env: dict[str, str]


def admin(
    command: Iterable[str],
    *,
    release: Release,
    home: Path,
    conf: Path,
    heap: str,
    purposes: Sequence[str] = ("server",),
    options: Iterable[str] = (),
) -> Call:
    """How to start a command of a release on the data in ``home``.

    What it reads, its settings and Java's arguments, is written into the folder ``conf``.
    Its jars are those of ``purposes``; ``options`` is what Java is told besides.
    """
    wanted = [jar for purpose in purposes for jar in pinned(purpose, release)]
    java, jars = java_runtime(release), fetch(wanted, jar_folder(release), title=release.title)
    (conf / "neo4j.conf").write_text(_SETTINGS, encoding="utf-8")
    arguments = conf / "java.arguments"
    told = [*options, *java_options(java, jars, heap), *_MAIN, *command]
    arguments.write_text(quoted(told), encoding="utf-8")
    places = {"NEO4J_HOME": str(home), "NEO4J_CONF": str(conf)}
    return Call(args=[str(java.path), f"@{arguments}"], env=java_environment() | places)
