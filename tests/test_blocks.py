"""The law every kind of block obeys: its links reproduce its forward, its sums are theirs."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from cntgraph.network import Block
from cntgraph.network.expressions import literal
from cntgraph.network.geometry import Axis, Pattern, decode, encode
from cntgraph.network.operators import (
    Convolution,
    Dense,
    Diagonal,
    Fixed,
    Opaque,
    operator_from_json,
)

settings.register_profile("laws", deadline=None, max_examples=60)
settings.load_profile("laws")


@st.composite
def axes(draw, transposed):
    size, taps = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    before = draw(st.integers(0, 2))
    after = before if transposed else draw(st.integers(0, 2))
    extra = draw(st.integers(0, stride - 1)) if transposed else 0
    axis = Axis(size, taps, stride, dilation, before, after, transposed, extra)
    assume(axis.outputs > 0)
    assume(transposed or size + before + after > dilation * (taps - 1))
    return axis


@st.composite
def convolutions(draw, transposed):
    groups = draw(st.integers(1, 2))
    wide, high = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    spatial = tuple(draw(axes(transposed)) for _ in range(draw(st.integers(1, 3))))
    op = Convolution(groups * wide, groups * high, groups, spatial, draw(st.integers(1, 2)))
    taps = [a.taps for a in spatial]
    first, second = (groups * wide, high) if transposed else (groups * high, wide)
    return op, torch.randn(first, second, *taps, dtype=torch.float64)


@st.composite
def operators(draw):
    kind = draw(st.sampled_from(["dense", "convolution", "transposed", "diagonal", "fixed"]))
    torch.manual_seed(draw(st.integers(0, 99)))
    if kind in ("convolution", "transposed"):
        return draw(convolutions(kind == "transposed"))
    n, m, copies = (draw(st.integers(1, 4)) for _ in range(3))
    if kind == "dense":
        return Dense(n, m, copies), torch.randn(m, n, dtype=torch.float64)
    if kind == "diagonal":
        return Diagonal((copies, n, m)), torch.randn(n, 1, dtype=torch.float64)
    count = draw(st.integers(0, 6))
    source, target = np.random.default_rng(n).integers(0, [[n], [m]], (2, count))
    return Fixed(Pattern(copies, n, m, source, target)), torch.randn(count, dtype=torch.float64)


@st.composite
def blocks(draw):
    """An operator that reads a layer whole, or in part and out of order, some neurons twice."""
    op, w = draw(operators())
    size, inputs = op.size_in, None
    if draw(st.booleans()):
        size = draw(st.integers(1, 2 * op.size_in))
        inputs = np.random.default_rng(size).integers(-1, size, op.size_in)
    return Block("a -> b", "a", "b", "weight", op, literal(w), {}, 5, 500, size, inputs)


def matrix(block):
    """The block as a dense matrix (target, source), made from its links."""
    dense = np.zeros((block.operator.size_out, block.source_size))
    for links in block.links(7):
        assert len(links.source) <= 7
        np.add.at(dense, (links.target - 500, links.source - 5), links.weight)
    return dense


def rows(links):
    columns = (links.source, links.target, links.weight, links.element)
    return list(zip(*(c.tolist() for c in columns), strict=True))


@given(blocks())
def test_links_reproduce_forward(block):
    x = torch.randn(2, block.source_size, dtype=torch.float64)
    np.testing.assert_allclose(block.forward(x), x.numpy() @ matrix(block).T, atol=1e-12)


@given(blocks())
def test_transpose_is_the_adjoint(block):
    y = torch.randn(2, block.operator.size_out, dtype=torch.float64)
    np.testing.assert_allclose(block.transpose(y), y.numpy() @ matrix(block), atol=1e-12)


@given(blocks())
def test_sums_and_counts_are_those_of_the_links(block):
    into, out = block.sums()
    found_in, found_out = block.counts()
    wanted = np.zeros((2, block.operator.size_out)), np.zeros((2, block.source_size))
    degrees = np.zeros(block.operator.size_out), np.zeros(block.source_size)
    total = 0
    for links in block.links():
        for part, w in enumerate((links.weight.clip(min=0), links.weight.clip(max=0))):
            np.add.at(wanted[0][part], links.target - 500, w)
            np.add.at(wanted[1][part], links.source - 5, w)
        np.add.at(degrees[0], links.target - 500, 1)
        np.add.at(degrees[1], links.source - 5, 1)
        total += len(links.source)
    np.testing.assert_allclose(into, wanted[0], atol=1e-12)
    np.testing.assert_allclose(out, wanted[1], atol=1e-12)
    np.testing.assert_array_equal(found_in, degrees[0])
    np.testing.assert_array_equal(found_out, degrees[1])
    assert block.link_count == total


@given(blocks())
def test_links_of_a_neuron_are_the_listed_ones_at_it(block):
    listed = [row for links in block.links() for row in rows(links)]
    for neuron in [*range(5, 5 + block.source_size), *range(500, 500 + block.operator.size_out)]:
        found = [row for links in block.links_of(neuron) for row in rows(links)]
        assert sorted(found) == sorted(row for row in listed if neuron in row[:2])


@given(blocks())
def test_map_applies_to_every_link(block):
    np.testing.assert_array_equal(
        np.sort(np.concatenate([k.weight for k in block.map(torch.square).links()] or [[]])),
        np.sort(np.concatenate([k.weight**2 for k in block.links()] or [[]])),
    )


@given(blocks())
def test_json_keeps_the_block(block):
    twin = Block.from_json(block.to_json(), {})
    np.testing.assert_array_equal(matrix(twin), matrix(block))


@given(convolutions(False))
def test_convolution_is_pytorchs(drawn):
    op, w = drawn
    assume(all(a.before == a.after for a in op.axes))
    x = torch.randn(op.copies, op.channels_in, *(a.size for a in op.axes), dtype=torch.float64)
    call = (F.conv1d, F.conv2d, F.conv3d)[len(op.axes) - 1]
    stride, padding = tuple(a.stride for a in op.axes), tuple(a.before for a in op.axes)
    y = call(x, w, None, stride, padding, tuple(a.dilation for a in op.axes), op.groups)
    assert list(y.shape[2:]) == [a.outputs for a in op.axes]
    block = Block("a -> b", "a", "b", "weight", op, literal(w), {}, 5, 500, op.size_in)
    by_links = matrix(block) @ x.reshape(-1).numpy()
    np.testing.assert_allclose(by_links, y.reshape(-1), atol=1e-12)


@given(convolutions(True))
def test_transposed_convolution_is_pytorchs(drawn):
    op, w = drawn
    x = torch.randn(op.copies, op.channels_in, *(a.size for a in op.axes), dtype=torch.float64)
    call = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(op.axes) - 1]
    stride, padding = tuple(a.stride for a in op.axes), tuple(a.before for a in op.axes)
    extra, dilation = tuple(a.extra for a in op.axes), tuple(a.dilation for a in op.axes)
    assume(all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)))
    y = call(x, w, None, stride, padding, extra, op.groups, dilation)
    assert list(y.shape[2:]) == [a.outputs for a in op.axes]
    block = Block("a -> b", "a", "b", "weight", op, literal(w), {}, 5, 500, op.size_in)
    by_links = matrix(block) @ x.reshape(-1).numpy()
    np.testing.assert_allclose(by_links, y.reshape(-1), atol=1e-12)


@given(st.lists(st.integers(-1, 2**50)))
def test_indices_survive_packing(index):
    array = np.asarray(index, dtype=np.int64)
    np.testing.assert_array_equal(decode(encode(array)), array)


def test_a_border_pixel_has_fewer_links():
    op = Convolution(1, 1, 1, (Axis(3, 3, before=1, after=1),))
    w = literal(torch.tensor([[[1.0, 10.0, 100.0]]]))
    block = Block("a -> b", "a", "b", "weight", op, w, {}, 0, 3, 3)
    into, out = block.sums()
    assert into[0].tolist() == [110.0, 111.0, 11.0]
    assert out[0].tolist() == [11.0, 111.0, 110.0]
    assert block.counts()[0].tolist() == [2, 3, 2]


def test_an_opaque_block_lists_where_values_may_come_from():
    pattern = Pattern(2, 4, 2, np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1]))
    op = operator_from_json(Opaque(8, 4, pattern).to_json())
    pairs = [(s, t) for a, b, _ in op.links(100) for s, t in zip(a, b, strict=True)]
    assert pairs == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)]


@given(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), st.integers(1, 5))
def test_an_opaque_block_without_a_pattern_lists_all_that_may_reach(parts, wide, high, batch):
    op = operator_from_json(Opaque(parts * wide, parts * high, None, parts).to_json())
    every = {
        (p * wide + i, p * high + o) for p in range(parts) for i in range(wide) for o in range(high)
    }
    listed = list(op.links(batch))
    assert all(len(source) <= max(batch, 1) for source, _, _ in listed)
    found = [(s, t) for a, b, _ in listed for s, t in zip(a, b, strict=True)]
    assert sorted(found) == sorted(every)
    into, out = op.counts()
    assert into.tolist() == [sum(t == o for _, t in every) for o in range(op.size_out)]
    assert out.tolist() == [sum(s == i for s, _ in every) for i in range(op.size_in)]
    for place in range(op.size_out):
        source, target, _ = op.links_into(place)
        assert {(s, t) for s, t in every if t == place} == set(zip(source, target, strict=True))
    for place in range(op.size_in):
        source, target, _ = op.links_out_of(place)
        assert {(s, t) for s, t in every if s == place} == set(zip(source, target, strict=True))
