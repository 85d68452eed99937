"""Runs into Neo4j past the server: Parquet files, and Neo4j's own importer over them."""

from cntgraph.database.offline.folder import OfflineReport, write_offline
from cntgraph.database.offline.rebuilding import RebuildReport, rebuild
from cntgraph.database.offline.selecting import Selection, selections

__all__ = [
    "OfflineReport",
    "RebuildReport",
    "Selection",
    "rebuild",
    "selections",
    "write_offline",
]
