"""What the architecture decides alone is refused, from the graph that is there and not its kind."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Dense, traced_network
from torch import nn

import cntgraph as cnt
from cntgraph.measures.catalogue import MEASURES
from cntgraph.measures.refusing import refuse_constant
from cntgraph.measures.weighted import Weighted

ALL = ("weight", "identity", "fixed", "scale", "select")
CONSTANT = ["degree", "coreness", "density"]
FORWARD = ["eigenvector", "reciprocity", "strong_components"]
TRIANGLES = ["clustering", "transitivity", "small_world"]


class Adding(nn.Module):
    """Two layers with a connection around the second, as wide as they are."""

    def __init__(self, size=5):
        super().__init__()
        self.first, self.second, self.last = (nn.Linear(size, size) for _ in range(3))

    def forward(self, x):
        early = torch.relu(self.first(x))
        return self.last(torch.relu(self.second(early) + x))


class Reading(Adding):
    """The last layer reads both: twice as wide, by trained links."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(10, 5)

    def forward(self, x):
        early = torch.relu(self.first(x))
        return self.last(torch.cat([early, torch.relu(self.second(early))], 1))


@functools.cache
def traced(kind):
    torch.manual_seed(2)
    return cnt.trace(kind(), (1, 5))


def reason(network, name, **options):
    with pytest.raises(cnt.DegenerateMeasure) as refusal:
        cnt.measure(network, name, **options)
    error = refusal.value
    assert f"{name} says nothing" in error.what
    assert error.fix
    return error


# -- a full layered network -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CONSTANT, *FORWARD, *TRIANGLES])
@pytest.mark.parametrize("trained", [True, False])
def test_a_full_network_says_nothing(name, trained):
    network = traced_network("dense")
    if not trained:
        network = network.with_weights({n: torch.ones_like(t) for n, t in network.weights.items()})
    reason(network, name)


def test_the_reason_holds_the_networks_own_values():
    why = reason(traced_network("dense"), "degree").why
    graph = traced_network("dense").to_igraph()
    assert f"fc.0: {graph.degree(traced_network('dense').layer('fc.0').first)}" in why
    why = reason(traced_network("dense"), "coreness").why
    core = graph.coreness()[traced_network("dense").layer("fc.1").first]
    assert f"fc.1: {core}" in why
    assert "29 neurons" in reason(traced_network("dense"), "strong_components").why


@pytest.mark.parametrize("name", [*CONSTANT, *FORWARD, *TRIANGLES])
def test_a_full_network_is_refused_without_a_list_of_links(name):
    graph = Weighted(traced_network("dense"), "absolute", ("weight",))
    with pytest.raises(cnt.DegenerateMeasure):
        MEASURES[name].compute(graph)
    assert not graph.shared
    assert "links" not in vars(graph)


@pytest.mark.parametrize("name", ["degree", "coreness"])
@pytest.mark.parametrize("sizes", [(5, 4), (3, 3, 3), (2, 7, 1, 4), (1, 1), (6, 2, 2, 2, 9)])
def test_cores_of_whole_layers_are_known_without_links(name, sizes):
    network = cnt.trace(Dense(sizes), (1, sizes[0]))
    wanted = getattr(network.to_igraph(), name)(mode="all")
    why = reason(network, name).why
    for layer in network.layers[:3]:
        assert f"{layer.name}: {wanted[layer.first]}" in why


@pytest.mark.parametrize("kinds", [("weight",), ALL])
def test_cores_with_a_skip_are_known_without_links(kinds):
    network = traced(Adding)
    wanted = network.to_igraph(kinds).coreness(mode="all")
    why = reason(network, "coreness", kinds=kinds).why
    for layer in network.layers[:3]:
        assert f"{layer.name}: {wanted[layer.first]}" in why


def test_equal_weights_have_one_s_core_a_layer():
    network = traced_network("dense")
    ones = network.with_weights({n: torch.ones_like(t) for n, t in network.weights.items()})
    assert "one value per layer" in reason(ones, "s_core").why
    assert cnt.measure(network, "s_core")["s_core"].nunique() > 4


# -- the same measures where something is left to say ---------------------------------------------


@pytest.mark.parametrize("name", CONSTANT)
@pytest.mark.parametrize("how", [{"sign": "positive"}, {"sign": "negative"}, {"filter": "top:2"}])
def test_a_filter_or_a_sign_says_something(name, how):
    network = traced_network("dense")
    if "filter" in how:
        network, how = network.filtered(how["filter"]), {}
    assert np.isfinite(cnt.measure(network, name, **how)[name]).all()


@pytest.mark.parametrize("name", CONSTANT)
def test_the_advice_of_a_refusal_helps(name):
    network = cnt.trace(Dense((80, 60, 40)), (1, 80))
    fix = reason(network, name).fix
    assert "network.filtered('top:32')" in fix
    assert "sign='positive'" in fix
    for found in (
        cnt.measure(network.filtered("top:32"), name),
        cnt.measure(network, name, sign="positive"),
    ):
        assert found[name].nunique() >= 1


def test_a_filter_that_keeps_everything_changes_nothing():
    network = traced_network("dense").filtered("top:1000")
    for name in CONSTANT:
        assert name in reason(network, name).what


