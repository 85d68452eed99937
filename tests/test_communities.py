"""Communities against igraph, their measures against dense NumPy, cuts against every other cut."""

from __future__ import annotations

import functools
import itertools
import random

import igraph
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import Dense, traced_network
from sklearn.cluster import SpectralClustering
from torch import nn

import cntgraph as cnt
from cntgraph.measures.families.communities import by_first

SIGNS = {
    "absolute": np.abs,
    "positive": lambda w: np.maximum(w, 0.0),
    "negative": lambda w: np.maximum(-w, 0.0),
}
NETWORKS = ["dense", "lenet", "dense top:2", "residual channels"]


def named(name):
    kind, _, how = name.partition(" ")
    network = traced_network(kind)
    if how == "channels":
        return network.by_channel()
    return network.filtered(how) if how else network


def listed(network):
    """Sources, targets and weights, from the listed links alone."""
    batches = [b.to_pandas() for b in network.links()]
    return (np.concatenate([b[c] for b in batches]) for c in ("source", "target", "weight"))


def undirected(network, sign):
    source, target, weight = listed(network)
    graph = igraph.Graph(network.neuron_count, zip(source.tolist(), target.tolist(), strict=True))
    graph.es["weight"] = SIGNS[sign](weight).tolist()
    return graph


def matrix(network, sign):
    """The dense weight matrix, parallel links added up."""
    source, target, weight = listed(network)
    found = np.zeros((network.neuron_count,) * 2)
    np.add.at(found, (source, target), SIGNS[sign](weight))
    return found


def numbered(labels):
    """Labels as whole numbers in the order in which they appear."""
    known = {}
    return [known.setdefault(label, len(known)) for label in labels]


def planted(parts=2, inside=1.0, outside=0.0, sizes=(6, 4, 2)):
    """An MLP of so many networks side by side, with little or nothing between them."""
    model = Dense(tuple(parts * n for n in sizes))
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in model.fc:
            size = layer.weight.shape[0] // parts, layer.weight.shape[1] // parts
            same = torch.block_diag(*[torch.ones(size)] * parts)
            noise = torch.rand_like(layer.weight) * 0.2 + 0.9
            layer.weight.copy_((same * inside + (1 - same) * outside) * noise)
    return cnt.trace(model, (1, parts * sizes[0]))


def part_of(network, parts=2):
    """Which of the planted networks each neuron is in."""
    return np.concatenate([np.repeat(range(parts), a.size // parts) for a in network.layers])


# -- communities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NETWORKS, "residual"])
@pytest.mark.parametrize("sign", SIGNS)
def test_igraph_gives_the_same_communities(name, sign):
    network = named(name)
    found = cnt.measure(network, "community", sign=sign, seed=7, resolution=1.3)["community"]
    igraph.set_random_number_generator(random.Random(7))
    wanted = undirected(network, sign).community_leiden(
        objective_function="modularity", weights="weight", resolution=1.3, n_iterations=-1
    )
    igraph.set_random_number_generator(random)
    assert found.tolist() == numbered(wanted.membership)
    assert found.dtype == np.int64


@given(st.lists(st.integers(-3, 30), max_size=12))
def test_communities_are_numbered_by_their_first_neurons(labels):
    assert by_first(np.array(labels, dtype=int)).tolist() == numbered(labels)


def test_a_seed_is_all_the_chance_there_is():
    network = traced_network("lenet")
    random.seed(3)
    before = igraph.Graph.Erdos_Renyi(20, 0.3).get_edgelist()
    random.seed(3)
    tables = [cnt.measure(network, "community", seed=seed)["community"] for seed in (1, 1, 2)]
    after = igraph.Graph.Erdos_Renyi(20, 0.3).get_edgelist()
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert before == after, "igraph draws from Python's generator, which nobody has used"


def test_networks_side_by_side_are_apart():
    network = planted(parts=3)
    table = cnt.measure(network, "community", "participation", resolution=0.1)
    assert table["community"].tolist() == part_of(network, 3).tolist()
    assert (table["participation"] == 0).all()


def test_a_larger_resolution_gives_smaller_communities():
    network = traced_network("lenet")
    counts = [cnt.measure(network, "community", resolution=r)["community"].max() for r in (0, 1, 5)]
    assert counts[0] < counts[1] < counts[2]


def test_a_neuron_without_weight_is_alone():
    network = planted()
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.0.weight"][:, 0] = 0.0  # the first input leads nowhere
    community = cnt.measure(network.with_weights(weights), "community")["community"]
    assert (community == community[0]).sum() == 1
    assert community[0] == 0


def test_the_scale_of_weights_is_nothing():
    network = traced_network("dense")
    # a power of two moves no digit, so that ties fall alike
    larger = network.with_weights({n: t * 4 for n, t in network.weights.items()})
    names = "community", "participation", "within_module_z"
    one, other = (cnt.measure(n, *names).drop(columns="layer") for n in (network, larger))
    np.testing.assert_allclose(one, other, atol=1e-12)


# -- where neurons stand in them ------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sign", SIGNS)
def test_participation_by_hand(name, sign):
    network = named(name)
    table = cnt.measure(network, "community", "participation", sign=sign, resolution=1.5)
    w = matrix(network, sign)
    both = w + w.T
    members = np.eye(table["community"].max() + 1)[table["community"]]
    strength = both.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares = (both @ members) / strength
    wanted = np.where(strength[:, 0] > 0, 1 - (shares**2).sum(axis=1), 0.0)
    np.testing.assert_allclose(table["participation"], wanted, atol=1e-12)
    most = 1 - 1 / (table["community"].max() + 1)
    assert table["participation"].between(-1e-12, most + 1e-12).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sign", SIGNS)
def test_within_module_z_by_hand(name, sign):
    network = named(name)
    table = cnt.measure(network, "community", "within_module_z", sign=sign)
    w = matrix(network, sign)
    c = table["community"].to_numpy()
    own = ((w + w.T) * (c[:, None] == c)).sum(axis=1)
    for community in range(c.max() + 1):
        here = own[c == community]
        z = table["within_module_z"][c == community]
        if np.ptp(here) < 1e-9:
            assert (z == 0).all(), "all alike: nobody stands out"
        else:
            np.testing.assert_allclose(z, (here - here.mean()) / here.std(), atol=1e-9)


def test_a_connector_and_a_provincial_by_hand():
    first, second = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 4.0], [1.0, 1.0]]))
        second.weight.copy_(torch.tensor([[4.0, 0.0, 1.0], [0.0, 4.0, 1.0]]))
    network = cnt.trace(nn.Sequential(first, second), (1, 2))
    table = cnt.measure(network, "community", "participation")
    sides = [0, 1, 0, 1, 0, 1]
    assert table["community"].drop(4).tolist() == sides  # the fifth is as near to either side
    assert table["participation"][4] == pytest.approx(0.5)
    assert table["participation"][2] == 0.0


