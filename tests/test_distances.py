"""Closeness, harmonic centrality, betweenness and efficiency against igraph, and by hand."""

from __future__ import annotations

import functools
import itertools

import igraph
import networkx as nx
import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ZOO, Dense, traced_network
from torch import nn

import cntgraph as cnt
from cntgraph.measures.paths.sampling import Sample

KINDS = ("weight", "identity", "fixed", "scale", "select")
NEURON = ("closeness", "harmonic", "betweenness", "betweenness_io")
OF_SIGN = {
    "absolute": abs,
    "positive": lambda w: max(w, 0.0),
    "negative": lambda w: max(-w, 0.0),
}


def weighted_links(network, kinds=KINDS, sign="absolute"):
    """Every link (source, target, weight under the sign) without any code of the measures."""
    for batch in network.links(kinds):
        columns = (batch.column(name).to_pylist() for name in ("source", "target", "weight"))
        yield from ((s, t, OF_SIGN[sign](w)) for s, t, w in zip(*columns, strict=True))


def lengths_of(links, length="inverse"):
    """Lengths of links of these weights; a weight of zero leads nowhere."""
    largest = max(w for _, _, w in links if np.isfinite(w))
    rule = {
        "inverse": lambda w: 0.0 if np.isinf(w) else 1 / w,
        "log": lambda w: -np.log(w / largest),
        "weight": lambda w: w,
        "unit": lambda w: 1.0,
    }[length]
    return [(s, t, rule(w)) for s, t, w in links if w != 0 and not np.isnan(w)]


def explicit_graph(network, sign="absolute", length="inverse", kinds=KINDS):
    links = lengths_of(list(weighted_links(network, kinds, sign)), length)
    graph = igraph.Graph(network.neuron_count, [(s, t) for s, t, _ in links], directed=True)
    graph.es["length"] = [x for _, _, x in links]
    return graph


def ends(network):
    of = {"input": [], "output": []}
    for layer in network.layers:
        if layer.kind in of:
            of[layer.kind] += range(layer.first, layer.last)
    return {"sources": of["input"], "targets": of["output"]}


def by_igraph(network, **conventions):
    graph = explicit_graph(network, **conventions)
    lengths = graph.es["length"]
    return {
        "closeness": graph.closeness(mode="out", weights=lengths),
        "harmonic": graph.harmonic_centrality(mode="out", weights=lengths),
        "betweenness": graph.betweenness(directed=True, weights=lengths),
        "betweenness_io": graph.betweenness(directed=True, weights=lengths, **ends(network)),
    }


def agree(found, expected, names=NEURON, rtol=1e-9):
    for name in names:
        finite = np.asarray(expected[name])[np.isfinite(expected[name])]
        scale = np.abs(finite).max(initial=0) * rtol
        np.testing.assert_allclose(found[name], expected[name], rtol, scale, err_msg=name)


def measured(network, names=NEURON, **conventions):
    """The measures that do not refuse this network, each by itself."""
    found = {}
    for name in names:
        try:
            found[name] = cnt.measure(network, name, **conventions)[name].to_numpy()
        except cnt.DegenerateMeasure:
            continue
    return found


def with_random_weights(network, values, seed=0):
    """The network with weights drawn from some values, so that many paths are equally long."""
    rng = np.random.default_rng(seed)
    drawn = {n: torch.from_numpy(rng.choice(values, t.shape)) for n, t in network.weights.items()}
    return network.with_weights({n: t.to(network.weights[n].dtype) for n, t in drawn.items()})


@functools.cache
def mlp(*sizes):
    torch.manual_seed(len(sizes))
    return cnt.trace(Dense(sizes), (1, sizes[0]))


def line(*weights):
    """A path of neurons with these weights between them."""
    layers = [nn.Linear(1, 1, bias=False) for _ in weights]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.fill_(weight)
    return cnt.trace(nn.Sequential(*layers), (1, 1))


class Twice(nn.Module):
    """Two links from each input to each hidden neuron, and a way round them."""

    def __init__(self):
        super().__init__()
        self.twice, self.head, self.skip = nn.Linear(8, 5), nn.Linear(5, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.relu(self.twice(torch.cat([x, x], 1)))) + self.skip(x)


@functools.cache
def twice():
    torch.manual_seed(0)
    return cnt.trace(Twice(), (1, 4))


