"""Verbs that talk to Neo4j: load run folders into it, and ask it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import (
    answer,
    note,
    print_json,
    records,
    save,
    size,
    stages,
    table,
    write,
)
from cntgraph.cli.parameters import literal, pair
from cntgraph.cli.runs import epoch_of
from cntgraph.errors import CntWarning

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database import Database
    from cntgraph.network import Network

__all__ = ["load", "loaded", "queries", "query"]

# Measured on two cores with a local server: what a load takes, for saying so before it begins.
_BYTES_PER_LINK, _BYTES_PER_NEURON = 75, 600
_LINKS_PER_SECOND, _NEURONS_PER_SECOND = 40_000, 10_000


class Format(StrEnum):
    """What rows are written as."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


# -- load


def load(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="Run folders.", show_default=False)
    ],
    epochs: Annotated[
        str, typer.Option(metavar="LIST", help="0,5,last: these alone; by default every epoch.")
    ] = "",
    links: Annotated[
        str, typer.Option(metavar="CHOICE", help="all, top:K per neuron, backbone:ALPHA or none.")
    ] = "all",
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Another name than the run's own, for one run.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace what the database holds of it.")
    ] = False,
    offline: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write files for a stopped server's importer instead."),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Write nothing, say what it takes.")] = False,
    json: Json = False,
) -> None:
    """Load run folders into Neo4j, each epoch once.

    Strengths are those of all links, whatever the choice. The same command goes on where it
    stopped.
    """
    if name and len(runs) > 1:
        raise typer.BadParameter(f"one name for {len(runs)} runs", param_hint="--name")
    if plan:
        _plan(runs, epochs, links, json=json)
        return
    if offline is not None:
        if replace:
            raise typer.BadParameter("files replace nothing", param_hint="--replace")
        _offline(runs, offline, epochs, links, name, json=json)
        return
    done = loaded(runs, epochs=epochs, links=links, name=name, replace=replace)
    if json:
        print_json({"runs": done})


def _offline(
    runs: Sequence[Path], folder: Path, epochs: str, links: str, name: str, *, json: bool
) -> None:
    from cntgraph.database.offline import selections, write_offline
    from cntgraph.runs import open_run

    opened = [(run := open_run(path), _epochs(run, epochs)) for path in runs]
    with stages() as progress:
        selected = selections(opened, links, name=name or None)
        report = write_offline(selected, folder, progress=progress)
    if json:
        print_json(asdict(report))
        return
    note(
        f"{report.folder}: {report.epochs} epochs, {report.nodes:,} nodes, "
        f"{report.relationships:,} relationships, {size(report.size_bytes)}, "
        f"{report.seconds:.1f} s; README.md there says how a server gets them"
    )


def loaded(
    runs: Sequence[Path], *, epochs: str = "", links: str = "all", name: str = "", **given: Any
) -> list[dict[str, Any]]:
    """Load every run and say of each what was written."""
    from cntgraph.database import connect
    from cntgraph.runs import open_run

    opened = [(run := open_run(path), _epochs(run, epochs)) for path in runs]
    done = []
    with connect() as database:
        for run, chosen in opened:
            with _bar(run.name) as progress:
                report = database.load(
                    run, epochs=chosen, links=links, name=name or None, progress=progress, **given
                )
            done.append({"run": name or run.name, **asdict(report)})
            skipped = f", {len(report.skipped)} were there" if report.skipped else ""
            note(
                f"{name or run.name}: {len(report.epochs)} epochs loaded{skipped}; "
                f"{report.neurons:,} neurons, {report.links:,} links with {report.kept:.1%} of "
                f"the total |weight|, {report.seconds:.1f} s"
            )
    return done


def _epochs(run: Any, text: str) -> list[int] | None:
    if not text:
        return None
    return [epoch_of(run, part.strip()) for part in text.split(",")]


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of links on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _plan(runs: Sequence[Path], epochs: str, links: str, *, json: bool) -> None:
    """What a load into an empty database would write; no server is asked."""
    from cntgraph.runs import open_run

    plans = []
    for path in runs:
        run = open_run(path)
        chosen = _epochs(run, epochs) or [int(epoch) for epoch in run.epochs["epoch"]]
        counts = [
            _counts(run.wiring if links == "none" else run.network(epoch), links)
            for epoch in chosen
        ]
        neurons, trained, carried = (sum(column) for column in zip(*counts, strict=True))
        plans.append(
            {
                "run": run.name,
                "epochs": chosen,
                "neurons": neurons,
                "links": trained,
                "carrying_links": carried,
                "bytes": (trained + carried) * _BYTES_PER_LINK + neurons * _BYTES_PER_NEURON,
                "seconds": (trained + carried) / _LINKS_PER_SECOND + neurons / _NEURONS_PER_SECOND,
            }
        )
    if json:
        print_json({"runs": plans})
        return
    for planned in plans:
        shown = {name: f"{planned[name]:,}" for name in ("neurons", "links", "carrying_links")}
        epochs_told = ", ".join(map(str, planned["epochs"]))
        answer(
            {
                "run": planned["run"],
                "epochs": epochs_told,
                **shown,
                "bytes": f"about {size(planned['bytes'])}",
                "seconds": f"about {planned['seconds']:.0f}",
            }
        )


def _counts(network: Network, links: str) -> tuple[int, int, int]:
    """Neurons, trained links and carrying links that a choice of links would load."""
    if links == "none":
        return network.neuron_count, 0, 0
    chosen = network if links == "all" else network.filtered(links)
    total = sum(block.link_count for block in chosen.blocks if block.certain)
    return network.neuron_count, chosen.link_count, total - chosen.link_count


# -- query


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
    found = _asked(name, given, rows=rows or None, seconds=seconds or None)
    if found.attrs.get("truncated"):
        note(f"cut after {len(found):,} rows; --rows 0 gives all")
    if out is not None:
        _save(found, out, chosen)
    if json:
        cut = bool(found.attrs.get("truncated"))
        print_json({"columns": list(found.columns), "rows": records(found), "truncated": cut})
    elif out is None:
        _show(found, chosen)


def queries(json: Json = False) -> None:
    """List the library: names, titles and parameters of the queries."""
    from cntgraph.database.queries import listing

    found = records(listing())
    if json:
        print_json({"queries": found})
        return
    width = max((len(row["name"]) for row in found), default=0)
    for row in found:
        write(f"{row['name']:<{width}}  {row['title']}\n")
        if row["parameters"]:
            write(f"{'':<{width}}    {row['parameters']}\n")


def _asked(
    name: str, given: dict[str, str], *, rows: int | None, seconds: float | None
) -> pd.DataFrame:
    from cntgraph.database import connect, parse_parameters
    from cntgraph.database.queries import find_query

    ask: Callable[[Database], pd.DataFrame]
    if name == "-":
        text = sys.stdin.read()
        values = {key: literal(value) for key, value in given.items()}
        ask = lambda database: database.cypher(text, **values)  # noqa: E731
    else:
        values = parse_parameters(name, given)
        find_query(name).bound(values)  # refused before a server is looked for
        ask = lambda database: database.query(name, **values)  # noqa: E731
    with connect() as database, warnings.catch_warnings():
        warnings.simplefilter("ignore", CntWarning)  # a cut result is told in our own words
        return ask(database.within(seconds=seconds, rows=rows))


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
