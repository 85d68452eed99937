"""Degrees, cores and clubs against igraph and by hand, where a network lets them speak."""

from __future__ import annotations

import functools
import itertools

import igraph
import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import Dense, traced_network
from torch import nn

import cntgraph as cnt
from cntgraph.measures.families.peeling import shells, undirected

SIGNS = {
    "absolute": np.abs,
    "positive": lambda w: np.maximum(w, 0.0),
    "negative": lambda w: np.maximum(-w, 0.0),
}
ALL = ("weight", "identity", "fixed", "scale", "select")


def listed(network, kinds=("weight",)):
    """Sources, targets and weights, from the listed links alone."""
    batches = [b.to_pandas() for b in network.links(kinds)]
    return tuple(np.concatenate([b[c] for b in batches]) for c in ("source", "target", "weight"))


def explicit(network, sign="absolute", kinds=("weight",)):
    """The directed graph of the links of a sign; with ``absolute`` of all of them."""
    source, target, weight = listed(network, kinds)
    size = SIGNS[sign](weight)
    kept = size >= 0 if sign == "absolute" else size > 0
    edges = zip(source[kept].tolist(), target[kept].tolist(), strict=True)
    graph = igraph.Graph(network.neuron_count, edges, directed=True)
    graph.es["weight"] = size[kept].tolist()
    return graph


class Bridged(nn.Module):
    """Two layers and a connection that skips the second: triangles of trained links."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(9, 3)

    def forward(self, x):
        return self.last(torch.cat([x, torch.relu(self.first(x))], 1))


class Dense2d(nn.Module):
    """A convolution that reads the image and another convolution of it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        return self.last(torch.cat([x, torch.relu(self.first(x))], 1))


class Adding(nn.Module):
    """Two layers whose sum with their input goes on: only the identity closes a triangle."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.relu(self.first(x))) + x))


class Parallel(nn.Module):
    """Some of what is read is read twice, so that two links join the same two neurons."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(torch.cat([x, x[:, :3], torch.relu(self.first(x))], 1))


class Partly(nn.Module):
    """As many links as a full layer has, but one input is read twice and another never."""

    def __init__(self):
        super().__init__()
        self.only = nn.Linear(5, 3)

    def forward(self, x):
        return self.only(torch.cat([x[:, :4], x[:, :1]], 1))


SKIPPING = {
    "bridged": (Bridged, (1, 5)),
    "2d": (Dense2d, (1, 1, 4, 5)),
    "adding": (Adding, (1, 5)),
    "parallel": (Parallel, (1, 5)),
    "partly": (Partly, (1, 5)),
}


@functools.cache
def skipping(name):
    torch.manual_seed(1)
    model, example = SKIPPING[name]
    return cnt.trace(model(), example)


def bridged():
    return skipping("bridged")


FILTERED = {
    "dense top:2": lambda: traced_network("dense").filtered("top:2"),
    "lenet": lambda: traced_network("lenet"),
    "residual backbone": lambda: traced_network("residual").filtered("backbone:0.1"),
    "bridged top:1": lambda: bridged().filtered("top:1"),
    "parallel": lambda: skipping("parallel").filtered("top:4"),
}
SIGNED = [*itertools.product(FILTERED, SIGNS), ("dense", "positive"), ("dense", "negative")]


def named(name):
    return FILTERED[name]() if name in FILTERED else traced_network(name)


# -- degree and coreness --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sign"), SIGNED)
def test_igraph_counts_the_same(name, sign):
    network = named(name)
    graph = explicit(network, sign)
    for measure in ("degree", "coreness"):
        wanted = getattr(graph, measure)(mode="all")
        if all(len(set(wanted[a.first : a.last])) == 1 for a in network.layers):
            with pytest.raises(cnt.DegenerateMeasure):
                cnt.measure(network, measure, sign=sign)
        else:
            assert cnt.measure(network, measure, sign=sign)[measure].tolist() == wanted


@pytest.mark.parametrize("kinds", [ALL, ("weight", "select")])
def test_other_links_count_where_they_are_asked_for(kinds):
    network = traced_network("residual")
    graph = explicit(network, kinds=kinds)
    found = cnt.measure(network, "degree", "coreness", kinds=kinds)
    assert found["degree"].tolist() == graph.degree(mode="all")
    assert found["coreness"].tolist() == graph.coreness(mode="all")