@pytest.mark.parametrize("name", ZOO)
def test_igraph_gives_the_same(name):
    network = traced_network(name, "folded" if name == "residual" else "raw")
    expected = by_igraph(network)
    found = measured(network)
    assert "harmonic" in found
    agree(found, expected, found)
    efficiency = cnt.measure(network, "efficiency")["efficiency"][0]
    assert efficiency == pytest.approx(np.mean(expected["harmonic"]), rel=1e-12)


@pytest.mark.parametrize("length", ["inverse", "weight", "unit"])
@pytest.mark.parametrize("sign", OF_SIGN)
@pytest.mark.parametrize("name", ["residual", "lenet", "attention"])
def test_every_sign_and_length(name, sign, length):
    network = traced_network(name)
    found = measured(network, sign=sign, length=length)
    assert length == "unit" or "betweenness" in found
    agree(found, by_igraph(network, sign=sign, length=length), found)


@pytest.mark.parametrize("links", ["top:3", "above:0.1", "backbone:0.2"])
@pytest.mark.parametrize("length", ["inverse", "unit"])
def test_what_a_filter_leaves(links, length):
    network = mlp(40, 60, 50, 10).filtered(links)
    found = measured(network, length=length)
    agree(found, by_igraph(network, length=length), found)
    assert {"harmonic", "betweenness"} <= set(found), "the filter leaves something to say"


@pytest.mark.parametrize("length", ["inverse", "weight", "unit"])
def test_ties_that_are_pulled_from_long_lists(length):
    network = with_random_weights(mlp(40, 60, 50, 10), [0.0, 1.0, 2.0, -1.0, 4.0])
    agree(cnt.measure(network, *NEURON, length=length), by_igraph(network, length=length))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(2, 3), (3, 1, 4), (4, 6, 2), (5, 4, 3, 2), (1, 3, 3, 1), (4, 5, 4, 5, 3)]),
    st.sampled_from(["inverse", "weight", "unit"]),
    st.sampled_from([(1.0, 2.0), (0.0, 1.0, -2.0), (-1.0, 0.0, 0.5, 3.0), (0.0, 0.0, 1.0)]),
    st.integers(0, 1000),
)
def test_ties_are_counted_as_igraph_counts_them(sizes, length, values, seed):
    network = with_random_weights(mlp(*sizes), values, seed)
    if not any(w for _, _, w in weighted_links(network)):
        return
    found = measured(network, length=length)
    agree(found, by_igraph(network, length=length), found)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([(1.0, 2.0), (0.0, 1.0, 3.0)]), st.integers(0, 1000))
def test_parallel_links_are_paths_of_their_own(values, seed):
    network = with_random_weights(twice(), values, seed)
    pairs = [(s, t) for s, t, _ in weighted_links(network)]
    assert len(pairs) > len(set(pairs)), "the network above has parallel links"
    found = measured(network)
    agree(found, by_igraph(network), found)


def test_paths_are_equal_up_to_rounding_and_no_further():
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    for longer, through in [(1e-13, 0.5), (1e-8, 0.0)]:
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0], [1 / (1 + longer)]], dtype=torch.float64))
            model[1].weight.fill_(1.0)
        network = cnt.trace(model, torch.zeros(1, 1, dtype=torch.float64))
        if through:
            with pytest.raises(cnt.DegenerateMeasure):  # both half: nothing tells them apart
                cnt.measure(network, "betweenness")
        else:
            assert cnt.measure(network, "betweenness")["betweenness"].tolist() == [0, 1, 0, 0]


def all_paths(links, n):
    """Every shortest path between two neurons as the lists of its inner neurons, by brute force."""
    out = {s: [] for s in range(n)}
    for s, t, x in links:
        out[s].append((t, x))
    found = {}

    def walk(start, here, far, inner):
        for t, x in out[here]:
            best, paths = found.get((start, t), (np.inf, []))
            if far + x < best * (1 - 1e-9):
                found[start, t] = far + x, [inner]
            elif far + x <= best * (1 + 1e-9):
                found[start, t] = best, [*paths, inner]
            walk(start, t, far + x, [*inner, t])

    for start in range(n):
        walk(start, start, 0.0, [])
    return found


