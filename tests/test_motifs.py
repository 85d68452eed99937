"""Squares, butterflies, bifans and diamonds against NetworkX, igraph and counting one by one."""

from __future__ import annotations

import functools
import itertools
from math import comb

import igraph
import networkx
import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import Twice, traced_network
from torch import nn

import cntgraph as cnt
from cntgraph.measures.families.motifs import four_cycles, square_clustering_of
from cntgraph.measures.products import gram_norm, squared_norms

PATH_KINDS = ("weight", "identity", "fixed", "scale", "select")


class Skipping(nn.Module):
    """Trained links past a layer, which make triangles and diamonds through different layers."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(5, 4), nn.Linear(9, 3), nn.Linear(7, 4)

    def forward(self, x):
        early = torch.relu(self.one(x))
        late = torch.relu(self.two(torch.cat([early, x], 1)))
        return self.three(torch.cat([early, late], 1))


class Picking(nn.Module):
    """Dense layers that read another layer in another order, in part, and twice over."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 5), nn.Linear(4, 3)

    def forward(self, x):
        y = self.two(self.one(x).flip(1))
        return self.three(torch.cat([y[:, 1:4], y[:, 2:3]], 1))


MODELS = {"skipping": (Skipping, (1, 5)), "twice": (Twice, (1, 6)), "picking": (Picking, (1, 6))}
FILTERED = ["filtered dense", "filtered skipping", "filtered lenet", "filtered twice"]


@functools.cache
def network_of(name):
    if name.startswith("filtered "):
        whole = name.removeprefix("filtered ")
        return network_of(whole).filtered("top:4" if whole == "twice" else "top:2")
    if name in MODELS:
        torch.manual_seed(len(name))
        model, example = MODELS[name]
        return cnt.trace(model(), example)
    return traced_network(name)


def kinds_of(name):
    return ("weight", "identity") if name.endswith("twice") else ("weight",)


def links(network, kinds=("weight",)):
    """Source, target and weight of every link, as lists."""
    batches = list(network.links(kinds))
    columns = ("source", "target", "weight")
    return [list(itertools.chain(*(b.column(c).to_pylist() for b in batches))) for c in columns]


def simple_graph(network, kinds=("weight",)):
    graph = networkx.Graph()
    graph.add_nodes_from(range(network.neuron_count))
    graph.add_edges_from(zip(*links(network, kinds)[:2], strict=True))
    return graph


def bound(network, *matrices):
    """The network with these weights, a matrix per dense layer; its biases play no part."""
    state = {name: tensor.clone() for name, tensor in network.weights.items()}
    names = [name for name in state if name.endswith("weight")]
    state |= {n: torch.tensor(m) for n, m in zip(names, matrices, strict=True)}
    return network.with_weights(state)


def test_parallel_links_are_there():
    for name in ("twice", "filtered twice"):
        source, target, _ = links(network_of(name), kinds_of(name))
        assert len(source) > len(set(zip(source, target, strict=True)))


# -- square clustering ------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FILTERED, "residual", "lenet", "padding modes", "shuffled"])
def test_networkx_finds_the_same_squares(name):
    network, kinds = network_of(name), kinds_of(name)
    expected = networkx.square_clustering(simple_graph(network, kinds))
    found = cnt.measure(network, "square_clustering", kinds=kinds)["square_clustering"]
    assert found.tolist() == [expected[v] for v in range(network.neuron_count)]


@pytest.mark.parametrize("name", ["residual", "lenet"])
def test_carrying_links_can_close_squares(name):
    network = network_of(name)
    expected = networkx.square_clustering(simple_graph(network, PATH_KINDS))
    found = cnt.measure(network, "square_clustering", kinds=PATH_KINDS)["square_clustering"]
    assert found.tolist() == [expected[v] for v in range(network.neuron_count)]


@given(st.integers(2, 30), st.floats(0.01, 1), st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_networkx_finds_the_same_squares_in_any_graph(n, density, seed, layer):
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((n, n)) < density, 1)
    matrix = scipy.sparse.csr_array((upper | upper.T).astype(np.int32))
    parts = [slice(first, min(first + layer, n)) for first in range(0, n, layer)]
    expected = networkx.square_clustering(networkx.from_numpy_array(upper | upper.T))
    assert square_clustering_of(matrix, parts).tolist() == [expected[v] for v in range(n)]


def test_triangles_take_squares_away():
    graph = simple_graph(network_of("filtered skipping"))
    assert sum(networkx.triangles(graph).values()) > 0, "the network above has some"


