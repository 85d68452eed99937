"""Published networks and the measures their authors published of them.

Network 1 of L. F. S. Scabini and O. M. Bruno, "Structure and performance of fully connected neural
networks: Emerging complex network properties" (Physica A 615, 2023), with its hidden neurons'
measures at every epoch. The data is not part of this repository: `CNTGRAPH_ACCEPTANCE_DATA` says
where it lies.

Theirs are measures of the undirected graph, of all weights with their sign or of the positive
links alone, and where paths are long or short a strong link is a long one: length = w, not 1/w.
The graph that is handed out to SciPy, NetworkX and igraph gives every column of theirs.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import scipy.io
import scipy.linalg
import scipy.stats
import torch
from torch import nn

import cntgraph as cnt

DATA = os.environ.get("CNTGRAPH_ACCEPTANCE_DATA", "")
pytestmark = pytest.mark.skipif(not DATA, reason="CNTGRAPH_ACCEPTANCE_DATA is not set")

SIZES = (784, 200, 100, 10)
KERNELS = (9328, 638992, 721456)  # byte offsets of the float32 kernels in the file
HIDDEN = slice(SIZES[0], -SIZES[-1])
COLUMNS = (  # of the published table, in the order found by computing them
    "strength",
    "neighbour_degree",
    "current_flow_closeness",
    "bipartite_clustering",
    "subgraph_centrality",
    "harmonic",
    "second_order",
    "cliques",
)


@pytest.fixture(scope="module")
def network():
    data = (Path(DATA) / "mlp-cn" / "network1.h5").read_bytes()
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(SIZES)))
    for layer, offset in zip(model, KERNELS, strict=True):
        shape = layer.in_features, layer.out_features
        kernel = np.frombuffer(data, "<f4", shape[0] * shape[1], offset).reshape(shape)
        layer.weight.data = torch.tensor(kernel.T)
    return cnt.trace(model, (1, SIZES[0]))


@pytest.fixture(scope="module")
def published():
    table = scipy.io.loadmat(Path(DATA) / "mlp-cn" / "network1_9measures.mat")
    hidden = np.concatenate([table["fmap_h1"][-1], table["fmap_h2"][-1]])
    return dict(zip(COLUMNS, hidden.T, strict=True))


@pytest.fixture(scope="module")
def weights(network):
    """The undirected graph of all weights with their sign, as a dense symmetric matrix."""
    one_way = network.to_scipy().toarray()
    return one_way + one_way.T


def agree(found, published, within):
    """The values of the hidden neurons are the published ones, relatively within a bound."""
    np.testing.assert_allclose(found[HIDDEN], published, rtol=within)


def test_strength_is_the_published_one(network, published):
    found = cnt.strength(network)["strength"].to_numpy()
    agree(found, published["strength"], 1e-12)
    graph = network.to_igraph()
    agree(np.array(graph.strength(weights="weight")), published["strength"], 1e-12)


def test_degree_of_neighbours_by_networkx(network, published):
    """The mean degree of the neighbours, weighted by the signed weight of the link to each."""
    graph = nx.Graph(network.to_networkx())
    found = nx.average_neighbor_degree(graph, weight="weight")
    agree(np.array([found[n] for n in range(len(graph))]), published["neighbour_degree"], 1e-9)


def test_current_flow_closeness_of_signed_weights(weights, published):
    """From the Laplacian's inverse with the first neuron grounded (Brandes and Fleischer 2005)."""
    count = len(weights)
    laplacian = np.diag(weights.sum(1)) - weights
    inverse = np.zeros_like(laplacian)
    inverse[1:, 1:] = scipy.linalg.inv(laplacian[1:, 1:])
    own = inverse.diagonal()
    resistance = count * own + own.sum() - 2 * inverse.sum(1)
    agree(1 / resistance, published["current_flow_closeness"], 1e-9)


def test_bipartite_clustering_of_positive_links(weights, published):
    """Shared neighbours over the larger degree, a mean over second neighbours (Latapy 2008)."""
    positive = (weights > 0).astype(float)
    shared, degree = positive @ positive, positive.sum(1)
    np.fill_diagonal(shared, 0)
    overlap = shared / np.maximum.outer(degree, degree)
    found = overlap.sum(1) / np.maximum(1, (shared > 0).sum(1))
    agree(found, published["bipartite_clustering"], 1e-12)


def test_subgraph_centrality_of_positive_links(weights, published):
    """The diagonal of the exponential of the unweighted graph (Estrada 2005)."""
    values, vectors = scipy.linalg.eigh((weights > 0).astype(float))
    agree(vectors**2 @ np.exp(values), published["subgraph_centrality"], 1e-11)


def test_harmonic_centrality_where_a_strong_link_is_a_long_one(network, published):
    """By igraph; its mean over the others becomes their sum."""
    graph = network.to_igraph().as_undirected(mode="each")
    graph.delete_edges(weight_le=0)
    hidden = range(graph.vcount())[HIDDEN]
    found = np.array(graph.harmonic_centrality(hidden, weights="weight")) * (graph.vcount() - 1)
    np.testing.assert_allclose(found, published["harmonic"], rtol=1e-12)


def test_the_two_lengths_order_neurons_without_relation(network, published):
    """What the documentation of measures says of length = w and length = 1/w."""
    graph = network.to_igraph().as_undirected(mode="each")
    graph.delete_edges(weight_le=0)
    hidden = range(graph.vcount())[HIDDEN]
    near = graph.harmonic_centrality(hidden, weights=1 / np.array(graph.es["weight"]))
    strength = graph.strength(hidden, weights="weight")
    far = published["harmonic"]
    for layer, expected in (
        (slice(0, 200), (0.04, 0.89, 0.05)),
        (slice(200, 300), (-0.05, 0.79, -0.02)),
    ):
        pairs = (near, far), (near, strength), (far, strength)
        found = [scipy.stats.spearmanr(a[layer], b[layer])[0] for a, b in pairs]
        np.testing.assert_allclose(found, expected, atol=0.005)


def test_second_order_centrality_of_positive_weights(weights, published):
    """Deviation of return times of the walk whose nodes are filled up to one strength by loops.

    Kermarrec and others, 2011; from the fundamental matrix, all nodes at once.
    """
    walk, count = np.maximum(weights, 0), len(weights)
    strength = walk.sum(1)
    walk = (walk + np.diag(strength.max() - strength)) / strength.max()
    fundamental = scipy.linalg.inv(np.eye(count) - walk + 1 / count)
    times = 2 * count**2 * fundamental.diagonal() - count * (count + 1)
    agree(np.sqrt(times), published["second_order"], 1e-12)


def test_cliques_are_the_positive_links(network, published):
    """In layers no three neurons are joined, so every link is a maximal clique of its own."""
    graph = network.to_igraph().as_undirected(mode="each")
    graph.delete_edges(weight_le=0)
    found = np.array(graph.degree())
    np.testing.assert_array_equal(found[HIDDEN], published["cliques"])
    positive = cnt.measure(network, "degree", sign="positive")["degree"]
    np.testing.assert_array_equal(positive[HIDDEN], published["cliques"])
