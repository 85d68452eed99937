"""Channels are their neurons together: every link between two channels is a kernel, reduced."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import ZOO, traced_network
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt
from cntgraph.network import Block, Layer
from cntgraph.network.expressions import parameter
from cntgraph.network.geometry import Axis
from cntgraph.network.operators import Convolution, Dense

REDUCED = {
    "sum": np.sum,
    "mean": np.mean,
    "l1": lambda w: np.abs(w).sum(),
    "l2": lambda w: np.sqrt((w * w).sum()),
}


def table(network, kinds=("weight",)):
    """All links with their ends as (layer, channel), the channel read off the coordinates."""
    parts = [b.to_pandas() for b in network.links(kinds=kinds)]
    columns = ["source", "target", "weight", "kind", "parameter", "element"]
    links = pd.concat(parts) if parts else pd.DataFrame(columns=columns)
    neurons = network.neurons()
    channel = neurons["channel"].fillna(neurons["index"]).to_numpy(dtype=np.int64)
    for end in ("source", "target"):
        place = links[end].to_numpy(dtype=np.int64)
        links[f"{end}_layer"] = neurons["layer"].to_numpy()[place]
        links[end] = channel[place]
    return links


ENDS = ["source_layer", "target_layer", "source", "target"]


def expected(network, reduce):
    """Kernels by pandas and NumPy: the distinct elements that join two channels, reduced."""
    links = table(network).drop_duplicates([*ENDS, "parameter", "element"])
    kernels = links.groupby([*ENDS, "parameter"])
    found = kernels["weight"].agg(lambda w: REDUCED[reduce](w.to_numpy())).reset_index()
    found["element"] = kernels["element"].min().to_numpy()
    return found.sort_values([*ENDS, "parameter", "weight"]).reset_index(drop=True)


def agrees(network, reduce):
    channels = network.by_channel(reduce)
    if not network.link_count:
        assert not channels.link_count
        return channels
    links = table(channels)[[*ENDS, "parameter", "weight", "element"]]
    links = links.sort_values([*ENDS, "parameter", "weight"]).reset_index(drop=True)
    pd.testing.assert_frame_equal(links, expected(network, reduce), rtol=1e-12, atol=1e-12)
    assert channels.link_count == len(links)
    return channels


class Grouped(nn.Module):
    """Groups, depthwise with and without a multiplier, shuffled channels, 1x1."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4, bias=False)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.multiplied = nn.Conv2d(12, 24, (1, 3), stride=2, groups=12)
        self.point = nn.Conv2d(24, 5, 1, groups=1)

    def forward(self, x):
        x = F.channel_shuffle(F.relu(self.first(x)), 2)
        return self.point(self.multiplied(F.relu6(self.depthwise(self.grouped(x)))))


class ChannelsLast(nn.Module):
    """A block of a ConvNeXt: depthwise, dense over the last axis, a scale, a skip."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, stride=2)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.LayerNorm(6)
        self.wide, self.narrow = nn.Linear(6, 10), nn.Linear(10, 6)
        self.gamma = nn.Parameter(torch.rand(6, 1, 1))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)
        return self.head((x + self.gamma * y).mean((2, 3)))


class Patches(nn.Module):
    """A vision transformer of one block: patches, a class token, positions, attention."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.block(x)[:, 0])


