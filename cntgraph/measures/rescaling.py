"""Which neurons of a network can be rescaled without changing what it computes, and with whom.

A neuron whose activation is positively homogeneous may be multiplied by any s > 0, if all its
incoming weights and its bias are, and its outgoing weights are divided by it. Neurons that share
weights (a channel) or hand values on unweighted (pooling) have one factor: they are a unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cntgraph.measures.elements import Elements, Stored, kernels
from cntgraph.network import Block, Layer, Network
from cntgraph.network.expressions import Call, Expression, Slot, short_name
from cntgraph.network.geometry import Index
from cntgraph.network.operators import Convolution, Dense

__all__ = ["Units", "channels", "entry_of_each", "hidden", "units"]

HOMOGENEOUS = ("relu", "leaky_relu", "prelu")


@dataclass(frozen=True, eq=False)
class Units:
    """The unit of every neuron, 0 for those that keep their scale, and why those do."""

    of: Index
    count: int  # with the unit 0
    kept: dict[str, list[str]]  # the names of the layers, by reason


def units(network: Network, elements: Elements) -> Units:
    """The units that can be rescaled, numbered from 1 in the order of their first neurons."""
    reasons = _Reasons(network)
    _keep_layers(reasons)
    _keep_read_and_returned(reasons)
    _keep_shared(reasons, elements)
    of = _tied(network)
    _keep_sums(reasons, of)
    _keep_shared_biases(reasons, elements, of)
    why = np.zeros(of.max(initial=-1) + 1, dtype=np.int64)
    np.maximum.at(why, of, reasons.code)
    free, numbers = np.unique(np.where(why[of] == 0, of, -1), return_inverse=True)
    numbers = numbers.reshape(-1) + (0 if (free < 0).any() else 1)
    return Units(numbers, int(numbers.max(initial=0)) + 1, reasons.told(why[of]))


class _Reasons:
    """Why neurons keep their scale: 0 for no reason, else one more than a place in ``texts``."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.code = np.zeros(network.neuron_count, dtype=np.int64)
        self.texts: list[str] = []

    def keep(self, neurons: slice | Index, why: str) -> None:
        """Let these neurons keep their scale."""
        if why not in self.texts:
            self.texts.append(why)
        code = self.texts.index(why) + 1
        self.code[neurons] = np.where(self.code[neurons] == 0, code, self.code[neurons])

    def keep_ends(self, block: Block, why: str) -> None:
        """Let all neurons at both ends of a block keep their scale."""
        self.keep(read_by(block), why)
        self.keep(fed_by(block), why)

    def told(self, code: Index) -> dict[str, list[str]]:
        """The layers by reason, of those that would have something to rescale."""
        found: dict[str, list[str]] = {}
        for layer in hidden(self.network):
            for k in np.unique(code[layer.first : layer.last]):
                if k:
                    found.setdefault(self.texts[k - 1], []).append(layer.name)
        return found


def hidden(network: Network) -> list[Layer]:
    """The layers that trained links lead to and that something reads."""
    trained = {b.target for b in network.blocks if b.link_kind == "weight"}
    read = {b.source for b in network.blocks}
    return [layer for layer in network.layers if layer.name in trained & read]


def read_by(block: Block) -> Index:
    """The ids of the neurons that a block reads."""
    places = np.arange(block.source_size) if block.inputs is None else block.inputs
    return block.source_first + np.unique(places[places >= 0])


def fed_by(block: Block) -> slice:
    """The ids of the neurons that a block leads to."""
    return slice(block.target_first, block.target_first + block.operator.size_out)


# -- what keeps its scale -------------------------------------------------------------------------


