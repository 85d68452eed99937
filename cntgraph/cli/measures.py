"""Verbs that measure: by name over the epochs of a run, and beside strength."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import note, print_json, records, save, size, table, write
from cntgraph.cli.parameters import literal, pair
from cntgraph.cli.runs import RunFolder, epoch_of
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.network import Network
    from cntgraph.runs import Run

__all__ = ["compare", "measure", "measures"]

_SHOWN = 20  # neurons that a terminal is shown
_WIDTH = 100
_FILES = {".csv": "csv", ".parquet": "parquet", ".json": "json"}
_OWN = ("sign", "length")

Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME...", help="Measures; cntgraph measures lists them.", show_default=False
    ),
]
Epoch = Annotated[str, typer.Option(metavar="N", help="One epoch alone: a number, first or last.")]
Sign = Annotated[str, typer.Option(metavar="SIGN", help="absolute, signed, positive or negative.")]
Length = Annotated[
    str,
    typer.Option(metavar="LENGTH", help="How long a link is: inverse, log, weight or unit."),
]


def measure(  # noqa: PLR0913, PLR0917 - a verb's options are its parameters
    run: RunFolder,
    names: Names,
    epoch: Epoch = "",
    sign: Sign = "absolute",
    length: Length = "inverse",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="An option of the measure: damping=0.5, samples=500, hours=8.",
        ),
    ] = None,
    links: Annotated[
        str, typer.Option(metavar="CHOICE", help="all, top:K per neuron, backbone:ALPHA, above:X.")
    ] = "all",
    top: Annotated[
        int | None,
        typer.Option(metavar="K", min=1, help="The K neurons of each epoch with most of NAME."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to: .csv, .parquet or .json.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Compute nothing, say what it takes.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure the epochs of a run: PageRank, betweenness and so on.

    A row per neuron, pair of layers or network, and epoch. Of a table of neurons a terminal shows
    the first of the last epoch; --top, --out, --json and pipes have what they ask for.
    """
    from cntgraph.runs import open_run

    form = _form(out)
    if top is not None:
        _require_neurons(names[0])
    opened = open_run(run)
    given = {**_options(option), "sign": sign, "length": length}
    view = _View(opened, links)
    numbers = view.numbers if not epoch else [epoch_of(opened, epoch)]
    if plan:
        _tell_plan(view, numbers, names, given, json=json)
        return
    found = _measured(view, numbers, names, given)
    if top is not None:
        found = _first(found, names[0], top)
    if out is not None:
        save(found, out, form)
        note(f"{out}: {len(found):,} rows")
    if json:
        print_json({"run": opened.name, "measures": list(names), "rows": records(found)})
    elif out is None:
        table(_for_reading(found, names[0]) if top is None else found)


def measures(json: Json = False) -> None:
    """List the measures: what they say, and by which conventions."""
    from cntgraph.measures import measures as listing
    from cntgraph.measures.catalogue import in_order

    if json:
        print_json({"measures": records(listing())})
        return
    known = in_order()
    name_width = max(len(m.name) for m in known)
    level_width = max(len(m.level) for m in known)
    for one in known:
        head = f"{one.name:<{name_width}}  {one.level:<{level_width}}  "
        conventions = [f"sign {', '.join(one.signs)}"]
        if one.lengths:
            conventions.append(f"length {', '.join(one.lengths)}")
        if one.options:
            conventions.append(", ".join(f"{k}={v}" for k, v in one.options.items()))
        _tell(head, one.summary)
        _tell(" " * len(head), "; ".join([*conventions, re.split("[:,;]", one.cost.text)[0]]))


def compare(
    run: RunFolder,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", help="Measures; by default those stored.", show_default=False
        ),
    ] = None,
    epoch: Epoch = "",
    sign: Sign = "absolute",
    length: Length = "inverse",
    top: Annotated[
        int, typer.Option(metavar="K", min=1, help="How many neurons of a layer are its top.")
    ] = 20,
    json: Json = False,
) -> None:
    """Correlation of measures with strength, by layer and epoch.

    top_shared is the share of the top neurons of a layer that both name.
    """
    from cntgraph.comparing import compare as beside_strength
    from cntgraph.runs import open_run

    opened = open_run(run)
    epochs = [epoch_of(opened, epoch)] if epoch else None
    found = beside_strength(
        opened, *(names or ()), epochs=epochs, sign=sign, length=length, top=top
    )
    if json:
        print_json({"run": opened.name, "rows": records(found)})
    else:
        table(found)


