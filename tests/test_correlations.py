"""Strengths at both ends of links, against NumPy's weighted covariance and igraph's assortativity.

Everything that is compared with is computed from the listed links.
"""

from __future__ import annotations

import functools

import igraph
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import ZOO, Twice, traced_network
from torch import nn

import cntgraph as cnt


@functools.cache
def network_of(name):
    if name == "twice":
        torch.manual_seed(1)
        return cnt.trace(Twice(), (1, 6))
    if name.startswith("filtered "):
        return traced_network(name.removeprefix("filtered ")).filtered("top:3")
    return traced_network(name, "folded" if name == "residual" else "raw")


NAMES = [*ZOO, "twice", "filtered dense", "filtered lenet"]


def kinds_of(name):
    return ("weight", "identity") if name == "twice" else ("weight",)


@functools.cache
def links(network, kinds=("weight",)):
    """Source, target and weight of every link, as arrays."""
    batches = list(network.links(kinds))
    columns = [[b.column(c).to_numpy() for b in batches] for c in ("source", "target", "weight")]
    return tuple(np.concatenate(column) for column in columns)


def strengths(network, sign, kinds=("weight",)):
    source, target, weight = links(network, kinds)
    weight = np.abs(weight) if sign == "absolute" else weight
    n = network.neuron_count
    return np.bincount(source, weight, n) + np.bincount(target, weight, n)


def pairs(network, kinds=("weight",)):
    """The places in `links` of each pair of layers that links join."""
    source, target, _ = links(network, kinds)
    first = np.array([layer.first for layer in network.layers])
    ends = [np.searchsorted(first, end, side="right") - 1 for end in (source, target)]
    names = [layer.name for layer in network.layers]
    found = sorted(set(zip(*ends, strict=True)), key=lambda p: (p[1], p[0]))
    return {(names[a], names[b]): np.flatnonzero((ends[0] == a) & (ends[1] == b)) for a, b in found}


@pytest.mark.parametrize("sign", ["absolute", "signed"])
@pytest.mark.parametrize("name", NAMES)
def test_the_weighted_covariance_gives_the_same(name, sign):
    network, kinds = network_of(name), kinds_of(name)
    source, target, weight = links(network, kinds)
    strength = strengths(network, sign, kinds)
    found = cnt.measure(network, "assortativity", sign=sign, kinds=kinds).set_index(
        ["source", "target"]
    )
    for pair, at in pairs(network, kinds).items():
        ends = np.stack([strength[source[at]], strength[target[at]]])
        c = np.cov(ends, aweights=np.abs(weight[at]))
        constant = (np.ptp(ends, axis=1) <= 1e-12 * np.abs(ends).max(axis=1)).any()
        expected = np.nan if constant else c[0, 1] / np.sqrt(c[0, 0] * c[1, 1])
        value = found.loc[pair, "assortativity"]
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-11)
    assert len(found) == len(pairs(network, kinds))


def test_parallel_links_are_there():
    source, target, _ = links(network_of("twice"), kinds_of("twice"))
    assert len(source) == 60 + 25 + 5
    assert len(set(zip(source, target, strict=True))) == 30 + 25


@pytest.mark.skipif(igraph.__version__ < "1", reason="no weighted assortativity before igraph 1.0")
@pytest.mark.parametrize("name", ["dense", "twice", "tied", "residual", "filtered dense"])
@pytest.mark.parametrize("sign", ["absolute", "signed"])
def test_igraph_gives_the_same(name, sign):
    network, kinds = network_of(name), kinds_of(name)
    source, target, weight = links(network, kinds)
    ends = list(zip(source.tolist(), target.tolist(), strict=True))
    graph = igraph.Graph(network.neuron_count, ends, directed=True)
    graph.es["weight"] = np.abs(weight).tolist()
    types = graph.strength(weights="weight" if sign == "absolute" else weight.tolist())
    found = cnt.measure(network, "assortativity", sign=sign, kinds=kinds).set_index(
        ["source", "target"]
    )
    for pair, at in pairs(network, kinds).items():
        joined = graph.subgraph_edges(at.tolist(), delete_vertices=False)
        expected = joined.assortativity(types, types, directed=True, weights="weight")
        np.testing.assert_allclose(found.loc[pair, "assortativity"], expected, rtol=1e-9)


@pytest.mark.parametrize("sign", ["absolute", "signed"])
@pytest.mark.parametrize("name", NAMES)
def test_neighbours_averaged_link_by_link_give_the_same(name, sign):
    network, kinds = network_of(name), kinds_of(name)
    source, target, weight = links(network, kinds)
    strength, size = strengths(network, sign, kinds), np.abs(weight)
    n = network.neuron_count
    summed = np.bincount(source, size * strength[target], n)
    summed += np.bincount(target, size * strength[source], n)
    total = strengths(network, "absolute", kinds)
    with np.errstate(invalid="ignore"):
        expected = summed / total
    found = cnt.measure(network, "neighbour_strength", sign=sign, kinds=kinds)["neighbour_strength"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11)