def by_hand(network, links):
    n = network.neuron_count
    paths = all_paths(links, n)
    of = {k: set(v) for k, v in ends(network).items()}
    found = {name: np.zeros(n) for name in NEURON}
    far = [[d for (s, _), (d, _) in paths.items() if s == v] for v in range(n)]
    with np.errstate(divide="ignore"):
        found["harmonic"] = np.array([np.sum(1 / np.array(d)) / (n - 1) for d in far])
        sums = np.array([np.sum(d) if d else np.nan for d in far])
        found["closeness"] = np.array([len(d) for d in far]) / sums
    for (s, t), (_, ways) in paths.items():
        for inner in itertools.chain.from_iterable(ways):
            found["betweenness"][inner] += 1 / len(ways)
            if s in of["sources"] and t in of["targets"]:
                found["betweenness_io"][inner] += 1 / len(ways)
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(3, 1, 4), (3, 4, 2), (1, 3, 3, 1), (2, 3, 4, 2)]),
    st.sampled_from([(1.0, 2.0), (1.0, 0.5, 0.0), (3.0, 3.0, 1.0)]),
    st.integers(0, 1000),
)
def test_lengths_of_zero(sizes, values, seed):
    network = with_random_weights(mlp(*sizes), values, seed)
    links = list(weighted_links(network))
    if not any(w for _, _, w in links):
        return
    links = lengths_of(links, "log")
    assert 0.0 in [x for _, _, x in links], "the strongest link has length 0"
    found = measured(network, length="log")
    agree(found, by_hand(network, links), found)


def test_distances_with_lengths_of_zero_on_a_larger_network():
    network = traced_network("lenet")
    found = cnt.measure(network, "closeness", "harmonic", "betweenness", length="log")
    links = lengths_of(list(weighted_links(network)), "log")
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(range(network.neuron_count))
    graph.add_weighted_edges_from(links)
    start = {s for s, _, x in links if x == 0}
    for neuron in (0, 50, 200, *start):
        far = nx.single_source_dijkstra_path_length(graph, neuron)
        del far[neuron]
        assert found["closeness"][neuron] == pytest.approx(len(far) / sum(far.values()))
    assert set(np.flatnonzero(np.isinf(found["harmonic"]))) == start


def test_an_infinite_weight_has_no_length():
    network = mlp(3, 4, 3, 2)
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.1.weight"][1, 2] = float("inf")
    network = network.with_weights(weights)
    links = list(weighted_links(network))
    agree(cnt.measure(network, *NEURON), by_hand(network, lengths_of(links)))
    found = cnt.measure(network, "betweenness", length="log")
    links = [(s, t, max(x, 0)) for s, t, x in lengths_of(links, "log")]
    agree(found, by_hand(network, links), ["betweenness"])


def test_a_path_that_fits_in_the_head():
    found = cnt.measure(line(2.0, -4.0, 1.0), *NEURON)  # lengths 1/2, 1/4 and 1
    far = [[0.5, 0.75, 1.75], [0.25, 1.25], [1.0]]
    expected = [len(d) / sum(d) for d in far]
    np.testing.assert_allclose(found["closeness"], [*expected, np.nan], rtol=1e-15)
    expected = [sum(1 / x for x in d) / 3 for d in far]
    np.testing.assert_allclose(found["harmonic"], [*expected, 0], rtol=1e-15)
    assert found["betweenness"].tolist() == [0, 2, 2, 0]
    assert found["betweenness_io"].tolist() == [0, 1, 1, 0]
    network = cnt.measure(line(2.0, -4.0, 1.0), "efficiency")["efficiency"]
    assert network[0] == pytest.approx(sum(expected) / 4)


def test_a_negative_link_cuts_the_positive_path():
    found = cnt.measure(line(2.0, -4.0, 1.0), "closeness", "betweenness", sign="positive")
    np.testing.assert_allclose(found["closeness"], [2, np.nan, 1, np.nan])
    assert not found["betweenness"].any()


@settings(max_examples=10, deadline=None)
@given(st.floats(1e-3, 1e3))
def test_the_scale_of_the_weights_scales_closeness_and_leaves_betweenness(scale):
    network = mlp(12, 9, 7, 4)
    weights = {n: t.double() * scale for n, t in network.weights.items()}
    doubled = {n: t.double() for n, t in network.weights.items()}
    one = cnt.measure(network.bound_to(doubled), *NEURON)
    two = cnt.measure(network.bound_to(weights), *NEURON)
    expected = {
        "closeness": one["closeness"] * scale,
        "harmonic": one["harmonic"] * scale,
        "betweenness": one["betweenness"],
        "betweenness_io": one["betweenness_io"],
    }
    agree(two, expected, rtol=1e-12)


def with_nan(network, links):
    """The network of a `Dense` model with NaN for the weights of some links."""
    weights = {n: t.clone() for n, t in network.weights.items()}
    firsts = [layer.first for layer in network.layers]
    for s, t in links:
        k = np.searchsorted(firsts, s, side="right") - 1
        weights[f"fc.{k}.weight"][t - firsts[k + 1], s - firsts[k]] = float("nan")
    return network.bound_to(weights)


