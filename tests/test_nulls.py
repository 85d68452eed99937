"""Null models: what each kind keeps, block by block, and that the rest moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import traced_network
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt
from cntgraph.measures.nulls import null_models

TRAINED = ["dense", "residual", "lenet", "padding modes", "sequence", "tied", "attention"]


def trained(network):
    return [b for b in network.blocks if b.link_kind == "weight"]


def elements_of(network, block):
    """The weight of every element that a block's links point to, each once, from its links."""
    found = {}
    for batch in network.links(block=block.name):
        columns = [batch.column(c).to_pylist() for c in ("parameter", "element", "weight")]
        found |= {(p, e): w for p, e, w in zip(*columns, strict=True)}
    return found


def unchanged(a, b):
    return all(torch.equal(t, b[n]) for n, t in a.items())


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weights", "signs"])
@pytest.mark.parametrize("name", [*TRAINED, "recurrent", "shuffled"])
def test_every_block_keeps_its_weights_and_nothing_else_moves(name, kind):
    network = traced_network(name)
    before = {n: t.clone() for n, t in network.weights.items()}
    null = cnt.null_model(network, kind, seed=3)
    assert unchanged(before, network.weights), "the network that was given stays"
    for block, other in zip(trained(network), trained(null), strict=True):
        old, new = elements_of(network, block), elements_of(null, other)
        assert old.keys() == new.keys()
        pair = [np.array([d[e] for e in sorted(old)]) for d in (old, new)]
        if kind == "signs":
            np.testing.assert_array_equal(*map(np.abs, pair))
            pair = [np.sign(w) for w in pair]
        np.testing.assert_array_equal(*map(np.sort, pair))
        assert len(old) < 8 or old != new
    moved = {n for b in trained(network) for n in b.parameters}
    kept = {n: t for n, t in before.items() if n not in moved}
    assert kept
    assert unchanged(kept, null.weights)
    assert null.link_count == network.link_count


def test_a_seed_names_a_draw():
    network = traced_network("residual")
    for kind in ("weights", "signs", "strengths"):
        first, again, other = (cnt.null_model(network, kind, seed=s) for s in (1, 1, 2))
        assert unchanged(first.weights, again.weights)
        assert not unchanged(first.weights, other.weights)


def test_all_orders_of_three_weights_come_about_equally_often():
    network = cnt.trace(nn.Linear(3, 1, bias=False), (1, 3))
    network = network.with_weights({"weight": torch.tensor([[1.0, 2.0, 3.0]])})
    drawn = [tuple(n.weights["weight"][0].tolist()) for n in null_models(network, "weights", 600)]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 6
    assert counts.min() > 60, "100 expected, 4 standard deviations below is 63"


def test_signs_leave_zeros_and_what_is_not_a_number():
    nan, inf = float("nan"), float("inf")
    w = torch.tensor([[0.0, nan, 1.0, -2.0, 3.0, -inf, 4.0, -5.0]])
    network = cnt.trace(nn.Linear(8, 1, bias=False), (1, 8)).with_weights({"weight": w})
    drawn = torch.cat([n.weights["weight"] for n in null_models(network, "signs", 50)])
    assert torch.equal(drawn.abs().nan_to_num(7.0), w.abs().nan_to_num(7.0).expand(50, -1))
    assert ((drawn < 0).sum(1) == 3).all()
    assert ((drawn < 0).sum(0)[2:] > 0).all(), "each may get a minus"


@pytest.mark.parametrize("kind", ["weights", "signs", "strengths"])
def test_tied_weights_stay_tied(kind):
    null = cnt.null_model(traced_network("tied"), kind)
    again, twin, second, encoder, decoder = (b.tensor for b in trained(null))
    assert torch.equal(again, twin)
    assert torch.equal(again, second)
    assert torch.equal(encoder.T, decoder)
    assert not torch.equal(again, trained(traced_network("tied"))[0].tensor.to(again.dtype))


