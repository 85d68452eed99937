"""A query of the library is asked, its columns typed, and an empty answer explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cntgraph.database.headers import Query
from cntgraph.database.queries import Library
from cntgraph.database.reading import Limits, admit, frame, read
from cntgraph.database.schema import COMPLETE
from cntgraph.errors import InputRefused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database.connection import Connection

__all__ = ["answer", "explain_missing"]

_DTYPES = {"int": "int64", "float": "float64", "boolean": "bool", "string": "str"}
_EPOCHS = ("epoch", "first", "last")


def answer(
    connection: Connection, library: Library, name: str, given: Mapping[str, Any], limits: Limits
) -> pd.DataFrame:
    """The rows of a query of the library for these parameters; see `Database.query`."""
    query = library.find(name)
    values = query.bound(given)
    asked, parameters = library.chosen(query, values)
    if asked.own:  # it is anybody's Cypher
        admit(connection, asked.text, parameters, limits)
    found = read(connection, asked.text, parameters, limits)
    _check_columns(asked, found)
    if found.empty:
        _explain(connection, asked, values)
        kinds = {column.name: _DTYPES.get(column.kind, "object") for column in query.columns}
        found = found.astype({n: kind for n, kind in kinds.items() if n in found})
    for column in asked.columns:
        if column.spread:
            found = _spread(asked, found, column.name)
    return found


def _check_columns(query: Query, found: pd.DataFrame) -> None:
    missing = [column.name for column in query.columns if column.name not in found]
    if missing:
        raise InputRefused(
            f"{query.path} declares the column {missing[0]!r}",
            why=f"the query returns {', '.join(map(str, found))}",
            fix="name it so in the RETURN, or take it out of the header",
        )


def _spread(query: Query, found: pd.DataFrame, name: str) -> pd.DataFrame:
    """Each {name, value} of the lists in a column as a column of its own."""
    lists = found[name].tolist()
    plain = found.drop(columns=[name])
    try:
        names = [pair["name"] for pair in lists[0]] if lists else []
        values = [[pair["value"] for pair in pairs] for pairs in lists]
        others = frame(names, values)
    except (TypeError, KeyError, IndexError) as error:
        raise InputRefused(
            f"{query.path}: the column *{name} does not hold lists of {{name, value}}",
            why="a column with a star becomes a column for each of its names, the same in all rows",
        ) from error
    for other in names:
        plain[other] = others[other]
    return plain


def _explain(connection: Connection, query: Query, values: Mapping[str, Any]) -> None:
    """Raise `InputRefused` where it is known why nothing was found."""
    if query.own:  # it may mean something else by `first` and `last`
        meant = {n: v for n, v in values.items() if n in ("run", "epoch", "layer")}
        explain_missing(connection, meant)
    else:
        explain_missing(connection, values)
        _explain_links(connection, query, values)
        _explain_shuffles(connection, query, values)
        _explain_samples(connection, query, values)


def explain_missing(connection: Connection, values: Mapping[str, Any]) -> None:
    """Raise `InputRefused` where nothing was found because there is no such run, epoch or layer."""
    run = values.get("run")
    if run is None:
        return
    known = _epochs(connection)
    if run not in known:
        why = did_you_mean(run, known) if known else "it holds no run"
        raise InputRefused(f"there is no run {run!r} in the database", why=why)
    for name in _EPOCHS:
        if values.get(name) is not None and values[name] not in known[run]:
            has = ", ".join(map(str, known[run])) or "none"
            raise InputRefused(
                f"epoch {values[name]} of {run!r} is not in the database",
                why=f"it holds {has}",
                fix=f"cntgraph load RUN --epochs {values[name]}",
            )
    if values.get("layer") is not None:
        rows = connection.rows("MATCH (l:Layer {run: $run}) RETURN l.name AS name", run=run)
        layers = [row["name"] for row in rows]
        if values["layer"] not in layers:
            why = did_you_mean(values["layer"], layers)
            raise InputRefused(f"{run!r} has no layer {values['layer']!r}", why=why)


def _explain_links(connection: Connection, query: Query, values: Mapping[str, Any]) -> None:
    """Raise `InputRefused` where nothing was found because links were not loaded."""
    if ":LINK" not in query.text or "epoch" not in values:
        return
    (row,) = connection.rows(
        "MATCH (x:Snapshot {run: $run, epoch: $epoch}) RETURN x.choice AS choice",
        run=values["run"],
        epoch=values["epoch"],
    )
    if row["choice"] == "none":
        raise InputRefused(
            f"epoch {values['epoch']} of {values['run']!r} was loaded without links",
            why=f"{query.name} looks at links",
            fix=f"cntgraph load RUN --epochs {values['epoch']} --links all",
        )
    if "choice: 'all'" in query.text and row["choice"] != "all":
        raise InputRefused(
            f"epoch {values['epoch']} of {values['run']!r} cannot be computed in the database",
            why=f"it was loaded with links={row['choice']!r}, and every link takes part",
            fix=f"cntgraph load RUN --epochs {values['epoch']} --links all --replace",
        )


def _explain_shuffles(connection: Connection, query: Query, values: Mapping[str, Any]) -> None:
    """Raise `InputRefused` where the run's layers were not compared with a null model."""
    if "fluctuation_null" not in query.text:
        return
    (row,) = connection.rows(
        "MATCH (s:LayerState {run: $run}) RETURN count(s.fluctuation_null) AS compared",
        run=values["run"],
    )
    if not row["compared"]:
        raise InputRefused(
            f"{values['run']!r} was exported without shuffles",
            why=f"{query.name} compares with networks whose weights were shuffled",
            fix="cntgraph export MODEL CHECKPOINTS --input SHAPE --to ANOTHER --shuffles 20 --load",
        )


def _explain_samples(connection: Connection, query: Query, values: Mapping[str, Any]) -> None:
    """Raise `InputRefused` where the values are not those of every neuron for some samples."""
    if "size($values)" not in query.text:
        return
    (row,) = connection.rows("MATCH (r:Run {name: $run}) RETURN r.neurons AS n", run=values["run"])
    given, neurons = len(values["values"]), row["n"]
    if not given or given % neurons:
        raise InputRefused(
            f"{query.name}: values holds {given:,} numbers",
            why=f"{values['run']!r} has {neurons:,} neurons, and each has one for every sample",
        )


def _epochs(connection: Connection) -> dict[str, list[int]]:
    rows = connection.rows(
        "MATCH (r:Run) OPTIONAL MATCH (r)-[:HAS_SNAPSHOT]->(x:Snapshot {status: $status}) "
        "WITH r, x.epoch AS epoch ORDER BY epoch RETURN r.name AS name, collect(epoch) AS epochs",
        status=COMPLETE,
    )
    return {row["name"]: row["epochs"] for row in rows}
