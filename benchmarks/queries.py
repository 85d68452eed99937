"""How long the library's answers take on a warm local server, its rows checked against the run.

    python benchmarks/queries.py             two runs loaded, written to benchmarks/queries.md
    python benchmarks/queries.py small       the same with small networks, printed

A perceptron of 1,562 neurons in 20 epochs, one of them with its links; a convolutional network of
191,498 neurons in 10 epochs without links. Times are of the wall, of `db.query` as a user calls
it, the DataFrame made.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from torch import nn

import cntgraph as cnt
from cntgraph.database import server as local
from cntgraph.database.jars import user_folder

RESULTS = Path(__file__).parent / "queries.md"
WARM, TURNS = 10, 50


@dataclass(frozen=True)
class Scale:
    """How large the two networks are."""

    sizes: tuple[int, int, int, int]
    epochs: int
    side: int
    channels: int
    unrolled_epochs: int


FULL = Scale((784, 512, 256, 10), 20, 32, 64, 10)
SMALL = Scale((64, 32, 16, 10), 4, 8, 4, 2)


def perceptron(sizes: tuple[int, int, int, int]) -> nn.Module:
    a, b, c, d = sizes
    return nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.Linear(b, c), nn.ReLU(), nn.Linear(c, d))


def convolutional(side: int, channels: int) -> nn.Module:
    c, last = channels, 2 * channels * (side // 4) ** 2
    return nn.Sequential(
        *(nn.Conv2d(3, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(c, 2 * c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(last, 10)),
    )


def exported(model: nn.Module, example: tuple[int, ...], epochs: int, to: Path) -> cnt.Run:
    """Random weights, others at every epoch: what a query costs does not depend on them."""
    torch.manual_seed(0)
    with cnt.Recorder(model, example, to=to) as recorder:
        for epoch in range(epochs):
            for parameter in model.parameters():
                parameter.data.normal_()
            recorder.snapshot(epoch)
    return cnt.open_run(to)


def strongest(run: cnt.Run, epoch: int, top: int, layer: str | None = None) -> pd.DataFrame:
    """The rows as pandas finds them in the run."""
    table = run.neurons(epoch)
    if layer is not None:
        table = table[table["layer"] == layer]
    order = np.lexsort((table["neuron"], -table["strength"].abs()))
    columns = ["layer", "index", "neuron", "strength", "strength_in", "strength_out"]
    return table.iloc[order[:top]][columns].reset_index(drop=True)


def check(db: cnt.database.Database, run: cnt.Run) -> int:
    """Compare the rows of every epoch, and of every layer of one, and count them."""
    checked = 0
    layers = [layer.name for layer in run.wiring.layers]
    asked = [(epoch, None) for epoch in run.epochs["epoch"]] + [(0, name) for name in layers]
    for epoch, layer in asked:
        found = db.query("strong_neurons", run=run.name, epoch=int(epoch), layer=layer)
        expected = strongest(run, int(epoch), 20, layer)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
        checked += len(found)
    return checked


def median(db: cnt.database.Database, name: str, **given: Any) -> float:
    """Milliseconds of a query, warm."""
    times = []
    for turn in range(WARM + TURNS):
        begun = time.perf_counter()
        db.query(name, **given)
        if turn >= WARM:
            times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def measured(db: cnt.database.Database, mlp: cnt.Run, cnn: cnt.Run) -> list[str]:
    hidden = mlp.wiring.layers[1].name
    unrolled = cnn.wiring.layers[1].name
    one: dict[str, Any] = {"run": mlp.name, "epoch": 0}
    other: dict[str, Any] = {"run": cnn.name, "epoch": 5 % len(cnn.epochs)}
    neuron = {"layer": hidden, "index": 7}
    asked: list[tuple[cnt.Run, str, dict[str, Any], str]] = [
        (mlp, "strong_neurons", {**one, "epoch": 3}, "< 25"),
        (mlp, "strong_neurons", {**one, "epoch": 3, "layer": hidden}, ""),
        (cnn, "strong_neurons", other, "< 60"),
        (cnn, "strong_neurons", {**other, "layer": unrolled}, ""),
        (mlp, "strength_over_epochs", {"run": mlp.name, **neuron}, ""),
        (cnn, "strength_over_epochs", {"run": cnn.name, "layer": unrolled, "index": 7}, ""),
        (mlp, "risers", {"run": mlp.name, "first": 0, "last": 3}, ""),
        (mlp, "rank_stability", {"run": mlp.name}, ""),
        (mlp, "layer_fluctuation", {"run": mlp.name}, ""),
        (mlp, "neighbourhood", {**one, **neuron}, ""),
        (mlp, "strongest_links", one, ""),
        (mlp, "runs", {}, ""),
    ]
    rows = []
    for run, name, given, goal in asked:
        say(f"{name} {run.name}")
        words = [name, *(f"{key}={value}" for key, value in given.items() if key != "run")]
        found = median(db, name, **given)
        rows.append(f"| {run.name} | {' '.join(words)} | {found:.1f} | {goal} |")
    return rows


def loaded(db: cnt.database.Database, run: cnt.Run) -> str:
    begun = time.perf_counter()
    if run.name == "mlp":
        db.load(run, epochs=[0])
    db.load(run, links="none")
    seconds = time.perf_counter() - begun
    say(f"{run.name} loaded in {seconds:.0f} s")
    return (
        f"{run.name}: {run.wiring.neuron_count:,} neurons in {len(run.epochs)} epochs, "
        f"loaded in {seconds:.0f} s"
    )


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def report(folder: Path, scale: Scale) -> str:
    from run import machine

    say("exporting")
    mlp = exported(perceptron(scale.sizes), (1, scale.sizes[0]), scale.epochs, folder / "mlp")
    model = convolutional(scale.side, scale.channels)
    example = (1, 3, scale.side, scale.side)
    cnn = exported(model, example, scale.unrolled_epochs, folder / "cnn")
    server = local.start(heap="2g", page_cache="1g")
    try:
        with cnt.connect(server.uri, user=server.user, password=server.password) as db:
            told = [loaded(db, run) for run in (mlp, cnn)]
            checked = check(db, mlp) + check(db, cnn)
            rows = measured(db, mlp, cnn)
    finally:
        local.stop()
    return "\n".join(
        [
            "# How long the library's answers take",
            "",
            f"`python benchmarks/queries.py` on {machine()}. Neo4j {server.version}, "
            "a local server with 2 GB of heap, started and loaded in the same run.",
            "",
            *(f"- {line}" for line in told),
            f"- {checked:,} rows of `strong_neurons` equal to those of the run's own DataFrame",
            "",
            f"Median of {TURNS} calls after {WARM}, in milliseconds.",
            "",
            "| run | query | median | goal |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def main() -> None:
    small = sys.argv[1:] == ["small"]
    os.environ["CNTGRAPH_CACHE"] = str(user_folder("cache"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CNTGRAPH_HOME"] = folder
        text = report(Path(folder), SMALL if small else FULL)
    if small:
        print(text)
    else:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