# -- modularity -----------------------------------------------------------------------------------


def layered_modularity(network, sign, c):
    """By its definition, over the dense matrix of each pair of joined layers."""
    w = matrix(network, sign)
    same = c[:, None] == c
    total = 0.0
    for source, target in {(b.source, b.target) for b in network.carrying_blocks(("weight",))}:
        rows, columns = network.layer(source), network.layer(target)
        block = slice(rows.first, rows.last), slice(columns.first, columns.last)
        part = w[block]
        if part.sum():
            expected = part.sum(axis=1, keepdims=True) * part.sum(axis=0) / part.sum()
            total += ((part - expected) * same[block]).sum()
    return total / w.sum()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("sign", SIGNS)
def test_modularity_by_its_definition(name, sign):
    network = named(name)
    community = cnt.measure(network, "community", sign=sign, seed=2)["community"].to_numpy()
    found = cnt.measure(network, "modularity", sign=sign, seed=2)["modularity"][0]
    assert found == pytest.approx(layered_modularity(network, sign, community), abs=1e-12)
    found = cnt.measure(network, "modularity", sign=sign, seed=2, null="undirected")
    wanted = undirected(network, sign).modularity(community.tolist(), weights="weight")
    assert found["modularity"][0] == pytest.approx(wanted, abs=1e-12)


@functools.cache
def one_block():
    return cnt.trace(nn.Linear(5, 4, bias=False), (1, 5))


@settings(max_examples=25, deadline=None)
@given(arrays(np.float64, (4, 5), elements=st.floats(-9, 9).filter(lambda x: abs(x) > 1e-3)))
def test_one_block_is_barbers(weight):
    rows, columns = weight.shape
    network = one_block().with_weights({"weight": torch.from_numpy(weight)})
    c = cnt.measure(network, "community")["community"].to_numpy()
    w = np.abs(weight)
    m, q = w.sum(), 0.0
    for i, j in itertools.product(range(columns), range(rows)):
        if c[i] == c[columns + j]:
            q += w[j, i] - w[:, i].sum() * w[j].sum() / m
    assert cnt.measure(network, "modularity")["modularity"][0] == pytest.approx(q / m, abs=1e-12)


@pytest.mark.parametrize("null", ["layers", "undirected"])
def test_one_community_has_no_modularity(null):
    found = cnt.measure(traced_network("dense"), "modularity", resolution=0, null=null)
    assert found["modularity"][0] == pytest.approx(0.0, abs=1e-12)


def test_networks_side_by_side_are_modular():
    found = cnt.measure(planted(parts=4), "modularity", resolution=0.1)["modularity"][0]
    assert found == pytest.approx(0.75, abs=0.01)  # of equal parts: 1 - 1/4


# -- cuts -----------------------------------------------------------------------------------------


