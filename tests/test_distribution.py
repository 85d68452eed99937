"""Disparity, entropy and balance against shares taken link by link, and the laws that bind them."""

from __future__ import annotations

import igraph
import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import ZOO, traced_network
from torch import nn

import cntgraph as cnt

SPREAD = (
    "disparity_in",
    "disparity_out",
    "effective_degree_in",
    "effective_degree_out",
    "entropy_in",
    "entropy_out",
)
KINDS = ("weight", "identity", "fixed", "scale", "select")
SIGNS = {
    "absolute": np.abs,
    "positive": lambda w: np.maximum(w, 0),
    "negative": lambda w: np.maximum(-w, 0),
}


def links(network, kinds=("weight",)):
    """Source, target and weight of every link, as arrays."""
    batches = list(network.links(kinds))
    return tuple(
        np.concatenate([np.zeros(0), *(b.column(c).to_numpy() for b in batches)]).astype(kind)
        for c, kind in (("source", int), ("target", int), ("weight", float))
    )


def of_each_neuron(network, f, end, sign="absolute", kinds=("weight",)):
    """``f`` of the weights at one end of its links, for each neuron; NaN where they add up to 0."""
    source, target, weight = links(network, kinds)
    weight, at = SIGNS[sign](weight), target if end == "in" else source
    order = np.argsort(at, kind="stable")
    count = np.bincount(at, minlength=network.neuron_count)
    groups = np.split(weight[order], np.cumsum(count)[:-1])
    return np.array([f(g) if g.sum() else np.nan for g in groups])


def disparity(w):
    return float(((w / w.sum()) ** 2).sum())


def entropy(w):
    return float(scipy.special.entr(w / w.sum()).sum())