class Halves(nn.Module):
    """One parameter whose halves are two blocks, as in a packed projection."""

    def __init__(self):
        super().__init__()
        self.packed = nn.Parameter(torch.cat([torch.rand(4, 4) + 1, -torch.rand(4, 4) - 1]))

    def forward(self, x):
        return F.linear(torch.relu(F.linear(x, self.packed[:4])), self.packed[4:])


@pytest.mark.parametrize("kind", ["weights", "strengths"])
def test_slices_of_one_parameter_keep_to_themselves(kind):
    network = cnt.trace(Halves(), (1, 4))
    packed = network.weights["packed"]
    drawn = cnt.null_model(network, kind).weights["packed"].to(packed.dtype)
    assert not torch.equal(drawn, packed)
    for part in (slice(0, 4), slice(4, 8)):
        kept = torch.sort if kind == "weights" else torch.sum
        flat = [t[part].reshape(-1) for t in (drawn, packed)]
        found = [kept(f) if kind == "strengths" else kept(f)[0] for f in flat]
        torch.testing.assert_close(*found)


class Columns(nn.Module):
    """Two layers that one slice of a parameter reads, side by side."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 4), nn.Linear(3, 5)
        self.packed = nn.Parameter(torch.randn(6, 9))

    def forward(self, x):
        return F.linear(torch.cat([self.left(x), self.right(x)], 1), self.packed[:4])


@pytest.mark.parametrize("kind", ["weights", "strengths"])
def test_columns_of_a_slice_keep_to_themselves(kind):
    network = cnt.trace(Columns(), (1, 3))
    null = cnt.null_model(network, kind)
    w, drawn = (n.weights["packed"].double() for n in (network, null))
    assert torch.equal(w[4:], drawn[4:])
    for part in (slice(0, 4), slice(4, 9)):
        a, b = w[:4, part], drawn[:4, part]
        assert not torch.allclose(a, b)
        if kind == "weights":
            assert torch.equal(a.reshape(-1).sort()[0], b.reshape(-1).sort()[0])
        else:
            torch.testing.assert_close(a.sum(0), b.sum(0))
            torch.testing.assert_close(a.sum(1), b.sum(1))


class Grouped(nn.Module):
    """A grouped convolution over a concatenation whose seam runs through a group."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv1d(2, 3, 1), nn.Conv1d(2, 5, 1)
        self.out = nn.Conv1d(8, 6, 2, groups=2)

    def forward(self, x):
        return self.out(torch.cat([self.left(x), self.right(x)], 1))


def test_a_seam_through_a_group_parts_its_weights():
    network = cnt.trace(Grouped(), (1, 2, 5))
    for kind in ("weights", "strengths"):
        null = cnt.null_model(network, kind)
        w, drawn = (n.weights["out.weight"].double() for n in (network, null))
        parts = [(slice(0, 3), slice(0, 3)), (slice(3, 6), slice(0, 4))]
        for rows, columns in parts:  # of left in the first group, of right in the second
            a, b = w[rows, columns], drawn[rows, columns]
            assert not torch.allclose(a, b)
            if kind == "strengths":
                torch.testing.assert_close(a.sum(0), b.sum(0))
                torch.testing.assert_close(a.sum(1), b.sum(1))
        for old, new in zip(trained(network), trained(null), strict=True):
            a, b = elements_of(network, old), elements_of(null, new)
            if kind == "weights":
                assert sorted(a.values()) == sorted(b.values())
            np.testing.assert_allclose(*(sum(d.values()) for d in (a, b)), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["dense", "residual", "tied"])