def cut_of(w, label):
    """The normalised cut of a partition, from the dense matrix."""
    both = w + w.T
    kept = both.sum(axis=1) > 0
    both, label = both[kept][:, kept], np.asarray(label)[kept]
    parts = [label == c for c in np.unique(label)]
    return sum(both[part][:, ~part].sum() / both[part].sum() for part in parts)


def test_no_other_cut_is_cheaper():
    network = planted(parts=2, outside=0.15, sizes=(3, 2, 1))
    w = matrix(network, "absolute")
    n = network.neuron_count
    halves = (np.array(c) for c in itertools.product((0, 1), repeat=n - 1))
    cheapest = min(cut_of(w, np.append(c, 0)) for c in halves if c.any())
    found = cnt.measure(network, "normalised_cut", clusters=2)["normalised_cut"][0]
    assert found == pytest.approx(cheapest, rel=1e-9)
    assert found == pytest.approx(cut_of(w, part_of(network)), rel=1e-9)


@pytest.mark.parametrize("sizes", [(9, 6, 3), (120, 40, 30)], ids=["all at once", "by iteration"])
def test_scikit_learn_cuts_alike(sizes):
    network = planted(parts=4, outside=0.1, sizes=sizes)
    w = matrix(network, "absolute")
    spectral = SpectralClustering(4, affinity="precomputed", random_state=0)
    wanted = cut_of(w, spectral.fit_predict(w + w.T))
    found = cnt.measure(network, "normalised_cut", clusters=4)["normalised_cut"][0]
    assert found == pytest.approx(wanted, rel=1e-9)
    assert found == pytest.approx(cut_of(w, part_of(network, 4)), rel=1e-9)


def test_networks_side_by_side_cost_nothing_to_cut():
    table = cnt.measure(planted(parts=4), "normalised_cut", clusters=4, shuffles=19)
    row = table.iloc[0]
    assert row["normalised_cut"] == pytest.approx(0.0, abs=1e-9)
    assert row["normalised_cut_null"] > 1
    assert row["normalised_cut_z"] < -3
    assert row["normalised_cut_p"] == pytest.approx(1 / 20)


def test_chance_is_not_clusterable():
    torch.manual_seed(4)
    network = cnt.trace(Dense((20, 16, 12)), (1, 20))
    row = cnt.measure(network, "normalised_cut", clusters=4, shuffles=19).iloc[0]
    assert abs(row["normalised_cut_z"]) < 3
    assert row["normalised_cut_p"] > 0.05
    again = cnt.measure(network, "normalised_cut", clusters=4, shuffles=19).iloc[0]
    assert again.equals(row)


def test_neurons_without_weight_are_left_out():
    network = planted(parts=2, outside=0.1)
    whole = cnt.measure(network, "normalised_cut", clusters=2)["normalised_cut"][0]
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.0.weight"][:, 0] = 0.0
    found = cnt.measure(network.with_weights(weights), "normalised_cut", clusters=2)
    w = matrix(network.with_weights(weights), "absolute")
    assert found["normalised_cut"][0] == pytest.approx(cut_of(w, part_of(network)), rel=1e-9)
    assert found["normalised_cut"][0] != whole


# -- what is refused, and what is not known -------------------------------------------------------

MEASURES = ["community", "participation", "within_module_z", "modularity", "normalised_cut"]


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_leaves_no_partition(name, value):
    network = traced_network("dense")
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.0.weight"][0, 0] = value
    assert cnt.measure(network.with_weights(weights), name)[name].isna().all()


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_to_hold_together(name):
    network = planted()
    zero = network.with_weights({n: torch.zeros_like(t) for n, t in network.weights.items()})
    for given_network, options, said in [
        (zero, {}, "sign='absolute'"),
        (network, {"sign": "negative"}, "sign='negative'"),
        (network.filtered("above:100"), {}, "no links"),
    ]:
        with pytest.raises(cnt.DegenerateMeasure) as refusal:
            cnt.measure(given_network, name, **options)
        assert name in refusal.value.what
        assert said in refusal.value.why


def test_more_clusters_than_neurons():
    network = planted(parts=1, sizes=(4, 3))
    with pytest.raises(cnt.DegenerateMeasure, match="7 neurons") as refusal:
        cnt.measure(network, "normalised_cut")
    clusters = int(refusal.value.fix.partition("=")[2])
    assert len(cnt.measure(network, "normalised_cut", clusters=clusters)) == 1


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("community", {"resolution": -1.0}, "resolution=-1.0"),
        ("community", {"resolution": float("nan")}, "resolution=nan"),
        ("modularity", {"null": "layer"}, "did you mean layers"),
        ("normalised_cut", {"clusters": 1}, "clusters=1"),
        ("normalised_cut", {"shuffles": -1}, "shuffles=-1"),
        ("participation", {"sign": "signed"}, "absolute or positive or negative"),
    ],
)
def test_bad_values(name, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.measure(traced_network("dense"), name, **options)
    assert said in str(refusal.value)
