"""A block as a linear map of a sign equals its listed links, whatever it is and however stored."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ZOO, traced_network
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt
from cntgraph.measures.steps import Step, of_sign
from cntgraph.network import Block
from cntgraph.network.expressions import parameter
from cntgraph.network.geometry import Axis
from cntgraph.network.operators import Convolution, Dense

SIGNS = ("absolute", "signed", "positive", "negative")


class Wirings(nn.Module):
    """Blocks that read some of a layer, in another order, twice, and at several positions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2)
        self.flat = nn.Conv2d(6, 4, 1)
        self.back = nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1)
        self.tokens, self.head = nn.Linear(5, 3), nn.Linear(11, 7)
        self.scale = nn.Parameter(torch.randn(7))

    def forward(self, x):
        y = torch.relu(self.flat(torch.tanh(self.conv(x))))
        z = torch.sigmoid(self.back(y)).flatten(1)
        spread = F.avg_pool2d(y, 2, ceil_mode=True).flatten(1)
        some = torch.cat([z[:, ::7].flip(1)[:, :7], spread[:, [0, 0, 2]], z[:, :1] * 0], 1)
        return self.head(some) * self.scale + 1, self.tokens(
            F.pad(z[:, 3:31], (1, 1)).view(1, 6, 5)
        )


VARIED = ("dense", "residual", "wirings")
FEWER = [f"{name}, {how}" for name in VARIED for how in ("filtered", "by channel")]
NAMES = [*ZOO, "wirings", *FEWER, "none left"]


@functools.cache
def networks():
    torch.manual_seed(3)
    found = {name: traced_network(name) for name in ZOO}
    found["wirings"] = cnt.trace(Wirings(), (1, 4, 6, 6))
    for name in VARIED:
        found[f"{name}, filtered"] = found[name].filtered("top:2")
        found[f"{name}, by channel"] = found[name].by_channel("l2")
    found["none left"] = found["dense"].filtered("above:9")
    return found


def listed(block, sign):
    """The block as a dense matrix (source, target), from its links."""
    matrix = np.zeros((block.source_size, block.operator.size_out))
    for links in block.links():
        ends = links.source - block.source_first, links.target - block.target_first
        w = links.weight
        kinds = {"absolute": abs(w), "signed": w, "positive": w * (w > 0), "negative": -w * (w < 0)}
        np.add.at(matrix, ends, kinds[sign])
    return matrix


def check(block, sign, *, rtol=1e-12):
    matrix, step = listed(block, sign), Step(block, sign)
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(3, matrix.shape[0])), draw.normal(size=(3, matrix.shape[1]))
    assert matrix.shape == tuple(s.stop - s.start for s in (step.source, step.target))
    close = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=rtol)
    close(step.push(x), x @ matrix)
    close(step.pull(y), y @ matrix.T)
    close(step.push(x[1]), x[1] @ matrix)
    close(step.pull(y[1]), y[1] @ matrix.T)
    close(step.push(x.T.copy().T), x @ matrix)  # not laid out row by row


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_its_links(name, sign):
    for block in networks()[name].blocks:
        check(block, sign)


def test_every_kind_of_block_is_among_them():
    blocks = [b for network in networks().values() for b in network.blocks]
    kinds = {b.kind for b in blocks}
    assert kinds == {"dense", "convolution", "diagonal", "fixed", "sparse", "opaque"}
    assert {True, False} == {getattr(b.operator, "pattern", 0) is None for b in blocks}
    assert any(b.kind == "dense" and b.operator.copies > 1 for b in blocks)
    assert any(b.inputs is not None and (b.inputs < 0).any() for b in blocks)
    read = [np.sort(b.inputs[b.inputs >= 0]) for b in blocks if b.inputs is not None]
    assert any(len(np.unique(r)) < len(r) for r in read), "a neuron that is read twice"
    assert any((np.diff(b.inputs) < 0).any() for b in blocks if b.inputs is not None)


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2, torch.int8, torch.int64],
    ids=str,
)
@pytest.mark.parametrize("name", ["dense", "wirings"])
def test_sums_are_exact_whatever_the_storage(name, dtype):
    network = networks()[name]
    factor = 1 if dtype.is_floating_point else 90
    stored = {n: (t * factor).to(dtype) for n, t in network.weights.items()}
    for block in network.with_weights(stored).blocks:
        for sign in SIGNS:
            check(block, sign)