@pytest.mark.parametrize("kind", ["weights", "signs"])
def test_of_a_filtered_network_only_the_links_that_are_there_take_part(name, kind):
    network = traced_network(name).filtered("top:2")
    null = cnt.null_model(network, kind, seed=1)
    mine = {}
    for block in trained(network):
        old, new = elements_of(network, block), elements_of(null, block)
        assert old.keys() == new.keys()
        mine |= old
        if name != "tied":  # there two blocks kept other elements of one parameter
            dealt = np.abs if kind == "weights" else np.sign
            pair = [np.array([*d.values()]) for d in (old, new)]
            assert not np.array_equal(*pair)
            np.testing.assert_array_equal(*(np.sort(dealt(w)) for w in pair))
    for parameter, old in network.weights.items():
        out = torch.ones(old.numel(), dtype=torch.bool)
        out[[e for p, e in mine if p == parameter]] = False
        assert torch.equal(old.reshape(-1)[out], null.weights[parameter].reshape(-1)[out])
    pool = sorted(abs(w) for w in mine.values())
    after = {e: w for b in trained(null) for e, w in elements_of(null, b).items()}
    assert sorted(abs(w) for w in after.values()) == pool


def test_taps_that_are_never_applied_stay_where_they_are():
    network = cnt.trace(nn.Conv2d(6, 5, 3, padding=1), (1, 6, 1, 1))  # the middle tap alone is
    w, drawn = (n.weights["weight"].clone() for n in (network, cnt.null_model(network)))
    assert network.link_count == 30
    middle = [t[:, :, 1, 1].clone() for t in (w, drawn)]
    assert not torch.equal(*middle)
    assert torch.equal(*(m.reshape(-1).sort()[0] for m in middle))
    w[:, :, 1, 1] = drawn[:, :, 1, 1] = 0
    assert torch.equal(w, drawn)


@pytest.mark.parametrize("kind", ["weights", "signs", "strengths"])
def test_computed_weights_are_dealt_out_as_they_come(kind):
    network = traced_network("reparametrised")
    null = cnt.null_model(network, kind, seed=2)
    for old, new in zip(trained(network), trained(null), strict=True):
        a, b = old.tensor.detach(), new.tensor
        assert not torch.allclose(a, b)
        if kind == "weights":
            torch.testing.assert_close(a.reshape(-1).sort()[0], b.reshape(-1).sort()[0])
        if kind == "signs":
            torch.testing.assert_close(a.abs(), b.abs())
        if kind == "strengths":
            torch.testing.assert_close(a.sum(0), b.sum(0))
            torch.testing.assert_close(a.sum(1), b.sum(1))
    (found,) = null.forward(torch.randn(2, 5))
    assert found.shape == (2, 3)


@pytest.mark.parametrize("reduce", ["sum", "l2"])
def test_channels_have_null_models_too(reduce):
    network = traced_network("residual").by_channel(reduce)
    null = cnt.null_model(network)
    for old, new in zip(trained(network), trained(null), strict=True):
        a, b = (np.concatenate([k.weight for k in n.links()]) for n in (old, new))
        np.testing.assert_allclose(np.sort(a), np.sort(b), rtol=1e-12)
        assert not np.array_equal(a, b)


def test_without_links_there_is_nothing_to_draw():
    network = traced_network("dense").filtered("above:1e9")
    assert network.link_count == 0
    assert cnt.null_model(network).link_count == 0
    found = cnt.layers(network, shuffles=2)
    assert (found["fluctuation_null"] == 0).all()


# -- strengths ------------------------------------------------------------------------------------


def block_strengths(block):
    return torch.cat([part.sum(0) for part in block.sums()]).numpy()