def _keep_layers(reasons: _Reasons) -> None:
    into: dict[str, set[str]] = {}
    for block in reasons.network.blocks:
        into.setdefault(block.target, set()).add(block.link_kind)
    for layer in reasons.network.layers:
        here = slice(layer.first, layer.last)
        if layer.kind in ("input", "constant") or layer.value is not None:
            reasons.keep(here, f"{layer.kind} neurons")
        if layer.join is not None and into.get(layer.name) != {"select"}:
            reasons.keep(here, short_name(layer.join.op))
        if layer.gain is not None:
            reasons.keep(here, "a batch norm's gain")
        elif layer.shift is not None:
            reasons.keep(here, "a shift that is added")
        for portion in layer.portions:
            if not _homogeneous(portion.function):
                where = layer.first + portion.places
                reasons.keep(where, short_name(portion.function.op))
        if layer.function is not None and not _homogeneous(layer.function):
            reasons.keep(here, short_name(layer.function.op))


def _homogeneous(call: Call) -> bool:
    """True if f(s x) = s f(x) for every s > 0, by name."""
    plain = call.args[:1] == (Slot(0),) and not any(isinstance(a, Call) for a in call.args)
    return plain and short_name(call.op) in HOMOGENEOUS


def _keep_read_and_returned(reasons: _Reasons) -> None:
    for output in reasons.network.outputs:
        reasons.keep(output.neurons[output.neurons >= 0], "values that are returned")
    for block in reasons.network.blocks:
        if block.link_kind == "data" or not block.certain:
            reasons.keep(read_by(block), f"read by {block.target}")
        elif block.link_kind == "weight" and not isinstance(block.operator, (Dense, Convolution)):
            reasons.keep_ends(block, "weights that are looked up")


def _keep_shared(reasons: _Reasons, elements: Elements) -> None:
    """Weights that two blocks share, or that something else reads, tie what they join."""
    network = reasons.network
    stored = {
        b.name: elements.find(b.weight, one_to_one=True)
        for b in network.blocks
        if b.link_kind == "weight" and isinstance(b.operator, (Dense, Convolution))
    }
    uses = Counter(_uses(network))
    blocks = Counter(place.tensor for place in stored.values())
    for name, readers in blocks.items():
        sharing = [b for b in network.blocks if b.name in stored and stored[b.name].tensor == name]
        alone = not elements.is_parameter(name) or uses[name] == readers
        for block in sharing if not alone else _overlapping(sharing, stored, elements):
            reasons.keep_ends(block, "weights that are shared")


def _overlapping(
    blocks: list[Block], stored: dict[str, Stored], elements: Elements
) -> Iterator[Block]:
    if len(blocks) < 2:
        return
    read = {b.name: _elements_of(b, stored[b.name]) for b in blocks}
    count = np.zeros(elements.value(stored[blocks[0].name].tensor).numel(), dtype=np.int64)
    for places in read.values():
        count[places] += 1
    yield from (b for b in blocks if (count[read[b.name]] > 1).any())


def _elements_of(block: Block, stored: Stored) -> Index:
    """The elements of its tensor that a block's channels use."""
    import torch

    operator = block.operator
    assert isinstance(operator, (Dense, Convolution))
    read, _ = channels(block)
    index = kernels(operator, torch.arange(block.tensor.numel())).numpy()
    present = (read >= 0).reshape(operator.groups, -1)
    entries = np.concatenate([i[:, p].reshape(-1) for i, p in zip(index, present, strict=True)])
    return entries if stored.places is None else stored.places[entries]


def _uses(network: Network) -> Iterator[str]:
    """Each parameter as often as an expression of the network names it."""
    for block in network.blocks:
        yield from block.parameters
    for layer in network.layers:
        for part in _parts(layer):
            yield from part.parameters


def _parts(layer: Layer) -> Iterable[Expression | Call]:
    parts = (layer.bias, layer.gain, layer.shift, layer.value, layer.function, layer.join)
    return [p for p in (*parts, *(a.function for a in layer.portions)) if p is not None]


# -- who has one factor ---------------------------------------------------------------------------


