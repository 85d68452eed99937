"""The verb that loads run folders into Neo4j, or writes the files for its importer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import answer, note, print_json, size, stages
from cntgraph.cli.runs import epoch_of

if TYPE_CHECKING:
    from cntgraph.network import Network

__all__ = ["load", "loaded"]

# Measured on two cores with a local server: what a load takes, for saying so before it begins.
_BYTES_PER_LINK, _BYTES_PER_NEURON = 75, 600
_LINKS_PER_SECOND, _NEURONS_PER_SECOND = 40_000, 10_000


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
