"""Loading over Bolt beside other ways to write the same links, on one server in one run.

    python benchmarks/loading.py             all of it, written to benchmarks/loading.md
    python benchmarks/loading.py small       a tenth of it, printed

Each way creates the same neurons and links, in turns; counts and sums are compared afterwards.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from run import MAPS, machine
from torch import nn

import cntgraph as cnt
from cntgraph.database import server as local
from cntgraph.database.jars import user_folder

RESULTS = Path(__file__).parent / "loading.md"
MERGE = MAPS.replace("CREATE (a)-[:PEER {weight: r.weight}]->(b)", "MERGE (a)-[k:PEER]->(b)") + (
    "SET k.weight = r.weight"
)
BATCH = 10_000


def exported(to: Path, sizes: tuple[int, ...], epochs: int) -> cnt.Run:
    torch.manual_seed(0)
    layers = [each for a, b in itertools.pairwise(sizes) for each in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    with cnt.Recorder(model, (1, sizes[0]), to=to) as recorder:
        for epoch in range(epochs):
            for parameter in model.parameters():
                parameter.data.normal_()
            recorder.snapshot(epoch)
    return cnt.open_run(to)


def rows_of(run: cnt.Run) -> list[dict[str, float]]:
    batches = (b.to_pandas()[["source", "target", "weight"]] for b in run.network(0).links())
    return [row for batch in batches for row in batch.to_dict("records")]


def peer(db: cnt.Database, text: str, neurons: int, rows: list[dict[str, float]]) -> float:
    """Seconds of a loader of maps; its links are compared and deleted."""
    driver = db.connection.driver
    one = "CREATE CONSTRAINT peer IF NOT EXISTS FOR (n:PeerNeuron) REQUIRE n.id IS UNIQUE"
    driver.execute_query(one)
    begun = time.perf_counter()
    driver.execute_query("UNWIND $ids AS i CREATE (:PeerNeuron {id: i})", ids=list(range(neurons)))
    for first in range(0, len(rows), BATCH):
        driver.execute_query(text, rows=rows[first : first + BATCH])
    seconds = time.perf_counter() - begun
    counted = "MATCH ()-[r:PEER]->() RETURN count(r) AS n, sum(r.weight) AS s"
    (found,) = driver.execute_query(counted).records
    total = sum(row["weight"] for row in rows)
    assert found["n"] == len(rows)
    assert abs(found["s"] - total) < 1e-6 * len(rows)
    with driver.session() as session:
        gone = "MATCH (n:PeerNeuron) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 100 ROWS"
        session.run(gone).consume()
    return seconds


def ours(db: cnt.Database, run: cnt.Run, sessions: int) -> float:
    report = db.load(run, sessions=sessions)
    assert report.links == len(report.epochs) * run.network(0).link_count
    db.delete(run)
    return report.seconds


def in_turns(work: dict[str, Callable[[], float]], turns: int) -> dict[str, float]:
    """Median seconds of each; the first turn warms the server up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn, (name, call) in itertools.product(range(turns + 1), work.items()):
        print(f"turn {turn}: {name}", file=sys.stderr)
        spent = call()
        if turn:
            seconds[name].append(spent)
    return {name: statistics.median(each) for name, each in seconds.items()}


def ways(db: cnt.Database, folder: Path, sizes: tuple[int, ...], turns: int) -> list[str]:
    """One epoch in one session beside other loaders, three sessions beside one."""
    run, many = exported(folder / "one", sizes, 1), exported(folder / "many", sizes, 6)
    rows, neurons = rows_of(run), run.network(0).neuron_count
    work = {
        "maps": lambda: peer(db, MAPS, neurons, rows),
        "merge": lambda: peer(db, MERGE, neurons, rows),
        "cntgraph": lambda: ours(db, run, 1),
        "one": lambda: ours(db, many, 1),
        "three": lambda: ours(db, many, 3),
    }
    found = in_turns(work, turns)
    return [
        row(f"{len(rows):,} links, UNWIND of maps", found["maps"], found["cntgraph"], 1.4),
        row(f"{len(rows):,} links, MERGE", found["merge"], found["cntgraph"], 3.5),
        row(f"6 epochs of {len(rows):,} links, one session", found["one"], found["three"], 1.6),
    ]


def row(what: str, theirs: float, own: float, least: float) -> str:
    mark = "" if theirs / own >= least else " **missed**"
    return f"| {what} | {theirs:.1f} s | {own:.1f} s | {theirs / own:.2f}x{mark} | {least}x |"


def growth(db: cnt.Database, folder: Path, epochs: list[int], sizes: tuple[int, ...]) -> list[str]:
    """The rate of one load of few and of many links, and the client's memory meanwhile."""
    told = []
    for number in epochs:
        run = exported(folder / f"epochs {number}", sizes, number)
        links = number * run.network(0).link_count
        begun, peak = resident(), Peak()
        with peak:
            seconds = ours(db, run, 3)
        told.append(
            f"| {links:,} | {links / seconds / 1e3:.0f} k/s | {begun / 2**20:.0f} MB "
            f"| {(peak.bytes - begun) / 2**20:.0f} MB |"
        )
    return told


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class Peak:
    """The most memory this process held within a block, looked at ten times a second."""

    def __enter__(self) -> None:
        self.bytes, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self) -> None:
        while not self.over.wait(0.1):
            self.bytes = max(self.bytes, resident())

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def main() -> None:
    small = sys.argv[1:] == ["small"]
    sizes = (196, 128, 64, 10) if small else (784, 512, 256, 10)
    epochs = [1, 4] if small else [1, 10, 19]
    with tempfile.TemporaryDirectory() as name:
        os.environ["CNTGRAPH_CACHE"] = str(user_folder("cache"))
        os.environ["CNTGRAPH_HOME"] = f"{name}/home"
        started = local.start()
        try:
            with cnt.connect(started.uri, user=started.user, password=started.password) as db:
                ratios = ways(db, Path(name), sizes, 1 if small else 3)
                rates = growth(db, Path(name), epochs, sizes)
        finally:
            local.stop()
    text = "\n".join(
        [
            f"# Loading over Bolt\n\n`python {' '.join(['benchmarks/loading.py', *sys.argv[1:]])}`",
            f"on {machine()}. Self-check included.\n",
            "| peer | peer's time | cntgraph | ratio | wanted |\n| --- | --- | --- | --- | --- |",
            *ratios,
            "\n| links of one load, three sessions | rate | client before | more at its peak |",
            "| --- | --- | --- | --- |",
            *rates,
        ]
    )
    print(text)
    if not small:
        RESULTS.write_text(text + "\n")


if __name__ == "__main__":
    main()