def test_large_integers_keep_their_digits():
    network = cnt.trace(nn.Linear(2, 1, bias=False), (1, 2))
    stored = {"weight": torch.tensor([[2**40 + 1, -128]])}
    step = Step(network.with_weights(stored).blocks[0], "absolute")
    assert step.pull(np.ones(1)).tolist() == [2**40 + 1, 128]


def test_weights_that_are_still_trained():
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 2))
    network = cnt.trace(model, (1, 2, 4)).bound_to(dict(model.named_parameters()))
    assert all(t.requires_grad for t in network.weights.values())
    for block in network.blocks:
        check(block, "absolute")


@st.composite
def blocks(draw):
    """A dense block or a convolution that reads any neurons in any order, or none at a place."""
    size, high, wide = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 40))
    copies = draw(st.integers(1, 3))
    if draw(st.booleans()):
        operator, shape = Dense(wide, high, copies), (high, wide)
    else:
        axis = Axis(draw(st.integers(3, 6)), 2, *(draw(st.integers(1, 2)) for _ in "sd"), before=1)
        operator, shape = Convolution(2, 2 * high, 2, (axis,), copies), (2 * high, 1, 2)
    torch.manual_seed(draw(st.integers(0, 99)))
    weight = torch.randn(shape) * (torch.rand(shape) > 0.3)
    inputs = torch.randint(-1, size, (operator.size_in,)).numpy()
    if draw(st.booleans()):
        inputs, size = None, operator.size_in
    weights = {"w": weight}
    return Block("b", "a", "c", "weight", operator, parameter("w"), weights, 5, 50, size, inputs)


@settings(max_examples=150, deadline=None)
@given(blocks(), st.sampled_from(SIGNS))
def test_a_block_of_any_size(block, sign):
    check(block, sign)


@pytest.mark.parametrize("sign", SIGNS)
def test_nan_stays_where_it_leads(sign):
    network = cnt.trace(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), (1, 5))
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["0.weight"][2, 1] = float("nan")
    for changed in (network.with_weights(weights), network.with_weights(weights).filtered("top:4")):
        step = Step(changed.blocks[0], sign)
        assert np.isnan(step.push(np.ones(5))).tolist() == [False, False, True, False]
        assert np.isnan(step.pull(np.ones(4))).tolist() == [False, True, False, False, False]


def test_signs_of_numbers():
    w = np.array([2.0, -3.0, 0.0, np.nan, np.inf, -np.inf])
    assert of_sign(w, "absolute").tolist()[:3] == [2, 3, 0]
    np.testing.assert_array_equal(of_sign(w, "positive"), [2, 0, 0, np.nan, np.inf, 0])
    np.testing.assert_array_equal(of_sign(w, "negative"), [0, 3, 0, np.nan, 0, np.inf])
    np.testing.assert_array_equal(of_sign(torch.from_numpy(w), "negative"), of_sign(w, "negative"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("sign", SIGNS)
def test_a_gpu_gives_the_same(sign):
    for name in ("residual", "wirings", "wirings, filtered"):
        for there, here in zip(
            networks()[name].to("cuda").blocks, networks()[name].blocks, strict=True
        ):
            x = np.random.default_rng(0).normal(size=here.source_size)
            expected = Step(here, sign).push(x)
            np.testing.assert_allclose(Step(there, sign).push(x), expected, rtol=1e-9, atol=1e-12)
