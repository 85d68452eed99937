"""Loading beside other ways to bring the same links into one server, all in one run.

    python benchmarks/loading.py             all of it, written to benchmarks/loading.md as it goes
    python benchmarks/loading.py small       every section with few links, printed

Sections: loaders over Bolt in turns; the rate and the memory of a load as it grows; the local
database rebuilt by Neo4j's own importer beside the same links over Bolt. Counts, sums of weights
and the strongest neurons are compared in the same run. Times are of the wall, and each begins when
all that came before is on the disk. What is measured in turns is the median after two turns that
are not counted. The importer is measured after a rebuild that is not counted, so that its jars were
read before; beside it stand loads into an empty database, by a server that was just started.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cntgraph as cnt
from cntgraph.database import offline
from cntgraph.database import server as local
from cntgraph.database.jars import user_folder

RESULTS = Path(__file__).parent / "loading.md"
BATCH = 10_000
MAPS = """
UNWIND $rows AS r
MATCH (a:PeerNeuron {id: r.source}) MATCH (b:PeerNeuron {id: r.target})
CREATE (a)-[:PEER {weight: r.weight}]->(b)
"""
MERGE = """
UNWIND $rows AS r
MATCH (a:PeerNeuron {id: r.source}) MATCH (b:PeerNeuron {id: r.target})
MERGE (a)-[k:PEER]->(b) SET k.weight = r.weight
"""


@dataclass(frozen=True)
class Scale:
    """How large the runs of the sections are."""

    one: tuple[int, ...]  # layers of the network of the first and the last section
    turns: int
    slim: tuple[int, ...]  # of the second
    growing: tuple[int, ...]  # its epochs: divisible by three sessions
    rebuilt: tuple[tuple[int, float], ...]  # epochs of the last, and the ratio wanted


FULL = Scale(
    (784, 512, 256, 10), 7, (400, 320, 160, 10), (3, 57), ((10, 1.5), (19, 0.0), (38, 3.0))
)
SMALL = Scale((196, 64, 10), 1, (100, 40, 10), (3, 6), ((2, 0.0), (4, 0.0)))


def exported(to: Path, sizes: Sequence[int], epochs: int) -> cnt.Run:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = [each for a, b in itertools.pairwise(sizes) for each in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    with cnt.Recorder(model, (1, sizes[0]), to=to) as recorder:
        for epoch in range(epochs):
            for parameter in model.parameters():
                parameter.data.normal_()
            recorder.snapshot(epoch)
    return cnt.open_run(to)


def opened() -> cnt.Database:
    """The server, wherever a rebuild has put it."""
    server = local.start()
    return cnt.connect(server.uri, user=server.user, password=server.password)


# -- loaders over Bolt in turns


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
    """Median seconds of each; the first two turns warm the server up."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn, (name, call) in itertools.product(range(-2, turns), work.items()):
        say(f"turn {turn}: {name}")
        os.sync()  # what came before is on the disk
        spent = call()
        if turn >= 0:
            seconds[name].append(spent)
    return {name: statistics.median(each) for name, each in seconds.items()}


def ways(folder: Path, scale: Scale) -> list[str]:
    """One epoch in one session beside other loaders; three epochs in three sessions beside one."""
    run, many = exported(folder / "one", scale.one, 1), exported(folder / "many", scale.one, 3)
    rows, neurons = rows_of(run), run.network(0).neuron_count
    with opened() as db:
        work = {
            "maps": lambda: peer(db, MAPS, neurons, rows),
            "merge": lambda: peer(db, MERGE, neurons, rows),
            "cntgraph": lambda: ours(db, run, 1),
            "one": lambda: ours(db, many, 1),
            "three": lambda: ours(db, many, 3),
        }
        found = in_turns(work, scale.turns)
    return [
        "| peer | peer's time | cntgraph | ratio | wanted |",
        "| --- | --- | --- | --- | --- |",
        ratio(f"{len(rows):,} links, UNWIND of maps", found["maps"], found["cntgraph"], 1.4),
        ratio(f"{len(rows):,} links, MERGE", found["merge"], found["cntgraph"], 3.5),
        ratio(f"3 epochs of {len(rows):,} links, one session", found["one"], found["three"], 1.6),
    ]


def ratio(what: str, theirs: float, own: float, least: float) -> str:
    wanted = f"{least}x" if least else ""
    mark = "" if theirs / own >= least else " **missed**"
    return f"| {what} | {theirs:.1f} s | {own:.1f} s | {theirs / own:.2f}x{mark} | {wanted} |"


# -- the rate and the memory of a load as it grows


def loaded(run: cnt.Run, first: int, last: int, sessions: int = 3) -> tuple[float, float, int]:
    """Seconds, the peak of memory in MB and links of a load in a process of its own."""
    server = local.start()
    environment = {
        **os.environ,
        "NEO4J_URI": server.uri,
        "NEO4J_USERNAME": server.user,
        "NEO4J_PASSWORD": server.password,
    }
    say(f"loading {run.name}, epochs {first} to {last}, sessions: {sessions}")
    os.sync()
    words = [sys.executable, __file__, "load", str(run.path)]
    words += [str(number) for number in (first, last, sessions)]
    done = subprocess.run(words, stdout=subprocess.PIPE, check=True, env=environment)
    seconds, megabytes, links = json.loads(done.stdout)
    return seconds, megabytes, links


