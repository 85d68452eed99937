"""Anybody's Cypher is read-only here: the server plans it first, and the plan is what is judged.

A session for reading refuses writes, but lets a query read files through ``LOAD CSV``, end other
people's transactions, or call what an extension brought along. What the server is about to do is
in its plan, whatever comments, escapes or prefixes the text hides it in.
"""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from cntgraph.database.attending import Lost, attended
from cntgraph.database.deadline import cut_after
from cntgraph.database.inquiring import Inquiry
from cntgraph.database.translating import translated
from cntgraph.errors import CntWarning, DatabaseError

if TYPE_CHECKING:
    import neo4j
    import pandas as pd

    from cntgraph.database.connection import Connection

__all__ = ["TOKEN", "Limits", "admit", "frame", "read"]

T = TypeVar("T")

# What may be called: it looks at the schema or at an index of the database, and at nothing else.
PROCEDURES = frozenset(
    """db.info db.labels db.propertyKeys db.relationshipTypes db.schema.nodeTypeProperties
    db.schema.relTypeProperties db.schema.visualization db.index.fulltext.queryNodes
    db.index.fulltext.queryRelationships db.index.vector.queryNodes
    db.index.vector.queryRelationships db.ping""".split()
)

# Lists the schema; all other commands concern the server or its users.
_COMMANDS = frozenset({"ShowIndexes", "ShowConstraints", "ShowFunctions", "ShowProcedures"})
_COMMAND = re.compile(
    r"(Show|Terminate|Alter|Create|Drop|Start|Stop)[A-Z]\w*s|AdministrationCommand"
)