def test_a_weight_of_zero_is_a_link_without_a_sign():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, 0.0]]))
    network = cnt.trace(layer, (1, 3))
    assert cnt.measure(network, "degree", sign="positive")["degree"].tolist() == [2, 0, 0, 1, 1]
    assert cnt.measure(network, "degree", sign="negative")["degree"].tolist() == [0, 0, 1, 1, 0]
    kept = network.filtered("nonzero")
    assert cnt.measure(kept, "degree")["degree"].tolist() == [2, 0, 1, 2, 1]


def test_a_nan_weight_has_no_sign():
    network = traced_network("dense")
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.2.weight"][0, 0] = float("nan")
    broken = network.with_weights(weights)
    degree = cnt.measure(broken, "degree", sign="positive")["degree"]
    ends = network.layer("fc.1").first, network.layer("fc.2").first
    assert degree.index[degree.isna()].tolist() == list(ends)
    assert cnt.measure(broken, "coreness", sign="positive")["coreness"].isna().all()
    assert cnt.measure(broken, "s_core")["s_core"].isna().all()
    assert cnt.measure(broken, "density", sign="negative")["density"].isna().all()
    assert cnt.measure(broken, "rich_club", top=0.5, shuffles=2).isna().all(axis=None)


# -- s-cores --------------------------------------------------------------------------------------


def peeled(w):
    """The weakest neuron goes first, with its links: by the definition, on a dense matrix."""
    both, found, level = w + w.T, np.zeros(len(w)), -np.inf
    left = list(range(len(w)))
    while left:
        strength = both[np.ix_(left, left)].sum(axis=1)
        weakest = int(strength.argmin())
        level = max(level, strength[weakest])
        found[left.pop(weakest)] = level
    return found


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", ["dense", "dense top:2", "bridged top:1", "tied"])
def test_s_cores_by_their_definition(name, sign):
    network = named(name)
    source, target, weight = listed(network)
    w = np.zeros((network.neuron_count,) * 2)
    np.add.at(w, (source, target), SIGNS[sign](weight))
    found = cnt.measure(network, "s_core", sign=sign)["s_core"]
    np.testing.assert_allclose(found, peeled(w), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["lenet", "residual backbone", "dense top:2"])
def test_s_cores_of_equal_weights_are_cores(name):
    network = named(name)
    ones = network.with_weights({n: torch.ones_like(t) for n, t in network.weights.items()})
    found = cnt.measure(ones, "s_core")["s_core"]
    assert found.tolist() == explicit(ones).coreness(mode="all")


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (7, 7), elements=st.floats(0, 9)))
def test_a_core_is_the_largest_that_is_that_strong(weight):
    w = np.triu(weight, 1)
    source, target = np.nonzero(w)
    both = w + w.T
    found = shells(*undirected(source, target, w[source, target], 7), both.sum(axis=1))
    np.testing.assert_allclose(found, peeled(w), rtol=1e-9, atol=1e-9)
    for level in np.unique(found):
        core = found >= level
        inside = both[np.ix_(core, core)].sum(axis=1)
        assert (inside >= level - 1e-9 * (1 + level)).all(), "nobody in it is weaker"


# -- the rich club --------------------------------------------------------------------------------


def club(network, sign, top, *, layered=False):
    """The coefficient by its definition, link by link."""
    source, target, weight = listed(network)
    size = SIGNS[sign](weight)
    strength = np.zeros(network.neuron_count)
    np.add.at(strength, source, size)
    np.add.at(strength, target, size)
    parts = [range(a.first, a.last) for a in network.layers] if layered else [range(len(strength))]
    rich = set()
    for part in parts:
        ranked = sorted(part, key=lambda i: -strength[i])
        least = strength[ranked[int(np.ceil(top * len(ranked))) - 1]]
        rich |= {i for i in part if strength[i] >= least and strength[i] > 0}
    inside = [
        w for s, t, w in zip(source, target, size, strict=True) if s in rich and t in rich and w > 0
    ]
    return sum(inside) / sum(sorted(size, reverse=True)[: len(inside)])


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", ["dense", "dense top:2", "bridged top:1"])
def test_rich_clubs_by_their_definition(name, sign):
    network = named(name)
    for top in (0.5, 0.8, 1.0):
        found = cnt.measure(network, "rich_club", sign=sign, top=top)["rich_club"][0]
        assert found == pytest.approx(club(network, sign, top), rel=1e-12)
        found = cnt.measure(network, "rich_club", sign=sign, top=top, among="layer")
        wanted = club(network, sign, top, layered=True)
        assert found["rich_club"][0] == pytest.approx(wanted, rel=1e-12)


def test_everybody_is_a_club_of_one():
    assert cnt.measure(traced_network("dense"), "rich_club", top=1.0)["rich_club"][0] == 1.0