def channels(block: Block) -> tuple[Index, Index]:
    """A neuron of each input channel (-1: none of this layer), and of each output channel."""
    operator = block.operator
    assert isinstance(operator, (Dense, Convolution))
    read, fed = _channel_of_places(operator)
    ids = _ids_read(block)
    inputs = np.full(operator.channels_in, -1, dtype=np.int64)
    inputs[read[ids >= 0]] = ids[ids >= 0]
    outputs = np.full(operator.channels_out, -1, dtype=np.int64)
    outputs[fed] = block.target_first + np.arange(operator.size_out)
    return inputs, outputs


def _channel_of_places(operator: Dense | Convolution) -> tuple[Index, Index]:
    """The channel at each place of an operator's input and of its output."""
    inside = math.prod(a.size for a in operator.axes), math.prod(a.outputs for a in operator.axes)
    read = np.tile(np.repeat(np.arange(operator.channels_in), inside[0]), operator.copies)
    fed = np.tile(np.repeat(np.arange(operator.channels_out), inside[1]), operator.copies)
    return read, fed


def _ids_read(block: Block) -> Index:
    """The neuron at each place of the operator's input, -1 for none."""
    if block.inputs is None:
        return block.source_first + np.arange(block.source_size)
    return np.where(block.inputs < 0, -1, block.source_first + block.inputs)


def _tied(network: Network) -> Index:
    """A number for every neuron, the same for those that can only be rescaled together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = [np.zeros((2, 0), dtype=np.int64), *_ties(network)]
    first, second = np.concatenate(pairs, axis=1)
    n = network.neuron_count
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(n, n))
    found: Index = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def _ties(network: Network) -> Iterator[Index]:
    for block in network.blocks:
        if block.link_kind == "data" or not block.certain:
            continue
        if block.link_kind != "weight":
            for links in block.links():
                yield np.stack([links.source, links.target])
        elif isinstance(block.operator, (Dense, Convolution)):
            inputs, outputs = channels(block)
            read, fed = _channel_of_places(block.operator)
            ids = _ids_read(block)
            yield np.stack([ids, inputs[read]])[:, ids >= 0]
            yield np.stack([block.target_first + np.arange(len(fed)), outputs[fed]])


def _keep_sums(reasons: _Reasons, of: Index) -> None:
    """Units with trained weights into more than one layer: a skip connection adds them up."""
    network = reasons.network
    trained = {b.target for b in network.blocks if b.link_kind == "weight"}
    first = np.full(of.max(initial=-1) + 1, -1, dtype=np.int64)
    joined = np.zeros(len(first), dtype=bool)
    for place, layer in enumerate(network.layers):
        if layer.name in trained:
            here = np.unique(of[layer.first : layer.last])
            joined[here] |= first[here] >= 0
            first[here] = place
    reasons.keep(np.flatnonzero(joined[of]), "a skip connection")


def _keep_shared_biases(reasons: _Reasons, elements: Elements, of: Index) -> None:
    """A bias has one factor: it must be read by one layer, and an entry of it by one unit."""
    network = reasons.network
    layers = [layer for layer in network.layers if layer.bias is not None]
    tensors = [_bias(layer, elements) for layer in layers]
    uses, readers = Counter(_uses(network)), Counter(tensors)
    for layer, tensor in zip(layers, tensors, strict=True):
        entries = entry_of_each(layer, network)
        pairs = np.unique(np.stack([entries, of[layer.first : layer.last]]), axis=1)
        elsewhere = elements.is_parameter(tensor) and uses[tensor] > 1
        if pairs.shape[1] > len(np.unique(entries)) or elsewhere or readers[tensor] > 1:
            reasons.keep(slice(layer.first, layer.last), "a bias that is shared")


def _bias(layer: Layer, elements: Elements) -> str:
    assert layer.bias is not None
    return elements.find(layer.bias, one_to_one=True).tensor


def entry_of_each(layer: Layer, network: Network) -> NDArray[np.int64]:
    """The entry of a layer's bias that is added to each of its neurons."""
    import torch

    assert layer.bias is not None
    value = layer.bias.evaluate(network.weights)
    index = torch.arange(value.numel()).reshape(value.shape)
    found: NDArray[np.int64] = index.expand(layer.traced).reshape(-1).numpy()
    return found
