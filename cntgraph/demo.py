"""The whole path on real data in two minutes: train, export, load, ask, check, draw.

Two small networks learn the handwritten digits of scikit-learn and keep a checkpoint of every
epoch; every link of every epoch goes into Neo4j, and the strengths of the run folders and of
Neo4j are held against igraph's. This module alone imports PyTorch at once: it defines models.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from cntgraph.errors import InputRefused
from cntgraph.runs import Recorder, Run, open_run

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from cntgraph.database import Database

__all__ = ["Agreement", "Answer", "Demo", "cnn", "demo", "mlp"]

EPOCHS = 10
SHAPE = (1, 1, 8, 8)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """One question that was asked of Neo4j, and what came back."""

    title: str
    name: str
    parameters: dict[str, Any]
    rows: pd.DataFrame = field(repr=False)

    @property
    def command(self) -> str:
        """The same question on the command line."""
        given = [f"{name}={value}" for name, value in self.parameters.items()]
        return shlex.join(["cntgraph", "query", self.name, *given])


@dataclass(frozen=True)
class Agreement:
    """How far strengths are from igraph's, over every neuron of every epoch."""

    epochs: int
    strengths: int
    largest_difference: float
    largest_strength: float

    @property
    def agrees(self) -> bool:
        """True within the rounding of the same sum taken in another order."""
        return self.largest_difference <= 1e-12 * max(1.0, self.largest_strength)

    def __str__(self) -> str:
        return (
            f"igraph {'agrees' if self.agrees else 'DISAGREES'}: {self.epochs} epochs, "
            f"{self.strengths:,} strengths, largest difference {self.largest_difference:.1g}"
        )


@dataclass(frozen=True)
class Demo:
    """What the demonstration made and found."""

    runs: tuple[Path, ...]
    answers: tuple[Answer, ...]
    agreement: Agreement
    figure: Path
    seconds: float


def demo(folder: Path, *, epochs: int | None = None, say: Say = print) -> Demo:
    """Train, record, load, ask, check and draw; the runs go to ``folder/mlp`` and ``folder/cnn``.

    ``say`` is told what happens while it happens. Runs that are there and whole are used again,
    and what is loaded is not loaded twice. The server is the one that `connect` finds.

    Raises `InputRefused` where a folder holds something else, `DatabaseError` without a server.
    """
    from cntgraph.database import connect
    from cntgraph.views import strength_figure

    began = time.perf_counter()
    epochs = EPOCHS if epochs is None else epochs
    runs = [_recorded(name, folder, epochs, say) for name in ("mlp", "cnn")]
    say("looking for Neo4j; without NEO4J_URI this machine's own, fetched once")
    with connect() as database:
        for run in runs:
            _load(database, run, say)
        answers = tuple(_asked(database, runs, epochs))
        say("comparing the strengths of run folders and of Neo4j with igraph's")
        agreement = _compared(database, runs)
    figure = folder / "demo.png"
    strength_figure(runs[0]).savefig(figure, dpi=150)
    paths = tuple(run.path for run in runs)
    return Demo(paths, answers, agreement, figure, time.perf_counter() - began)


# -- two models


class MLP(nn.Module):
    """64 - 128 - 64 - 10 with rectified linear units."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 128), nn.Linear(128, 64), nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """The scores (batch, 10) of images (batch, 1, 8, 8)."""
        x = torch.relu(self.fc1(image.flatten(1)))
        return self.fc3(torch.relu(self.fc2(x)))  # type: ignore[no-any-return]


class CNN(nn.Module):
    """Padded convolutions with batch norms, max pooling, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.pool, self.fc = nn.MaxPool2d(2), nn.Linear(8 * 4 * 4, 10)

    def forward(self, image: Tensor) -> Tensor:
        """The scores (batch, 10) of images (batch, 1, 8, 8)."""
        x = self.pool(torch.relu(self.bn1(self.conv1(image))))
        y = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(x + self.bn3(self.conv3(y)))
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


def mlp() -> nn.Module:
    """The untrained multilayer perceptron of the demonstration."""
    return MLP()


def cnn() -> nn.Module:
    """The untrained convolutional network of the demonstration."""
    return CNN()


# -- trained and recorded


def _recorded(name: str, folder: Path, epochs: int, say: Say) -> Run:
    """The run of one network: the one that is there if it is whole, else trained now."""
    to, called = folder / name, f"demo-{name}"
    if (to / "manifest.json").exists():
        run = _ours(to, called)
        if set(range(epochs + 1)) <= set(run.epochs["epoch"]):
            run.check()
            say(f"{name}: {len(run.epochs)} epochs are in {to} already")
            return run
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(0)
        model = {"mlp": mlp, "cnn": cnn}[name]()
        options: Any = {"to": to, "name": called, "measures": ("pagerank",), "replace": True}
        with Recorder(model, SHAPE, **options) as recorder:
            for epoch, metrics in _training(model, epochs):
                recorder.snapshot(epoch, **metrics)
                shown = "  ".join(f"{key} {value:.3f}" for key, value in metrics.items())
                say(f"{name}: epoch {epoch:>2}  {shown}")
    return open_run(to)


