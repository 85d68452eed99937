"""Verbs for the Neo4j server of this machine: ``cntgraph db ...``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import answer, note, print_json, records, size, stages
from cntgraph.cli.runs import epoch_of
from cntgraph.errors import DatabaseError, InputRefused

if TYPE_CHECKING:
    from cntgraph.runs import Run

__all__ = ["dump", "rebuild", "reset", "restore", "start", "status", "stop"]


def start(
    neo4j: Annotated[
        str | None,
        typer.Option(metavar="RELEASE", help="2026.08 or 5.26, each with data of its own."),
    ] = None,
    heap: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory for queries: 1g, 512m; remembered.")
    ] = None,
    page_cache: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory for the data: 512m; remembered.")
    ] = None,
    gds: Annotated[
        bool, typer.Option("--gds", help="With Graph Data Science (another 15 MB).")
    ] = False,
    json: Json = False,
) -> None:
    """Start it; the first start fetches it (some 150 MB)."""
    from cntgraph.database import server

    running = server.start(neo4j=neo4j, heap=heap, page_cache=page_cache, gds=gds)
    if json:
        print_json({**asdict(server.status()), "runs": None} | {"pid": running.pid})
    else:
        note(f"Neo4j {running.version} at {running.uri}, process {running.pid}")
        _how_to_connect(running.uri, running.home / "password")


def stop(json: Json = False) -> None:
    """Stop it; the data stays."""
    from cntgraph.database import server

    stopped = server.stop()
    if json:
        print_json({"stopped": stopped})
    else:
        note("stopped" if stopped else "it was not running")


def status(json: Json = False) -> None:
    """Say whether it runs, what it holds and how to connect."""
    found, problem = _status()
    if json:
        print_json(found)
    else:
        shown = {name: value for name, value in found.items() if name not in ("runs", "size_bytes")}
        answer({**shown, "size": size(found["size_bytes"]), "runs": _told(found)})
    if problem is not None:
        raise problem
    if json:
        return
    if found["running"]:
        _how_to_connect(found["uri"], found["password_file"])
    if os.environ.get("NEO4J_URI"):
        note("NEO4J_URI is set: load and query use that server, not this one")


def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete its data; run folders stay and can be loaded again."""
    from cntgraph.database import server

    if not yes:
        _ask(server.status().home, "delete", "cntgraph db reset --yes")
    server.reset()
    if json:
        print_json({"reset": True})
    else:
        note("the database is empty; cntgraph load RUN... fills it again")


def rebuild(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUNS", help="Run folders, or folders that hold them.", show_default=False
        ),
    ],
    epochs: Annotated[
        str, typer.Option(metavar="LIST", help="0,5,last: these alone; by default every epoch.")
    ] = "",
    links: Annotated[
        str, typer.Option(metavar="CHOICE", help="all, top:K per neuron, backbone:ALPHA or none.")
    ] = "all",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Make its database anew from run folders, by Neo4j's own importer.

    Much faster than load where there is much to load, and it replaces all that is there. Where it
    fails, the database stays as it was.
    """
    from cntgraph.database import offline, server

    opened = [
        (run, [epoch_of(run, e.strip()) for e in epochs.split(",")] if epochs else None)
        for run in _runs_in(runs)
    ]
    selected = offline.selections(opened, links)
    names = {each.content.name for each in selected}
    gone = None if (held := _held(start=not yes)) is None else sorted(set(held) - names)
    if gone:
        note(f"no longer in the database afterwards: {', '.join(map(repr, gone))}")
    if not yes:
        _ask(server.status().home, "replace", "cntgraph db rebuild RUNS --yes")
    with stages() as progress:
        report = offline.rebuild(selected, progress=progress)
    if json:
        print_json({"runs": sorted(names), "dropped": gone, **asdict(report)})
        return
    note(
        f"rebuilt: {len(names)} runs with {report.epochs} epochs, {report.nodes:,} nodes, "
        f"{report.relationships:,} relationships, {size(report.size_bytes)}, "
        f"{report.seconds:.1f} s"
    )


def dump(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file.", show_default=False)],
    json: Json = False,
) -> None:
    """Write its database to a file; it pauses meanwhile."""
    from cntgraph.database import dumping

    written = dumping.dump(file)
    if json:
        print_json({"file": file, "size_bytes": written})
    else:
        note(
            f"{file}: {size(written)}; cntgraph db restore {shlex.quote(str(file))} brings it back"
        )


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What dump wrote.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Replace its database by a dump. Where it fails, the database stays as it was."""
    from cntgraph.database import dumping, server

    home = server.status().home
    if not yes and (home / "data" / "databases" / "neo4j").exists():
        _ask(home, "replace", f"cntgraph db restore {shlex.quote(str(file))} --yes")
    dumping.restore(file)
    if json:
        print_json({"restored": file})
    else:
        note(f"the database is that of {file}")


