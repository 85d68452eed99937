"""Neural persistence against the spanning forests of NetworkX and igraph."""

from __future__ import annotations

import functools

import igraph
import networkx
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
        return traced_network(name.removeprefix("filtered ")).filtered("top:2")
    return traced_network(name)


NAMES = [*ZOO, "twice", "filtered dense", "filtered lenet"]


def kinds_of(name):
    return ("weight", "identity") if name == "twice" else ("weight",)


@functools.cache
def blocks(network, kinds):
    """Source, target and |w| over the largest of the links of each pair of layers."""
    batches = list(network.links(kinds))
    columns = [[b.column(c).to_numpy() for b in batches] for c in ("source", "target", "weight")]
    source, target, weight = (np.concatenate(column) for column in columns)
    names = network.neurons()["layer"].to_numpy()
    value = np.abs(weight) / np.abs(weight).max()
    found = {}
    for pair in dict.fromkeys(zip(names[source], names[target], strict=True)):
        at = np.flatnonzero((names[source] == pair[0]) & (names[target] == pair[1]))
        found[pair] = source[at].tolist(), target[at].tolist(), value[at]
    return found


def size(network, pair):
    return sum(network.layer(name).size for name in pair)


@pytest.mark.parametrize("name", NAMES)
def test_igraph_spans_the_same_forest(name):
    network, kinds = network_of(name), kinds_of(name)
    found = cnt.measure(network, "persistence", kinds=kinds).set_index(["source", "target"])[
        "persistence"
    ]
    assert set(found.index) == set(blocks(network, kinds))
    for pair, (source, target, value) in blocks(network, kinds).items():
        ends = list(zip(source, target, strict=True))
        graph = igraph.Graph(network.neuron_count, ends)
        graph.es["weight"] = (1 - value).tolist()
        forest = graph.spanning_tree(weights="weight").es["weight"]
        expected = np.linalg.norm(forest) / np.sqrt(size(network, pair) - 1)
        np.testing.assert_allclose(found[pair], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("p", [1, 3.5, float("inf")])
@pytest.mark.parametrize("name", ["dense", "twice", "sequence", "filtered dense"])
def test_networkx_spans_the_same_forest(name, p):
    network, kinds = network_of(name), kinds_of(name)
    found = cnt.measure(network, "persistence", p=p, kinds=kinds).set_index(["source", "target"])
    whole = cnt.measure(network, "persistence", p=p, normalised=False, kinds=kinds)
    whole = whole["persistence"]
    for k, (pair, (source, target, value)) in enumerate(blocks(network, kinds).items()):
        graph = networkx.MultiGraph()
        graph.add_weighted_edges_from(zip(source, target, value.tolist(), strict=True))
        forest = networkx.maximum_spanning_edges(graph, data=True)
        norm = np.linalg.norm([1 - data["weight"] for *_, data in forest], ord=p)
        np.testing.assert_allclose(whole[k], norm, rtol=1e-12)
        expected = norm / (size(network, pair) - 1) ** (1 / p)
        np.testing.assert_allclose(found.loc[pair, "persistence"], expected, rtol=1e-12)


def test_parallel_links_are_there():
    for source, target, _ in blocks(network_of("twice"), kinds_of("twice")).values():
        assert len(source) > len(set(zip(source, target, strict=True)))


def linear(rows, *more):
    layers = []
    for matrix in (rows, *more):
        matrix = torch.tensor(matrix, dtype=torch.float64)
        layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False).double()
        with torch.no_grad():
            layer.weight.copy_(matrix)
        layers.append(layer)
    example = torch.zeros(1, layers[0].in_features, dtype=torch.float64)
    return cnt.trace(nn.Sequential(*layers), example)


def persistence(network, **options):
    return cnt.measure(network, "persistence", **options)["persistence"].tolist()


def test_a_case_that_fits_in_the_head():
    network = linear([[4.0, -1.0], [-2.0, 0.5]])  # the links 1, 1/2 and 1/4 join all four neurons
    assert persistence(network, normalised=False) == [np.sqrt(0.25 + 0.5625)]
    assert persistence(network) == [np.sqrt((0.25 + 0.5625) / 3)]
    assert persistence(network, p=1) == pytest.approx([1.25 / 3])
    assert persistence(network, p=float("inf")) == [0.75]


def test_links_of_no_length_are_links():
    """SciPy reads a stored zero as no link: the heaviest link lives for 0, a zero weight for 1."""
    assert persistence(linear([[1.0, 0.0]]), normalised=False) == [1]
    assert persistence(linear([[1.0, 1.0], [1.0, 1.0]])) == [0]
    assert persistence(linear([[0.0, 0.0]], [[3.0]])) == [1, 0]


def test_the_maximum_is_that_of_the_whole_network():
    assert persistence(linear([[1.0]], [[-4.0]])) == [0.75, 0]


def test_components_that_never_meet_add_nothing():
    network = linear([[1.0, 0.0], [0.0, 0.5]], [[1.0, 1.0]]).filtered("nonzero")
    assert persistence(network) == pytest.approx([0.5 / np.sqrt(3), 0])
    assert persistence(network, normalised=False) == [0.5, 0]


def test_a_pair_without_links_has_none():
    network = linear([[1.0, 0.5]], [[0.01], [0.02]]).filtered("above:0.1")
    found = persistence(network)
    assert found[0] > 0
    assert np.isnan(found[1])


SHAPES = (8, 12), (6, 8), (3, 6)
WHOLE = st.integers(-9, 9).map(float)
WEIGHTS = st.tuples(*(arrays(np.float64, shape, elements=WHOLE) for shape in SHAPES))


def bound(*matrices):
    network = traced_network("dense")
    state = {name: tensor.clone() for name, tensor in network.weights.items()}
    names = [name for name in state if name.endswith("weight")]
    state |= {n: torch.tensor(m) for n, m in zip(names, matrices, strict=True)}
    return network.with_weights(state)


@given(WEIGHTS, st.sampled_from([1.0, 2.0, 7.0]))
@settings(max_examples=25, deadline=None)
def test_it_is_between_0_and_1_and_has_no_scale(matrices, p):
    matrices[1][0, 0] = 10
    found = persistence(bound(*matrices), p=p)
    assert all(0 <= value <= 1 + 1e-12 for value in found)
    scaled = persistence(bound(*(-1e-3 * m[::-1] for m in matrices)), p=p)
    np.testing.assert_allclose(scaled, found, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_stays_where_it_is(value):
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=shape) for shape in SHAPES]
    before = persistence(bound(*matrices))
    matrices[1][2, 2] = value
    found = persistence(bound(*matrices))
    assert np.isnan(found).tolist() == [False, True, False]
    np.testing.assert_allclose(found[0], before[0], rtol=0.2)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda: bound(*(np.zeros(shape) for shape in SHAPES)), "weighs 0"),
        (lambda: network_of("dense").filtered("above:1e9"), "no links"),
    ],
    ids=["zeros", "no links"],
)
def test_where_nothing_grows_together_it_is_refused(network, said):
    with pytest.raises(cnt.DegenerateMeasure, match=said):
        cnt.measure(network(), "persistence")


@pytest.mark.parametrize("p", [0.5, 0, float("nan")])
def test_no_norm_below_1(p):
    with pytest.raises(cnt.InputRefused, match="norm"):
        cnt.measure(network_of("dense"), "persistence", p=p)