def test_a_case_that_fits_in_the_head():
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.0, 0.0], [1.0, 1.0, -2.0]]))
    found = cnt.measure(cnt.trace(layer, (1, 3)), *SPREAD, "balance", "net_strength")
    none = [np.nan] * 3
    np.testing.assert_allclose(found["disparity_in"], [*none, 10 / 16, 6 / 16])
    np.testing.assert_allclose(found["disparity_out"], [10 / 16, 0.5, 1, np.nan, np.nan])
    np.testing.assert_allclose(found["effective_degree_in"], [*none, 1.6, 16 / 6])
    half = np.log(4) - 0.75 * np.log(3), 1.5 * np.log(2)
    np.testing.assert_allclose(found["entropy_in"], [*none, *half])
    np.testing.assert_allclose(found["entropy_out"][1:3], [np.log(2), 0])
    np.testing.assert_allclose(found["balance"], [1, 0, -1, 0.5, 0])
    np.testing.assert_allclose(found["net_strength"], [-4, 0, 2, 2, 0])


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("kinds", [("weight",), KINDS], ids=["weights", "all kinds"])
def test_shares_taken_link_by_link_give_the_same(name, kinds):
    network = traced_network(name, "folded" if name == "residual" else "raw")
    found = cnt.measure(network, *SPREAD, kinds=kinds)
    for end in ("in", "out"):
        expected = of_each_neuron(network, disparity, end, kinds=kinds)
        np.testing.assert_allclose(found[f"disparity_{end}"], expected, rtol=1e-10)
        np.testing.assert_allclose(found[f"effective_degree_{end}"], 1 / expected, rtol=1e-10)
        expected = of_each_neuron(network, entropy, end, kinds=kinds)
        np.testing.assert_allclose(found[f"entropy_{end}"], expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", ["dense", "lenet"])
def test_one_sign_alone_after_a_filter(name, sign):
    network = traced_network(name).filtered("top:2")
    found = cnt.measure(network, "disparity_in", "entropy_out", sign=sign)
    expected = of_each_neuron(network, disparity, "in", sign)
    np.testing.assert_allclose(found["disparity_in"], expected, rtol=1e-12)
    expected = of_each_neuron(network, entropy, "out", sign)
    np.testing.assert_allclose(found["entropy_out"], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kinds", [("weight",), KINDS], ids=["weights", "all kinds"])
@pytest.mark.parametrize("name", ZOO)
def test_igraph_gives_the_same_balance(name, kinds):
    network = traced_network(name)
    source, target, weight = links(network, kinds)
    graph = igraph.Graph(network.neuron_count, list(zip(source, target, strict=True)), True)
    graph.es["weight"] = weight.tolist()
    found = cnt.measure(network, "balance", "net_strength", kinds=kinds)
    with np.errstate(invalid="ignore"):
        expected = np.divide(
            graph.strength(weights="weight"),
            graph.strength(weights=[abs(w) for w in graph.es["weight"]]),
        )
    np.testing.assert_allclose(found["balance"], expected, rtol=1e-9, atol=1e-12)
    into, out = (graph.strength(mode=mode, weights="weight") for mode in ("in", "out"))
    np.testing.assert_allclose(found["net_strength"], np.subtract(into, out), atol=1e-11)


def bound(network, *matrices):
    """A dense network with these weights, a matrix per layer; its biases play no part."""
    state = {name: tensor.clone() for name, tensor in network.weights.items()}
    names = [name for name in state if name.endswith("weight")]
    state |= {n: torch.tensor(m) for n, m in zip(names, matrices, strict=True)}
    return network.with_weights(state)


WHOLE = st.integers(-9, 9).map(float)
WEIGHTS = st.tuples(
    *(arrays(np.float64, (b, a), elements=WHOLE) for a, b in ((12, 8), (8, 6), (6, 3)))
)


@given(WEIGHTS, st.sampled_from([0.25, 3.0, 1e6]))
@settings(max_examples=25, deadline=None)
def test_they_are_shares_of_links(matrices, factor):
    network = bound(traced_network("dense"), *matrices)
    found = cnt.measure(network, *SPREAD, "balance")
    degree = cnt.strength(network)
    for end in ("in", "out"):
        y, h = found[f"disparity_{end}"].to_numpy(), found[f"entropy_{end}"].to_numpy()
        there = ~np.isnan(y)
        assert (there == ~np.isnan(h)).all()
        k = degree[f"degree_{end}"].to_numpy()[there]
        # the orders 2, 1 and 0 of Renyi's entropy descend: 1/Y <= exp H <= k
        assert (1 / y[there] <= np.exp(h[there]) * (1 + 1e-9)).all()
        assert (np.exp(h[there]) <= k * (1 + 1e-9)).all()
    assert (found["balance"].dropna().abs() <= 1).all()
    scaled = cnt.measure(bound(network, *(factor * m for m in matrices)), *SPREAD, "balance")
    np.testing.assert_allclose(scaled[found.columns[3:]], found[found.columns[3:]], atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_squared_in_double(dtype):
    torch.manual_seed(0)
    model = nn.Linear(6, 4).to(dtype)
    with torch.no_grad():
        model.weight.mul_(2000)  # squares beyond the largest float16, 65504
    half = cnt.trace(model, torch.zeros(1, 6, dtype=dtype))
    wide = cnt.trace(model.double(), torch.zeros(1, 6, dtype=torch.float64))
    for name in (*SPREAD, "balance", "net_strength"):
        found, expected = (cnt.measure(n, name)[name] for n in (half, wide))
        np.testing.assert_array_equal(found, expected)
    assert cnt.measure(half, "disparity_in")["disparity_in"].iloc[-1] < 1


def test_what_is_not_a_number_stays_where_it_is():
    matrices = [w.double().numpy().copy() for w in weights_of("dense")]
    matrices[1][2, 3], matrices[2][0, 0] = np.nan, np.inf
    network = bound(traced_network("dense"), *matrices)
    found = cnt.measure(network, *SPREAD, "balance")
    ids = {layer.name: layer.first for layer in network.layers}
    hidden, after, output = list(ids.values())[1:]
    for end, touched in (("in", (after + 2, output)), ("out", (hidden + 3, after))):
        with np.errstate(invalid="ignore"):
            expected = of_each_neuron(network, disparity, end)
        assert np.isnan(expected[list(touched)]).all()
        for name in (f"disparity_{end}", f"effective_degree_{end}", f"entropy_{end}"):
            np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(expected))
    assert set(np.flatnonzero(found["balance"].isna())) == {hidden + 3, after + 2, after, output}


def weights_of(name):
    network = traced_network(name)
    return [t for n, t in network.weights.items() if n.endswith("weight")]


def test_nothing_is_not_shared_out():
    network = bound(traced_network("dense"), *(0 * w.numpy() for w in weights_of("dense")))
    assert cnt.measure(network, *SPREAD, "balance")[list(SPREAD)].isna().all(axis=None)
    assert (cnt.measure(network, "net_strength")["net_strength"] == 0).all()
    nothing = traced_network("dense").filtered("above:1e9")
    assert cnt.measure(nothing, "disparity_in", "balance").iloc[:, 3:].isna().all(axis=None)


def test_one_neuron_has_every_share():
    network = cnt.trace(nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 3)), (1, 4))
    found = cnt.measure(network, "disparity_out", "entropy_out", "disparity_in")
    np.testing.assert_array_equal(found["disparity_out"][:4], 1)
    np.testing.assert_array_equal(found["entropy_out"][:4], 0)
    np.testing.assert_array_equal(found["disparity_in"][5:], 1)


def test_shares_have_no_sign():
    with pytest.raises(cnt.InputRefused, match="signed"):
        cnt.measure(traced_network("dense"), "disparity_in", sign="signed")
