"""Fixed links are those of PyTorch's own operator: they reproduce it, and their adjoint is its."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from branches import Branches, Function, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt

IMAGE, SEQUENCE, VOLUME = (1, 2, 6, 5), (1, 2, 7), (1, 2, 3, 4, 5)
index = torch.tensor([1, 0, 1, 0, 1])


def resized(**options):
    return lambda x: F.interpolate(x, **options)


def warped(x):
    turn = torch.tensor([[0.75, 0.25, 0.125], [-0.25, 0.875, 0.0]], dtype=x.dtype)[None]
    grid = F.affine_grid(turn, (1, 2, 4, 3), align_corners=False)
    return F.grid_sample(x, grid, mode="bicubic", align_corners=False)


def put(x):
    y = x.clone()
    y[:, index[:2]] = x
    y[..., 0] = 0
    return y


FIXED = {
    "bilinear": (nn.Upsample(scale_factor=(1.7, 2.3), mode="bilinear"), IMAGE),
    "bilinear_corners": (nn.Upsample(size=(4, 9), mode="bilinear", align_corners=True), IMAGE),
    "bilinear_smooth": (resized(scale_factor=0.6, mode="bilinear", antialias=True), IMAGE),
    "bicubic": (resized(scale_factor=0.7, mode="bicubic"), IMAGE),
    "bicubic_smooth": (resized(size=(4, 2), mode="bicubic", antialias=True), IMAGE),
    "linear": (resized(scale_factor=1.6, mode="linear", recompute_scale_factor=True), SEQUENCE),
    "trilinear": (resized(scale_factor=1.6, mode="trilinear"), VOLUME),
    "area": (resized(size=(4, 7), mode="area"), IMAGE),
    "warped": (warped, IMAGE),
    "average_1d": (nn.AvgPool1d(3, 2, 1, ceil_mode=True), SEQUENCE),
    "average_2d": (nn.AvgPool2d(3, 2, 1, True, False), IMAGE),
    "average_3d": (nn.AvgPool3d(2, 1, 1, divisor_override=5), VOLUME),
    "adaptive_1d": (nn.AdaptiveAvgPool1d(9), SEQUENCE),
    "adaptive_2d": (nn.AdaptiveAvgPool2d((9, 2)), IMAGE),
    "adaptive_3d": (nn.AdaptiveAvgPool3d((2, None, 7)), VOLUME),
    "sum": (lambda x: x.sum((1, 3), keepdim=True), IMAGE),
    "sum_of_all": (torch.sum, IMAGE),
    "mean": (lambda x: x.mean(-2), IMAGE),
    "mean_of_all": (torch.mean, IMAGE),
    "trace": (lambda x: x[0, 0].trace(), IMAGE),
    "running_sum": (lambda x: x.cumsum(1), IMAGE),
    "differences": (lambda x: x.diff(n=2, dim=2, prepend=x[:, :, :1], append=x[:, :, 1:2]), IMAGE),
    "area_below": (lambda x: torch.trapezoid(x, dim=1), IMAGE),
    "fold": (nn.Fold((6, 5), 3, padding=1, stride=2, dilation=2), (1, 18, 4)),
    "add_at": (lambda x: x.new_ones(1, 2, 6, 5).index_add(3, index, x, alpha=3), IMAGE),
    "add_to_itself": (
        lambda x: x.index_put((index * 0, index), x[0, :1].expand(5, 6, 5), accumulate=True),
        IMAGE,
    ),
    "scatter": (lambda x: x.scatter_add(3, index.expand(1, 2, 6, 5), x.flip(1)), IMAGE),
    "mean_at": (lambda x: x.new_zeros(1, 2, 6, 2).index_reduce(3, index, x, "mean"), IMAGE),
    "mean_at_alone": (
        lambda x: x.new_zeros(1, 2, 6, 2).scatter_reduce(
            3, index.expand(1, 2, 6, 5), x, "mean", include_self=False
        ),
        IMAGE,
    ),
}
MOVED = {
    "nearest": (nn.Upsample(scale_factor=(1.7, 2.3)), IMAGE),
    "nearest_1d": (resized(size=3), SEQUENCE),
    "nearest_3d": (resized(scale_factor=2), VOLUME),
    "nearest_exact": (resized(size=(4, 9), mode="nearest-exact"), IMAGE),
    "patches": (nn.Unfold(3, padding=1), IMAGE),
    "windows": (lambda x: x.unfold(2, 3, 2), IMAGE),
    "gathered": (lambda x: x.gather(3, index.expand(1, 2, 6, 5)), IMAGE),
    "taken": (lambda x: torch.take_along_dim(x, index.reshape(1, 1, 1, 5), 3), IMAGE),
    "repeated": (lambda x: x.repeat_interleave(index, 3, output_size=3), IMAGE),
    "put": (put, IMAGE),
    "copied": (lambda x: x.index_copy(1, torch.tensor([1]), x[:, :1]), IMAGE),
    "scattered": (lambda x: x.scatter(3, index.expand(1, 1, 6, 5)[..., :1], x[:, 1:]), IMAGE),
    "masked": (lambda x: torch.where(index > 0, x, 0.0).masked_fill(index == 0, 0), IMAGE),
    "chosen": (lambda x: torch.where(index > 0, x, x.flip(1)), IMAGE),
    "side_by_side": (lambda x: torch.hstack([x, x.flip(1)]), IMAGE),
    "on_a_diagonal": (lambda x: x.diag_embed(), SEQUENCE),
}
SELECTED = {
    "maximum_1d": (nn.MaxPool1d(2, ceil_mode=True, padding=1, dilation=2), SEQUENCE),
    "maximum_2d": (nn.MaxPool2d(3, 2, 1), IMAGE),
    "maximum_3d": (nn.MaxPool3d(2), VOLUME),
    "adaptive_1d": (nn.AdaptiveMaxPool1d(3), SEQUENCE),
    "adaptive_2d": (nn.AdaptiveMaxPool2d((4, 7)), IMAGE),
    "over_axes": (lambda x: x.amax((1, 2)), IMAGE),
    "over_one": (lambda x: x.max(1)[0], IMAGE),
    "smallest": (lambda x: x.amin(2, keepdim=True), IMAGE),
    "smallest_of_all": (torch.min, IMAGE),
}
COMPUTED = {  # from data: no links
    "places": (lambda x: F.max_pool2d(x, 2, return_indices=True)[1], IMAGE),
    "sorted": (lambda x: x.sort(1)[0], IMAGE),
    "largest": (lambda x: x.topk(2, 3)[0], IMAGE),
    "place": (lambda x: x.argmax(1), IMAGE),
    "gathered": (lambda x: x.gather(3, x.topk(2, 3)[1]), IMAGE),
    "unpooled": (
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, 1, return_indices=True), 2, 1),
        IMAGE,
    ),
    "fractional": (
        lambda x: F.fractional_max_pool2d(x, 2, 3, _random_samples=x.new_full((1, 2, 2), 0.3)),
        IMAGE,
    ),
    "counted": (lambda x: (x > 0).float().mean(1) + (x > 0).sum(1), IMAGE),
    "power": (nn.LPPool2d(2, 2), IMAGE),
}
FAMILIES = {"fixed": FIXED, "moved": MOVED, "selected": SELECTED, "computed": COMPUTED}


@functools.cache
def network_of(family):
    return traced(FAMILIES[family])[1]


def matrix(network, block, kinds):
    """A block as a dense matrix (target, source), from the links that the network lists."""
    source, target = network.layer(block.source), network.layer(block.target)
    dense = np.zeros((target.size, source.size))
    for batch in network.links(kinds=kinds):
        s, t, w = (batch.column(c).to_numpy() for c in ("source", "target", "weight"))
        here = (s >= source.first) & (s < source.last) & (t >= target.first) & (t < target.last)
        np.add.at(dense, (t[here] - target.first, s[here] - source.first), w[here])
    return dense


def obeys_the_law(network):
    """Every fixed block is the matrix of its links, forwards and backwards."""
    for block in network.blocks:
        if block.kind != "fixed":
            continue
        dense = matrix(network, block, ("fixed",))
        x = torch.randn(2, dense.shape[1], dtype=torch.float64)
        y = torch.randn(2, dense.shape[0], dtype=torch.float64)
        ahead, back = block.forward(x), block.transpose(y)
        np.testing.assert_allclose(ahead, x.numpy() @ dense.T, atol=1e-12)
        np.testing.assert_allclose((ahead * y).sum(), (x * back).sum(), atol=1e-11)
        into, out = block.sums()
        np.testing.assert_allclose(into.sum(0), dense.sum(1), atol=1e-12)
        np.testing.assert_allclose(out.sum(0), dense.sum(0), atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_operators_compute_what_pytorch_does(family):
    model = Branches(FAMILIES[family])
    found = cnt.verify(model, model.example, samples=2)
    assert found.passed
    assert max(found.error_operators, found.error_links) < 1e-12


def test_links_reproduce_forward_and_its_adjoint():
    obeys_the_law(network_of("fixed"))


@pytest.mark.parametrize("name", FIXED)
def test_a_linear_operator_is_one_layer_of_fixed_links(name):
    network, place = network_of("fixed"), list(FIXED).index(name)
    (target,) = {b.target for b in network.blocks if b.source == network.layers[place].name}
    kinds = {b.kind for b in network.blocks if b.target == target}
    assert "fixed" in kinds <= {"fixed", "diagonal"}


def test_what_only_moves_values_makes_no_layer():
    assert {layer.kind for layer in network_of("moved").layers} == {"input"}


def test_a_maximum_selects_one_of_what_its_links_say():
    network = network_of("selected")
    model = Branches(SELECTED)
    inputs = [torch.randn(x.shape, dtype=torch.float64) for x in model.example]
    assert {b.link_kind for b in network.blocks} == {"select"}
    for block, x, y in zip(network.blocks, inputs, network.forward(*inputs), strict=True):
        chosen = x.reshape(-1).numpy()
        smallest = "smallest" in block.target
        best = np.full(y.numel(), np.inf if smallest else -np.inf)
        for links in block.links():
            s, t = links.source - block.source_first, links.target - block.target_first
            (np.minimum if smallest else np.maximum).at(best, t, chosen[s])
        np.testing.assert_array_equal(best, y.reshape(-1))


def test_what_is_computed_from_data_has_no_select_links():
    kinds: dict[str, list[str]] = {}
    for block in network_of("computed").blocks:
        kinds.setdefault(block.target.partition("#")[0], []).append(block.link_kind)
    assert kinds["branch.unpooled"] == ["select", "data", "data", "data"]
    for name in ("places", "place", "sorted", "largest", "gathered", "fractional"):
        assert set(kinds[f"branch.{name}"]) == {"data"}


@st.composite
def resizings(draw):
    n = draw(st.integers(1, 3))
    sizes = [draw(st.integers(2, 7)) for _ in range(n)]
    mode = ("linear", "bilinear", "trilinear")[n - 1]
    mode = draw(st.sampled_from([mode, "bicubic"])) if n == 2 else mode
    smooth = n == 2 and draw(st.booleans())
    options = {"mode": mode, "antialias": smooth}
    options["align_corners"] = draw(st.booleans()) and not smooth
    if draw(st.booleans()):
        options["size"] = [draw(st.integers(1, 9)) for _ in range(n)]
    else:
        options["scale_factor"] = [draw(st.floats(0.6, 2.5)) for _ in range(n)]
        options["recompute_scale_factor"] = draw(st.booleans())
    return resized(**options), (1, draw(st.integers(1, 2)), *sizes)


@st.composite
def averages(draw):
    n = draw(st.integers(1, 3))
    sizes = [draw(st.integers(4, 7)) for _ in range(n)]
    if draw(st.booleans()):
        outputs = tuple(draw(st.integers(1, 9)) for _ in range(n))
        return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[n - 1](
            outputs if n > 1 else outputs[0]
        ), (1, 2, *sizes)
    taps = [draw(st.integers(1, 3)) for _ in range(n)]
    options = {
        "kernel_size": taps,
        "stride": [draw(st.integers(1, 3)) for _ in range(n)],
        "padding": [draw(st.integers(0, k // 2)) for k in taps],
        "ceil_mode": draw(st.booleans()),
        "count_include_pad": draw(st.booleans()),
    }
    if n > 1:
        options["divisor_override"] = draw(st.sampled_from([None, 3]))
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[n - 1]
    return functools.partial(pool, **options), (1, 2, *sizes)


@st.composite
def reductions(draw):
    shape = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 4)))]
    axes = draw(st.lists(st.sampled_from(range(-len(shape), 0)), unique=True))
    call = draw(st.sampled_from([torch.sum, torch.mean]))
    options = {"dim": axes, "keepdim": draw(st.booleans())}
    if draw(st.integers(0, 3)) == 0:
        call, options = torch.cumsum, {"dim": draw(st.sampled_from(range(len(shape))))}
    return functools.partial(call, **options), (1, *shape)


operators = st.one_of(resizings(), averages(), reductions())


@settings(max_examples=5, deadline=None)
@given(st.lists(operators, min_size=12, max_size=12))
def test_random_geometry(drawn):
    cases = {f"case_{k}": case for k, case in enumerate(drawn)}
    model, network = traced(cases)
    inputs = [torch.randn(x.shape, dtype=torch.float64) for x in model.example]
    for wanted, found in zip(model(*inputs), network.forward(*inputs), strict=True):
        torch.testing.assert_close(found.reshape(wanted.shape), wanted, rtol=0, atol=1e-12)
    obeys_the_law(network)


def test_weights_that_are_zero_are_no_links():
    model = nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True)
    network = cnt.trace(model, (1, 1, 2, 2))
    found = np.concatenate([b.column("weight").to_numpy() for b in network.links(("fixed",))])
    assert (found != 0).all()
    assert len(found) == (1 + 4 * 2 + 1) ** 2  # a corner is a copy, what is between hears both


def test_trained_links_in_and_out_have_the_same_sum():
    parts = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.AvgPool2d(2, 1, 1), nn.Conv2d(3, 1, 2)]
    network = cnt.trace(nn.Sequential(*parts, nn.Upsample(scale_factor=2)), IMAGE)
    found = cnt.strength(network)
    assert found["strength_in"].sum() == pytest.approx(found["strength_out"].sum())


def test_one_channel_stands_for_all():
    network = cnt.trace(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (1, 2048, 7, 7))
    (block,) = network.blocks
    assert (block.operator.pattern.lead, len(block.operator.pattern.source)) == (2048, 49)
    network = cnt.trace(Function(lambda x: x.mean((2, 3))), (1, 512, 7, 7))
    assert len(network.blocks[0].operator.pattern.source) == 49
    up = cnt.trace(nn.Upsample(scale_factor=2, mode="bilinear"), (1, 64, 28, 28))
    pattern = up.blocks[0].operator.pattern
    assert pattern.lead == 64
    assert pattern.source.nbytes < 100_000
    assert len(str(up.blocks[0].weight.to_json())) < 5_000  # a product of two short lists
