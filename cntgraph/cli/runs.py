"""Verbs around the run folder: make one from checkpoints, read it, take a graph out of it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.models import aside, example, load_model
from cntgraph.cli.networks import Input, Json, Model, Trust
from cntgraph.cli.output import answer, beside, note, print_json, records, size, table
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from cntgraph.network import Network
    from cntgraph.runs import ExportPlan, Run

__all__ = ["RunFolder", "epoch_of", "export", "graph", "layers"]

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)]
_GRAPHS = (".graphml", ".parquet", ".csv", ".pickle", ".pkl")


def export(  # noqa: PLR0913, PLR0917 - a verb's options are its parameters
    model: Model,
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CHECKPOINTS", help="A folder, a glob or files.", show_default=False
        ),
    ],
    input: Input,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="The run folder.", show_default=False)],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="The run's name, by default the folder's.")
    ] = "",
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="Where to compute: cuda, say.")
    ] = "",
    measures: Annotated[
        str, typer.Option(metavar="NAMES", help="Measures to store: pagerank,pagerank_backward.")
    ] = "",
    shuffles: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Compare fluctuation with N networks, shuffled."),
    ] = 0,
    replace: Annotated[bool, typer.Option("--replace", help="Replace what differs.")] = False,
    trust: Trust = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse weights that are NaN or infinite.")
    ] = False,
    load: Annotated[bool, typer.Option("--load", help="Load it into Neo4j afterwards.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Write nothing, say what it takes.")] = False,
    json: Json = False,
) -> None:
    """Make a run folder from a model and its checkpoints.

    It holds the weights, strengths and layers of every epoch.

    Finished epochs are not done twice, so the same command goes on where it stopped.
    """
    from cntgraph import runs

    began = time.perf_counter()
    module = load_model(model)
    sources: Any = checkpoints[0] if len(checkpoints) == 1 else checkpoints
    stored = tuple(part.strip() for part in measures.split(",") if part.strip())
    given: Any = {"to": to, "name": name or None, "measures": stored, "trust": trust}
    given["shuffles"] = shuffles
    if trust:
        note(f"trusted: {' '.join(checkpoints)}")
    if plan:
        with aside():
            planned = runs.export_plan(module, sources, example(input), **given)
        _tell_plan(planned, json=json)
        return
    given |= {"device": device or None, "replace": replace, "strict": strict}
    with aside():
        run = runs.export(module, sources, example(input), **given)
    done = _summary(run, time.perf_counter() - began)
    for said in done["notes"]:
        note(f"note: {said}")
    if load:
        from cntgraph.cli.database import loaded

        done["loaded"] = loaded([to])[0]
    if json:
        print_json(done)
    else:
        epochs = done["epochs"]
        note(
            f"{to}: {_counted(len(epochs), 'epoch')}, {done['neurons']:,} neurons and "
            f"{done['links']:,} links each, {done['seconds']:.1f} s"
        )


def _tell_plan(planned: ExportPlan, *, json: bool) -> None:
    values = asdict(planned)
    if json:
        print_json(values)
        return
    each = {"neurons": f"{planned.neurons:,}", "links": f"{planned.links:,} (derived, not stored)"}
    answer(
        {
            "folder": planned.path,
            "epochs to do": ", ".join(map(str, planned.epochs)) or "none",
            "epochs done": ", ".join(map(str, planned.finished)) or "none",
            **each,
            "bytes": size(planned.bytes),
            "seconds": f"about {planned.seconds:.1f}",
        }
    )


def _summary(run: Run, seconds: float) -> dict[str, Any]:
    from cntgraph.runs.manifest import read_receipt

    facts = run.manifest.network
    sources = [read_receipt(run.path, epoch).document["source"] for epoch in run.epochs["epoch"]]
    return {
        "run": run.name,
        "path": str(run.path),
        "epochs": [int(epoch) for epoch in run.epochs["epoch"]],
        "neurons": facts["neurons"],
        "links": facts["links"],
        "notes": list(dict.fromkeys(n for source in sources if source for n in source["notes"])),
        "seconds": seconds,
    }


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def layers(
    run: RunFolder,
    epoch: Annotated[
        str, typer.Option(metavar="N", help="One epoch alone: a number, first or last.")
    ] = "",
    json: Json = False,
) -> None:
    """Fluctuation and weight statistics of every layer and epoch."""
    from cntgraph.runs import open_run

    opened = open_run(run)
    found = opened.layers()
    if epoch:
        found = found[found["epoch"] == epoch_of(opened, epoch)]
    if json:
        print_json({"run": opened.name, "layers": records(found)})
        return
    first = ["epoch", "layer", "size", "fluctuation", "weight_std", "strength_mean", "weight_mean"]
    table(found[first + [name for name in found.columns if name not in first]])


def graph(
    run: RunFolder,
    epoch: Annotated[
        str, typer.Option(metavar="N", help="A number, first or last.", show_default=False)
    ],
    to: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="It ends in .graphml, .parquet, .csv or .pickle.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Write the weighted digraph of one epoch to a file.

    graphml and pickle hold an igraph graph with strengths and measures at its vertices; parquet
    and csv a row per link: source, target, weight, kind, parameter, element.
    """
    from cntgraph.runs import open_run

    if to.suffix not in _GRAPHS:
        raise InputRefused(
            f"{to} has an unknown suffix {to.suffix!r}",
            why="the suffix says the format",
            fix=f"give a file that ends in {', '.join(_GRAPHS[:4])}",
        )
    opened = open_run(run)
    number = epoch_of(opened, epoch)
    network = opened.network(number)
    with beside(to) as part:
        if to.suffix in (".parquet", ".csv"):
            _write_links(network, part, to.suffix)
        else:
            _write_igraph(opened, number, part, to.suffix)
    neurons, links, written = network.neuron_count, network.link_count, to.stat().st_size
    if json:
        document = {"run": opened.name, "epoch": number, "file": str(to), "neurons": neurons}
        print_json({**document, "links": links, "bytes": written})
    else:
        note(f"{to}: epoch {number}, {neurons:,} neurons, {links:,} links, {size(written)}")