def _runs_in(paths: Sequence[Path]) -> list[Run]:
    """The runs in these folders; a folder that is none gives those that it holds."""
    from cntgraph.runs import open_run

    found = []
    for path in paths:
        inside = sorted(path.glob("*/manifest.json")) if path.is_dir() else []
        alone = not inside or (path / "manifest.json").exists()
        found += [path] if alone else [each.parent for each in inside]
    return [open_run(path) for path in found]


def _held(*, start: bool) -> list[str] | None:
    """Names of the runs in the database; None where that takes a start, and none is wanted."""
    from cntgraph.database import server

    found = server.status()
    if found.running:
        return _names()
    if not (found.home / "data" / "databases" / "neo4j").exists():
        return []
    if not start:
        return None
    server.start()
    try:
        return _names()
    finally:
        server.stop()


def _names() -> list[str] | None:
    """The names of the runs that a running server holds; None where it does not say."""
    runs = _status()[0]["runs"]
    return None if runs is None else [str(run["name"]) for run in runs]


def _told(found: dict[str, Any]) -> str:
    """The runs that a running server holds, in words."""
    if not found["running"]:
        return "unknown while it is stopped"
    if found["runs"] is None:
        return "unknown: the database does not answer"
    runs = (
        f"{run['name']} ({run['epochs']} epochs, {run['neurons']:,} neurons, "
        f"{run['loaded']:,} links loaded, {run['status']})"
        for run in found["runs"]
    )
    return "; ".join(runs) or "none"


def _ask(home: Path, what: str, command: str) -> None:
    if not sys.stdin.isatty():
        raise InputRefused(
            f"the data in {home} was not {what}d",
            why="nobody is there to say yes",
            fix=command,
        )
    if not typer.confirm(f"{what.capitalize()} all data in {home}?", err=True):
        raise InputRefused(f"the data in {home} was not {what}d", why="you did not say yes")


def _status() -> tuple[dict[str, Any], DatabaseError | None]:
    """What is known of the server, and why its runs are not where it runs and does not say."""
    from cntgraph.database import connect, server

    found = server.status()
    runs: list[dict[str, Any]] | None = []
    problem = None
    if found.running and found.uri:
        try:
            password = found.password_file.read_text(encoding="utf-8").strip()
            with connect(found.uri, user="neo4j", password=password) as database:
                runs = records(database.query("runs"))
        except DatabaseError as error:
            runs, problem = None, error
    return {**asdict(found), "runs": runs}, problem


def _how_to_connect(uri: str, password_file: object) -> None:
    """How tools of the user's own get in."""
    note("\nNeo4j Browser or Desktop: connect to that address as neo4j; the password is in")
    note(f"  {password_file}")
    note("cypher-shell, with the password where `ps` does not show it:")
    password = f'"$(cat {shlex.quote(str(password_file))})"'
    note(f"  NEO4J_PASSWORD={password} cypher-shell -a {uri} -u neo4j")
    note("a notebook, where NEO4J_URI is not set:")
    note("  import cntgraph as cnt; db = cnt.connect(); db.query('runs')")