def test_full_layers_as_dense_products_are_exact_too():
    n, m = 60, 50
    full = np.zeros((2 * n + m, 2 * n + m), np.int32)
    full[:n, n : n + m] = full[n : n + m, n + m :] = 1
    full[0, n] = 0
    matrix = scipy.sparse.csr_array(full + full.T)
    parts = [slice(0, n), slice(n, n + m), slice(n + m, 2 * n + m)]
    expected = networkx.square_clustering(networkx.from_numpy_array(full + full.T))
    assert square_clustering_of(matrix, parts).tolist() == list(expected.values())


def test_what_a_link_weighs_does_not_matter_here():
    network = network_of("residual")
    state = {n: t * 0 if t.is_floating_point() else t for n, t in network.weights.items()}
    state["fc.weight"] = state["fc.weight"] * np.nan
    found = cnt.measure(network.with_weights(state), "square_clustering")
    np.testing.assert_array_equal(
        found["square_clustering"], cnt.measure(network, "square_clustering")["square_clustering"]
    )


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ("dense", "linked to the whole next layer"),
        ("twice", "linked to the whole next layer"),
        ("skipping", "linked to the whole next layer"),
        ("attention", "one value per layer"),
    ],
)
def test_what_the_architecture_decides_is_refused(network, said):
    with pytest.raises(cnt.DegenerateMeasure, match=said) as refusal:
        cnt.measure(network_of(network), "square_clustering")
    assert "filtered('top:16')" in str(refusal.value)


def test_without_squares_it_is_refused():
    network = network_of("dense").filtered("top:1")
    graph = simple_graph(network)
    forest = bound(network_of("dense"), *diagonals()).filtered("nonzero")
    assert networkx.is_forest(simple_graph(forest))
    assert not networkx.is_forest(graph)
    with pytest.raises(cnt.DegenerateMeasure, match="it is 0"):
        cnt.measure(forest, "square_clustering")


def diagonals():
    return [np.eye(8, 12), np.eye(6, 8), np.eye(3, 6)]


@pytest.mark.parametrize(
    "name", ["square_clustering", "butterflies", "bifan_balance", "diamond_balance"]
)
def test_no_links_no_patterns(name):
    with pytest.raises(cnt.DegenerateMeasure, match="no links"):
        cnt.measure(network_of("dense").filtered("above:1e9"), name)


# -- products ---------------------------------------------------------------------------------


@given(st.integers(1, 70), st.integers(1, 70), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_norms_of_products(n, m, density, seed):
    rng = np.random.default_rng(seed)
    left, right = (
        (rng.random(shape) < density) * rng.integers(-3, 4, shape) for shape in ((n, m), (m, n))
    )
    product = left @ right
    found = squared_norms(*(scipy.sparse.csr_array(x) for x in (left, right)), [slice(0, n)])
    assert found[0].tolist() == (product**2).sum(1).tolist()
    whole = float(((left @ left.T) ** 2).sum())
    assert gram_norm(left.astype(np.float32)) == whole
    assert gram_norm(scipy.sparse.csr_array(left)) == whole


def test_a_dense_product_is_single_only_while_it_is_exact():
    entries = np.full((100, 100), 2900, np.int32)  # squares of 8.41e6, above 2^24 in sums of 100
    entries[0, 0] = 2901
    left = scipy.sparse.csr_array(entries)
    product = entries.astype(np.int64) @ entries
    found = squared_norms(left, left, [slice(0, 100)])[0]
    np.testing.assert_allclose(found, (product.astype(float) ** 2).sum(1), rtol=1e-14)


# -- butterflies ------------------------------------------------------------------------------


def pairs(network, kinds):
    """The distinct links of each pair of layers, as sets of (source, target)."""
    source, target, _ = links(network, kinds)
    names = network.neurons()["layer"].tolist()
    found: dict = {}
    for i, j in zip(source, target, strict=True):
        found.setdefault((names[i], names[j]), set()).add((i, j))
    return found


@pytest.mark.parametrize("name", [*FILTERED, "lenet", "padding modes", "picking", "sequence"])
def test_butterflies_counted_by_common_targets(name):
    network, kinds = network_of(name), kinds_of(name)
    found = cnt.measure(network, "butterflies", kinds=kinds).set_index(["source", "target"])[
        "butterflies"
    ]
    assert set(found.index) == set(pairs(network, kinds))
    for pair, joined in pairs(network, kinds).items():
        targets: dict = {}
        for i, j in joined:
            targets.setdefault(i, set()).add(j)
        sets = itertools.combinations(targets.values(), 2)
        assert found[pair] == sum(comb(len(a & b), 2) for a, b in sets)


@pytest.mark.parametrize("name", ["filtered dense", "filtered twice", "picking"])
def test_igraph_counts_the_same_butterflies(name):
    network, kinds = network_of(name), kinds_of(name)
    found = cnt.measure(network, "butterflies", kinds=kinds).set_index(["source", "target"])[
        "butterflies"
    ]
    ends = list(zip(*links(network, kinds)[:2], strict=True))
    graph = igraph.Graph(network.neuron_count, ends, directed=True)
    layers = network.neurons()["layer"]
    for pair in pairs(network, kinds):
        two = graph.subgraph(np.flatnonzero(layers.isin(pair)).tolist())
        two = two.as_undirected().simplify()
        assert found[pair] == two.count_subisomorphisms_vf2(igraph.Graph.Ring(4)) / 8


@pytest.mark.parametrize("name", ["dense", "twice", "skipping"])
def test_butterflies_of_full_layers_are_refused(name):
    with pytest.raises(cnt.DegenerateMeasure, match="fully joined"):
        cnt.measure(network_of(name), "butterflies")


def test_a_full_pair_beside_another_keeps_its_number():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(12, 7))
    found = cnt.measure(cnt.trace(model, (1, 1, 8)), "butterflies")["butterflies"]
    assert found[1] == comb(12, 2) * comb(7, 2)