def lost_by(graph, link, sources, targets):
    """The neurons on a path between two of these that the link may be part of."""
    before = (nx.ancestors(graph, link[0]) | {link[0]}) & sources
    behind = (nx.descendants(graph, link[1]) | {link[1]}) & targets
    found = [
        nx.descendants(graph, a) & nx.ancestors(graph, b)
        for a, b in itertools.product(before, behind)
    ]
    return set().union(*found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_nan_stays_where_it_may_matter(seed, count):
    rng = np.random.default_rng(seed)
    network = mlp(4, 5, 4, 5, 3).filtered(f"top:{rng.integers(1, 3)}")
    links = [(s, t) for s, t, _ in weighted_links(network)]
    lost = [links[k] for k in rng.choice(len(links), count, replace=False)]
    graph, every = nx.DiGraph(links), set(range(network.neuron_count))
    of = {"betweenness": (every, every), "betweenness_io": tuple(map(set, ends(network).values()))}
    unknown = {name: set() for name in NEURON}
    for link in lost:
        for name in ("closeness", "harmonic"):
            unknown[name] |= nx.ancestors(graph, link[0]) | {link[0]}
        for name, pairs in of.items():
            unknown[name] |= lost_by(graph, link, *pairs)
    found, expected = measured(with_nan(network, lost)), by_igraph(with_nan(network, lost))
    for name in found:
        nan = np.isnan(found[name]) & ~np.isnan(expected[name])
        assert unknown[name] >= set(np.flatnonzero(nan)) if count == 1 else True
        assert unknown[name] <= set(np.flatnonzero(np.isnan(found[name])))
        agree({name: found[name][~nan]}, {name: np.array(expected[name])[~nan]}, [name])


def test_efficiency_of_a_network_with_nan_is_nan():
    found = cnt.measure(with_nan(mlp(4, 5, 4), [(0, 4)]), "efficiency")
    assert found["efficiency"].isna().all()


@pytest.mark.parametrize("name", ["closeness", "harmonic", "betweenness", "betweenness_io"])
def test_one_value_per_layer_is_refused(name):
    with pytest.raises(cnt.DegenerateMeasure, match=r"one value per layer[\s\S]*strength"):
        cnt.measure(mlp(6, 5, 4, 3), name, length="unit")


@pytest.mark.parametrize(
    ("network", "name", "options", "said"),
    [
        (lambda: mlp(4, 3), "betweenness", {}, "it is 0 at each of the 7 neurons"),
        (lambda: mlp(4, 5, 3).filtered("above:1e9"), "closeness", {}, "no links"),
        (lambda: line(0.0, 0.0), "efficiency", {}, "weighs 0"),
        (lambda: line(1.0, 2.0), "harmonic", {"sign": "negative"}, "ask for another sign"),
        (lambda: line(1.0, 2.0), "efficiency", {"length": "log"}, "length='inverse'"),
        (lambda: line(np.inf), "closeness", {"length": "weight"}, "ask for another length"),
    ],
)
def test_what_says_nothing(network, name, options, said):
    with pytest.raises(cnt.DegenerateMeasure) as refusal:
        cnt.measure(network(), name, **options)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sign": "signed"}, "absolute or positive or negative"),
        ({"length": "inverze"}, "did you mean inverse"),
        ({"samples": -1}, "samples=-1"),
    ],
)
def test_what_is_refused(options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.measure(mlp(6, 5, 4, 3), "closeness", **options)
    assert said in str(refusal.value)


def test_measures_of_one_call_share_their_sweeps_and_change_nothing():
    network = traced_network("lenet")
    together = cnt.measure(network, *NEURON)
    for name in NEURON:
        alone = cnt.measure(network, name)
        np.testing.assert_array_equal(alone[name], together[name])


def test_the_number_of_threads_changes_nothing(monkeypatch):
    network = traced_network("lenet")
    many = cnt.measure(network, *NEURON)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 1)
    np.testing.assert_array_equal(cnt.measure(network, *NEURON)[[*NEURON]], many[[*NEURON]])


def drawn(count, samples, seed):
    """The sample that is documented: without replacement, by NumPy's generator."""
    return np.sort(np.random.default_rng(seed).choice(count, samples, replace=False))


