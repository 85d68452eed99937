"""PageRank by one sweep against igraph on the explicit graph."""

from __future__ import annotations

import igraph
import numpy as np
import pytest
import torch
from models import ZOO, traced_network
from torch import nn

import cntgraph as cnt

KINDS = ("weight", "identity", "fixed", "scale", "select")


def absolute_graph(network, kinds):
    """The graph of |w| from the listed links, without any code of the measure."""
    edges, weights = [], []
    for batch in network.links(kinds):
        ends = (batch.column(end).to_pylist() for end in ("source", "target"))
        edges += zip(*ends, strict=True)
        weights += [abs(w) for w in batch.column("weight").to_pylist()]
    graph = igraph.Graph(network.neuron_count, edges, directed=True)
    graph.es["weight"] = weights
    return graph


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("kinds", [KINDS, ("weight",)], ids=["all kinds", "weights"])
def test_igraph_gives_the_same(name, kinds):
    network = traced_network(name, "folded" if name == "residual" else "raw")
    graph = absolute_graph(network, kinds)
    found = cnt.measure(network, "pagerank", "pagerank_backward", kinds=kinds)
    expected = graph.pagerank(weights="weight")
    np.testing.assert_allclose(found["pagerank"], expected, rtol=1e-11)
    graph.reverse_edges()
    expected = graph.pagerank(weights="weight")
    np.testing.assert_allclose(found["pagerank_backward"], expected, rtol=1e-11)


def test_pooling_and_skips_are_followed():
    kinds = {b.link_kind for b in traced_network("residual").blocks}
    assert {"select", "identity"} <= kinds, "the network above has what is followed"


def test_a_case_that_fits_in_the_head():
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -1.0]]))
    network = cnt.trace(nn.Sequential(layer, nn.Linear(1, 1)), (1, 2))
    ranks = np.array([1, 1, 1 + 0.85 * 2, 1 + 0.85 * (1 + 0.85 * 2)])
    found = cnt.measure(network, "pagerank")
    np.testing.assert_allclose(found["pagerank"], ranks / ranks.sum(), rtol=1e-15)
    assert list(found.columns) == ["neuron", "layer", "index", "pagerank"]


def test_damping_is_an_option():
    network = traced_network("dense")
    found = cnt.measure(network, "pagerank", damping=0.5)["pagerank"]
    expected = absolute_graph(network, KINDS).pagerank(weights="weight", damping=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["pagerank", "pagerank_backward"])
def test_the_ranks_of_a_layer_as_shares_of_it(name):
    network = traced_network("residual")
    whole = cnt.measure(network, name).set_index("layer")[name]
    found = cnt.measure(network, name, by_layer=True).set_index("layer")[name]
    sums = found.groupby(level=0).sum()
    np.testing.assert_allclose(sums, 1.0, 1e-12)
    for layer in network.layers:
        ratio = found.loc[[layer.name]] / whole.loc[[layer.name]]
        np.testing.assert_allclose(ratio, ratio.iloc[0], 1e-12)


def test_a_nan_weight_stays_nan():
    network = cnt.trace(nn.Linear(3, 2), (1, 3))
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["weight"][0, 0] = float("nan")
    assert cnt.measure(network.with_weights(weights), "pagerank")["pagerank"].isna().all()


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        ((), {}, "no measure was named"),
        (("pagernk",), {}, "did you mean pagerank"),
        (("pagerank",), {"dampin": 0.5}, "did you mean damping"),
        (("pagerank",), {"damping": 1.0}, "less than 1"),
        (("pagerank",), {"kinds": ("wight",)}, "did you mean weight"),
    ],
)
def test_what_is_refused(names, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.measure(traced_network("dense"), *names, **options)
    assert said in str(refusal.value)