def test_many_butterflies_are_exact():
    assert four_cycles(np.ones((300, 200), np.float32)) == comb(300, 2) * comb(200, 2)


# -- signs ------------------------------------------------------------------------------------


def bifans(network, kinds=("weight",)):
    """Signs of all bifans of each pair of layers, looked for one by one; parallel links apart."""
    joined: dict = {}
    names = network.neurons()["layer"].tolist()
    for i, j, w in zip(*links(network, kinds), strict=True):
        block = joined.setdefault((names[i], names[j]), {})
        block.setdefault(i, {}).setdefault(j, []).append(np.sign(w))
    found: dict = {}
    for pair, block in joined.items():
        found[pair] = [
            np.prod(signs)
            for a, b in itertools.combinations(block.values(), 2)
            for k, m in itertools.combinations(sorted(set(a) & set(b)), 2)
            for signs in itertools.product(a[k], a[m], b[k], b[m])
        ]
    return found


@pytest.mark.parametrize("name", ["dense", "sequence", "picking", "skipping", "twice", *FILTERED])
def test_bifans_looked_for_one_by_one(name):
    network, kinds = network_of(name), kinds_of(name)
    found = cnt.measure(network, "bifan_balance", kinds=kinds).set_index(["source", "target"])[
        "bifan_balance"
    ]
    for pair, signs in bifans(network, kinds).items():
        expected = np.mean(signs) if signs else np.nan
        np.testing.assert_allclose(found[pair], expected, rtol=1e-12, atol=1e-15)


SHAPES = (8, 12), (6, 8), (3, 6)
SIGN = st.sampled_from([-1.0, 1.0])
WEIGHTS = st.tuples(
    *(arrays(np.float64, shape, elements=st.integers(-2, 2).map(float)) for shape in SHAPES)
)
FLIPS = st.tuples(*(arrays(np.float64, size, elements=SIGN) for size in (12, 8, 6, 3)))


@given(WEIGHTS, FLIPS)
@settings(max_examples=25, deadline=None)
def test_a_neuron_may_turn_all_its_signs(matrices, flips):
    network = network_of("dense")
    turned = [flips[k + 1][:, None] * m * flips[k][None, :] for k, m in enumerate(matrices)]
    one, other = bound(network, *matrices), bound(network, *turned)
    found = [cnt.measure(n, "bifan_balance")["bifan_balance"].to_numpy() for n in (one, other)]
    np.testing.assert_array_equal(*found)
    assert (np.abs(found[0]) <= 1).all()
    diamonds = [cnt.measure(n, "diamond_balance")["diamond_balance"][0] for n in (one, other)]
    assert diamonds[0] == diamonds[1]


@given(FLIPS)
@settings(max_examples=25, deadline=None)
def test_a_column_times_a_row_is_balanced(flips):
    matrices = [0.1 * np.outer(flips[k + 1], flips[k]) for k in range(3)]
    network = bound(network_of("dense"), *matrices)
    assert (cnt.measure(network, "bifan_balance")["bifan_balance"] == 1).all()
    assert cnt.measure(network, "diamond_balance")["diamond_balance"].tolist() == [1.0]


