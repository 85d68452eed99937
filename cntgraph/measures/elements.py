"""Where the trained weights lie, element by element, and the network that other values make.

Most weights are elements of one parameter, which several blocks may share. What is computed from
several (a folded batch norm, a weight norm) is a tensor of its own: given other values, it stands
in its blocks as it is, and no longer follows the parameters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cntgraph.network import Block, Layer, Network
from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import Axis, Index, product_of_axes
from cntgraph.network.operators import Convolution, Dense

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Elements", "Stored", "kernels", "matrices"]


@dataclass(frozen=True, eq=False)
class Stored:
    """Where an expression's entries lie: in which tensor, and at which of its elements.

    ``places`` is None where they are the tensor's elements in order; -1 is a constant.
    """

    tensor: str
    places: Index | None


class Elements:
    """The tensors that a network's trained weights and biases are read from.

    A tensor goes by its parameter's name, or by the text of the expression that computes it.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._computed: dict[str, Expression] = {}
        self._texts: dict[int, str] = {}  # of the expressions above, by identity

    def find(self, expression: Expression, *, one_to_one: bool = False) -> Stored:
        """Where an expression's entries lie.

        With ``one_to_one`` a parameter counts only if each entry is an element of its own;
        otherwise the expression is taken as a tensor that is computed.
        """
        names = expression.parameters
        if expression.op == "parameter":
            return Stored(names[0], None)
        if len(names) == 1 and not expression.computed:
            places = expression.origins(self.network.weights).reshape(-1).numpy()
            if not one_to_one or (len(np.unique(places)) == len(places) and places.min() >= 0):
                return Stored(names[0], places)
        text = json.dumps(expression.to_json())
        self._computed[text] = expression
        self._texts[id(expression)] = text
        return Stored(text, None)

    def is_parameter(self, tensor: str) -> bool:
        """True for a parameter, false for what is computed."""
        return tensor not in self._computed

    def value(self, tensor: str) -> Tensor:
        """A tensor as it is stored, or as it is computed, in float64."""
        import torch

        if tensor in self._computed:
            return self._computed[tensor].evaluate(self.network.weights, torch.float64).detach()
        return self.network.weights[tensor].detach()

    def rebuilt(self, values: Mapping[str, Tensor]) -> Network:
        """The network in which these tensors have other values."""
        parameters = {n: t for n, t in values.items() if n not in self._computed}
        constants = {n: literal(t) for n, t in values.items() if n in self._computed}

        def new(expression: Expression) -> Expression:
            return constants.get(self._texts.get(id(expression), ""), expression)

        def rebiased(layer: Layer) -> Layer:
            return layer if layer.bias is None else replace(layer, bias=new(layer.bias))

        network = self.network
        weights = {**network.weights, **parameters}
        if not constants:
            return network.bound_to(weights)
        blocks = [replace(b, weight=new(b.weight)) for b in network.blocks]
        return network.with_parts([rebiased(a) for a in network.layers], blocks, weights)


def kernels(operator: Dense | Convolution, entries: Tensor) -> Tensor:
    """Entries of a weight as (group, output channel, input channel, tap), without a copy."""
    groups = operator.groups
    high, wide = operator.channels_out // groups, operator.channels_in // groups
    if operator.transposed:
        return entries.reshape(groups, wide, high, operator.taps).transpose(1, 2)
    return entries.reshape(groups, high, wide, operator.taps)


def matrices(block: Block) -> list[Index]:
    """The entries of a block's weight as matrices (matrix, output channel, input channel).

    Rows and columns of one matrix can be paired: an entry is a link wherever the others are.
    """
    import torch

    operator = block.operator
    assert isinstance(operator, (Dense, Convolution))
    index = kernels(operator, torch.arange(block.tensor.numel())).numpy()
    index = index.transpose(0, 3, 1, 2)  # group, tap, output channel, input channel
    wide = operator.channels_in // operator.groups
    found = []
    for channels, taps in _classes(block):
        if len(channels) == operator.channels_in:
            found.append(index[:, taps].reshape(-1, *index.shape[2:]))
            continue
        for group in np.unique(channels // wide):
            columns = channels[channels // wide == group] % wide
            found.append(index[group][taps][:, :, columns])
    return found


def _classes(block: Block) -> list[tuple[Index, Index]]:
    """Input channels of a dense or convolution block that exist at the same places, together.

    Each class comes with the taps that are applied to it anywhere. Channels that belong to another
    block of the same weights (a concatenation) are in none.
    """
    operator = block.operator
    assert isinstance(operator, (Dense, Convolution))
    present = _present(block)
    if present is None:
        return [(np.arange(operator.channels_in), _taps(operator.axes))]
    patterns, which = np.unique(present, axis=0, return_inverse=True)
    found = []
    for k, pattern in enumerate(patterns):
        if pattern.any():
            taps = _taps_on(operator.axes, pattern.reshape(operator.copies, -1).any(axis=0))
            found.append((np.flatnonzero(which.reshape(-1) == k), taps))
    return found


def _present(block: Block) -> NDArray[np.bool_] | None:
    """Which (channel, place) a block reads; None if all."""
    operator, inputs = block.operator, block.inputs
    assert isinstance(operator, (Dense, Convolution))
    if inputs is None or bool((inputs >= 0).all()):
        return None
    present = (inputs >= 0).reshape(operator.copies, operator.channels_in, -1)
    return present.transpose(1, 0, 2).reshape(operator.channels_in, -1)


def _taps(axes: tuple[Axis, ...]) -> Index:
    """The taps that are applied anywhere, as flat positions in a kernel."""
    applied = np.ones(1, dtype=bool)
    for axis in axes:
        applied = np.outer(applied, axis.incidence()[0].any(axis=0)).reshape(-1)
    return np.flatnonzero(applied)


def _taps_on(axes: tuple[Axis, ...], present: NDArray[np.bool_]) -> Index:
    _, tap, source = product_of_axes(axes)
    return np.unique(tap[present[source]])