def epoch_of(run: Run, text: str) -> int:
    """The epoch that is meant by a number, ``first`` or ``last``."""
    known = [int(epoch) for epoch in run.epochs["epoch"]]
    named = {str(epoch): epoch for epoch in known}
    if known:
        named |= {"first": known[0], "last": known[-1]}
    if text not in named:
        held = ", ".join(map(str, known)) if known else "none yet"
        raise InputRefused(
            f"run {run.name!r} has no epoch {text}",
            why=f"it holds {held}",
            fix="--epoch last" if known else "export a checkpoint into it first",
        )
    return named[text]


def _write_links(network: Network, part: Path, suffix: str) -> None:
    """Batch after batch: the links of one block at a time, never all of them."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    links = network.links()
    first = next(links, None)
    if first is None:
        raise InputRefused("this network has no trained links", fix="look at: cntgraph layers RUN")
    open_file: Any = pa.csv.CSVWriter
    if suffix == ".parquet":

        def open_file(path: str, schema: pa.Schema) -> Any:
            return pa.parquet.ParquetWriter(
                path, schema, compression="zstd", use_dictionary=["kind", "parameter"]
            )

    with open_file(str(part), first.schema) as writer:
        writer.write_batch(first)
        for batch in links:
            writer.write_batch(batch)


def _write_igraph(run: Run, epoch: int, part: Path, suffix: str) -> None:
    import igraph

    graph = run.to_igraph(epoch)
    if suffix != ".graphml":
        graph.write_pickle(str(part))
        return
    try:
        graph.write_graphml(str(part))
    except igraph.InternalError as error:
        raise InputRefused(
            f"epoch {epoch} of {run.name!r} cannot be written as GraphML",
            why=str(error).splitlines()[0],
            fix="--to FILE.pickle keeps names of any characters",
        ) from error
