"""The local server's database built anew from run folders, which are the truth.

Everything is made beside the database that is there: the files, then a database out of them by
Neo4j's own importer, while the server answers as before. Only then is it stopped, started on the
new data and asked what it holds; the old data goes when the answer is right, and is back where it
was when anything fails.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cntgraph.database.connection import reach
from cntgraph.database.dialling import Address
from cntgraph.database.home import bytes_on_disk, release_of
from cntgraph.database.jars import exclusive
from cntgraph.database.offline.finishing import finish
from cntgraph.database.offline.folder import told
from cntgraph.database.offline.graph import Graph, Progress, write_graph
from cntgraph.database.offline.importer import end_import, import_graph
from cntgraph.database.offline.selecting import Selection
from cntgraph.database.server import Server, marked_home, replacing
from cntgraph.errors import InputRefused

__all__ = ["RebuildReport", "rebuild"]

_PLACE = "rebuilding"
_BYTES_PER_LINK, _BYTES_PER_NODE = 80, 600  # what the importer writes
_ELSEWHERE = "set CNTGRAPH_HOME to a folder of your own"


@dataclass(frozen=True)
class RebuildReport:
    """What the database holds now, all of it: nodes, relationships, and the seconds it took."""

    nodes: int
    relationships: int
    epochs: int
    seconds: float
    size_bytes: int


def rebuild(selected: Sequence[Selection], *, progress: Progress | None = None) -> RebuildReport:
    """Replace the local server's whole database by the graph of these runs.

    The server runs afterwards if it ran before. Raises `RunDamaged`, `InputRefused` or
    `DatabaseError` where it cannot be done, and then the database is the old one.

    >>> rebuild(selections([(open_run("runs/lenet"), None)], "all"))   # doctest: +SKIP
    """
    begun = time.monotonic()
    home = marked_home()
    with exclusive(home.with_name("neo4j.rebuild.lock")), _workplace(home) as place:
        with told(place, selected, _ELSEWHERE):
            (place / "graph").mkdir()
            graph = write_graph(place / "graph", selected, progress)
        _refuse_without_room(graph, place)
        data = import_graph(graph, place / "home", release_of(home), progress)
        shutil.rmtree(graph.folder)
        with replacing(data) as server:
            _finished(server, graph, progress)
        size = bytes_on_disk(home / "data")
    return RebuildReport(
        graph.node_count,
        graph.relationship_count,
        len(graph.snapshots),
        time.monotonic() - begun,
        size,
    )


@contextmanager
def _workplace(home: Path) -> Iterator[Path]:
    """A folder on the disk of the data, empty now and gone afterwards."""
    place = home / _PLACE
    end_import(place / "home")
    shutil.rmtree(place, ignore_errors=True)
    with told(place, (), _ELSEWHERE):
        place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _finished(server: Server, graph: Graph, progress: Progress | None) -> None:
    connection = reach(Address(server.uri, server.user, server.password))
    try:
        finish(connection, graph, progress)
    finally:
        connection.driver.close()


def _refuse_without_room(graph: Graph, place: Path) -> None:
    needed = graph.relationship_count * _BYTES_PER_LINK + graph.node_count * _BYTES_PER_NODE
    free = shutil.disk_usage(place).free
    if needed > free:
        raise InputRefused(
            f"the database does not fit on the disk of {place.parent}",
            why=f"it takes some {needed:,} bytes beside the one that is there; "
            f"{free:,} bytes are free",
            fix="make room, give fewer epochs (--epochs) or fewer links (--links top:32)",
        )
