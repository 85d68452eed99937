"""The same network seen by channels: every layer keeps its channels and loses its positions.

A block becomes the block between the channels it joins. Trained kernels are reduced to one weight
a pair (`pairs`); what carries values goes on carrying them, from channel to channel. Nothing is
computed from activities here, so all laws are about weights: what a block holds is what its
channels hold together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.network.blocks import Block
from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import Index, Pattern
from cntgraph.network.layers import Layer, Portion
from cntgraph.network.network import Network, Output
from cntgraph.network.operators import Diagonal, Fixed, Opaque
from cntgraph.network.pairs import REDUCTIONS, Ends, Made, listed, over_runs, picked, reduced

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["by_channel"]

Floats = NDArray[np.float64]


def by_channel(network: Network, reduce: str = "sum") -> Network:
    """The network whose neurons are the channels of this one; see `Network.by_channel`."""
    if reduce not in REDUCTIONS:
        raise InputRefused(f"reduce={reduce!r}", why=did_you_mean(str(reduce), REDUCTIONS))
    layers: list[Layer] = []
    for layer in network.layers:
        first = layers[-1].last if layers else 0
        layers.append(_layer(layer, first, network.weights))
    before = {layer.name: layer for layer in network.layers}
    after = {layer.name: layer for layer in layers}
    return Network(
        layers,
        [_block(block, before, after, reduce) for block in network.blocks],
        [_output(output, network.layers, layers) for output in network.outputs],
        network.weights,
        coverage=network._coverage,
        batch_norm=network.batch_norm,
        kept=network.kept,
        resolution="channel",
    )


# -- layers ---------------------------------------------------------------------------------------


def _layer(layer: Layer, first: int, weights: Mapping[str, Tensor]) -> Layer:
    def each(part: Expression | None) -> Expression | None:
        return None if part is None else _of_channels(part, layer.traced, _axis(layer), weights)

    channel = layer.channel_of_each() if layer.portions else np.zeros(0, dtype=np.int64)
    return replace(
        layer,
        shape=(layer.channels,),
        first=first,
        traced=(1, layer.channels),
        axis=None if layer.axis is None else 0,
        bias=each(layer.bias),
        gain=each(layer.gain),
        shift=each(layer.shift),
        value=each(layer.value),
        portions=tuple(Portion(np.unique(channel[p.places]), p.function) for p in layer.portions),
    )


def _axis(layer: Layer) -> int | None:
    """The channel axis of the shape as traced, which may have a batch of one in front."""
    return None if layer.axis is None else layer.axis + len(layer.traced) - len(layer.shape)


def _of_channels(
    part: Expression, traced: tuple[int, ...], axis: int | None, weights: Mapping[str, Tensor]
) -> Expression:
    """A tensor that broadcasts to a layer, as one value a channel: its mean over positions."""
    import torch

    shape = tuple(part.evaluate(weights).shape)
    if axis is None:
        if int(np.prod(shape)) not in (1, int(np.prod(traced))):
            part = part.apply("aten.expand.default", list(traced))
        return part.apply("aten.reshape.default", [-1])
    if int(np.prod(shape)) == int(np.prod(traced)):
        shape = traced
    shape = (1,) * (len(traced) - len(shape)) + shape
    positions = [k for k, size in enumerate(shape) if size > 1 and k != axis]
    part = part.apply("aten.reshape.default", list(shape))
    if positions:
        part = part.apply("aten.mean.dim", positions, True, dtype=torch.float64)
    return part.apply("aten.reshape.default", [-1])


def _output(output: Output, before: tuple[Layer, ...], after: list[Layer]) -> Output:
    """The channels that an output is made of, each once."""
    channels = np.full(len(output.neurons), -1, dtype=np.int64)
    for old, new in zip(before, after, strict=True):
        mine = (output.neurons >= old.first) & (output.neurons < old.last)
        if mine.any():
            channels[mine] = new.first + old.channel_of_each()[output.neurons[mine] - old.first]
    found, at = np.unique(channels[channels >= 0], return_index=True)
    ordered = found[np.argsort(at)]
    return Output((1, len(ordered)), ordered)


# -- blocks ---------------------------------------------------------------------------------------


def _block(
    block: Block, before: Mapping[str, Layer], after: Mapping[str, Layer], reduce: str
) -> Block:
    source, target = after[block.source], after[block.target]
    read = before[block.source].channel_of_each()
    if block.inputs is not None:
        read = np.where(block.inputs < 0, -1, read[block.inputs])
    fed = before[block.target].channel_of_each()
    ends = Ends(read, fed, source.size, target.size)
    if block.link_kind == "weight":
        operator, weight, inputs = reduced(block, ends, reduce)
    else:
        operator, weight, inputs = _carrying(block, ends, before[block.target])
    return replace(
        block,
        operator=operator,
        weight=weight,
        inputs=inputs,
        source_first=source.first,
        target_first=target.first,
        source_size=source.size,
    )


def _may_reach(block: Block, op: Opaque, ends: Ends) -> Made:
    """Channels that may reach one another, because some part of the join holds both."""
    parts = max(1, op.parts)
    joined: dict[tuple[bytes, bytes], tuple[Index, Index]] = {}
    for read, fed in zip(ends.read.reshape(parts, -1), ends.fed.reshape(parts, -1), strict=True):
        channels = np.unique(read[read >= 0]), np.unique(fed)
        joined[channels[0].tobytes(), channels[1].tobytes()] = channels
    found = list(joined.values())
    if len(found) == 1 and len(found[0][1]) == ends.targets:
        read = found[0][0]
        return Opaque(len(read), ends.targets), block.weight, _unless_all(read, ends)
    pairs = [s[:, None] * ends.targets + t for s, t in found]
    source, target = np.divmod(
        np.unique(np.concatenate([p.reshape(-1) for p in pairs])), ends.targets
    )
    pattern = Pattern(1, ends.sources, ends.targets, source, target)
    return Opaque(ends.sources, ends.targets, pattern), block.weight, None


def _carrying(block: Block, ends: Ends, target: Layer) -> Made:
    """A block that carries values, between channels: what arrives at a channel's mean neuron."""
    op = block.operator
    if isinstance(op, Opaque) and op.pattern is None:
        return _may_reach(block, op, ends)
    if isinstance(op, Diagonal) and op.shape == target.traced:
        inputs = _one_source_each(ends)
        if inputs is not None:
            weight = block.weight
            if block.link_kind != "identity":
                weight = _of_channels(weight, op.shape, _axis(target), block.weights)
            return Diagonal((ends.targets,)), weight, _unless_all(inputs, ends)
    if block.parameters and block.link_kind != "identity":
        return _computed_shares(block, ends)
    source, fed, total = _totals(block, ends)
    pattern = Pattern(1, ends.sources, ends.targets, source, fed)
    if isinstance(op, Opaque):
        return Opaque(ends.sources, ends.targets, pattern), block.weight, None
    if block.link_kind == "identity":
        return Fixed(pattern), _constant(np.ones_like(total)), None
    return Fixed(pattern), _constant(total / _sizes(ends)[fed]), None


