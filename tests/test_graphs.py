"""Whoever asks igraph, NetworkX or SciPy gets the numbers that the links themselves give."""

import functools
import resource
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import cntgraph as cnt
from cntgraph.graphs import igraph as igraph_way
from cntgraph.graphs import memory
from cntgraph.network import LINK_KINDS

MIB = 1024**2


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 4)
        self.second = torch.nn.Linear(4, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)) + x)


class Twice(torch.nn.Module):
    """The same neurons heard twice by one layer: its links come in parallel pairs."""

    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(6, 2)

    def forward(self, x):
        return self.out(torch.cat([x, x], dim=1))


class Padded(torch.nn.Module):
    """A view that mixes channels and zeros into the next layer's input."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3, padding=1, stride=2)
        self.out = torch.nn.Linear(3 * 3 * 3 + 2, 4)

    def forward(self, x):
        y = torch.relu(self.conv(x)).permute(0, 2, 3, 1).flatten(1)
        return self.out(torch.nn.functional.pad(y, (1, 1)))


MODELS = {
    "mlp": (lambda: torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Linear(4, 2)), (1, 5)),
    "conv": (lambda: torch.nn.Conv2d(2, 3, 3, padding=1), (1, 2, 5, 4)),
    "grouped": (lambda: torch.nn.Conv1d(4, 4, 3, groups=2, dilation=2), (1, 4, 9)),
    "transposed": (lambda: torch.nn.ConvTranspose2d(2, 3, 3, stride=2), (1, 2, 3, 3)),
    "tokens": (lambda: torch.nn.Linear(3, 2), (1, 4, 3)),
    "pooled": (
        lambda: torch.nn.Sequential(torch.nn.AvgPool2d(2), torch.nn.Flatten()),
        (1, 2, 4, 4),
    ),
    "residual": (Residual, (1, 4)),
    "twice": (Twice, (1, 3)),
    "padded": (Padded, (1, 2, 5, 5)),
}


@functools.cache
def traced(name):
    torch.manual_seed(0)
    build, shape = MODELS[name]
    return cnt.trace(build(), shape)


@pytest.fixture(params=MODELS)
def network(request):
    return traced(request.param)


def columns(network, kinds=("weight",)):
    batches = list(network.links(kinds))
    source, target, weight = (
        np.concatenate([b[name].to_numpy() for b in batches] or [np.zeros(0, dtype=np.int64)])
        for name in ("source", "target", "weight")
    )
    return source, target, weight, [k for b in batches for k in b["kind"].to_pylist()]


def sums(network, kinds=("weight",)):
    source, target, weight, _ = columns(network, kinds)
    n = network.neuron_count
    return np.bincount(target, weight, n), np.bincount(source, weight, n)


@pytest.mark.parametrize("kinds", [("weight",), LINK_KINDS])
def test_every_way_out_has_the_strengths_of_the_links(network, kinds):
    into, out = sums(network, kinds)
    graph, neighbours = network.to_igraph(kinds), network.to_networkx(kinds)
    matrix = network.to_scipy(kinds)
    if graph.ecount():
        assert np.allclose(graph.strength(mode="in", weights="weight"), into, atol=1e-12)
        assert np.allclose(graph.strength(mode="out", weights="weight"), out, atol=1e-12)
    found = dict(neighbours.in_degree(weight="weight"))
    assert np.allclose([found[i] for i in range(network.neuron_count)], into, atol=1e-12)
    assert np.allclose(matrix.sum(axis=0), into, atol=1e-12)
    assert np.allclose(matrix.sum(axis=1), out, atol=1e-12)


def test_igraph_edges_come_in_the_order_of_the_links(network):
    source, target, weight, kind = columns(network, LINK_KINDS)
    graph = network.to_igraph(LINK_KINDS)
    assert graph.is_directed()
    assert graph.get_edgelist() == list(zip(source.tolist(), target.tolist(), strict=True))
    assert graph.es["weight"] == weight.tolist()
    assert graph.es["kind"] == kind


def test_one_kind_needs_no_kind_attribute():
    network = traced("residual")
    assert network.to_igraph().es.attributes() == ["weight"]
    assert network.to_igraph(("identity",)).es["weight"] == [1.0] * 8
    assert {tuple(e) for *_, e in network.to_networkx().edges(data=True)} == {("weight",)}
    carried = network.to_networkx(("weight", "identity")).edges(data="kind")
    assert sorted(kind for *_, kind in carried) == ["identity"] * 8 + ["weight"] * 28


def test_vertices_are_the_neurons_in_order(network):
    table = network.neurons()
    graph, neighbours = network.to_igraph(), network.to_networkx()
    assert list(neighbours) == list(range(network.neuron_count)) == table["neuron"].tolist()
    for name in ("layer", "index", "channel", "y", "x"):
        expected = table[name].astype(object).where(table[name].notna(), None).tolist()
        assert graph.vs[name] == expected
        assert [neighbours.nodes[i][name] for i in neighbours] == expected
    assert not set(map(type, graph.vs["index"])) - {int}


def test_parallel_links_are_kept_or_added_up():
    network = traced("twice")
    w = network.weights["out.weight"].double().numpy()
    graph = network.to_networkx()
    assert isinstance(graph, nx.MultiDiGraph)
    assert sorted(d["weight"] for d in graph[0][3].values()) == sorted([w[0, 0], w[0, 3]])
    assert network.to_igraph().has_multiple()
    assert network.to_scipy()[0, 3] == w[0, 0] + w[0, 3]


def test_without_parallel_links_the_graph_is_simple():
    for name in ("mlp", "conv", "residual", "padded", "tokens"):
        graph = traced(name).to_networkx(LINK_KINDS)
        assert type(graph) is nx.DiGraph


def test_the_matrix_is_a_csr_array_that_keeps_zeros():
    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 0.0, -2.0], [0.5, 3.0, 0.0]]))
    matrix = cnt.trace(model, (1, 3)).to_scipy()
    assert isinstance(matrix, scipy.sparse.csr_array)
    assert (matrix.dtype, matrix.shape, matrix.nnz) == (np.float64, (5, 5), 6)
    assert matrix.toarray()[:3, 3:].tolist() == [[1.0, 0.5], [0.0, 3.0], [-2.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_any_precision_are_exact(dtype):
    model = torch.nn.Linear(3, 2).to(dtype)
    graph = cnt.trace(model, (1, 3)).to_igraph()
    assert graph.es["weight"] == model.weight.detach().double().reshape(-1).tolist()


def test_nan_stays_nan():
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight[0, 0] = float("nan")
    network = cnt.trace(model, (1, 2))
    assert np.isnan(network.to_igraph().es["weight"]).tolist() == [True, False]
    assert np.isnan(network.to_scipy()[0, 2])


@pytest.mark.parametrize("kinds", [("weight",), ("weight", "identity")])
def test_the_next_epoch_has_its_own_weights(network, kinds):
    first = network.to_igraph(kinds)
    before = first.es["weight"]
    later = {name: 2 * tensor + 1 for name, tensor in network.weights.items()}
    second = network.with_weights(later).to_igraph(kinds)
    assert first.es["weight"] == before
    assert second.get_edgelist() == first.get_edgelist()
    assert second.es["weight"] == columns(network.with_weights(later), kinds)[2].tolist()


def test_a_graph_belongs_to_who_asked_for_it(network):
    first = network.to_igraph()
    first.vs["layer"] = "mine"
    first.vs[0]["index"] = -1
    first.delete_edges(range(first.ecount()))
    second = network.to_igraph()
    assert second.vs["layer"] == network.neurons()["layer"].tolist()
    assert second.vs[0]["index"] == 0
    assert second.ecount() == network.link_count


def test_a_large_wiring_is_not_kept(monkeypatch):
    monkeypatch.setattr(igraph_way, "KEPT", 5)
    network = cnt.trace(torch.nn.Linear(3, 2), (1, 3))
    assert network.to_igraph().get_edgelist() == network.to_igraph().get_edgelist()
    assert not any("igraph" in str(key) for key in network.topology)


@settings(max_examples=8, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    side=st.integers(3, 5),
)
def test_the_law_of_strengths(sizes, kernel, stride, padding, side):
    conv = torch.nn.Conv2d(1, sizes[0], kernel, stride, padding)
    flat = conv(torch.zeros(1, 1, side, side)).numel()
    dense = [torch.nn.Linear(i, o) for i, o in zip([flat, *sizes], sizes, strict=False)]
    network = cnt.trace(torch.nn.Sequential(conv, torch.nn.Flatten(), *dense), (1, 1, side, side))
    graph, matrix = network.to_igraph(), network.to_scipy()
    into, out = sums(network)
    assert graph.ecount() == network.link_count
    assert np.allclose(graph.strength(weights="weight"), into + out, atol=1e-12)
    assert graph.indegree() == np.bincount(columns(network)[1], minlength=len(into)).tolist()
    assert np.allclose(matrix.sum(axis=0) + matrix.sum(axis=1), into + out, atol=1e-12)


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["to_igraph", "to_networkx", "to_scipy"])
def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch, way):
    network = cnt.trace(torch.nn.Linear(100, 50), (1, 100))
    monkeypatch.setattr(memory, "available_memory", lambda: 100_000)
    with pytest.raises(cnt.InputRefused, match="5,000 links does not fit in memory") as refusal:
        getattr(network, way)()
    assert "100,000 are available" in refusal.value.why
    for instead in ("network.filtered", "cnt.strength"):
        assert instead in refusal.value.fix


def test_the_process_limit_is_met_before_anything_is_allocated():
    script = """