@pytest.mark.parametrize("name", ["dense", "lenet", "attention"])
def test_a_sample_is_scaled_up(name):
    network, seed = traced_network(name), 3
    graph, n = explicit_graph(network), network.neuron_count
    lengths, samples = graph.es["length"], network.neuron_count // 3
    some = drawn(n, samples, seed).tolist()
    found = cnt.measure(network, *NEURON[:3], samples=samples, seed=seed)
    expected = graph.betweenness(
        directed=True, weights=lengths, sources=some, targets=list(range(n))
    )
    far = np.array(graph.distances(target=some, weights=lengths, mode="out"))
    reached = np.isfinite(far) & (far > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.where(reached, far, 0).sum(1)
        expected = {
            "betweenness": np.array(expected) * n / samples,
            "harmonic": np.where(reached, 1 / far, 0).sum(1) * n / samples / (n - 1),
            "closeness": reached.sum(1) / sums,
        }
    agree(found, expected, expected)
    assert list(found.columns[-6:]) == [f"{c}{e}" for c in NEURON[:3] for e in ("", "_error")]


def test_a_sample_of_the_inputs():
    network, seed = traced_network("lenet"), 5
    graph, of = explicit_graph(network), ends(network)
    of["sources"] = drawn(len(of["sources"]), 40, seed).tolist()  # inputs have the first ids
    found = cnt.measure(network, "betweenness_io", samples=40, seed=seed)
    expected = np.array(graph.betweenness(directed=True, weights=graph.es["length"], **of))
    agree(found, {"betweenness_io": expected * 144 / 40}, ["betweenness_io"])


@pytest.mark.parametrize("samples", [5000, 1346])
def test_a_sample_of_all_is_exact(samples):
    network = traced_network("lenet")
    found = cnt.measure(network, *NEURON, samples=samples)
    exact = cnt.measure(network, *NEURON)
    for name in NEURON:
        np.testing.assert_array_equal(found[name], exact[name])
        assert not found[f"{name}_error"][found[name].notna()].any()
    whole = cnt.measure(network, "efficiency", samples=samples)
    assert whole["efficiency_error"][0] == 0


def test_the_error_of_a_sample_holds():
    network = mlp(40, 60, 50, 10)
    exact = cnt.measure(network, *NEURON)
    total = cnt.measure(network, "efficiency")["efficiency"][0]
    missed = {name: [] for name in (*NEURON, "efficiency")}
    for seed in range(25):
        found = cnt.measure(network, *NEURON, samples=30, seed=seed)
        for name in NEURON:
            known = found[name].notna()
            error = found[f"{name}_error"]
            assert (error >= 0)[known].all()
            assert error[known & (found[name] > 0)].min() > 0
            missed[name].append(((found[name] - exact[name]).abs() > error)[known].mean())
        found = cnt.measure(network, "efficiency", samples=30, seed=seed)
        missed["efficiency"].append(
            abs(found["efficiency"][0] - total) > found["efficiency_error"][0]
        )
    assert all(np.mean(misses) <= 0.05 for misses in missed.values()), missed


def test_more_samples_tell_more():
    network = mlp(40, 60, 50, 10)
    errors = [
        cnt.measure(network, "betweenness", samples=k)["betweenness_error"].max()
        for k in (20, 80, 150, 159)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 10


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(0, 100), st.sampled_from(["flat", "rare", "two"]))
def test_the_bound_holds_for_any_population(size, seed, kind):
    rng = np.random.default_rng(seed)
    rare = rng.random(60) < 0.1
    population = {"flat": rng.random(60), "rare": rare * 1.0, "two": np.arange(60) % 2.0}[kind]
    misses = 0
    for _ in range(200):
        some = rng.choice(population, size, replace=False)
        error = Sample(size, 60).error(some.sum(), (some**2).sum(), np.float64(1))
        misses += abs(some.mean() - population.mean()) > error + 1e-12
    assert misses <= 0.05 * 200


def test_the_bound_is_that_of_hoeffding_and_serfling_for_few():
    error = Sample(10, 100).error(np.float64(5), np.float64(5), np.float64(1))
    assert error == pytest.approx(np.sqrt((1 - 9 / 100) * np.log(2 / 0.025) / 20))


def test_the_bound_is_that_of_bardenet_and_maillard_for_many_alike():
    n, whole, rare = 1000, 10_000, np.log(400)
    error = Sample(n, whole).error(np.float64(500), np.float64(250 + 1e-2), np.float64(1))
    scatter = np.sqrt((250 + 1e-2) / n - 0.25)
    expected = scatter * np.sqrt(2 * (1 - (n - 1) / whole) * rare / n)
    assert error == pytest.approx(expected + (7 / 3 + 3 / np.sqrt(2)) * rare / n)