class _View:
    """The epochs of a run, each with the links that were chosen."""

    def __init__(self, run: Run, links: str, numbers: list[int] | None = None) -> None:
        self.run, self.links = run, links
        self.numbers = [int(e) for e in run.epochs["epoch"]] if numbers is None else numbers

    @property
    def epochs(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame({"epoch": self.numbers})

    def network(self, epoch: int) -> Network:
        network = self.run.network(epoch)
        return network if self.links == "all" else network.filtered(self.links)

    def of(self, numbers: list[int]) -> _View:
        return _View(self.run, self.links, numbers)


def _measured(
    view: _View, numbers: list[int], names: list[str], given: dict[str, Any]
) -> pd.DataFrame:
    from cntgraph.measures import measure as measured

    if given["length"] == "log":  # its unit is the largest weight of all epochs
        found = measured(view, *names, **given)
        return found[found["epoch"].isin(numbers)].reset_index(drop=True)
    return measured(view.of(numbers), *names, **given)


def _tell_plan(
    view: _View, numbers: list[int], names: list[str], given: dict[str, Any], *, json: bool
) -> None:
    from cntgraph.measures import plan as planned

    if not numbers:
        raise InputRefused("the run has no epochs", fix="export a checkpoint into it first")
    given = {key: value for key, value in given.items() if key != "hours"}
    found = planned(view.network(numbers[-1]), *names, **given)
    seconds = float(found["seconds"].sum()) * len(numbers)
    if json:
        document = {"run": view.run.name, "epochs": numbers, "seconds": seconds}
        print_json({**document, "measures": records(found)})
        return
    shown = found.assign(
        links=found["links"].map("{:,}".format),
        seconds=found["seconds"].map("about {:.1g}".format),
        bytes=found["bytes"].map(size),
    )
    table(shown.rename(columns={"seconds": "seconds an epoch"}))
    note(f"{len(numbers)} epochs, about {seconds:,.0f} s in all; nothing was computed")


def _first(found: pd.DataFrame, name: str, count: int) -> pd.DataFrame:
    """The rows of each epoch with most of a measure, the largest first."""
    import numpy as np

    from cntgraph.comparing.values import by_size

    sizes = by_size(name, found[name].to_numpy(np.float64))
    order = np.lexsort((-sizes, found["epoch"].to_numpy()))  # what is no number comes last
    return found.iloc[order].groupby("epoch", sort=False).head(count).reset_index(drop=True)


def _require_neurons(name: str) -> None:
    from cntgraph.measures.catalogue import MEASURES

    if name in MEASURES and MEASURES[name].level != "neuron":
        raise typer.BadParameter(
            f"{name} is per {MEASURES[name].level}: there are no neurons to choose from",
            param_hint="--top",
        )


def _for_reading(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """What a terminal has room for: a table of neurons begins with those that have most of it."""
    if "neuron" not in found or not sys.stdout.isatty() or len(found) <= _SHOWN:
        return found
    last = found["epoch"].iloc[-1]
    shown = _first(found[found["epoch"] == last], name, _SHOWN)
    note(
        f"{len(shown)} of {len(found):,} rows: those of epoch {last} with most {name}; "
        "--top K for others, --out FILE.csv or --json for all"
    )
    return shown


def _form(out: Path | None) -> str:
    if out is None:
        return ""
    if out.suffix in _FILES:
        return _FILES[out.suffix]
    raise InputRefused(
        f"{out} has an unknown suffix {out.suffix!r}",
        why="the suffix says the format",
        fix=f"give a file that ends in {', '.join(_FILES)}",
    )


def _options(texts: list[str] | None) -> dict[str, Any]:
    found = {}
    for key, value in map(pair, texts or []):
        if key in _OWN:
            raise typer.BadParameter(f"{key} has an option of its own: --{key} {value}")
        found[key] = literal(value)
    return found


def _tell(head: str, text: str) -> None:
    lines = textwrap.wrap(text, _WIDTH - len(head), break_long_words=False) or [""]
    write(f"{head}{lines[0]}\n")
    for line in lines[1:]:
        write(f"{' ' * len(head)}{line}\n")
