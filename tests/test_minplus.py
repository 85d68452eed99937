"""Sweeps as products over (min, +), which a GPU takes, against the sweeps of a core and igraph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Dense
from test_distances import agree, by_igraph, measured, with_random_weights
from test_rows import Crossed, drawn
from torch import nn

import cntgraph as cnt
from cntgraph.measures.declaring import PATH_KINDS
from cntgraph.measures.paths import minplus
from cntgraph.measures.paths.minplus import sweep_in_batches
from cntgraph.measures.paths.sweeps import Found, links_of, marked, sweep_from
from cntgraph.measures.weighted import Weighted

CPU = torch.device("cpu")


def weighted(network, length="inverse"):
    return Weighted(network, "absolute", PATH_KINDS, length)


def by_products(graph, sources, inputs, device=CPU):
    wanted, ends = np.stack([sources, inputs]), marked(graph, "output")
    every = np.arange(graph.neuron_count)
    return Found(*np.concatenate(sweep_in_batches(links_of(graph), every, wanted, ends, device)))


def assert_same(graph):
    everyone, inputs = np.ones(graph.neuron_count), marked(graph, "input")
    expected = sweep_from(graph, everyone, inputs, everyone)._asdict()
    found = by_products(graph, everyone, inputs)._asdict()
    for name, values in expected.items():
        scale = 1e-12 * np.abs(values[np.isfinite(values)]).max(initial=1)
        np.testing.assert_allclose(found[name], values, 1e-11, scale, err_msg=name)


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(5, 32, 40, 7), (3, 35, 32, 36, 2), (6, 4, 3), (1, 33, 1)]),
    st.sampled_from(["inverse", "weight", "log", "unit"]),
    st.sampled_from([1.0, 1e6]),
    st.integers(0, 1000),
)
def test_dense_layers(sizes, length, scales, seed):
    assert_same(weighted(drawn(Dense(sizes), seed, scales), length))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["inverse", "weight", "log"]), st.integers(0, 1000))
def test_paths_that_are_equally_long(length, seed):
    network = with_random_weights(drawn(Dense((5, 6, 7, 4)), seed), [0.0, 0.5, 1.0, 2.0], seed)
    assert_same(weighted(network, length))


@pytest.mark.parametrize("wide", [8, 34])
def test_ways_that_meet_in_a_sum(wide):
    network = drawn(Crossed(wide), wide)
    assert_same(weighted(network))
    everyone, inputs = np.ones(network.neuron_count), marked(weighted(network), "input")
    found = by_products(weighted(network), everyone, inputs)
    expected = by_igraph(network)
    agree({"betweenness": found.depends, "betweenness_io": found.depends_ends}, expected,
          ["betweenness", "betweenness_io"])  # fmt: skip


def test_a_network_that_pools():
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 5)
    )
    assert_same(weighted(cnt.trace(model, (1, 1, 6, 6))))


@pytest.mark.parametrize("at_once", [1, 700, 5000])
def test_batches_change_nothing(at_once, monkeypatch):
    graph = weighted(drawn(Crossed(33), 7))
    everyone, inputs = np.ones(graph.neuron_count), marked(graph, "input")
    expected = by_products(graph, everyone, inputs)
    monkeypatch.setattr(minplus, "AT_ONCE", at_once)
    for found, value in zip(by_products(graph, everyone, inputs), expected, strict=True):
        np.testing.assert_allclose(found, value, 1e-12, 1e-12)


def test_only_what_is_asked_for_is_summed():
    graph = weighted(drawn(Dense((5, 33, 4)), 1))
    nobody, everyone = np.zeros(graph.neuron_count), np.ones(graph.neuron_count)
    found = by_products(graph, nobody, nobody)
    assert not found.depends.any()
    assert not found.depends_ends.any()
    np.testing.assert_allclose(found.total, by_products(graph, everyone, nobody).total, 1e-15)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("model", [Dense((20, 64, 40, 10)), Crossed(40)])
def test_a_gpu_finds_the_same(model):
    network = drawn(model, 2)
    found = measured(network.to("cuda"))
    agree(found, measured(network), found)
    agree(found, by_igraph(network), found)