def test_a_case_that_fits_in_the_head():
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    network = cnt.trace(layer, (1, 2))
    assert cnt.measure(network, "assortativity")["assortativity"].tolist() == pytest.approx([1.0])
    assert cnt.measure(network, "neighbour_strength")["neighbour_strength"].tolist() == [1, 2, 1, 2]
    found = cnt.measure(network, "neighbour_strength", sign="signed")["neighbour_strength"]
    assert found.tolist() == [1, -2, 1, -2]


def bound(network, *matrices):
    """A dense network with these weights, a matrix per layer; its biases play no part."""
    state = {name: tensor.clone() for name, tensor in network.weights.items()}
    names = [name for name in state if name.endswith("weight")]
    state |= {n: torch.tensor(m) for n, m in zip(names, matrices, strict=True)}
    return network.with_weights(state)


SHAPES = (8, 12), (6, 8), (3, 6)
WHOLE = st.integers(-9, 9).filter(bool).map(float)
WEIGHTS = st.tuples(*(arrays(np.float64, shape, elements=WHOLE) for shape in SHAPES))
SIGNS = st.tuples(
    *(arrays(np.float64, shape, elements=st.sampled_from([-1.0, 1.0])) for shape in SHAPES)
)


def measured(network, sign):
    try:
        return cnt.measure(network, "assortativity", sign=sign)["assortativity"].to_numpy()
    except cnt.DegenerateMeasure:
        return np.full(3, np.nan)


@given(WEIGHTS, st.sampled_from(["absolute", "signed"]))
@settings(max_examples=25, deadline=None)
def test_it_is_a_correlation(matrices, sign):
    found = measured(bound(traced_network("dense"), *matrices), sign)
    assert (np.abs(found[~np.isnan(found)]) <= 1 + 1e-12).all()
    scaled = measured(bound(traced_network("dense"), *(-1e3 * m for m in matrices)), sign)
    np.testing.assert_allclose(scaled, found, rtol=1e-9, atol=1e-12)


@given(SIGNS)
@settings(max_examples=25, deadline=None)
def test_links_that_weigh_the_same_correlate_nothing_on_a_full_layer(matrices):
    found = measured(bound(traced_network("dense"), *matrices), "signed")
    np.testing.assert_allclose(found[~np.isnan(found)], 0, atol=1e-12)


def test_nothing_cancels_where_strengths_are_large_and_alike():
    rng = np.random.default_rng(0)
    matrices = [1e6 + rng.random(shape) for shape in SHAPES]
    network = bound(traced_network("dense"), *matrices)
    found = cnt.measure(network, "assortativity").set_index(["source", "target"])
    source, target, weight = links(network)
    strength = strengths(network, "absolute").astype(np.longdouble)
    for pair, at in pairs(network).items():
        w = weight[at].astype(np.longdouble)
        x, y = strength[source[at]], strength[target[at]]
        x, y = (v - (w * v).sum() / w.sum() for v in (x, y))
        expected = (w * x * y).sum() / np.sqrt((w * x * x).sum() * (w * y * y).sum())
        assert abs(found.loc[pair, "assortativity"] - float(expected)) < 1e-8


def test_a_layer_of_one_neuron_has_no_correlation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
    found = cnt.measure(cnt.trace(model, (1, 5)), "assortativity")["assortativity"]
    assert not np.isnan(found[0])
    assert np.isnan(found[1])


def nowhere():
    zeros = [np.zeros(shape) for shape in SHAPES]
    return {
        "one neuron": cnt.trace(nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 3)), (1, 4)),
        "zeros": bound(traced_network("dense"), *zeros),
        "alike": bound(traced_network("dense"), *(z + 0.1 for z in zeros)),
        "no links": traced_network("dense").filtered("above:1e9"),
    }


@pytest.mark.parametrize("case", ["one neuron", "zeros", "alike", "no links"])
def test_where_no_pair_has_a_correlation_it_is_refused(case):
    with pytest.raises(cnt.DegenerateMeasure, match="assortativity") as refusal:
        cnt.measure(nowhere()[case], "assortativity")
    assert "disparity" in str(refusal.value)


def test_an_unlinked_neuron_has_no_neighbours():
    matrices = [np.ones(shape) for shape in SHAPES]
    matrices[0][:, 4] = 0
    network = bound(traced_network("dense"), *matrices)
    for one in (network, network.filtered("nonzero")):
        found = cnt.measure(one, "neighbour_strength")["neighbour_strength"]
        assert np.flatnonzero(found.isna()).tolist() == [4]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_stays_where_it_is(value):
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=shape) for shape in SHAPES]
    matrices[2][0, 0] = value
    network = bound(traced_network("dense"), *matrices)
    found = cnt.measure(network, "assortativity")["assortativity"]
    # its strength is that of a target of the second pair, too
    assert np.isnan(found).tolist() == [False, True, True]
    found = cnt.measure(network, "neighbour_strength", sign="signed")
    first = [layer.first for layer in network.layers]
    expected = np.zeros(network.neuron_count, bool)
    expected[first[1] :] = True  # each of them has it, or a neighbour that has it
    lost = ~np.isfinite(found["neighbour_strength"])
    np.testing.assert_array_equal(lost, expected)


def test_where_nothing_is_a_number_nothing_is_refused():
    network = bound(traced_network("dense"), *(np.full(shape, np.nan) for shape in SHAPES))
    assert cnt.measure(network, "assortativity")["assortativity"].isna().all()