def load(path: str, first: str, last: str, sessions: str) -> None:
    """What such a process does, with nothing imported but what a load needs."""
    with cnt.connect() as db:
        report = db.load(path, epochs=range(int(first), int(last) + 1), sessions=int(sessions))
    status = Path("/proc/self/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    assert peak is not None
    assert "torch" not in sys.modules
    print(json.dumps([report.seconds, int(peak[1]) / 1024, report.links]))


def growth(folder: Path, scale: Scale) -> list[str]:
    few, many = scale.growing
    run = exported(folder / "growing", scale.slim, many)
    seconds, memory = [], []
    for _ in range(scale.turns + 1):
        spent, peak, links = loaded(run, 0, few - 1)
        seconds.append(spent)
        memory.append(peak)
        with opened() as db:
            db.delete(run)
    rate = links / statistics.median(seconds[1:])
    spent, peak, total = loaded(run, 0, many - 1)
    fallen = 1 - total / spent / rate
    mark = "" if fallen < 0.15 else " **missed**"
    return [
        "| links, three sessions | rate | fallen by | client's peak of memory (wanted: < 500 MB) |",
        "| --- | --- | --- | --- |",
        f"| {links:,} | {rate / 1e3:.1f} k/s | | {max(memory):.0f} MB |",
        f"| {total:,} | {total / spent / 1e3:.1f} k/s | {fallen:.0%}{mark} (wanted: < 15%) | "
        f"{peak:.0f} MB |",
    ]


# -- the importer beside Bolt


def seen(run: cnt.Run, epoch: int) -> tuple[object, ...]:
    """What both ways must agree in."""
    with opened() as db:
        text = "MATCH (:NeuronState {run: $run})-[k:LINK]->() RETURN count(k) AS n"
        links = db.within(seconds=600).cypher(text, run=run.name)["n"].item()
        strong = db.query("strong_neurons", run=run.name, epoch=epoch)
        return links, strong["neuron"].tolist(), strong["strength"].tolist()


def rebuilt(run: cnt.Run, epochs: int) -> tuple[float, float, float]:
    """Seconds of the files, of the import with the JVM's start, and of all of it."""
    at = {"writing Parquet": 0.0, "importing": 0.0}
    os.sync()
    begun = time.perf_counter()

    def progress(stage: str, _share: float) -> None:
        at[stage] = time.perf_counter() - begun

    say(f"rebuilding with {epochs} epochs")
    selected = offline.selections([(run, range(epochs))], "all")
    report = offline.rebuild(selected, progress=progress)
    files, imported = at["writing Parquet"], at["importing"]
    return files, imported - files, report.seconds


def over_bolt(run: cnt.Run, scale: Scale, sessions: int) -> dict[int, float]:
    """Seconds by the number of epochs, which come in stretches into an empty database."""
    local.stop()
    local.reset()
    seconds, first, spent = {}, 0, 0.0
    for epochs, _ in scale.rebuilt:
        spent += loaded(run, first, epochs - 1, sessions)[0]
        seconds[epochs], first = spent, epochs
    return seconds


def importing(folder: Path, scale: Scale) -> list[str]:
    """The run loaded by one session and by three, then the database rebuilt from its files."""
    run = exported(folder / "rebuilt", scale.one, scale.rebuilt[-1][0])
    one, three = (over_bolt(run, scale, sessions) for sessions in (1, 3))
    agreed = {epochs: seen(run, epochs - 1)[1:] for epochs, _ in scale.rebuilt}
    told = [
        "| links | Bolt, one session | three | Parquet | import | `db rebuild`, whole "
        "| one session : import (wanted: 4x) | three | one session : whole | three | wanted |",
        "| --- " * 11 + "|",
    ]
    rebuilt(run, 1)
    for epochs, least in scale.rebuilt:
        links = epochs * run.network(0).link_count
        files, imported, whole = rebuilt(run, epochs)
        count, *strong = seen(run, epochs - 1)
        assert count == links
        assert tuple(strong) == agreed[epochs]
        met = (one[epochs] / whole >= least) if least else whole < 60
        times = one[epochs], three[epochs], files, imported, whole
        ratios = [bolt[epochs] / part for part in (imported, whole) for bolt in (one, three)]
        marks = ["" if ratios[0] >= 4 else " **missed**", "", "" if met else " **missed**", ""]
        told.append(
            f"| {links:,} | {' | '.join(f'{each:.1f} s' for each in times)} | "
            + " | ".join(f"{each:.2f}x{mark}" for each, mark in zip(ratios, marks, strict=True))
            + f" | {f'{least}x' if least else 'under 60 s'} |"
        )
    return told


# -- all of it


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr)


SECTIONS: dict[str, Callable[[Path, Scale], list[str]]] = {
    "Loaders over Bolt": ways,
    "As a load grows": growth,
    "Neo4j's importer": importing,
}


def main() -> None:
    from run import machine

    small = sys.argv[1:] == ["small"]
    command = " ".join(["python benchmarks/loading.py", *sys.argv[1:]])
    text = f"# Loading\n\n`{command}` on {machine()}. Self-check included; a local server as it is."
    with tempfile.TemporaryDirectory() as name:
        os.environ["CNTGRAPH_CACHE"] = str(user_folder("cache"))
        os.environ["CNTGRAPH_HOME"] = f"{name}/home"
        try:
            for title, section in SECTIONS.items():
                rows = section(Path(name), SMALL if small else FULL)
                text = "\n".join([text, f"\n## {title}\n", *rows])
                print("\n".join(rows), flush=True)
                if not small:
                    RESULTS.write_text(text + "\n")
        finally:
            local.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["load"]:
        load(*sys.argv[2:6])
    else:
        main()
