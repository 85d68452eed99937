"""Runs in Neo4j: loaded once, asked in Cypher."""

from cntgraph.database.database import Database, connect
from cntgraph.database.load import LoadReport
from cntgraph.database.queries import Library

__all__ = ["Database", "Library", "LoadReport", "connect"]