@pytest.mark.parametrize("name", [*TRAINED, "recurrent", "residual folded"])
def test_rewiring_keeps_the_strengths_of_every_block(name):
    network = traced_network(*name.split()) if "folded" in name else traced_network(name)
    before = {n: t.clone() for n, t in network.weights.items()}
    null = cnt.null_model(network, "strengths", seed=5)
    assert unchanged(before, network.weights)
    for old, new in zip(trained(network), trained(null), strict=True):
        a, b = block_strengths(old), block_strengths(new)
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-9 * np.abs(a).max())
        pair = [t.detach().double().reshape(-1).numpy() for t in (old.tensor, new.tensor)]
        np.testing.assert_allclose((pair[0] ** 2).sum(), (pair[1] ** 2).sum(), rtol=1e-9)
        high, wide = old.tensor.shape[:2]
        if min(high, wide) > 2:
            assert np.corrcoef(*pair)[0, 1] < 0.9
    signed = [cnt.strength(n)[["strength_in", "strength_out"]] for n in (network, null)]
    np.testing.assert_allclose(*signed, rtol=0, atol=1e-9)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(2, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_kernels_keep_their_margins_tap_by_tap(high, wide, groups, taps, transposed, seed):
    torch.manual_seed(seed)
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    model = kind(groups * wide, groups * high, taps, groups=groups, bias=False)
    network = cnt.trace(model, (1, groups * wide, 4))
    if min(high, wide) == 1:
        with pytest.raises(cnt.DegenerateMeasure):  # no square, no freedom
            cnt.null_model(network, "strengths", seed=seed)
        return
    null = cnt.null_model(network, "strengths", seed=seed)
    w, drawn = (n.weights["weight"].double() for n in (network, null))
    by_group = [t.reshape(groups, -1, *t.shape[1:]) for t in (w, drawn)]
    for axis in (1, 2):
        torch.testing.assert_close(*(t.sum(axis) for t in by_group), rtol=1e-9, atol=1e-12)


def test_a_square_has_two_states_and_both_come_about():
    network = cnt.trace(nn.Linear(2, 2, bias=False), (1, 2))
    network = network.with_weights({"weight": torch.tensor([[1.0, 2.0], [3.0, 5.0]])})
    drawn = {
        tuple(n.weights["weight"].reshape(-1).tolist())
        for n in null_models(network, "strengths", 20)
    }
    # the interaction 1 - 2 - 3 + 5 = 1 turns into -1
    assert drawn == {(1.0, 2.0, 3.0, 5.0), (0.5, 2.5, 3.5, 4.5)}


def test_many_sweeps_forget_all_that_is_free():
    torch.manual_seed(0)
    network = cnt.trace(nn.Linear(60, 50, bias=False), (1, 60))
    drawn = cnt.null_model(network, "strengths").weights["weight"]
    centred = [
        t - t.mean(0) - t.mean(1, keepdim=True) + t.mean()
        for t in (network.weights["weight"].double(), drawn)
    ]
    pair = torch.stack([t.reshape(-1) for t in centred])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.08, "4 standard deviations of chance"
    few = cnt.null_model(network, "strengths", sweeps=1).weights["weight"]
    pair = torch.stack([network.weights["weight"].double().reshape(-1), few.reshape(-1)])
    assert torch.corrcoef(pair)[0, 1] > 0.5


class CutAcross(nn.Module):
    """One parameter read as two different matrices."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Parameter(torch.randn(3, 4))

    def forward(self, x):
        return F.linear(F.linear(x, self.shared), self.shared.reshape(4, 3))


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: traced_network("dense"), "sign", "did you mean signs"),
        (lambda: traced_network("dense").filtered("top:2"), "strengths", "filtered('top:32')"),
        (lambda: cnt.trace(CutAcross(), (1, 4)), "strengths", "share weights"),
        (lambda: traced_network("lenet").filtered("top:2"), "strengths", "are a list"),
    ],
)
def test_what_is_refused(make, kind, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.null_model(make(), kind)
    assert said in str(refusal.value)


def test_strengths_of_what_is_not_a_number_are_refused_and_weights_move():
    network = traced_network("dense")
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.1.weight"][2, 3] = float("nan")
    network = network.with_weights(weights)
    with pytest.raises(cnt.InputRefused, match=r"fc\.1\.weight are NaN"):
        cnt.null_model(network, "strengths")
    for kind in ("weights", "signs"):
        assert cnt.null_model(network, kind).weights["fc.1.weight"].isnan().sum() == 1
    with pytest.raises(cnt.InputRefused, match="sweeps=0"):
        cnt.null_model(network, "strengths", sweeps=0)


def test_weights_that_strengths_decide_are_degenerate():
    for model, shape in (
        (nn.Linear(7, 1), (1, 7)),
        (nn.Conv2d(4, 4, 3, groups=4), (1, 4, 5, 5)),
    ):
        with pytest.raises(cnt.DegenerateMeasure, match="no other weights"):
            cnt.null_model(cnt.trace(model, shape), "strengths")
        assert cnt.null_model(cnt.trace(model, shape), "weights").link_count


def test_low_precision_weights_keep_their_type():
    network = traced_network("dense")
    types = (torch.bfloat16, torch.float8_e4m3fn)
    for dtype in types:
        low = network.bound_to({n: t.to(dtype) for n, t in network.weights.items()})
        for kind in ("weights", "signs"):
            assert cnt.null_model(low, kind).weights["fc.0.weight"].dtype == dtype
        rewired = cnt.null_model(low, "strengths")
        assert rewired.weights["fc.0.weight"].dtype == torch.float64
        pair = [cnt.strength(n)["strength"] for n in (low, rewired)]
        np.testing.assert_allclose(*pair, atol=1e-12)


# -- measures against a null ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["weights", "signs"])
def test_a_table_against_a_null_is_the_moments_of_its_draws(kind):
    network = traced_network("dense")
    names = ("strength", "pagerank")
    found = cnt.against_null(network, *names, kind=kind, shuffles=6, seed=4, damping=0.5)
    plain = cnt.measure(network, *names, damping=0.5)
    drawn = [cnt.measure(one, *names, damping=0.5) for one in null_models(network, kind, 6, seed=4)]
    for name in names:
        values = np.array([table[name] for table in drawn])
        np.testing.assert_array_equal(found[name], plain[name])
        np.testing.assert_allclose(found[f"{name}_null"], values.mean(0), rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(found[f"{name}_excess"], plain[name] / values.mean(0), rtol=1e-9)
        varies = values.std(0) > 1e-9 * np.abs(values.mean(0))
        z = (plain[name] - values.mean(0))[varies] / values.std(0)[varies]
        np.testing.assert_allclose(found[f"{name}_z"][varies], z, rtol=1e-8)
        assert found[f"{name}_z"][~varies].isna().all()
    assert list(found.columns[:3]) == ["neuron", "layer", "index"]


def test_a_strong_neuron_stands_out():
    torch.manual_seed(1)
    model = nn.Linear(30, 20, bias=False)
    with torch.no_grad():
        model.weight[4] += 1.0
    found = cnt.against_null(cnt.trace(model, (1, 30)), "strength_in", shuffles=20)
    assert found["strength_in_z"].idxmax() == 34
    assert found["strength_in_z"].max() > 5


def test_what_the_null_keeps_has_no_z():
    found = cnt.against_null(traced_network("dense"), "strength", kind="strengths", shuffles=3)
    np.testing.assert_allclose(found["strength_excess"], 1.0, rtol=1e-9)
    assert found["strength_z"].isna().all()


def test_a_nan_weight_makes_only_rows_it_can_reach_nan():
    network = cnt.trace(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2)), (1, 3))
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["0.weight"][0, 0] = float("nan")
    found = cnt.against_null(network.with_weights(weights), "strength_in", shuffles=40)
    assert found["strength_in_null"].isna().tolist() == [False] * 3 + [True] * 2 + [False] * 2


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (("strength",), {"shuffles": 1}, "shuffles=1"),
        (("community",), {}, "labels"),
        (("strenght",), {}, "did you mean"),
        (("strength",), {"kind": "wieghts"}, "did you mean weights"),
    ],
)
def test_what_a_null_cannot_say_is_refused(names, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.against_null(traced_network("dense"), *names, **options)
    assert said in str(refusal.value)
