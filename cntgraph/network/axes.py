"""Which axis of a layer counts its channels: the one along which the labels of operators change.

A label is a channel that is already known: the output channel of the operator that computes a
neuron, the channel of the neuron whose value it carries, or the input channel of the operator
that reads it. Where labels change along one axis of the shape and along no other, that axis
counts channels. So tokens turned round for a dense layer, images with the channels last and
concatenations all come out by what is done with them, and nothing is guessed from sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from cntgraph.network.blocks import Block
from cntgraph.network.geometry import Index, Pattern
from cntgraph.network.layers import Layer
from cntgraph.network.operators import Convolution, Dense, Diagonal, Fixed, Opaque

__all__ = ["with_axes"]


def with_axes(layers: Sequence[Layer], blocks: Iterable[Block]) -> list[Layer]:
    """The same layers, in order, each knowing its channel axis.

    A layer of one axis has none: each of its neurons is a channel. What computes a layer decides,
    then what it carries, then what reads it; where nothing says anything it is the first axis.
    """
    found = _Axes(layers, blocks)
    for layer in layers:
        found.settle(layer, found.computed(layer))
    # what is carried, then what is read, then carried on from there; only then the first axis
    for layer in layers:
        found.settle(layer, found.carried(layer))
    for layer in reversed(layers):
        found.settle(layer, found.read(layer))
    for layer in layers:
        given = layer.kind in ("input", "constant")
        found.settle(layer, 0 if given else found.carried(layer))
    for layer in layers:
        found.settle(layer, found.carried(layer))
        found.settle(layer, 0)
    return [replace(layer, axis=found.axes[layer.name]) for layer in layers]


class _Axes:
    """The axes that are known so far, and the blocks that tell others."""

    def __init__(self, layers: Sequence[Layer], blocks: Iterable[Block]) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self.axes: dict[str, int | None] = {a.name: None for a in layers if len(a.shape) < 2}
        self.into: dict[str, list[Block]] = {name: [] for name in self.layers}
        self.out_of: dict[str, list[Block]] = {name: [] for name in self.layers}
        for block in blocks:
            self.into[block.target].append(block)
            self.out_of[block.source].append(block)

    def settle(self, layer: Layer, axis: int | None) -> None:
        """Keep what was found, if anything was and nothing was known."""
        if axis is not None and layer.name not in self.axes:
            self.axes[layer.name] = axis

    def computed(self, layer: Layer) -> int | None:
        """The axis by the operator that computes the layer: a trained one, else a scale."""
        if layer.name in self.axes:
            return None
        for block in self.into[layer.name]:
            op = block.operator
            if block.link_kind == "weight" and isinstance(op, (Dense, Convolution)):
                return _axis_computed(layer.shape, op)
        scales = (b for b in self.into[layer.name] if b.link_kind == "scale" and b.parameters)
        for block in scales:
            fitting = _fitting(layer.shape, _scale_labels(block))
            if len(fitting) == 1:
                return fitting[0]
        return None

    def carried(self, layer: Layer) -> int | None:
        """The axis by the channels of the layers whose values it carries."""
        if layer.name in self.axes:
            return None
        labels = np.full(layer.size, -1, dtype=np.int64)
        preferred: int | None = None
        start = 0
        for block, channels in self._known_sources(layer):
            axis = self.axes[block.source]
            told = _carry(block, channels)
            if told is None:
                if (like := _like_operand(block, channels, layer)) is not None:
                    return like
                continue
            if preferred is None and axis is not None:
                same_rank = len(self.layers[block.source].shape) == len(layer.shape)
                preferred = axis if same_rank else None
            new = (labels < 0) & (told >= 0)
            labels[new] = told[new] + start
            start += int(channels.max(initial=-1)) + 1
        fitting = _fitting(layer.shape, labels)
        return preferred if preferred in fitting else _best(layer.shape, fitting, 1)

    def read(self, layer: Layer) -> int | None:
        """The axis by the operators that read the layer, trained ones first."""
        if layer.name in self.axes:
            return None
        blocks = self.out_of[layer.name]
        for trained in (True, False):
            votes = [self._vote(layer, b) for b in blocks if (b.link_kind == "weight") == trained]
            told = [vote for vote in votes if vote is not None]
            if told:
                return min(told)
        return None

    def _known_sources(self, layer: Layer) -> Iterator[tuple[Block, Index]]:
        for block in self.into[layer.name]:
            if block.link_kind != "weight" and block.source in self.axes:
                source = replace(self.layers[block.source], axis=self.axes[block.source])
                yield block, source.channel_of_each()

    def _vote(self, layer: Layer, block: Block) -> int | None:
        op = block.operator
        count, last = 1, False
        if isinstance(op, (Dense, Convolution)):
            count, last = op.channels_in, isinstance(op, Dense)
            labels = _spread(count, op.copies, op.size_in)
        elif block.target in self.axes:
            target = replace(self.layers[block.target], axis=self.axes[block.target])
            back = _carry_back(block, target.channel_of_each())
            if back is None:
                return None
            labels = back
        else:
            return None
        at = np.arange(len(labels)) if block.inputs is None else block.inputs
        kept = (at >= 0) & (labels >= 0)
        told = np.full(layer.size, -1, dtype=np.int64)
        told[at[kept]] = labels[kept]
        if (told[at[kept]] != labels[kept]).any():
            return None  # a neuron that several channels read belongs to none of them
        return _best(layer.shape, _fitting(layer.shape, told), count, last=last)


def _axis_computed(shape: tuple[int, ...], op: Dense | Convolution) -> int:
    """The axis of the operator's output channels; of several that share them the last of a
    dense layer, the first of an image."""
    last = len(shape) - 1 if op.size_out == op.copies * op.channels_out else 0
    if shape[last] == op.channels_out and (last or op.copies == 1):
        return last
    fitting = _fitting(shape, _spread(op.channels_out, op.copies, op.size_out))
    best = _best(shape, fitting, op.channels_out, last=last > 0)
    return last if best is None else best


def _fitting(shape: tuple[int, ...], labels: Index) -> list[int]:
    """The axes along which alone the labels change; -1 is no label."""
    grid = labels.reshape(shape)
    if not (grid >= 0).any():
        return []
    found = []
    for k in range(len(shape)):
        others = tuple(j for j in range(len(shape)) if j != k)
        if ((grid < 0) | (grid == grid.max(axis=others, keepdims=True))).all():
            found.append(k)
    return found


def _best(
    shape: tuple[int, ...], fitting: list[int], channels: int, *, last: bool = False
) -> int | None:
    """Of the axes that fit (a single channel fits all) one as long as there are channels."""
    exact = [k for k in fitting if shape[k] == channels] or fitting
    return (exact[-1] if last else exact[0]) if exact else None


def _spread(channels: int, copies: int, size: int) -> Index:
    """The channel of each place of a dense or convolution operator."""
    positions = size // (copies * channels) if size else 0
    return np.tile(np.repeat(np.arange(channels), positions), copies)


def _scale_labels(block: Block) -> Index:
    import torch

    shape = block.operator.shape if isinstance(block.operator, Diagonal) else ()
    factors = block.tensor
    if factors.numel() < 2 or not shape:
        return np.full(block.operator.size_out, -1, dtype=np.int64)
    index = torch.arange(factors.numel()).reshape(factors.shape)
    return index.expand(shape).reshape(-1).numpy()


def _pattern(block: Block) -> Pattern | None:
    """Where an operator that is not a sum over channels carries values, if it is known."""
    op = block.operator
    if isinstance(op, Diagonal):
        one = np.zeros(1, dtype=np.int64)
        return Pattern(op.size_in, 1, 1, one, one)
    return op.pattern if isinstance(op, (Fixed, Opaque)) else None


def _carry(block: Block, channels: Index) -> Index | None:
    """Labels of the targets by the channels of the source's neurons; -1 where they are several."""
    pattern = _pattern(block)
    if pattern is None:
        return None
    given = channels
    if block.inputs is not None:
        given = np.where(block.inputs < 0, -1, channels[block.inputs])
    return _through(pattern, given, pattern.source, pattern.target, pattern.size_out)


