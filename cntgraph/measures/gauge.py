"""The balanced gauge: of all networks that ReLU rescaling makes of one, the one of equal norms."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import CntWarning, InputRefused
from cntgraph.measures.balancing import TOLERANCE, Balance, Squares
from cntgraph.measures.elements import Elements, kernels
from cntgraph.measures.rescaling import Units, channels, entry_of_each, hidden, units
from cntgraph.network import Block, Network
from cntgraph.network.geometry import Index
from cntgraph.network.operators import Convolution, Dense

if TYPE_CHECKING:
    from torch import Tensor

    from cntgraph.network.expressions import Expression

__all__ = ["balanced"]

Values = NDArray[np.float64]


def balanced(network: Network) -> Network:
    """The network that computes the same, its hidden neurons' incoming and outgoing norms equal.

    A ReLU neuron's incoming weights and bias may be multiplied by any a > 0 and its outgoing
    weights divided by it: the function stays, and strength does not. Of all networks that differ
    only so, this is the one in which the Euclidean norm of every such neuron's incoming weights
    (the bias left out) is that of its outgoing weights: two networks that differ by a rescaling
    are balanced to the same weights, so what is measured after it is a property of the function.
    It is also the one whose sum of squared weights is least.

    A neuron here is a channel of a convolution, each weight of a kernel counted once. Activations
    that let rescaling through are none, relu, leaky_relu and prelu; max and average pooling, views
    and other links that carry values hand the factor on. What cannot be rescaled stays as it is,
    and a `CntWarning` names the layers and why: other activations, joins as in attention, layers
    that a skip connection adds up, batch norms kept beside the weights (``batch_norm="folded"``
    lets them be), shared weights or biases, values that are returned, and neurons with no weight,
    or one that is not finite, at an end. Weights keep their type: trace the model in float64 for
    the last digits. Weights that are computed from several tensors (a folded batch norm) become
    constants of the network in float64.

    >>> import torch, cntgraph as cnt
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> network = cnt.balanced(cnt.trace(model, (1, 2)))
    >>> into, out = network.weights["0.weight"], network.weights["2.weight"]
    >>> torch.allclose(into.norm(dim=1), out.norm(dim=0))
    True

    Raises `InputRefused` for a network that was filtered or reduced to channels: balance it first.

    Sources: Neyshabur, Salakhutdinov and Srebro, 2015 (rescaling); Stock, Graham, Gribonval and
    Jegou, 2019 (equal norms); Osborne, 1960 (the iteration).
    """
    _refuse_parts(network)
    elements = Elements(network)
    found = units(network, elements)
    balance = Balance(list(_squares(network, found)), found.count)
    factor, converged = balance.factors()
    _tell(network, found, balance.fixed, converged=converged)
    return _rescaled(network, elements, found, factor)


def _refuse_parts(network: Network) -> None:
    what = "filtered" if any(b.kind == "sparse" for b in network.blocks) else ""
    if network.resolution != "neuron":
        what = "reduced to channels"
    if what:
        raise InputRefused(
            f"the network was {what}",
            why="what it has lost takes part in the balance",
            fix="balance first: cnt.balanced(network).filtered(...) or .by_channel()",
        )


# -- the norms ------------------------------------------------------------------------------------


def _squares(network: Network, found: Units) -> Iterator[Squares]:
    for block in network.blocks:
        if block.link_kind == "weight" and isinstance(block.operator, (Dense, Convolution)):
            read, fed = channels(block)
            by_channel = _between_channels(block)[:, read >= 0]
            into, target = _summed(by_channel.T, found.of[fed])
            weight, source = _summed(into.T, found.of[read[read >= 0]])
            yield Squares(weight, target, source)


def _between_channels(block: Block) -> Any:
    """Squared weights (output channel, input channel), the taps of a kernel summed."""
    import torch
    from scipy.sparse import block_diag, csr_array

    operator = block.operator
    assert isinstance(operator, (Dense, Convolution))
    entries = operator.entries(block.tensor.detach()).to(torch.float64)
    groups = kernels(operator, entries.square()).sum(dim=3).cpu().numpy()
    return groups[0] if len(groups) == 1 else csr_array(block_diag(list(groups)))


def _summed(weight: Any, of: Index) -> tuple[Any, Index]:
    """Columns of one unit as one column."""
    from scipy.sparse import csr_array

    found, which = np.unique(of, return_inverse=True)
    one = np.ones(len(of)), (np.arange(len(of)), which.reshape(-1))
    return weight @ csr_array(one, shape=(len(of), len(found))), found


# -- the network ----------------------------------------------------------------------------------


def _tell(network: Network, found: Units, fixed: NDArray[np.bool_], *, converged: bool) -> None:
    told = dict(found.kept)
    for layer in hidden(network):
        here = np.unique(found.of[layer.first : layer.last])
        if count := int(fixed[here[here > 0]].sum()):
            why = "an end without weight, or with one that is not finite"
            told.setdefault(why, []).append(f"{count:,} of {len(here):,} in {layer.name}")
    if told:
        kept = "; ".join(f"{_some(names)} ({why})" for why, names in told.items())
        warnings.warn(f"not rescaled: {kept}", CntWarning, stacklevel=3)
    if not converged:
        warnings.warn(f"not balanced to {TOLERANCE:g}", CntWarning, stacklevel=3)


def _some(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _rescaled(network: Network, elements: Elements, found: Units, factor: Values) -> Network:
    import torch

    of_neuron = factor[found.of]
    values: dict[str, Tensor] = {}
    for expression, factors in _factors(network, of_neuron):
        if bool((factors == 1).all()):
            continue
        stored = elements.find(expression, one_to_one=True)
        if stored.tensor not in values:
            values[stored.tensor] = elements.value(stored.tensor).to(torch.float64)
        wide = values[stored.tensor]
        by = torch.ones(wide.numel(), dtype=torch.float64)
        by[slice(None) if stored.places is None else torch.from_numpy(stored.places)] = factors
        values[stored.tensor] = wide * by.reshape(wide.shape).to(wide.device)
    return elements.rebuilt({n: t.to(elements.value(n).dtype) for n, t in values.items()})


def _factors(network: Network, of_neuron: Values) -> Iterator[tuple[Expression, Tensor]]:
    """Every trained weight and bias, with the factor of each of its entries."""
    import torch

    for block in network.blocks:
        operator = block.operator
        if block.link_kind == "weight" and isinstance(operator, (Dense, Convolution)):
            read, fed = channels(block)
            into = torch.from_numpy(of_neuron[fed]).reshape(operator.groups, -1, 1, 1)
            out = torch.from_numpy(of_neuron[read]).reshape(operator.groups, 1, -1, 1)
            present = torch.from_numpy(read >= 0).reshape(out.shape)
            by = torch.ones(block.tensor.numel(), dtype=torch.float64)
            kernels(operator, by).copy_(torch.where(present, into / out, 1.0))
            yield block.weight, by
    for layer in network.layers:
        if layer.bias is not None:
            entries = entry_of_each(layer, network)
            of_entry = np.ones(entries.max(initial=-1) + 1)
            of_entry[entries] = of_neuron[layer.first : layer.last]
            yield layer.bias, torch.from_numpy(of_entry)
