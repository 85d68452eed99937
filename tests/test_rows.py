"""Distances over wide complete blocks, whose rows are relaxed as a whole, against igraph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Dense
from test_distances import agree, by_igraph, measured
from torch import nn

import cntgraph as cnt
from cntgraph.measures.declaring import PATH_KINDS
from cntgraph.measures.paths.sweeps import links_of, sweep_from, sweep_towards
from cntgraph.measures.weighted import Weighted


class Crossed(nn.Module):
    """Wide complete blocks, and a sum where two ways through them meet."""

    def __init__(self, wide):
        super().__init__()
        self.first, self.second = nn.Linear(6, wide), nn.Linear(wide, wide + 1)
        self.third, self.across = nn.Linear(wide + 1, wide + 3), nn.Linear(wide, wide + 3)
        self.head = nn.Linear(wide + 3, 33)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.head(torch.relu(self.third(torch.relu(self.second(x))) + self.across(x)))


def drawn(model, seed, scales=1.0):
    """The network of a model with normal weights, each row of sources on a scale of its own."""
    size = next(p for p in model.parameters()).shape[1]
    network = cnt.trace(model, (1, size))
    rng = np.random.default_rng(seed)
    weights = {}
    for name, old in network.weights.items():
        spread = scales ** rng.uniform(-1, 0, (1,) * (old.dim() - 1) + old.shape[-1:])
        weights[name] = torch.from_numpy(rng.normal(size=tuple(old.shape)) * spread).to(old.dtype)
    return network.with_weights(weights)


def by_rows(network, **conventions):
    graph = Weighted(network, "absolute", PATH_KINDS, "inverse", **conventions)
    return links_of(graph).by_rows


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([(5, 32, 40, 7), (40, 33, 32), (3, 35, 32, 36, 2), (33, 8, 34, 5)]),
    st.sampled_from([1.0, 30.0, 1e6]),
    st.integers(0, 1000),
)
def test_wide_layers_of_any_scale(sizes, scales, seed):
    network = drawn(Dense(sizes), seed, scales)
    assert by_rows(network).any()
    found = measured(network)
    agree(found, by_igraph(network), found)


@pytest.mark.parametrize("length", ["inverse", "weight"])
@pytest.mark.parametrize("wide", [32, 37])
def test_ways_that_meet_in_a_sum(wide, length):
    network = drawn(Crossed(wide), wide)
    assert by_rows(network).sum() == 5
    found = measured(network, length=length)
    agree(found, by_igraph(network, length=length), found)


@pytest.mark.parametrize("length", ["inverse", "weight", "log"])
@pytest.mark.parametrize("sign", ["absolute", "negative"])
def test_sorted_links_give_the_same(length, sign, monkeypatch):
    network = drawn(Crossed(34), 2)
    found = measured(network, length=length, sign=sign)
    monkeypatch.setattr("cntgraph.measures.paths.adjacency.WIDE", 1000)
    assert not by_rows(network).any()
    agree(found, measured(network, length=length, sign=sign), found, rtol=1e-12)
    assert {"closeness", "betweenness"} <= set(found)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4))
def test_copies_of_a_neuron_share_its_paths(seed, copies):
    network = drawn(Dense((6, 36, 40, 33)), seed)
    weights = {name: value.clone() for name, value in network.weights.items()}
    first, second, _ = (value for value in weights.values() if value.dim() == 2)
    first[0] *= 20  # many paths lead through it
    second[:, 0] *= 20
    for k in range(1, copies):
        first[3 * k] = first[0]
        second[:, 3 * k] = second[:, 0]
    network = network.with_weights(weights)
    assert by_rows(network).all()
    found = measured(network)
    agree(found, by_igraph(network), found)
    between = found["betweenness"][6 : 6 + 36]
    np.testing.assert_allclose(between[3 : 3 * copies : 3], between[0], rtol=1e-9)
    assert between[0] > 0


def test_copies_of_a_neuron_before_a_sum():
    network = drawn(Crossed(33), 4)
    weights = {name: value.clone() for name, value in network.weights.items()}
    weights["first.weight"][0] *= 20
    weights["first.weight"][9] = weights["first.weight"][0]
    for name in ("second.weight", "across.weight"):
        weights[name][:, 9] = weights[name][:, 0]
    weights["across.weight"] *= 5
    network = network.with_weights(weights)
    assert by_rows(network).sum() == 5  # all but the sum itself
    found = measured(network)
    agree(found, by_igraph(network), found)


def test_sweeps_against_the_links_find_the_same_distances():
    graph = Weighted(drawn(Crossed(34), 5, 10.0), "absolute", PATH_KINDS, "inverse")
    everyone = np.ones(graph.neuron_count)
    forth = sweep_from(graph, 0 * everyone, 0 * everyone, everyone)
    back = sweep_towards(graph, np.arange(graph.neuron_count))
    np.testing.assert_allclose(back.total, forth.total, rtol=1e-12)
    np.testing.assert_allclose(back.inverse, forth.inverse, rtol=1e-12)
    assert back.reached.tolist() == forth.reached.tolist()


def with_one_weight(value):
    network = cnt.trace(Dense((5, 32, 33)).double(), torch.zeros(1, 5, dtype=torch.float64))
    weights = {name: old.clone() for name, old in network.weights.items()}
    _, second = (old for old in weights.values() if old.dim() == 2)
    second[4, 2] = value
    return network.with_weights(weights)


@pytest.mark.parametrize("value", [0.0, 1e-301])
def test_one_link_that_leads_nowhere_or_very_far(value):
    network = with_one_weight(value)
    assert by_rows(network).tolist() == [True, False]
    found = measured(network)
    agree(found, by_igraph(network), found)


def test_one_link_of_unknown_length():
    network = with_one_weight(float("nan"))
    assert by_rows(network).tolist() == [True, False]
    lost = np.isnan(cnt.measure(network, "harmonic")["harmonic"])
    assert lost.tolist() == [True] * 5 + [False, False, True] + [False] * (29 + 33)


def test_one_link_of_length_zero(monkeypatch):
    network = with_one_weight(float("inf"))
    assert by_rows(network).all()
    found = measured(network)
    monkeypatch.setattr("cntgraph.measures.paths.adjacency.WIDE", 1000)
    agree(found, measured(network), found)
    assert np.isposinf(found["harmonic"][5 + 2])


def test_lengths_that_repeat_are_sorted():
    model = Dense((6, 40, 34))
    network = drawn(model, 1)
    rounded = {name: value.round() for name, value in network.weights.items()}
    assert by_rows(network).all()
    network = network.with_weights(rounded)
    assert not by_rows(network).any()
    found = measured(network)
    agree(found, by_igraph(network), found)