import resource, torch, igraph
import cntgraph as cnt
network = cnt.trace(torch.nn.Conv2d(64, 64, 3, padding=1), (1, 64, 64, 64))
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + 200 * 1024**2,) * 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    network.to_igraph()
except cnt.InputRefused as refusal:
    print(refusal)
    print(cnt.trace(torch.nn.Linear(3, 2), (1, 3)).to_igraph().ecount())
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
"""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "an igraph graph of 147,865,600 links does not fit" in done.stdout
    assert done.stdout.endswith("\n6\n")


def test_the_tightest_limit_counts(monkeypatch, tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    inner = groups / "outer" / "inner"
    (proc / "self").mkdir(parents=True)
    inner.mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 4096 kB\nMemAvailable: 2048 kB\n")
    (proc / "self" / "cgroup").write_text("0::/outer/inner\n")
    (proc / "self" / "statm").write_text("10 1 1 1 0 1 0\n")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUP", groups)
    assert memory.available_memory() == 2 * MIB
    (inner / "memory.max").write_text("max\n")
    (groups / "outer" / "memory.max").write_text(f"{3 * MIB}\n")
    (groups / "outer" / "memory.current").write_text(f"{2 * MIB}\n")
    assert memory.available_memory() == MIB
    (groups / "outer" / "memory.stat").write_text(f"anon 7\ninactive_file {MIB // 2}\n")
    assert memory.available_memory() == MIB + MIB // 2
    used = 10 * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (used + 5000, used + 5000))
    assert memory.available_memory() == 5000


def test_older_control_groups_count_too(monkeypatch, tmp_path):
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "memory" / "job").mkdir(parents=True)
    (proc / "meminfo").write_text("MemAvailable: 2048 kB\n")
    (proc / "self" / "cgroup").write_text("3:cpu:/job\n7:memory:/job\n")
    (groups / "memory" / "job" / "memory.limit_in_bytes").write_text("9000\n")
    (groups / "memory" / "job" / "memory.usage_in_bytes").write_text("8000\n")
    monkeypatch.setattr(memory, "_PROC", proc)
    monkeypatch.setattr(memory, "_CGROUP", groups)
    assert memory.available_memory() == 1000
