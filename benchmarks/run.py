"""Every published figure of speed, measured side by side with its peers in one run.

    python benchmarks/run.py              all of it, written to benchmarks/results.md
    python benchmarks/run.py strength     one section, printed

Peers and cntgraph take turns, each figure is the median, and agreement of the numbers is checked in
the same run. Compute is CPU time of one thread; what involves a server or a disk is wall time.
"""

from __future__ import annotations

import gc
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import igraph
import numpy as np
import torch
from torch import nn

import cntgraph as cnt

SIZES = (784, 512, 256, 10)
RESULTS = Path(__file__).parent / "results.md"
Row = tuple[str, str, float, float, float]  # what, peer, theirs, ours, least wanted


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(SIZES):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def alternating(
    work: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median seconds of each piece of work, the pieces taking turns.

    Short work is repeated until a turn lasts 20 ms, as `timeit` does.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    times = dict.fromkeys(work, 1)
    for turn in range(-1, repeats + 1):
        for name, call in work.items():
            gc.collect()
            start = clock()
            for _ in range(times[name]):
                call()
            elapsed = (clock() - start) / times[name]
            if turn > 0:  # the first two turns warm caches, compile and find the number of repeats
                seconds[name].append(elapsed)
            else:
                times[name] = max(1, int(0.02 / max(elapsed, 1e-6)))
    return {name: statistics.median(values) for name, values in seconds.items()}


def strength() -> list[Row]:
    network = cnt.trace(mlp(), (1, SIZES[0]))
    graph, other = network.to_igraph(), network.to_networkx()
    ours = cnt.strength(network)["strength"].to_numpy()
    by_networkx = dict(other.degree(weight="weight"))
    np.testing.assert_allclose(ours, graph.strength(weights="weight"), atol=1e-9)
    np.testing.assert_allclose(ours, [by_networkx[k] for k in range(len(ours))], atol=1e-9)
    times = alternating(
        {
            "cntgraph": lambda: cnt.strength(network),
            "igraph": lambda: graph.strength(mode="all", weights="weight"),
            "networkx": lambda: dict(other.degree(weight="weight")),
        },
        9,
        time.process_time,
    )
    what = "`cnt.strength`, whole call"
    return [
        (what, "`igraph.Graph.strength`", times["igraph"], times["cntgraph"], 10),
        (what, "NetworkX `degree(weight=)`", times["networkx"], times["cntgraph"], 60),
    ]


def graphs() -> list[Row]:
    model = mlp()
    network = cnt.trace(model, (1, SIZES[0]))
    batches = [b.to_pandas() for b in network.links()]
    edges = np.concatenate([b[["source", "target"]].to_numpy() for b in batches])
    weights = np.concatenate([b["weight"].to_numpy() for b in batches])
    state = model.state_dict()

    def from_array() -> igraph.Graph:
        graph = igraph.Graph(network.neuron_count, edges=edges, directed=True)
        graph.es["weight"] = weights
        return graph

    def first() -> igraph.Graph:
        network.topology.clear()
        return network.to_igraph()

    def following() -> igraph.Graph:
        return network.with_weights(state).to_igraph()

    assert from_array().get_edgelist() == first().get_edgelist() == following().get_edgelist()
    assert first().es["weight"] == following().es["weight"] == weights.tolist()
    work = {"array": from_array, "first": first, "next": following}
    times = alternating(work, 5, time.process_time)
    peer = "`igraph.Graph(edges=ndarray)` with weights"
    return [
        ("`to_igraph`, first epoch", peer, times["array"], times["first"], 3),
        ("`to_igraph`, next epoch", "the same again", times["array"], times["next"], 15),
    ]


MAPS = """
UNWIND $rows AS r
MATCH (a:PeerNeuron {id: r.source}) MATCH (b:PeerNeuron {id: r.target})
CREATE (a)-[:PEER {weight: r.weight}]->(b)
"""


def bolt() -> list[Row]:
    """Both loaders create every neuron and every link of one epoch, on one server, in turns."""
    import neo4j

    from cntgraph.database import server

    local = server.start()
    driver = neo4j.GraphDatabase.driver(local.uri, auth=(local.user, local.password))
    times: dict[str, list[float]] = {"maps": [], "cntgraph": []}
    with tempfile.TemporaryDirectory() as folder, driver, cnt.connect() as db:
        run = record(Path(folder) / "benchmark-peer", epochs=1)
        network = run.network(0)
        links = [b.to_pandas()[["source", "target", "weight"]] for b in network.links()]
        rows = [row for b in links for row in b.to_dict("records")]
        one = "CREATE CONSTRAINT peer IF NOT EXISTS FOR (n:PeerNeuron) REQUIRE n.id IS UNIQUE"
        driver.execute_query(one)
        for turn in range(4):
            start = time.perf_counter()
            neurons = list(range(network.neuron_count))
            driver.execute_query("UNWIND $ids AS i CREATE (:PeerNeuron {id: i})", ids=neurons)
            for first in range(0, len(rows), 10_000):
                driver.execute_query(MAPS, rows=rows[first : first + 10_000])
            maps = time.perf_counter() - start
            start = time.perf_counter()
            report = db.load(run)
            ours = time.perf_counter() - start
            assert report.links == len(rows)
            counted = "MATCH ()-[r:PEER]->() RETURN count(r) AS n, sum(r.weight) AS s"
            theirs = driver.execute_query(counted).records[0]
            assert theirs["n"] == len(rows)
            if turn:
                times["maps"].append(maps)
                times["cntgraph"].append(ours)
            driver.execute_query("DROP CONSTRAINT peer IF EXISTS")
            with driver.session() as session:
                session.run(
                    "MATCH (n:PeerNeuron) CALL (n) { DETACH DELETE n } IN TRANSACTIONS OF 100 ROWS"
                ).consume()
            driver.execute_query(one)
            db.delete(run)
        driver.execute_query("DROP CONSTRAINT peer IF EXISTS")
    median = {name: statistics.median(values) for name, values in times.items()}
    what = f"`db.load` of one epoch ({len(rows):,} links), self-check included"
    return [
        (what, "UNWIND of a map per link, 10,000 a batch", median["maps"], median["cntgraph"], 1.3)
    ]


def record(to: Path, epochs: int) -> cnt.Run:
    model = mlp()
    with cnt.Recorder(model, (1, SIZES[0]), to=to) as recorder:
        for epoch in range(epochs):
            recorder.snapshot(epoch)
    return cnt.open_run(to)


EXPORT = """
import resource, sys, time, torch
import cntgraph as cnt, igraph, pandas, pyarrow.parquet, safetensors.torch
sys.path.insert(0, sys.argv[2])
from run import mlp
start = time.perf_counter()
cnt.export(mlp(), sys.argv[1] + "/checkpoints", (1, 784), to=sys.argv[1] + "/run")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def export() -> list[str]:
    """Ten epochs of the same network, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").mkdir()
        for epoch in range(10):
            torch.manual_seed(epoch)
            state = {n: torch.randn_like(t) for n, t in mlp().state_dict().items()}
            torch.save(state, Path(folder) / "checkpoints" / f"epoch_{epoch}.pt")
        command = [sys.executable, "-c", EXPORT, folder, str(Path(__file__).parent)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, gigabytes = map(float, printed.split()[-2:])
    return [
        f"| export of ten epochs, besides imports | {seconds:.1f} s | under 10 s |",
        f"| resident memory at its peak | {gigabytes:.2f} GB | under 1.5 GB |",
    ]


def machine() -> str:
    names = ("cntgraph", "torch", "numpy", "pandas", "igraph", "networkx", "neo4j")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    cores = os.cpu_count()
    return f"{platform.machine()}, {cores} cores, Python {platform.python_version()}; {versions}"


def table(rows: list[Row]) -> list[str]:
    lines = []
    for what, peer, theirs, ours, least in rows:
        ratio = theirs / ours
        mark = "" if ratio >= least else " **missed**"
        lines.append(
            f"| {what} | {peer} | {figure(theirs * 1e3)} ms | {figure(ours * 1e3)} ms "
            f"| {figure(ratio)}x{mark} | {least}x |"
        )
    return lines


def figure(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


SECTIONS = {"strength": strength, "graphs": graphs, "bolt": bolt}


def main() -> None:
    torch.set_num_threads(1)
    chosen = sys.argv[1:] or [*SECTIONS, "export"]
    lines = ["| what | peer | peer's time | cntgraph | ratio | wanted |", "| --- " * 6 + "|"]
    for name in chosen:
        if name in SECTIONS:
            print(f"{name} ...", file=sys.stderr)
            lines += table(SECTIONS[name]())
    if "export" in chosen:
        lines += ["", "| what | measured | wanted |", "| --- | --- | --- |", *export()]
    text = (
        f"# Measured\n\n`python benchmarks/run.py` on {machine()}.\n\n"
        f"An MLP {'-'.join(map(str, SIZES))}; medians, peers and cntgraph in turns.\n\n"
    )
    text += "\n".join(lines) + "\n"
    print(text)
    if not sys.argv[1:]:
        sections = RESULTS.read_text().partition("\n## ")[1:] if RESULTS.exists() else ()
        RESULTS.write_text(text + "".join(sections))  # those of the other benchmarks stay


if __name__ == "__main__":
    main()