@pytest.mark.parametrize("name", TRIANGLES)
def test_a_skip_connection_closes_triangles(name):
    reading, adding = (traced(kind).filtered("top:4") for kind in (Reading, Adding))
    assert cnt.measure(reading, name)[name].max() > 0
    assert "no triangles" in reason(adding, name).why
    assert cnt.measure(adding, name, kinds=ALL)[name].max() > 0, "by the identity"
    # three layers may be joined each to each and no three neurons of them
    parted = traced(Reading).filtered("top:1").filtered("above:0.43")
    assert parted.link_count
    assert {b.target for b in parted.blocks} == {b.target for b in traced(Reading).blocks}
    reason(parted, name)


def test_triangles_of_full_layers_are_as_many_at_each_neuron():
    assert "one value per layer" in reason(traced(Reading), "clustering").why
    assert cnt.measure(traced(Reading), "transitivity")["transitivity"][0] > 0


def test_undirected_eigenvectors_are_the_way_out():
    assert "directed=False" in reason(traced_network("dense"), "eigenvector").fix
    found = cnt.measure(traced_network("dense"), "eigenvector", directed=False)["eigenvector"]
    assert found.nunique() == 29


def looping():
    """A network that no model gives: the last layer leads back to the first."""
    network = traced(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 5)))
    last = network.blocks[-1]
    first = network.layers[0]
    assert last.operator.size_out == first.size
    back = replace(last, target=first.name, target_first=first.first)
    return cnt.Network(
        network.layers, [*network.blocks[:-1], back], network.outputs, network.weights
    )


def test_loops_would_be_spoken_of():
    network = looping()
    graph = network.to_igraph()
    graph.es["weight"] = np.abs(graph.es["weight"]).tolist()
    assert cnt.measure(network, "reciprocity")["reciprocity"][0] == graph.reciprocity()
    found = cnt.measure(network, "strong_components")["strong_components"][0]
    assert found == len(graph.connected_components(mode="strong")) == 1 + 5
    found = cnt.measure(network, "eigenvector")["eigenvector"]
    w = np.asarray(graph.get_adjacency(attribute="weight").data, dtype=float)
    np.testing.assert_allclose(found @ w, (found @ w).max() * found, atol=1e-9)


def test_an_answered_link_is_reciprocal():
    network = traced(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 5)))
    first, second = network.blocks
    back = replace(second, target=first.source, target_first=first.source_first)
    looped = cnt.Network(network.layers, [first, back], network.outputs, network.weights)
    assert cnt.measure(looped, "reciprocity")["reciprocity"][0] == 1.0


# -- no links, no weights -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [*CONSTANT, *FORWARD, *TRIANGLES, "s_core", "rich_club", "community", "normalised_cut"]
)
def test_no_link_left(name):
    reason(traced_network("dense").filtered("above:1e9"), name)


def test_a_rich_club_of_one_layer():
    network = traced_network("dense")
    error = reason(network, "rich_club")
    assert "3 strongest neurons, which are in fc.0" in error.why
    assert cnt.measure(network, "rich_club", among="layer")["rich_club"][0] > 0
    top = float(error.fix.rpartition("=")[2])
    assert cnt.measure(network, "rich_club", top=top)["rich_club"][0] > 0


def test_neurons_without_weight_are_not_among_the_strong():
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0]]))
        model[1].weight.zero_()
    why = reason(cnt.trace(model, (1, 2)), "rich_club", top=0.25, among="layer").why
    assert "2 strongest neurons, which are in input, 0" in why


@pytest.mark.parametrize("name", [n for n, m in MEASURES.items() if "unit" in m.lengths])
def test_paths_that_only_count_links_say_nothing(name):
    if MEASURES[name].level == "neuron":
        reason(traced_network("dense"), name, length="unit")


# -- one value per layer --------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=29, max_size=29), st.booleans())
def test_values_are_refused_where_layers_are_uniform(values, uniform):
    graph = Weighted(traced_network("dense"), "absolute", ("weight",))
    layers = graph.network.layers
    found = np.array(values)
    if uniform:
        for place, layer in enumerate(layers):
            found[layer.first : layer.last] = values[place]
    constant = all(len(set(found[a.first : a.last])) == 1 for a in layers)
    try:
        refuse_constant(graph, "it", found, fix="look elsewhere")
        refused = False
    except cnt.DegenerateMeasure:
        refused = True
    assert refused == constant


@pytest.mark.parametrize(
    ("value", "refused"), [(float("nan"), False), (float("inf"), True), (1.0 + 1e-12, True)]
)
def test_what_counts_as_one_value(value, refused):
    graph = Weighted(traced_network("dense"), "absolute", ("weight",))
    first = graph.network.layers[0]
    found = np.ones(graph.neuron_count)
    found[first.first : first.last] = value
    found[first.first] = 1.0 if value < 2 else value
    if refused:
        with pytest.raises(cnt.DegenerateMeasure, match="it says nothing"):
            refuse_constant(graph, "it", found, fix="look elsewhere")
    else:
        refuse_constant(graph, "it", found, fix="look elsewhere")