def _carry_back(block: Block, channels: Index) -> Index | None:
    """Labels of the operator's inputs by the channels of the target's neurons."""
    pattern = _pattern(block)
    if pattern is None:
        return None
    return _through(pattern, channels, pattern.target, pattern.source, pattern.size_in)


def _through(pattern: Pattern, labels: Index, start: Index, end: Index, size: int) -> Index:
    """Labels at the starts of links, brought to their ends."""
    at_start = labels.reshape(pattern.lead, -1)
    first, last = np.full((2, size), -1, dtype=np.int64)
    last[end] = start
    first[end[::-1]] = start[::-1]
    told = np.where(last < 0, -1, at_start[:, last])
    told[told != at_start[:, first]] = -1
    return told.reshape(-1)


def _like_operand(block: Block, channels: Index, layer: Layer) -> int | None:
    """The axis of an operand, where the result has as many axes and is as long along it."""
    shape = layer.operands[block.operand] if layer.operands else ()
    if not shape or len(shape) != len(layer.traced):
        return None
    given = channels
    if block.inputs is not None:
        given = np.where(block.inputs < 0, -1, channels[block.inputs])
    dropped = len(layer.traced) - len(layer.shape)
    fitting = [k - dropped for k in _fitting(shape, given) if k >= dropped]
    same = [k for k in fitting if shape[k + dropped] == layer.shape[k]]
    return _best(layer.shape, same, len(np.unique(given[given >= 0])))