def test_the_strong_joined_to_the_strong_stand_out_of_the_null():
    model = Dense((20, 16, 12))
    with torch.no_grad():
        for layer in model.fc:
            layer.weight.uniform_(-0.1, 0.1)
            layer.weight[:3, :3] += 1.0
    network = cnt.trace(model, (1, 20))
    row = cnt.measure(network, "rich_club", top=0.15, among="layer", shuffles=10).iloc[0]
    assert row["rich_club"] > 0.95
    assert row["rich_club_ratio"] > 1.2
    assert row["rich_club_ratio"] == pytest.approx(row["rich_club"] / row["rich_club_null"])
    again = cnt.measure(network, "rich_club", top=0.15, among="layer", shuffles=10).iloc[0]
    assert again.equals(row)


# -- triangles ------------------------------------------------------------------------------------


BY_WEIGHTS = itertools.product(["bridged", "2d", "parallel"], [("weight",)], SIGNS)
BY_IDENTITY = itertools.product(["adding"], [ALL], ["absolute", "positive"])  # which weighs 1


@pytest.mark.parametrize(("name", "kinds", "sign"), [*BY_WEIGHTS, *BY_IDENTITY])
def test_igraph_finds_the_same_triangles(name, kinds, sign):
    network = skipping(name)
    if sign == "absolute":  # with all links a layer would have one value
        network = network.filtered("top:3")
    graph = explicit(network, sign, kinds).as_undirected()
    found = cnt.measure(network, "clustering", sign=sign, kinds=kinds)["clustering"]
    np.testing.assert_allclose(found, graph.transitivity_local_undirected(mode="zero"), rtol=1e-12)
    found = cnt.measure(network, "transitivity", sign=sign, kinds=kinds)["transitivity"][0]
    assert found == pytest.approx(graph.transitivity_undirected(), rel=1e-12)
    assert found > 0


def parted():
    """Triangles, beside a first neuron that has no link and so is a part of its own."""
    weights = {n: t.clone() for n, t in bridged().weights.items()}
    for name in ("first.weight", "last.weight"):
        weights[name][:, 0] = 0.0
    return bridged().with_weights(weights).filtered("nonzero")


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", ["bridged", "parallel", "parted"])
def test_small_world_by_its_definition(name, sign):
    network = parted() if name == "parted" else skipping(name)
    graph = nx.Graph(explicit(network, sign).get_edgelist())
    part = graph.subgraph(max(nx.connected_components(graph), key=len))
    n, k = len(part), 2 * part.number_of_edges() / len(part)
    clustered = nx.transitivity(part) / (k / n)
    distant = nx.average_shortest_path_length(part) / (np.log(n) / np.log(k))
    found = cnt.measure(network, "small_world", sign=sign)["small_world"][0]
    assert found == pytest.approx(clustered / distant, rel=1e-12)


# -- density and eigenvectors ---------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sign"), SIGNED)
def test_density_by_its_definition(name, sign):
    network = named(name)
    pairs = {(b.source, b.target) for b in network.carrying_blocks(("weight",))}
    possible = sum(network.layer(a).size * network.layer(b).size for a, b in pairs)
    joined = len(set(explicit(network, sign).get_edgelist()))
    found = cnt.measure(network, "density", sign=sign)["density"][0]
    assert found == pytest.approx(joined / possible, rel=1e-14)


def test_a_neuron_that_is_never_read_leaves_a_gap():
    network = skipping("partly")
    assert network.link_count == 5 * 3
    assert cnt.measure(network, "density")["density"][0] == pytest.approx(4 / 5)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", ["dense", "bridged top:1", "residual backbone"])
def test_undirected_eigenvectors(name, sign):
    network = named(name)
    found = cnt.measure(network, "eigenvector", directed=False, sign=sign)["eigenvector"]
    x = found.to_numpy()
    source, target, weight = listed(network)
    size = SIGNS[sign](weight)
    onto = np.zeros_like(x)
    np.add.at(onto, source, size * x[target])
    np.add.at(onto, target, size * x[source])
    np.testing.assert_allclose(onto, onto.max() * x, atol=1e-6 * onto.max())
    assert x.max() == pytest.approx(1.0)
    assert (x >= -1e-9).all()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("rich_club", {"top": 0.0}, "top=0.0"),
        ("rich_club", {"top": 1.5}, "up to 1"),
        ("rich_club", {"among": "layers"}, "did you mean layer"),
        ("rich_club", {"shuffles": -2}, "shuffles=-2"),
    ],
)
def test_bad_values(name, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.measure(traced_network("dense"), name, **options)
    assert said in str(refusal.value)