def diamonds(network, kinds):
    """Signs of all diamonds, looked for one by one; parallel links apart."""
    out: dict = {}
    for i, j, w in zip(*links(network, kinds), strict=True):
        out.setdefault(i, []).append((j, np.sign(w)))
    found = []
    for steps in out.values():
        paths = [(d, b, s * t) for b, s in steps for d, t in out.get(b, [])]
        paths.sort()
        for _, group in itertools.groupby(paths, key=lambda path: path[0]):
            for (_, b, s), (_, c, t) in itertools.combinations(list(group), 2):
                if b != c:
                    found.append(s * t)
    return found


def test_middles_of_diamonds_may_be_in_different_layers():
    source, target, _ = links(network_of("skipping"))
    from_input = [j for i, j in zip(source, target, strict=True) if i == 0]
    layers = network_of("skipping").neurons()["layer"]
    assert layers[from_input].nunique() == 2, "both lead on to the last layer"


@pytest.mark.parametrize("name", ["dense", "picking", "skipping", "twice", *FILTERED])
def test_diamonds_looked_for_one_by_one(name):
    network, kinds = network_of(name), kinds_of(name)
    found = cnt.measure(network, "diamond_balance", kinds=kinds)["diamond_balance"]
    np.testing.assert_allclose(found, [np.mean(diamonds(network, kinds))], rtol=1e-12)


def test_diamonds_through_carrying_links():
    network = network_of("sequence")
    with pytest.raises(cnt.DegenerateMeasure, match="kind weight hold no diamond") as refusal:
        cnt.measure(network, "diamond_balance")
    assert "kinds=" in str(refusal.value)
    pooled = network_of("lenet")
    expected = np.mean(diamonds(pooled, PATH_KINDS))
    found = cnt.measure(pooled, "diamond_balance", kinds=PATH_KINDS)["diamond_balance"]
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


def test_a_link_past_a_layer_is_half_of_no_diamond():
    past = np.hstack([np.eye(3, 4), np.ones((3, 5))])
    matrices = np.eye(4, 5), past, np.zeros((4, 7))
    network = bound(network_of("skipping"), *matrices).filtered("nonzero")
    assert sum(networkx.triangles(simple_graph(network)).values()) > 0
    with pytest.raises(cnt.DegenerateMeasure, match="no diamond"):
        cnt.measure(network, "diamond_balance")


def test_without_bifans_it_is_refused():
    with pytest.raises(cnt.DegenerateMeasure, match="no bifan"):
        cnt.measure(cnt.trace(nn.Linear(3, 1), (1, 3)), "bifan_balance")
    some = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    found = cnt.measure(cnt.trace(some, (1, 3)), "bifan_balance")["bifan_balance"]
    assert np.isnan(found).tolist() == [False, True]


def test_zeros_among_listed_links_make_bifans_of_no_sign():
    rng = np.random.default_rng(0)
    matrices = [rng.integers(-1, 2, shape).astype(float) for shape in SHAPES]
    network = bound(network_of("dense"), *matrices).filtered("top:5")
    found = cnt.measure(network, "bifan_balance")["bifan_balance"]
    signs = bifans(network).values()
    assert any(0 in s for s in signs)
    np.testing.assert_allclose(found, [np.mean(s) for s in signs], rtol=1e-12)


def test_zeros_have_no_sign():
    network = bound(network_of("dense"), *(np.zeros(shape) for shape in SHAPES))
    assert (cnt.measure(network, "bifan_balance")["bifan_balance"] == 0).all()
    assert cnt.measure(network, "diamond_balance")["diamond_balance"].tolist() == [0]


@pytest.mark.parametrize("links", ["all", "top:5"])
def test_what_is_not_a_number_stays_where_it_is(links):
    rng = np.random.default_rng(0)
    matrices = [rng.normal(size=shape) for shape in SHAPES]
    matrices[0][1, 1], matrices[1][2, 2] = np.nan, -np.inf
    network = bound(network_of("dense"), *matrices)
    network = network if links == "all" else network.filtered(links)
    found = cnt.measure(network, "bifan_balance")["bifan_balance"]
    assert np.isnan(found).tolist() == [True, False, False]  # an infinite weight has a sign
    assert cnt.measure(network, "diamond_balance")["diamond_balance"].isna().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_smallest_weights_keep_their_signs(dtype):
    model = nn.Linear(4, 3).to(dtype)
    signs = torch.tensor([[1, -1, 1, 1], [1, 1, -1, 1], [-1, 1, 1, 1]], dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(signs * torch.finfo(dtype).smallest_normal)
    network = cnt.trace(model, torch.zeros(1, 4, dtype=dtype))
    found = cnt.measure(network, "bifan_balance")["bifan_balance"].tolist()
    assert found == pytest.approx([float(np.mean(next(iter(bifans(network).values()))))])
    assert found != [0]
