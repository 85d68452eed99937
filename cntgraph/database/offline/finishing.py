"""What an imported graph still lacks: constraints, indexes, what was recorded, and being checked.

Two ways lead there: Cypher that a person runs on a server elsewhere, and the same over a
connection, where the sums of the weights are compared with the runs' own as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cntgraph.database.checks import compare, found_there
from cntgraph.database.journal import complete
from cntgraph.database.load import SESSIONS
from cntgraph.database.offline.graph import Graph, Progress
from cntgraph.database.schema import COMPLETE, DAMAGED, SCHEMA, prepare
from cntgraph.database.sessions import Halt, side_by_side
from cntgraph.errors import DatabaseError

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection

__all__ = ["finish", "post_import"]

_RECORDED = """
MATCH (v:ImportedValue)-[:BELONGS_TO]->(x:Snapshot)
SET x[v.name] = coalesce(v.integer, v.number, v.flag, v.text, '')
DETACH DELETE v
"""

# The sum of a strength's links differs from it by rounding alone; a sum that is not a number says
# nothing, and a comparison with it is false.
_CHECKED = f"""
MATCH (r:Run)-[:HAS_SNAPSHOT]->(x:Snapshot {{status: '{DAMAGED}'}})
CALL (x) {{
  MATCH (n:NeuronState) WHERE n.id >= x.first AND n.id < x.first + x.neurons
  CALL (n) {{ OPTIONAL MATCH (n)-[k:LINK]->() RETURN sum(k.weight) AS outgoing }}
  CALL (n) {{ OPTIONAL MATCH (n)<-[k:LINK]-() RETURN sum(k.weight) AS incoming }}
  RETURN count(n) AS neurons,
         sum(COUNT {{ (n)-[:LINK]->() }}) AS links,
         sum(COUNT {{ (n)-[:CARRIES]->() }}) AS carried,
         max(abs(n.strength - (incoming + outgoing)) / (1.0 + n.strength_absolute)) AS difference
}}
WITH r, x, neurons = x.neurons AND links = x.links AND carried = x.carried
  AND NOT (x.choice = 'all' AND r.convention = 'plain' AND coalesce(difference, 0.0) > 1e-9)
  AS whole
SET x.status = CASE WHEN whole THEN '{COMPLETE}' ELSE '{DAMAGED}' END
RETURN x.run AS run, x.epoch AS epoch, x.neurons AS neurons, x.links AS links,
       x.status AS status
ORDER BY run, epoch
"""


def post_import() -> str:
    """The Cypher to run after an import; it names nothing that comes from a run."""
    parts = [
        "// Run this once, on the started server, after the import: cypher-shell -f "
        "post-import.cypher\n// Until then no query of cntgraph sees an epoch.\n",
        *(f"{statement};\n" for statement in SCHEMA.values()),
        "CALL db.awaitIndexes(3600);\n",
        "\n// What was recorded of an epoch becomes its properties." + _ended(_RECORDED),
        "\n// Every epoch is counted and its strengths summed anew; all rows must say complete."
        + _ended(_CHECKED),
    ]
    return "".join(parts)


def _ended(statement: str) -> str:
    return statement.rstrip("\n") + ";\n"


def finish(connection: Connection, graph: Graph, progress: Progress | None = None) -> None:
    """Make the imported graph one that a load could have made, and prove it.

    Raises `DatabaseError` where the server holds anything else than the files or the runs.
    """
    _refuse_other_counts(connection, graph)
    if progress is not None:
        progress("constraints and indexes", 0.0)
    prepare(connection)
    connection.change(_RECORDED)
    written, halt = graph.snapshots, Halt()

    def check(number: int) -> None:
        halt.pause()
        if progress is not None:
            progress("checking", number / len(written))
        snapshot = written[number]
        wanted = snapshot.expected
        found = found_there(connection, snapshot.first, wanted.neurons)
        compare(found, wanted, snapshot.epoch, snapshot.run)

    side_by_side(check, range(len(written)), sessions=SESSIONS, halt=halt)
    for snapshot in written:
        complete(connection, "Snapshot", snapshot.id)


def _refuse_other_counts(connection: Connection, graph: Graph) -> None:
    """Every label and every type as often as in the files; the server keeps these counts."""
    patterns = {name: f"(k:{name})" for name in graph.nodes}
    patterns |= {name: f"()-[k:{name}]->()" for name in graph.relationships}
    counts = (
        f"MATCH {pattern} WITH count(k) AS n RETURN '{name}' AS name, n"
        for name, pattern in patterns.items()
    )
    there = {row["name"]: row["n"] for row in connection.rows(" UNION ALL ".join(counts))}
    for name, files in (graph.nodes | graph.relationships).items():
        if there[name] != (wanted := sum(files.values())):
            raise DatabaseError(
                "the import did not arrive as it was written",
                why=f"of {name} the database holds {there[name]:,} instead of {wanted:,}",
                fix="run the same command again; the database is the one that was there before",
            )
