"""Hubs and authorities against NumPy's singular vectors of the explicit blocks, and igraph."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ZOO, traced_network
from torch import nn

import cntgraph as cnt

SIGNS = {"absolute": np.abs, "signed": np.asarray}
BOTH = ("hub", "authority")
COLUMNS = ("source", "target", "weight")


def explicit(network, sign, kinds=("weight",)):
    """The weight of i -> j in row i; parallel links are added up."""
    tables = [batch.to_pandas() for batch in network.links(kinds)]
    source, target, weight = (
        np.concatenate([t[name].to_numpy() for t in tables]) for name in COLUMNS
    )
    size = (network.neuron_count,) * 2
    return scipy.sparse.csr_array((SIGNS[sign](weight), (source, target)), shape=size)


def of_layer(matrix, layer, name):
    """The links out of a layer or into it, its own neurons along the rows."""
    here = slice(layer.first, layer.last)
    block = (matrix[here] if name == "hub" else matrix[:, here].T).toarray()
    return block[:, block.any(axis=0)]  # what it is not linked to changes nothing


def oriented(vector):
    return vector * np.sign(vector[np.argmax(np.abs(vector).round(9))])


def leading(matrix):
    """The leading left singular vector, and whether there is one."""
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    return oriented(left[:, 0]), len(sizes) == 1 or sizes[1] < (1 - 1e-7) * sizes[0]


@functools.cache
def networks():
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(90, 60), nn.ReLU(), nn.Linear(60, 70), nn.Linear(70, 40))
    found = {"wide": cnt.trace(wide, (1, 90)), **{n: traced_network(n) for n in ZOO}}
    found["filtered"] = found["wide"].filtered("top:5")
    found["by channel"] = found["residual"].by_channel("l2")
    return found


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", [*ZOO, "wide", "filtered", "by channel"])
def test_numpy_gives_the_same(name, sign):
    network = networks()[name]
    matrix = explicit(network, sign)
    found = cnt.measure(network, *BOTH, sign=sign)
    checked = 0
    for layer in network.layers:
        for one in BOTH:
            here = found[one].to_numpy()[layer.first : layer.last]
            block = of_layer(matrix, layer, one)
            if not block.any():
                assert (here == 0).all()
                continue
            vector, single = leading(block)
            if single:
                np.testing.assert_allclose(here, vector, rtol=1e-9, atol=1e-9)
                checked += 1
            elif not np.isnan(here).any():  # one of several, as long and with the same quotient
                largest = np.linalg.norm(block, 2)
                np.testing.assert_allclose(np.linalg.norm(here), 1)
                np.testing.assert_allclose(np.linalg.norm(here @ block), largest, rtol=1e-7)
    assert checked or name in ("attention", "recurrent")


@functools.cache
def dense(high, wide):
    layer = nn.Linear(wide, high, bias=False).double()
    return cnt.trace(layer, torch.zeros(1, wide, dtype=torch.float64))


def one_block(weight):
    return dense(*weight.shape).with_weights({"weight": torch.from_numpy(weight.copy())})


@pytest.mark.filterwarnings("ignore:More than 30%")  # as every network of layers has
@pytest.mark.parametrize("shape", [(5, 4), (50, 64), (64, 40)])
def test_igraph_gives_the_same_of_one_block(shape):
    network = one_block(np.random.default_rng(1).normal(size=shape))
    graph = network.to_igraph()
    graph.es["weight"] = [abs(w) for w in graph.es["weight"]]
    found = cnt.measure(network, *BOTH)
    for one, call in (("hub", graph.hub_score), ("authority", graph.authority_score)):
        scores = np.asarray(call(weights="weight"))
        np.testing.assert_allclose(found[one], scores / np.linalg.norm(scores), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(33, 48), (60, 35), (12, 80), (2, 9), (3, 2)]),
    st.integers(0, 999),
    st.sampled_from(list(SIGNS)),
    st.floats(1e-3, 0.9),
)
def test_a_pattern_that_was_put_there_is_found(shape, seed, sign, noise):
    draw = np.random.default_rng(seed)
    into, out = draw.normal(size=shape[0]), draw.normal(size=shape[1])
    weight = np.outer(into, out) + noise * draw.normal(size=shape)
    block = SIGNS[sign](weight)
    found = cnt.measure(one_block(weight), *BOTH, sign=sign)
    vectors = leading(block.T)[0], leading(block)[0]
    np.testing.assert_allclose(found["hub"][: shape[1]], vectors[0], atol=1e-9)
    np.testing.assert_allclose(found["authority"][shape[1] :], vectors[1], atol=1e-9)
    np.testing.assert_allclose((found[list(BOTH)] ** 2).sum(), 1)


def test_layers_of_one_neuron():
    network = one_block(np.array([[3.0, 0.0, -4.0]]))
    np.testing.assert_allclose(cnt.measure(network, "hub")["hub"], [0.6, 0, 0.8, 0], rtol=1e-15)
    with pytest.raises(cnt.DegenerateMeasure, match="one value per layer"):
        cnt.measure(network, "authority")


def test_by_hand():
    found = cnt.measure(one_block(np.array([[3.0, 0.0], [4.0, 0.0], [0.0, -1.0]])), *BOTH)
    np.testing.assert_allclose(found["hub"], [1, 0, 0, 0, 0], atol=1e-15)
    np.testing.assert_allclose(found["authority"], [0, 0, 0.6, 0.8, 0], atol=1e-15)
    signed = cnt.measure(one_block(np.array([[1.0, -2.0], [-2.0, 1.0]])), *BOTH, sign="signed")
    half = np.sqrt(0.5)  # of entries of one size the first is positive
    np.testing.assert_allclose(signed["hub"][:2], [half, -half])
    np.testing.assert_allclose(signed["authority"][2:], [half, -half])


def with_gap(sizes, shape=(50, 45), seed=0):
    """A block with these singular values."""
    draw = np.random.default_rng(seed)
    left, right = (np.linalg.qr(draw.normal(size=(n, len(sizes))))[0] for n in shape)
    return left @ np.diag(sizes) @ right.T, left, right


@pytest.mark.parametrize("gap", [1e-1, 1e-3, 1e-5])
def test_digits_go_as_the_gap_closes(gap):
    weight, left, right = with_gap([1, 1 - gap, *np.linspace(0.9, 0.1, 20)])
    found = cnt.measure(one_block(weight), *BOTH, sign="signed")
    off = found["hub"].to_numpy()[:45] - oriented(right[:, 0])
    assert np.abs(off).max() < 1e-14 / gap
    off = found["authority"].to_numpy()[45:] - oriented(left[:, 0])
    assert np.abs(off).max() < 1e-14 / gap


def test_what_equal_scores_miss_is_found():
    """Rows and columns that sum to zero: a leading vector at right angles to equal scores."""
    weight = np.random.default_rng(0).normal(size=(48, 40))
    weight = weight - weight.mean(0)
    weight = weight - weight.mean(1, keepdims=True)
    found = cnt.measure(one_block(weight), *BOTH, sign="signed")
    np.testing.assert_allclose(found["hub"][:40], leading(weight.T)[0], atol=1e-10)


@pytest.mark.parametrize("sign", SIGNS)
def test_positions_that_share_a_matrix_have_the_same_values(sign):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(9, 8)

        def forward(self, x):
            return self.fc(x)

    network = cnt.trace(Tokens(), (1, 6, 9))
    weight = SIGNS[sign](network.weights["fc.weight"].double().numpy())
    found = cnt.measure(network, *BOTH, sign=sign)
    hubs = found["hub"].to_numpy()[:54].reshape(6, 9)
    np.testing.assert_allclose(hubs, np.tile(leading(weight.T)[0], (6, 1)) / np.sqrt(6), atol=1e-9)
    authorities = found["authority"].to_numpy()[54:].reshape(6, 8)
    expected = np.tile(leading(weight)[0], (6, 1)) / np.sqrt(6)
    np.testing.assert_allclose(authorities, expected, atol=1e-9)


def test_a_pattern_that_is_there_twice_and_that_equal_scores_miss():
    """Two equal blocks, each with zero sums: no vector is the leading one."""
    weight = np.random.default_rng(0).normal(size=(24, 20))
    weight = weight - weight.mean(0)
    weight = weight - weight.mean(1, keepdims=True)
    twice = np.kron(np.eye(2), weight)
    found = cnt.measure(one_block(twice), *BOTH, sign="signed")
    assert found["hub"][:40].isna().all()
    assert found["authority"][40:].isna().all()
    found = cnt.measure(one_block(twice), *BOTH)  # of |w| equal scores miss nothing
    assert np.isfinite(found[list(BOTH)]).all(axis=None)


def test_many_layers_with_one_layer_behind_them():
    """A layer read by two others and one that reads two: their links are taken together."""

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(7, 5), nn.Linear(5, 6), nn.Linear(12, 3)

        def forward(self, x):
            y = torch.relu(self.a(x))
            return self.c(torch.cat([torch.relu(self.b(y)), y, y[:, :1]], 1))

    torch.manual_seed(0)
    network = cnt.trace(Skip(), (1, 7))
    for sign in SIGNS:
        matrix = explicit(network, sign)
        found = cnt.measure(network, *BOTH, sign=sign)
        a, c = network.layer("a"), network.layer("c")
        expected = leading(of_layer(matrix, a, "hub"))[0]
        np.testing.assert_allclose(found["hub"][a.first : a.last], expected, atol=1e-10)
        expected = leading(of_layer(matrix, c, "authority"))[0]
        np.testing.assert_allclose(found["authority"][c.first : c.last], expected, atol=1e-10)


def changed(network, **values):
    weights = {n: t.clone() for n, t in network.weights.items()}
    for name, value in values.items():
        weights[name.replace("_", ".")] = value(weights[name.replace("_", ".")])
    return network.with_weights(weights)


def spoiled(w, value):
    w = w.clone()
    w[1, 2] = value
    return w


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("sign", SIGNS)
def test_a_weight_that_is_not_finite_spoils_its_block_and_no_other(value, sign):
    network = networks()["wide"]
    found = cnt.measure(
        changed(network, **{"2_weight": lambda w: spoiled(w, value)}), *BOTH, sign=sign
    )
    expected = cnt.measure(network, *BOTH, sign=sign)
    broken = {"hub": "0", "authority": "2"}
    for one in BOTH:
        there = found["layer"] == broken[one]
        assert found[one][there].isna().all()
        np.testing.assert_array_equal(found[one][~there], expected[one][~there])


def test_a_block_of_zeros_has_no_hubs():
    found = cnt.measure(changed(networks()["wide"], **{"2_weight": torch.zeros_like}), *BOTH)
    assert (found["hub"][found["layer"] == "0"] == 0).all()
    assert (found["authority"][found["layer"] == "2"] == 0).all()
    assert (found["hub"][found["layer"] == "2"] != 0).all()


@pytest.mark.parametrize("name", BOTH)
def test_what_says_nothing(name):
    network = networks()["wide"]
    with pytest.raises(cnt.DegenerateMeasure, match="no links"):
        cnt.measure(network.filtered("above:9"), name)
    zero = network.with_weights({n: torch.zeros_like(t) for n, t in network.weights.items()})
    with pytest.raises(cnt.DegenerateMeasure, match="0 at each of"):
        cnt.measure(zero, name)
    with pytest.raises(cnt.DegenerateMeasure, match="one value per layer"):
        cnt.measure(cnt.trace(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), (1, 1)), name)


def test_the_same_call_gives_the_same_bits():
    for sign in SIGNS:
        a, b = (cnt.measure(networks()["wide"], *BOTH, sign=sign) for _ in range(2))
        np.testing.assert_array_equal(a[list(BOTH)], b[list(BOTH)])


@pytest.mark.parametrize(
    ("options", "said"),
    [({"sign": "positive"}, "absolute or signed"), ({"alpha": 1.0}, "has no option")],
)
def test_what_is_refused(options, said):
    with pytest.raises(cnt.InputRefused, match=said):
        cnt.measure(networks()["dense"], "hub", **options)
