"""Strength against the explicit graph, the paper's convention, and its code's defects."""

from __future__ import annotations

import itertools

import igraph
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ZOO, traced_network
from torch import nn

import cntgraph as cnt


def explicit(network):
    """The graph made from the listed links, without any code of the graph floor."""
    tables = [batch.to_pandas() for batch in network.links()]
    links = (
        pd.concat(tables) if tables else pd.DataFrame({"source": [], "target": [], "weight": []})
    )
    edges = list(zip(links["source"].tolist(), links["target"].tolist(), strict=True))
    graph = igraph.Graph(network.neuron_count, edges, directed=True)
    graph.es["weight"] = links["weight"].tolist()
    return graph


def check_against_igraph(network):
    graph, found = explicit(network), cnt.strength(network)
    for column, mode in (("strength", "all"), ("strength_in", "in"), ("strength_out", "out")):
        np.testing.assert_allclose(
            found[column], graph.strength(mode=mode, weights="weight"), atol=1e-9
        )
    for column, mode in (("degree_in", "in"), ("degree_out", "out")):
        np.testing.assert_array_equal(found[column], graph.degree(mode=mode))
    graph.es["size"] = [abs(w) for w in graph.es["weight"]]
    np.testing.assert_allclose(
        found["strength_absolute"], graph.strength(weights="size"), atol=1e-9
    )


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("batch_norm", ["raw", "folded"])
def test_strength_is_igraphs(name, batch_norm):
    check_against_igraph(traced_network(name, batch_norm))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=2, max_size=5), st.integers(0, 9))
def test_strength_of_any_mlp(sizes, seed):
    torch.manual_seed(seed)
    pairs = itertools.pairwise(sizes)
    network = cnt.trace(nn.Sequential(*(nn.Linear(a, b) for a, b in pairs)), (1, sizes[0]))
    check_against_igraph(network)
    found = cnt.strength(network)
    total = found["strength_in"].sum(), found["strength_out"].sum()
    np.testing.assert_allclose(*total, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "lenet", "attention"])
@pytest.mark.parametrize("convention", ["plain", "paper"])
def test_parts_add_up(name, convention):
    found = cnt.strength(traced_network(name), convention=convention)
    assert (found["strength_negative"] <= 0).all()
    assert (found["strength_positive"] >= 0).all()
    parts = found["strength_positive"] + found["strength_negative"]
    np.testing.assert_allclose(parts, found["strength"], atol=1e-12)
    np.testing.assert_allclose(
        found["strength_in"] + found["strength_out"], found["strength"], atol=1e-12
    )
    size = found["strength_positive"] - found["strength_negative"]
    np.testing.assert_allclose(size, found["strength_absolute"], atol=1e-12)


def fixed_network():
    """Two inputs, two hidden, one output, with weights and biases that fit in the head."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([0.5, -0.25]))
        model[2].weight.copy_(torch.tensor([[10.0, -20.0]]))
        model[2].bias.copy_(torch.tensor([100.0]))
    return cnt.trace(model, (1, 2))


def test_plain_by_hand():
    found = cnt.strength(fixed_network())
    assert found["layer"].tolist() == ["input", "input", "0", "0", "2"]
    assert found["strength"].tolist() == [4.0, -2.0, -1.0 + 10.0, 3.0 - 20.0, -10.0]
    assert found["strength_positive"].tolist() == [4.0, 0.0, 11.0, 3.0, 10.0]
    assert found["strength_negative"].tolist() == [0.0, -2.0, -2.0, -20.0, -20.0]
    # an exactly zero weight is a link like any other
    assert found["degree_in"].tolist() == [0, 0, 2, 2, 2]
    assert found["degree_out"].tolist() == [2, 2, 1, 1, 0]


def test_paper_by_hand():
    found = cnt.strength(fixed_network(), convention="paper")
    assert found["strength"].tolist() == [5.0, -1.0, 9.5, -17.25, 91.0]
    assert found["strength_in"].tolist() == [1.0, 1.0, -0.5, 2.75, 90.0]
    assert found["strength_out"].tolist() == [4.0, -2.0, 10.0, -20.0, 1.0]
    assert found["degree_in"].tolist() == [1, 1, 3, 3, 3]
    assert found["degree_out"].tolist() == [2, 2, 1, 1, 1]


def test_the_last_hidden_layer_is_not_skipped():
    found = cnt.strength(fixed_network(), convention="paper").set_index("layer")
    assert (found.loc["0", "strength_out"] != 0).all()


def test_a_convolution_meets_a_dense_layer_in_the_same_order():
    """What the dense layer reads at a place is what the convolution computes there."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
        model[2].weight.copy_(10.0 ** torch.arange(8.0).reshape(1, 8))
    found = cnt.strength(cnt.trace(model, (1, 1, 2, 2)))
    hidden = found[found["layer"] == "0"]
    assert hidden["strength_out"].tolist() == [10.0**k for k in range(8)]
    assert hidden["strength_in"].tolist() == [1.0] * 4 + [2.0] * 4


def test_padding_and_unequal_kernels_are_kept_whole():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 1, 2, bias=False))
    for conv in model:
        nn.init.ones_(conv.weight)
    found = cnt.strength(cnt.trace(model, (1, 1, 3, 3)))
    padded = found[found["layer"] == "0"]
    assert padded["strength_in"].tolist() == [4, 6, 4, 6, 9, 6, 4, 6, 4]
    assert padded["strength_out"].tolist() == [1, 2, 1, 2, 4, 2, 1, 2, 1]


def test_nan_stays_nan_and_touches_only_its_neurons():
    network = fixed_network()
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["0.weight"][1, 0] = float("nan")
    found = cnt.strength(network.with_weights(weights))
    assert found["strength"].isna().tolist() == [True, False, False, True, False]
    weights["0.weight"][1, 0] = float("inf")
    found = cnt.strength(network.with_weights(weights))
    assert np.isposinf(found["strength"][[0, 3]]).all()
    assert np.isfinite(found["strength"][[1, 2, 4]]).all()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.int8]
)
@pytest.mark.parametrize("name", ["dense", "residual"])
def test_sums_are_in_float64_whatever_the_storage(name, dtype):
    network = traced_network(name)
    stored = {
        n: (t * 40 if dtype == torch.int8 else t).to(dtype) for n, t in network.weights.items()
    }
    exact = {n: t.to(torch.float64) for n, t in stored.items()}
    a, b = cnt.strength(network.with_weights(stored)), cnt.strength(network.with_weights(exact))
    np.testing.assert_allclose(a["strength"], b["strength"], atol=1e-11)


def test_half_precision_does_not_overflow():
    model = nn.Linear(4000, 1, bias=False)
    nn.init.constant_(model.weight, 60.0)
    found = cnt.strength(cnt.trace(model.half(), torch.zeros(1, 4000).half()))
    assert found["strength"].iloc[-1] == 240_000.0


def test_an_unknown_convention_is_refused():
    with pytest.raises(cnt.InputRefused, match="paper"):
        cnt.strength(fixed_network(), convention="papers")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_numbers():
    network = traced_network("residual")
    there = cnt.strength(network.to("cuda"))
    np.testing.assert_allclose(there["strength"], cnt.strength(network)["strength"], rtol=1e-9)
