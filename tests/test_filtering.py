"""Filters keep what they say they keep, and what they keep is still the same network."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import traced_network
from torch import nn

import cntgraph as cnt


def links_of(network):
    batches = [b.to_pandas() for b in network.links()]
    none = pd.DataFrame(columns=["source", "target", "weight", "kind", "parameter", "element"])
    return pd.concat(batches, ignore_index=True) if batches else none


@pytest.mark.parametrize("name", ["dense", "residual", "tied"])
@pytest.mark.parametrize("count", [1, 3, 10_000])
def test_top_keeps_the_strongest_links_of_every_neuron(name, count):
    network = traced_network(name)
    every, kept = links_of(network), links_of(network.filtered(f"top:{count}"))
    size = every["weight"].abs()
    ranks = [size.groupby(every[end]).rank(ascending=False, method="first") for end in _ENDS]
    wanted = every[(ranks[0] <= count) | (ranks[1] <= count)]
    columns = ["source", "target", "element", "weight"]
    pd.testing.assert_frame_equal(_sorted(kept[columns]), _sorted(wanted[columns]))
    share = wanted["weight"].abs().sum() / size.sum()
    assert network.filtered(f"top:{count}").kept == pytest.approx(share)


_ENDS = ("source", "target")


def _sorted(table):
    return table.sort_values(list(table.columns)).reset_index(drop=True)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 1.0), st.integers(0, 5))
def test_backbone_is_the_disparity_filter(alpha, seed):
    torch.manual_seed(seed)
    network = cnt.trace(nn.Linear(6, 4, bias=False), (1, 6))
    every, kept = links_of(network), links_of(network.filtered(f"backbone:{alpha}"))
    size = every["weight"].abs()
    significant = np.zeros(len(every), dtype=bool)
    for end, degree in (("source", 4), ("target", 6)):
        share = size / size.groupby(every[end]).transform("sum")
        significant |= ((1 - share) ** (degree - 1) < alpha).to_numpy()
    assert kept["element"].tolist() == every["element"][significant].tolist()


def test_above_and_nonzero_by_hand():
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, -2.0, 0.5]]))
    network = cnt.trace(model, (1, 3))
    assert links_of(network.filtered("above:0.5"))["weight"].tolist() == [-2.0]
    assert links_of(network.filtered("nonzero"))["weight"].tolist() == [-2.0, 0.5]
    assert network.filtered("above:0.5").kept == pytest.approx(0.8)
    assert network.kept == 1.0
    assert network.filtered("above:9").link_count == 0


def test_a_filtered_network_is_still_a_network():
    network = traced_network("residual").filtered("top:2")
    twin = cnt.Network.from_json(json.loads(json.dumps(network.to_json())), network.weights)
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(network.forward(x)[0], twin.forward(x)[0])
    found, kept = cnt.strength(network), links_of(network)
    into = kept.groupby("target")["weight"].sum().reindex(found["neuron"], fill_value=0.0)
    np.testing.assert_allclose(found["strength_in"], into, atol=1e-12)
    assert network.to_igraph().ecount() == network.link_count == len(kept)
    # skips and pooling stay
    assert {b.link_kind for b in network.blocks} == {
        b.link_kind for b in traced_network("residual").blocks
    }


def test_another_epoch_fits_the_same_links():
    network = traced_network("dense")
    weights = {n: 2 * t for n, t in network.weights.items()}
    doubled = links_of(network.filtered("top:2").with_weights(weights))
    np.testing.assert_allclose(doubled["weight"], 2 * links_of(network.filtered("top:2"))["weight"])


@pytest.mark.parametrize("links", ["top:0", "top:x", "top", "backbone:2", "above:-1", "all", ""])
def test_what_is_no_filter_is_refused(links):
    with pytest.raises(cnt.InputRefused, match="not a filter"):
        traced_network("dense").filtered(links)
