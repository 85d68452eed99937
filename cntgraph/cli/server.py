"""Verbs for the Neo4j server of this machine: ``cntgraph db ...``."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import answer, note, print_json, records, size
from cntgraph.errors import InputRefused

__all__ = ["reset", "start", "status", "stop"]


def start(json: Json = False) -> None:
    """Start it; the first start fetches it (some 150 MB)."""
    from cntgraph.database import server

    running = server.start()
    if json:
        print_json({**_status(), "runs": None} | {"pid": running.pid})
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
    found = _status()
    if json:
        print_json(found)
        return
    shown = {name: value for name, value in found.items() if name not in ("runs", "size_bytes")}
    answer({**shown, "size": size(found["size_bytes"])})
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
        _ask(server.status().home)
    server.reset()
    if json:
        print_json({"reset": True})
    else:
        note("the database is empty; cntgraph load RUN... fills it again")


def _ask(home: Path) -> None:
    if not sys.stdin.isatty():
        raise InputRefused(
            f"the data in {home} was not deleted",
            why="nobody is there to say yes",
            fix="cntgraph db reset --yes",
        )
    if not typer.confirm(f"Delete all data in {home}?", err=True):
        raise InputRefused(f"the data in {home} was not deleted", why="you did not say yes")


def _status() -> dict[str, Any]:
    from cntgraph.database import connect, server

    found = server.status()
    runs: list[dict[str, Any]] = []
    if found.running and found.uri:
        password = found.password_file.read_text(encoding="utf-8").strip()
        with connect(found.uri, user="neo4j", password=password) as database:
            runs = records(database.query("runs"))
    return {**asdict(found), "runs": runs}


def _how_to_connect(uri: str, password_file: object) -> None:
    """How tools of the user's own get in."""
    note("\nNeo4j Browser or Desktop: connect to that address as neo4j; the password is in")
    note(f"  {password_file}")
    note("cypher-shell:")
    note(f'  cypher-shell -a {uri} -u neo4j -p "$(cat {shlex.quote(str(password_file))})"')
