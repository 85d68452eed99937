"""The graph in Neo4j: which labels, properties, constraints and indexes there are, and why.

::

    (:Run)-[:HAS_LAYER]->(:Layer)-[:HAS_NEURON]->(:Neuron)        what a run's network is
    (:Run)-[:HAS_SNAPSHOT]->(:Snapshot)                           one epoch of it
    (:Layer)-[:HAS_STATE]->(:LayerState)                          a layer at an epoch
    (:Neuron)-[:HAS_STATE]->(:NeuronState)                        a neuron at an epoch
    (:NeuronState)-[:LINK {weight}]->(:NeuronState)               trained weights, nothing else
    (:NeuronState)-[:CARRIES {kind, weight}]->(:NeuronState)      skips, pooling, gates

What was loaded is known by a journal that is part of it: ``Run.steps`` and ``Snapshot.steps``
count the transactions that wrote their parts, and each of those raises the count itself, so a
part is there exactly if it is counted, whatever became of the connection. ``status`` is
``loading`` until all parts are there and were checked, then ``complete`` (or ``damaged``).

Ids are integers, unique over all runs and epochs; ``(:IdCounter)`` hands them out and goes with
the last run. They are consecutive: those of a snapshot's neurons begin at ``Snapshot.first`` in
the order of the network's own neuron ids, likewise ``Run.first_layer`` and ``Run.first_neuron``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cntgraph.errors import DatabaseError, InputRefused

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection

__all__ = [
    "COMPLETE",
    "DAMAGED",
    "DELETING",
    "LOADING",
    "SCHEMA",
    "STATE_PROPERTIES",
    "measure_name",
    "prepare",
    "property_value",
]

LOADING, COMPLETE, DELETING, DAMAGED = "loading", "complete", "deleting", "damaged"

_UNIQUE = (
    ("Run", "id"),
    ("Run", "name"),
    ("Layer", "id"),
    ("Neuron", "id"),
    ("Snapshot", "id"),
    ("NeuronState", "id"),
    ("IdCounter", "name"),
    ("Snapshot", "run", "epoch"),
)

_INDEXES = (
    ("Layer", "run"),
    ("Neuron", "run", "layer", "index"),
    ("LayerState", "run", "epoch"),
    ("NeuronState", "run", "epoch"),
    ("NeuronState", "run", "layer", "index"),
    # A ranking is one seek: queries put a predicate on every property of the index and order by
    # all of them.
    ("NeuronState", "run", "epoch", "magnitude"),
    ("NeuronState", "run", "epoch", "layer", "magnitude"),
)


def _definitions() -> Iterator[tuple[str, str]]:
    for what, every, end in (("CONSTRAINT", _UNIQUE, " IS UNIQUE"), ("INDEX", _INDEXES, "")):
        for label, *names in every:
            name = f"cntgraph_{label}_{'_'.join(names)}"
            properties = ", ".join(f"n.{each}" for each in names)
            how = "REQUIRE" if end else "ON"
            yield (
                name,
                f"CREATE {what} {name} IF NOT EXISTS FOR (n:{label}) {how} ({properties}){end}",
            )


SCHEMA: dict[str, str] = dict(_definitions())

# What a NeuronState holds beside the stored measures; no measure may take one of these names.
STATE_PROPERTIES = frozenset(
    """id run epoch neuron layer index bias gain shift value strength magnitude strength_in
    strength_out strength_positive strength_negative strength_absolute degree_in degree_out
    has_nan path_out largest_out""".split()
)

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def prepare(connection: Connection) -> None:
    """Create the constraints and indexes that are not there yet, and wait until they serve.

    Where they are all there, nothing asks for the right to create them.
    """
    shown = "SHOW INDEXES YIELD name, state WHERE state = 'ONLINE' RETURN name"
    serving = {row["name"] for row in connection.rows(shown)}
    missing = [statement for name, statement in SCHEMA.items() if name not in serving]
    try:
        for statement in missing:
            connection.define(statement)
    except DatabaseError as error:
        if not _is_forbidden(error):
            raise
        raise _without_rights(connection, missing) from error
    if missing:
        connection.rows("CALL db.awaitIndexes(300)")


def _is_forbidden(error: DatabaseError) -> bool:
    code = getattr(error.__cause__, "code", None) or ""
    return code.startswith("Neo.ClientError.Security")


def _without_rights(connection: Connection, missing: list[str]) -> DatabaseError:
    place = connection.place
    statements = "".join(f"\n       {statement};" for statement in missing)
    return DatabaseError(
        f"{place.uri} does not let user {place.user!r} create constraints and indexes",
        why=f"these are not there, and a load needs them; one who may runs them once:{statements}",
        fix="then the same command needs no right to create them",
    )


def measure_name(name: str) -> str:
    """The name of a stored measure as a property, refused where it cannot be one."""
    if not _NAME.fullmatch(name) or name in STATE_PROPERTIES:
        raise InputRefused(
            f"the run stores a measure {name!r}, which cannot be a property of a neuron",
            why="a name is of small letters, digits and _, and not one of "
            + ", ".join(sorted(STATE_PROPERTIES)),
            fix="export the run again without it",
        )
    return name


def property_value(value: Any) -> bool | int | float | str | None:
    """A value as Neo4j can hold it: missing for NaN, text for an integer of more than 64 bits."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):  # a bool is one
        return value if -(2**63) <= value < 2**63 else str(value)
    number = float(value)
    return None if math.isnan(number) else number