def _ours(to: Path, called: str) -> Run:
    """The run in a folder, if the demonstration made it."""
    run = open_run(to)
    if run.name != called:
        raise InputRefused(
            f"{to} holds the run {run.name!r}",
            why=f"the demonstration replaces a run of its own, {called!r}, and no other",
            fix="cntgraph demo --dir FOLDER",
        )
    return run


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks as small as these learn several times faster without threads to wait for."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _training(model: nn.Module, epochs: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Epoch 0 is the untrained model; what is measured is measured on held-out images."""
    images, digits, held_out, truth = _digits()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    yield 0, _measured(model, held_out, truth)
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in torch.split(torch.randperm(len(images)), 64):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), digits[batch])
            torch.autograd.backward(loss)
            optimiser.step()
        yield epoch, _measured(model, held_out, truth)


def _digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (n, 1, 8, 8) in 0..1 and their digits to learn from, and a fifth held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16
    digits = torch.from_numpy(data.target)
    held_out, learn = torch.randperm(len(images)).tensor_split([len(images) // 5])
    return images[learn], digits[learn], images[held_out], digits[held_out]


def _measured(model: nn.Module, images: Tensor, digits: Tensor) -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        scores = model(images)
    loss = nn.functional.cross_entropy(scores, digits)
    accuracy = (scores.argmax(1) == digits).double().mean()
    return {"accuracy": float(accuracy), "loss": float(loss)}


# -- loaded and asked


def _load(database: Database, run: Run, say: Say) -> None:
    facts = run.manifest.network
    say(f"{run.name}: loading {len(run.epochs)} epochs of {facts['links']:,} links")
    progress = _quarters(run.name, say)
    try:
        report = database.load(run, progress=progress)
    except InputRefused:  # what bears this name is an older demonstration's
        report = database.load(run, replace=True, progress=progress)
    say(f"{run.name}: {report.links:,} links written in {report.seconds:.1f} s")


def _quarters(name: str, say: Say) -> Callable[[int, int], None]:
    """A line after every quarter of the links."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if total and 4 * done // total > told:
            told = 4 * done // total
            say(f"{name}: {done:,} of {total:,} links")

    return progress


def _asked(database: Database, runs: list[Run], last: int) -> Iterator[Answer]:
    """Which neurons are strong, which became so, and what a classical measure says of them."""

    def ask(title: str, name: str, **parameters: Any) -> Answer:
        return Answer(title, name, parameters, database.query(name, **parameters))

    mlp, cnn = (run.name for run in runs)
    strong = "The strongest neurons of the multilayer perceptron after training"
    yield ask(strong, "strong_neurons", run=mlp, epoch=last, top=5)
    rose = "Its neurons whose strength changed most while it learned"
    yield ask(rose, "risers", run=mlp, first=0, last=last, top=5)
    beside = "Strength beside PageRank in the convolutional network"
    yield ask(beside, "compare_measures", run=cnn, epoch=last, top=5)


def _compared(database: Database, runs: list[Run]) -> Agreement:
    """Every strength of every epoch: igraph's against the run's, and against sums in Cypher."""
    import numpy as np

    epochs = strengths = 0
    difference = largest = 0.0
    for run in runs:
        for epoch in run.epochs["epoch"]:
            graph = run.network(epoch).to_igraph()
            expected = np.asarray(graph.strength(mode="all", weights="weight"))
            stored = run.neurons(epoch)["strength"].to_numpy()
            for found in (stored, _summed(database, run.name, int(epoch))):
                difference = max(difference, _distance(found, expected))
            largest = max(largest, float(abs(expected).max()))
            epochs, strengths = epochs + 1, strengths + len(expected)
    return Agreement(epochs, strengths, difference, largest)


def _distance(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """The largest difference; infinite where a number is missing."""
    if found.shape != expected.shape:
        return math.inf
    largest = float(abs(found - expected).max())
    return math.inf if math.isnan(largest) else largest


def _summed(database: Database, run: str, epoch: int) -> NDArray[np.float64]:
    """The weights of every neuron's links, summed by Neo4j, in the order of neuron ids."""
    rows = database.cypher(
        """
        MATCH (:Run {name: $run})-[:HAS_SNAPSHOT]->(shot:Snapshot {epoch: $epoch})
        MATCH (n:NeuronState {run: shot.run, epoch: shot.epoch})
        CALL (n) { OPTIONAL MATCH (n)-[link:LINK]-() RETURN sum(link.weight) AS strength }
        RETURN n.neuron AS neuron, strength ORDER BY neuron
        """,
        run=run,
        epoch=epoch,
    )
    strengths: NDArray[np.float64] = rows["strength"].to_numpy(dtype="float64")
    return strengths