def _unless_all(inputs: Index, ends: Ends) -> Index | None:
    return None if np.array_equal(inputs, np.arange(ends.sources)) else inputs


def _constant(values: Floats) -> Expression:
    import torch

    return literal(torch.from_numpy(values))


def _sizes(ends: Ends) -> Floats:
    """Number of neurons of each target channel."""
    return np.bincount(ends.fed, minlength=ends.targets).astype(np.float64)


def _one_source_each(ends: Ends) -> Index | None:
    """The one channel that each target channel reads place by place; None if they are several."""
    found = np.full(ends.targets, -1, dtype=np.int64)
    present = ends.read >= 0
    found[ends.fed[present]] = ends.read[present]
    return found if (found[ends.fed[present]] == ends.read[present]).all() else None


def _totals(block: Block, ends: Ends) -> tuple[Index, Index, Floats]:
    """The pairs of channels that have links, and the sum of the links' weights."""
    rows = _rows(block, ends)
    if rows is not None:
        source, fed = rows
        each = np.full(len(source), float(_weights(block).sum()))
        pairs, totals = _summed(source * ends.targets + fed, each)
        return *_split(pairs, ends), totals
    entries = _weights(block)
    pairs, totals = np.zeros(0, dtype=np.int64), np.zeros(0)
    for source, output, entry in listed(block, ends.read):
        pairs = np.concatenate([pairs, source * ends.targets + ends.fed[output]])
        totals = np.concatenate([totals, entries[entry]])
        pairs, totals = _summed(pairs, totals)
    return *_split(pairs, ends), totals


def _weights(block: Block) -> Floats:
    import torch

    entries = block.operator.entries(block.tensor.detach().to(torch.float64).cpu())
    found: Floats = entries.numpy()
    return found


def _rows(block: Block, ends: Ends) -> tuple[Index, Index] | None:
    """The channels at both ends of each map of a pattern, where a map is within a channel."""
    op = block.operator
    pattern = op.pattern if isinstance(op, (Fixed, Opaque)) else None
    if pattern is None or not len(pattern):
        return None
    read, fed = ends.read.reshape(pattern.lead, -1), ends.fed.reshape(pattern.lead, -1)
    if (read != read[:, :1]).any() or (fed != fed[:, :1]).any() or (read < 0).any():
        return None
    return read[:, 0], fed[:, 0]


def _summed(pairs: Index, weight: Floats) -> tuple[Index, Floats]:
    """Each pair once, with the sum of its weights."""
    found, place = np.unique(pairs, return_inverse=True)
    total = np.zeros(len(found))
    np.add.at(total, place, weight)
    return found, total


def _split(pairs: Index, ends: Ends) -> tuple[Index, Index]:
    """Source and target channels of pairs (source * targets + target)."""
    count = max(ends.targets, 1)
    return pairs // count, pairs % count


def _computed_shares(block: Block, ends: Ends) -> Made:
    """The same with weights that are computed from parameters, link by link.

    A scale is the mean factor of the links that join two channels.
    """
    columns = [
        np.stack([s * ends.targets + ends.fed[t], e]) for s, t, e in listed(block, ends.read)
    ]
    pairs, entries = np.hstack([np.zeros((2, 0), np.int64), *columns])
    order = np.argsort(pairs, kind="stable")
    pair, sizes = np.unique(pairs, return_counts=True)
    source, fed = _split(pair, ends)
    links = picked(block.operator.flat_weight(block.weight), 0, entries[order])
    parts = sizes.astype(np.float64) if block.link_kind == "scale" else _sizes(ends)[fed]
    share = over_runs(block, links, sizes, "sum").apply("aten.div.Tensor", _constant(parts))
    return Fixed(Pattern(1, ends.sources, ends.targets, source, fed)), share, None