class Concatenated(nn.Module):
    """Two dense layers of a DenseNet, padding of its own, and a flattened end."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 3, 3, padding=1)
        self.third = nn.Conv2d(7, 3, 3, stride=2)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in (4, 7))
        self.fc = nn.Linear(3 * 3 * 3 + 4, 5)

    def forward(self, x):
        x = self.first(x)
        y = torch.cat([x, self.second(F.relu(self.norms[0](x)))], 1)
        z = self.third(F.pad(F.relu(self.norms[1](y)), (1, 0, 1, 0)))
        return self.fc(torch.cat([z.flatten(1), F.avg_pool2d(x, 6).flatten(1)], 1))


class Torn(nn.Module):
    """Reshapes that read several channels as one: a pixel shuffle, a picture made of units."""

    def __init__(self):
        super().__init__()
        self.seed = nn.Linear(5, 3 * 2 * 2)
        self.up = nn.ConvTranspose2d(3, 8, 4, stride=2, padding=1, bias=False)
        self.after = nn.Conv2d(2, 3, 3, stride=2)

    def forward(self, z):
        x = self.up(F.relu(self.seed(z)).view(-1, 3, 2, 2))
        return self.after(F.pixel_shuffle(F.relu(x), 2))


class Repeated(nn.Module):
    """One channel read twice by a kernel, and two groups that read alike."""

    def __init__(self):
        super().__init__()
        self.conv, self.grouped = nn.Conv1d(4, 3, 3, padding=1), nn.Conv1d(6, 4, 2, groups=2)

    def forward(self, x):
        y = self.conv(torch.cat([x, x[:, :1], x.flip(1)[:, :1]], 1))
        return self.grouped(torch.cat([y, y.flip(1)], 1))


OWN = {
    "grouped": (Grouped, (1, 2, 6, 6)),
    "channels last": (ChannelsLast, (1, 3, 8, 8)),
    "patches": (Patches, (1, 3, 8, 8)),
    "concatenated": (Concatenated, (1, 2, 6, 6)),
    "torn": (Torn, (1, 5)),
    "repeated": (Repeated, (1, 2, 6)),
}


@pytest.fixture(scope="module")
def network(request):
    if request.param in ZOO:
        return traced_network(request.param)
    torch.manual_seed(1)
    kind, example = OWN[request.param]
    return cnt.trace(kind(), example)


every = pytest.mark.parametrize("network", [*ZOO, *OWN], indirect=True, ids=str)


@every
@pytest.mark.parametrize("reduce", REDUCED)
def test_a_link_is_the_kernel_of_its_channels(network, reduce):
    agrees(network, reduce)


@every
def test_the_channels_of_another_epoch(network):
    channels = network.by_channel()
    other = {
        n: torch.rand_like(t) if t.is_floating_point() else t for n, t in network.weights.items()
    }
    moved = network.with_weights(other).by_channel()
    for a, b in zip(channels.with_weights(other).blocks, moved.blocks, strict=True):
        assert torch.equal(a.tensor, b.tensor)
    for a in channels.layers:
        for found in (network.bias, network.gain, network.shift):
            part = getattr(channels.with_weights(other), found.__name__)(a)
            np.testing.assert_array_equal(part, getattr(moved, found.__name__)(moved.layer(a.name)))


@every
def test_the_channels_survive_json(network):
    channels = network.by_channel("l2")
    twin = cnt.Network.from_json(json.loads(json.dumps(channels.to_json())), channels.weights)
    assert twin.resolution == "channel"
    assert [a.axis for a in twin.layers] == [a.axis for a in channels.layers]
    pd.testing.assert_frame_equal(twin.neurons(), channels.neurons())
    pd.testing.assert_frame_equal(table(twin), table(channels))
    same = cnt.Network.from_json(network.to_json(), network.weights)
    assert [a.axis for a in same.layers] == [a.axis for a in network.layers]
    assert same.resolution == "neuron"


@every
def test_layers_and_blocks_are_those_of_the_network(network):
    channels = network.by_channel()
    assert [b.name for b in channels.blocks] == [b.name for b in network.blocks]
    assert [b.link_kind for b in channels.blocks] == [b.link_kind for b in network.blocks]
    for small, large in zip(channels.layers, network.layers, strict=True):
        assert (small.name, small.kind) == (large.name, large.kind)
        assert small.size == np.unique(large.channel_of_each()).size
        assert (small.activation is None) == (large.activation is None)
    firsts = np.cumsum([0] + [layer.size for layer in channels.layers])
    assert [layer.first for layer in channels.layers] == firsts[:-1].tolist()


@every
def test_in_and_out_strengths_hold_the_same_weights(network):
    found = cnt.strength(network.by_channel())
    total = np.array([found["strength_in"].sum(), found["strength_out"].sum()])
    listed = expected(network, "sum")["weight"].sum()
    np.testing.assert_allclose(total, listed, rtol=1e-9, atol=1e-9)


CARRIED = ("identity", "scale", "fixed", "select", "data")


def carried(network):
    """By pandas: what a mean neuron of the target receives, a scale's mean factor, or 1."""
    links = table(network, CARRIED)
    pairs = links.groupby([*ENDS, "kind"])["weight"].agg(["sum", "mean"]).reset_index()
    sizes = {a.name: a.size // a.channels for a in network.layers}
    shares = pairs["sum"] / pairs["target_layer"].map(sizes)
    values = {"fixed": shares, "scale": pairs["mean"]}
    pairs["weight"] = 1.0
    for kind, value in values.items():
        pairs["weight"] = pairs["weight"].where(pairs["kind"] != kind, value)
    return pairs[[*ENDS, "kind", "weight"]]


@every
def test_values_are_carried_as_a_mean_neuron_of_the_channel_has_them(network):
    if not len(table(network, CARRIED)):
        assert not len(table(network.by_channel(), CARRIED))
        return
    wanted = carried(network)
    found = table(network.by_channel(), CARRIED)[list(wanted.columns)]
    found = found.sort_values(list(wanted.columns)).reset_index(drop=True)
    pd.testing.assert_frame_equal(found, wanted, rtol=1e-6)


@every
def test_a_channel_has_the_mean_bias_gain_and_shift_of_its_neurons(network):
    channels = network.by_channel()
    for small, large in zip(channels.layers, network.layers, strict=True):
        for part in ("bias", "gain", "shift"):
            values = getattr(network, part)(large)
            found = getattr(channels, part)(small)
            if values is None:
                assert found is None
            else:
                wanted = pd.Series(values).groupby(large.channel_of_each()).mean()
                np.testing.assert_allclose(found, wanted, rtol=1e-12)


# -- laws over random convolutions ----------------------------------------------------------------

laws = settings(deadline=None, max_examples=40)


@st.composite
def axes(draw, padding, transposed):
    size, taps, stride = (draw(st.integers(1, n)) for n in (5, 3, 2))
    dilation = draw(st.integers(1, 2))
    before = after = 0
    if padding == "zeros":
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    if padding == "circular":  # the operator reads a longer axis, whose ends are read twice
        size += draw(st.integers(0, size))
    if transposed:
        after = before
    axis = Axis(size, taps, stride, dilation, before, after, transposed)
    assume(axis.outputs > 0)
    assume(transposed or size + before + after > dilation * (taps - 1))
    return axis


@st.composite
def convolutions(draw, *paddings, transposed=False):
    """A network of one convolution over one or two axes, its geometry drawn, and its weight."""
    padding = draw(st.sampled_from(paddings))
    groups = draw(st.integers(1, 3))
    wide, high = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    spatial = tuple(draw(axes(padding, transposed)) for _ in range(draw(st.integers(1, 2))))
    torch.manual_seed(draw(st.integers(0, 99)))
    op = Convolution(groups * wide, groups * high, groups, spatial)
    first = (groups * wide, high) if transposed else (groups * high, wide)
    weights = {"w": torch.randn(*first, *(a.taps for a in spatial), dtype=torch.float64)}
    ids, inputs = torch.arange(op.size_in).reshape(op.channels_in, *(a.size for a in spatial)), None
    if padding == "circular":
        period = [draw(st.integers(1, a.size)) for a in spatial]
        ids = torch.arange(op.channels_in * math.prod(period)).reshape(-1, *period)
        for k, a in enumerate(spatial, start=1):
            ids = ids.index_select(k, torch.arange(a.size) % period[k - 1])
        inputs = ids.reshape(-1).numpy()
    shape = (op.channels_in, *(period if padding == "circular" else (a.size for a in spatial)))
    x = Layer("x", "input", shape, 0, traced=(1, *shape), axis=0)
    shape = (op.channels_out, *(a.outputs for a in spatial))
    y = Layer("y", "output", shape, x.size, traced=(1, *shape), axis=0)
    block = Block(
        "x -> y", "x", "y", "weight", op, parameter("w"), weights, 0, x.size, x.size, inputs
    )
    return cnt.Network([x, y], [block], [], weights)


def inward(network, column="strength_in"):
    """A column of the strengths of the last layer."""
    out = network.layers[-1]
    return cnt.strength(network)[column].to_numpy()[out.first : out.last]


@laws
@given(
    convolutions("valid", "circular", "zeros") | convolutions("valid", "zeros", transposed=True),
    st.sampled_from(sorted(REDUCED)),
)
def test_any_convolution_is_its_kernels(network, reduce):
    agrees(network, reduce)


@laws
@given(convolutions("valid", "circular"))
def test_a_channel_is_as_strong_as_each_of_its_neurons(network):
    channels = inward(network.by_channel("sum"))
    each = channels[network.layers[-1].channel_of_each()]
    np.testing.assert_allclose(inward(network), each, rtol=1e-9, atol=1e-12)


@laws
@given(convolutions("zeros"))
def test_with_padding_it_is_as_strong_as_a_neuron_that_every_tap_reaches(network):
    inner = inward(network, "degree_in") == network.weights["w"][0].numel()
    assume(inner.any())
    channels = inward(network.by_channel("sum"))
    each = channels[network.layers[-1].channel_of_each()]
    np.testing.assert_allclose(inward(network)[inner], each[inner], rtol=1e-9, atol=1e-12)


@laws
@given(convolutions("valid", transposed=True))
def test_a_channel_of_a_transposed_convolution_is_as_strong_as_its_outputs_of_one_input(network):
    positions = math.prod(network.layers[0].shape[1:])
    together = inward(network).reshape(network.layers[-1].shape[0], -1).sum(1)
    channels = inward(network.by_channel("sum"))
    np.testing.assert_allclose(together, channels * positions, rtol=1e-9, atol=1e-9)


@laws
@given(convolutions("valid", "circular", "zeros") | convolutions("zeros", transposed=True))
def test_kernels_hold_the_weights_of_the_block(network):
    used = np.unique(table(network)["element"].to_numpy(dtype=np.int64))
    weights = network.weights["w"].reshape(-1).numpy()[used]
    totals = {"sum": weights.sum(), "l1": np.abs(weights).sum(), "l2": (weights**2).sum()}
    for reduce, total in totals.items():
        links = table(network.by_channel(reduce))["weight"].to_numpy(dtype=np.float64)
        found = (links**2).sum() if reduce == "l2" else links.sum()
        np.testing.assert_allclose(found, total, rtol=1e-9, atol=1e-9)


# -- cases ----------------------------------------------------------------------------------------


class Flattened(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.fc = nn.Linear(8, 2, bias=False)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def test_a_flattened_channel_is_all_its_positions():
    model = Flattened()
    with torch.no_grad():
        model.fc.weight.copy_(torch.tensor([[1.0, 2, 3, 4, -1, -2, -3, -4], [1.0] * 8]))
    network = cnt.trace(model, (1, 1, 2, 2))
    wanted = {
        "sum": [[10, -10], [4, 4]],
        "mean": [[2.5, -2.5], [1, 1]],
        "l1": [[10, 10], [4, 4]],
        "l2": [[30**0.5, 30**0.5], [2, 2]],
    }
    for reduce, matrix in wanted.items():
        block = network.by_channel(reduce).blocks[-1]
        np.testing.assert_allclose(block.tensor, matrix)
    full, small = cnt.strength(network), cnt.strength(network.by_channel())
    out = full[full["layer"] == "conv"].groupby(np.arange(8) // 4)["strength_out"].sum()
    np.testing.assert_allclose(small.loc[small["layer"] == "conv", "strength_out"], out)
    into = [n.loc[n["layer"] == "fc", "strength_in"] for n in (full, small)]
    np.testing.assert_allclose(into[0], into[1])


def test_layers_know_their_channel_axis():
    torch.manual_seed(1)
    axes = {a.name: a.axis for a in cnt.trace(ChannelsLast(), (1, 3, 8, 8)).layers}
    assert {n: axes[n] for n in ("x", "stem", "depthwise", "wide", "narrow", "mul")} == {
        "x": 0,
        "stem": 0,
        "depthwise": 0,
        "wide": 2,
        "narrow": 2,
        "mul": 0,
    }
    assert axes["mean"] is axes["head"] is None
    patches = cnt.trace(Patches(), (1, 3, 8, 8))
    assert {patches.layer(n).axis for n in ("cat.constant", "add", "block.linear1")} == {1}
    neurons = patches.neurons()
    linear = neurons[neurons["layer"] == "block.linear1"]
    assert linear["channel"].tolist() == list(range(12)) * 5
    assert linear["x"].tolist() == np.repeat(range(5), 12).tolist()
    assert linear["y"].isna().all()


class Turned(nn.Module):
    """Images with the channels last, turned round for a convolution."""

    def __init__(self):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)

    def forward(self, image):
        return self.conv(self.norm(image.permute(0, 3, 1, 2)))


def test_the_reader_says_where_an_inputs_channels_are():
    network = cnt.trace(Turned(), (1, 5, 6, 3))
    assert [a.axis for a in network.layers] == [2, 0, 0]
    place = network.layers[0].coordinates()
    assert place["channel"].tolist() == [0, 1, 2] * 30
    assert place["y"].max() == 4
    assert place["x"].max() == 5
    tokens = cnt.trace(nn.Linear(3, 3), (1, 3, 3))
    assert [a.axis for a in tokens.layers] == [1, 1]
    assert tokens.by_channel().link_count == 9


def test_a_mean_keeps_what_a_mean_neuron_receives():
    network = traced_network("residual").by_channel()
    pooled = next(b for b in network.blocks if b.target == "mean")
    np.testing.assert_allclose(pooled.tensor, np.ones(8))
    (skip,) = (b for b in network.blocks if b.link_kind == "identity")
    assert table(network, ("identity",))["weight"].tolist() == [1.0] * 8
    assert skip.kind == "diagonal"


def test_folded_batch_norms_are_in_the_kernels():
    network = traced_network("residual", "folded")
    agrees(network, "sum")
    raw = traced_network("residual").by_channel()
    assert raw.layer("conv1").gain is not None
    assert not torch.allclose(network.by_channel().blocks[0].tensor, raw.blocks[0].tensor)


@pytest.mark.parametrize("reduce", REDUCED)
def test_a_filtered_network_has_the_kernels_that_are_left(reduce):
    network = traced_network("residual").filtered("top:3")
    channels = agrees(network, reduce)
    assert channels.kept == network.kept < 1


def test_channels_go_out_as_any_network_does():
    network = traced_network("lenet").by_channel()
    graph = network.to_igraph()
    assert graph.vcount() == network.neuron_count == 1 + 6 + 6 + 16 + 16 + 20 + 12 + 10
    strength = cnt.strength(network)["strength"]
    np.testing.assert_allclose(graph.strength(mode="all", weights="weight"), strength, atol=1e-9)
    assert len(cnt.layers(network, shuffles=2)) == len(network.layers)
    assert cnt.measure(network, "pagerank")["pagerank"].sum() == pytest.approx(1)
    assert network.filtered("top:1").resolution == "channel"
    assert network.to("cpu").resolution == "channel"
    again = network.by_channel()
    pd.testing.assert_frame_equal(table(again), table(network))


def test_grouped_kernels_stay_operators():
    torch.manual_seed(1)
    blocks = {b.target: b for b in cnt.trace(Grouped(), (1, 2, 6, 6)).by_channel("l1").blocks}
    assert {b.kind for b in blocks.values()} == {"dense", "convolution", "diagonal"}
    assert blocks["grouped"].kind == "convolution"
    assert blocks["depthwise"].kind == blocks["multiplied"].kind == "diagonal"


def test_a_network_of_channels_computes_nothing():
    channels = traced_network("lenet").by_channel()
    with pytest.raises(cnt.InputRefused, match="computes nothing") as refused:
        channels.forward(torch.zeros(1, 1, 12, 12))
    assert refused.value.why
    assert refused.value.fix


def test_too_many_links_to_look_at_are_refused():
    op = Dense(1000, 1000, 300)
    x = Layer("x", "input", (300, 1000), 0, traced=(1, 300, 1000), axis=1)
    y = Layer("y", "output", (op.size_out,), x.size, traced=(1, op.size_out))
    weights = {"w": torch.zeros(1000, 1000)}
    ends = ("x", "y", "weight", op, parameter("w"), weights, 0, x.size, x.size)
    network = cnt.Network([x, y], [Block("x -> y", *ends)], [], weights)
    with pytest.raises(cnt.InputRefused, match="x -> y") as refused:
        network.by_channel()
    assert refused.value.fix


def test_another_reduction_is_refused():
    with pytest.raises(cnt.InputRefused, match="median") as refused:
        traced_network("lenet").by_channel("median")
    assert "mean" in str(refused.value)


def test_a_file_without_axes_has_the_coordinates_it_had():
    data = traced_network("residual").to_json()
    for layer in data["layers"]:
        del layer["axis"]
    del data["resolution"]
    old = cnt.Network.from_json(data, traced_network("residual").weights)
    assert [a.axis for a in old.layers] == [0 if len(a.shape) > 1 else None for a in old.layers]
    assert old.resolution == "neuron"
    pd.testing.assert_frame_equal(old.neurons(), traced_network("residual").neurons())