TOKEN = re.compile(
    r"""//[^\n\r]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:``|[^`])*`|\w+|\S""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Limits:
    """How long a read may take and how many rows it may give; None for no limit."""

    seconds: float | None = 30.0
    rows: int | None = 10_000


@dataclass(frozen=True)
class _Reader:
    """Runs texts in one session, each with the time it may take and the mark of the inquiry."""

    session: neo4j.Session
    seconds: float | None
    inquiry: Inquiry

    def run(self, text: str, parameters: Mapping[str, Any]) -> neo4j.Result:
        from neo4j import Query

        query = Query(text, timeout=self.seconds, metadata=self.inquiry.metadata)
        return self.session.run(query, dict(parameters))


def _asked(connection: Connection, limits: Limits, work: Callable[[_Reader], T]) -> T:
    """What ``work`` finds in a session that the server lets read and nothing else."""
    from neo4j import READ_ACCESS

    place = connection.place
    name, mode = place.database, READ_ACCESS

    def attempt() -> T:
        inquiry = Inquiry(place)

        def asked() -> T:
            with (
                connection.driver.session(database=name, default_access_mode=mode) as session,
                cut_after(session, limits.seconds),
            ):
                return work(_Reader(session, limits.seconds, inquiry))

        return attended(asked, place, inquiry)

    with translated(place):
        try:
            return attempt()
        except Lost:  # a connection that nobody used for long; the next one is another
            return attempt()


def read(
    connection: Connection, text: str, parameters: Mapping[str, Any], limits: Limits
) -> pd.DataFrame:
    """The rows of a query as a DataFrame; ``attrs["truncated"]`` says whether they were cut."""

    def rows_of(reader: _Reader) -> tuple[list[str], list[list[Any]]]:
        result = reader.run(text, parameters)
        names = list(result.keys())
        records = result if limits.rows is None else result.fetch(limits.rows + 1)
        return names, [record.values() for record in records]

    names, rows = _asked(connection, limits, rows_of)
    truncated = limits.rows is not None and len(rows) > limits.rows
    found = frame(names, rows[: limits.rows])
    found.attrs["truncated"] = truncated
    if truncated:
        warnings.warn(
            f"the result was cut after {limits.rows:,} rows; db.within(rows=...) allows more",
            CntWarning,
            stacklevel=3,
        )
    return found


def admit(connection: Connection, text: str, parameters: Mapping[str, Any], limits: Limits) -> None:
    """Raise `DatabaseError` unless the query only reads, and only this database."""

    def judge(reader: _Reader) -> None:
        summary = reader.run(f"EXPLAIN {text}", parameters).consume()
        plan: Any = summary.plan
        if summary.query_type != "r" or plan is None:
            raise _refused("it does more than read", "writes go through db.load and db.delete")
        operators = list(_operators(plan))
        for name, details in operators:
            _judge(name, details)
        _judge_functions([*_readings(text), *(details for _, details in operators)], reader)

    _asked(connection, limits, judge)


def _judge(name: str, details: str) -> None:
    """Refuse an operator of the plan that reaches further than the graph.

    A subquery within an expression has no operators of its own: the server writes its text, as it
    understood it, into the details of the operator that evaluates it.
    """
    words = [*_words(details), ""]
    before = [word.upper() for word in words]
    if name == "LoadCSV" or ("LOAD", "CSV") in itertools.pairwise(before):
        raise _refused("LOAD CSV reads files and addresses with the server's rights", "")
    if _COMMAND.fullmatch(name) and name not in _COMMANDS:
        raise _refused(f"it is a command to the server ({name})", "use cypher-shell for that")
    threes = zip(before, words[1:], words[2:], strict=False)
    called = {b for a, b, c in threes if a == "CALL" and b not in "({" and ("." in b or c == "(")}
    if "ProcedureCall" in name:
        called.add(details.partition("(")[0].strip())
    if found := sorted(called - PROCEDURES):
        known = ", ".join(sorted(PROCEDURES))
        raise _refused(f"it calls the procedure {found[0]}", f"allowed are {known}")


def _judge_functions(texts: Iterable[str], reader: _Reader) -> None:
    """Refuse functions that an extension brought along; the plan does not always show them."""
    shown = "SHOW FUNCTIONS YIELD name, isBuiltIn WHERE NOT isBuiltIn RETURN name"
    rows = reader.run(shown, {})
    foreign = {str(row["name"]).lower() for row in rows}
    called = {name.lower() for text in texts for name in _called(text)}
    if found := sorted(foreign & called):
        raise _refused(
            f"it calls the function {found[0]}", "only Neo4j's own functions are allowed"
        )


def _readings(text: str) -> Iterator[str]:
    """The text as it stands, and as it is where escapes count outside of strings as well."""
    yield text
    yield re.sub(r"\\u+([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)


def _called(text: str) -> Iterator[str]:
    """Every name, dots included, that an opening parenthesis follows."""
    yield from (a for a, b in itertools.pairwise(_words(text)) if b == "(")


def _words(text: str) -> Iterator[str]:
    """Names with their dots, and everything else that is no comment, one by one."""
    name = ""
    for token in TOKEN.findall(text):
        if token.startswith(("//", "/*")) and len(token) > 1:
            continue
        word = token.strip("`") if token.startswith("`") else token
        if token == "." or name.endswith("."):
            name += word
        else:
            if name:
                yield name
            name = word
    yield name


def _operators(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield plan["operatorType"].partition("@")[0], str(plan.get("args", {}).get("Details", ""))
    for child in plan.get("children", ()):
        yield from _operators(child)


def _refused(why: str, fix: str) -> DatabaseError:
    return DatabaseError("the query was refused: only reading is allowed", why=why, fix=fix)


def frame(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    """Rows of plain values as a DataFrame; whole numbers stay whole where some are missing."""
    import pandas as pd

    columns = {
        name: _column([_plain(row[place]) for row in rows]) for place, name in enumerate(names)
    }
    return pd.DataFrame(columns, columns=list(names))


def _column(values: list[Any]) -> Any:
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    missing = any(value is None for value in values)
    if kinds == {int}:
        return pd.array(values, dtype="Int64") if missing else pd.Series(values, dtype="int64")
    if kinds == {bool}:
        return pd.array(values, dtype="boolean") if missing else pd.Series(values, dtype="bool")
    if kinds and kinds <= {int, float}:
        return pd.Series([float("nan") if v is None else float(v) for v in values])
    if kinds == {str}:
        return pd.Series(values)
    return pd.Series(values, dtype="object")


def _plain(value: Any) -> Any:
    """A value without the driver's own classes: nodes and relationships are their properties."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return _unwrapped(value)


def _unwrapped(value: Any) -> Any:
    from neo4j.graph import Entity, Path

    if isinstance(value, Path):
        return [_plain(node) for node in value.nodes]
    if isinstance(value, Entity):
        return {name: _plain(v) for name, v in value.items()}
    return value.to_native() if hasattr(value, "to_native") else value
