"""Verbs that ask: a question of the library, of a folder of your own, or Cypher on stdin."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import note, print_json, records, save, table, write
from cntgraph.cli.parameters import literal, pair
from cntgraph.errors import CntWarning

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database import Database
    from cntgraph.database.headers import Query

__all__ = ["OwnQueries", "queries", "query"]

OwnQueries = Annotated[
    Path | None,
    typer.Option("--queries", metavar="DIR", help="A folder of queries of your own as well."),
]


class Format(StrEnum):
    """What rows are written as."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def query(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A query of the library, or - for Cypher on stdin.",
            show_default=False,
        ),
    ],
    parameters: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Its parameters.")
    ] = None,
    form: Annotated[
        Format | None, typer.Option("--format", help="What to write; by default a table.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to; .csv, .json, .parquet say how.")
    ] = None,
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, help="The result is cut after so many; 0: never.")
    ] = 10_000,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0, help="The query is ended after so many; 0: never.")
    ] = 30.0,
    queries: OwnQueries = None,
    json: Json = False,
) -> None:
    """Ask the database a question of the library, or one of your own.

    cntgraph queries lists the library. A query of your own may read, and nothing else.
    """
    chosen = form or _by_suffix(out)
    if chosen is Format.parquet and out is None:
        raise typer.BadParameter(
            "parquet is not for reading: give --out FILE", param_hint="--format"
        )
    given = dict(pair(text) for text in parameters or [])
    found = _asked(name, given, own=queries, rows=rows or None, seconds=seconds or None)
    if found.attrs.get("truncated"):
        note(f"cut after {len(found):,} rows; --rows 0 gives all")
    if out is not None:
        _save(found, out, chosen)
    if json:
        cut = bool(found.attrs.get("truncated"))
        print_json({"columns": list(found.columns), "rows": records(found), "truncated": cut})
    elif out is None:
        _show(found, chosen)


def queries(
    show: Annotated[
        str, typer.Option(metavar="NAME", help="Print one as it pastes into Neo4j Browser.")
    ] = "",
    queries: OwnQueries = None,
    json: Json = False,
) -> None:
    """List the library: names, titles and parameters of the queries."""
    from cntgraph.database import Library

    library = Library(queries)
    if show:
        _print_text(library.find(show), json=json)
        return
    found = records(library.listing())
    if json:
        print_json({"queries": found})
        return
    width = max((len(row["name"]) for row in found), default=0)
    for row in found:
        write(f"{row['name']:<{width}}  {row['title']}\n")
        if row["parameters"]:
            write(f"{'':<{width}}    {row['parameters']}\n")
    if replaced := library.replaced:
        note(f"those of {queries}, and not the library's: {', '.join(replaced)}")


def _print_text(query: Query, *, json: bool) -> None:
    if json:
        print_json({"name": query.name, "title": query.title, "text": query.text})
        return
    write(query.text)
    if query.browser_parameters:
        note(f"in Neo4j Browser first: {query.browser_parameters}")


def _asked(
    name: str,
    given: dict[str, str],
    *,
    own: Path | None,
    rows: int | None,
    seconds: float | None,
) -> pd.DataFrame:
    from cntgraph.database import Library, connect

    ask: Callable[[Database], pd.DataFrame]
    if name == "-":
        text = sys.stdin.read()
        values = {key: literal(value) for key, value in given.items()}
        ask = lambda database: database.cypher(text, **values)  # noqa: E731
    else:
        library = Library(own)
        values = library.parsed(name, given)
        library.find(name).bound(values)  # refused before a server is looked for
        ask = lambda database: database.query(name, **values)  # noqa: E731
        if name in library.replaced:
            note(f"asked {library.find(name).path}, not the library's {name}")
    with connect() as database, warnings.catch_warnings():
        warnings.simplefilter("ignore", CntWarning)  # told in our own words
        limited = database.within(seconds=seconds, rows=rows)
        return ask(limited if own is None else limited.with_queries(own))


def _by_suffix(out: Path | None) -> Format:
    suffix = out.suffix.removeprefix(".").lower() if out is not None else ""
    return Format(suffix) if suffix in ("csv", "json", "parquet") else Format.table


def _save(found: pd.DataFrame, out: Path, form: Format) -> None:
    save(found, out, form)
    note(f"{out}: {len(found):,} rows")


def _show(found: pd.DataFrame, form: Format) -> None:
    if form is Format.csv:
        write(found.to_csv(index=False))
    elif form is Format.json:
        print_json(records(found))
    else:
        table(found)
