"""The verb that loads run folders into Neo4j, or writes the files for its importer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import answer, note, print_json, records, size, stages
from cntgraph.cli.runs import epoch_of

if TYPE_CHECKING:
    from cntgraph.database import Database, LoadReport
    from cntgraph.runs import Run

__all__ = ["load", "loaded"]


def load(  # noqa: PLR0913, PLR0917 - a verb's options are its parameters
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
    sessions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Epochs loaded side by side.")
    ] = 3,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compute outputs in the database and compare them."),
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
    if verify and (links != "all" or offline is not None):
        raise typer.BadParameter("outputs need all links in a server", param_hint="--verify")
    if plan:
        _plan(runs, epochs, links, json=json)
        return
    if offline is not None:
        if replace:
            raise typer.BadParameter("files replace nothing", param_hint="--replace")
        _offline(runs, offline, epochs, links, name, json=json)
        return
    given = {"epochs": epochs, "links": links, "name": name}
    done = loaded(runs, **given, verify=verify, replace=replace, sessions=sessions)
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
    runs: Sequence[Path],
    *,
    epochs: str = "",
    links: str = "all",
    name: str = "",
    verify: bool = False,
    **given: Any,
) -> list[dict[str, Any]]:
    """Load every run and say of each what was written and how it was checked."""
    from cntgraph.database import connect
    from cntgraph.runs import open_run

    opened = [(run := open_run(path), _epochs(run, epochs)) for path in runs]
    if verify:
        _refuse_unverifiable([run for run, _ in opened])
    done = []
    with connect() as database:
        for run, chosen in opened:
            with _bar(run.name) as progress:
                report = database.load(
                    run, epochs=chosen, links=links, name=name or None, progress=progress, **given
                )
            _tell(name or run.name, report)
            document = {"run": name or run.name, **asdict(report)}
            if verify:
                document["verified"] = _verified(database, run, chosen, name or run.name)
            done.append(document)
    return done


def _tell(name: str, report: LoadReport) -> None:
    skipped = f", {len(report.skipped)} were there" if report.skipped else ""
    note(
        f"{name}: {len(report.epochs)} epochs loaded{skipped}; "
        f"{report.neurons:,} neurons, {report.links:,} links with {report.kept:.1%} of "
        f"the total |weight|, {report.seconds:.1f} s"
    )
    if not report.checks:
        return
    links, carried = (sum(getattr(c, n) for c in report.checks) for n in ("links", "carried"))
    sums = [c.weight_difference for c in report.checks if c.weight_difference is not None]
    strengths = [c.strength_difference for c in report.checks if c.strength_difference is not None]
    told = f"{name}: checked on the server: {links:,} links"
    told += f" and {carried:,} that carry values" if carried else ""
    told += " counted"
    told += f", sums of weights within {max(sums):.1g}" if sums else ""
    told += f", strengths recomputed within {max(strengths):.1g}" if strengths else ""
    note(f"{told} (relative)" if sums else told)


def _refuse_unverifiable(runs: Sequence[Run]) -> None:
    from cntgraph.database.content import Content
    from cntgraph.database.verifying import refuse_unverifiable

    for run in runs:
        refuse_unverifiable(Content(run, run.name))


def _verified(
    database: Database, run: Run, epochs: list[int] | None, name: str
) -> list[dict[str, Any]]:
    from cntgraph.database.verifying import refuse_failures

    found = database.verify(run, epochs=epochs, name=name)
    refuse_failures(found, name)
    note(
        f"{name}: outputs computed in the database for {len(found)} epochs differ from the "
        f"network's by at most {found['error'].max():.1g}"
    )
    return records(found)


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
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.TextColumn("{task.completed:,.0f} of {task.total:,.0f} links"),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
    )
    begun = time.monotonic()
    with progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=0, rate="")

        def show(done: int, total: int) -> None:
            rate = f"{done / (time.monotonic() - begun):,.0f}/s"
            bar.update(task, completed=done, total=total, rate=rate)

        yield show


def _plan(runs: Sequence[Path], epochs: str, links: str, *, json: bool) -> None:
    """What a load into an empty database would write; no server is asked."""
    from cntgraph.database.content import Content
    from cntgraph.database.planning import load_plan
    from cntgraph.database.settings import Options
    from cntgraph.runs import open_run

    opened = [(run := open_run(path), _epochs(run, epochs)) for path in runs]
    plans = [load_plan(Content(run, run.name), chosen, links) for run, chosen in opened]
    if json:
        print_json({"runs": [asdict(each) for each in plans]})
        return
    for each in plans:
        answer(
            {
                "run": each.run,
                "epochs": ", ".join(map(str, each.epochs)),
                "neurons": f"{each.neurons:,}",
                "links": f"{each.links:,}",
                "carrying_links": f"{each.carrying_links:,}",
                "bytes": f"about {size(each.bytes)}",
                "seconds": f"about {each.seconds:.0f}",
            }
        )
    memory = Options.holding(sum(each.bytes for each in plans))
    note(
        "a local server that keeps all of it in memory: "
        f"cntgraph db start --heap {memory.heap} --page-cache {memory.page_cache}"
    )
