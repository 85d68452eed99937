"""Node strength: the weights of a neuron's links, summed, straight from the operators.

No link is listed. A block's in-strengths are the operator on ones and its out-strengths the
adjoint on ones, positive and negative weights apart, in float64 and where the weights are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.network import Block, Layer, Network
from cntgraph.network.operators import Dense

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CONVENTIONS", "STRENGTH_COLUMNS", "strength", "strengths_by_layer"]

CONVENTIONS = ("plain", "paper")
STRENGTH_COLUMNS = (
    "strength",
    "strength_in",
    "strength_out",
    "strength_positive",
    "strength_negative",
    "strength_absolute",
    "degree_in",
    "degree_out",
)


def strength(network: Network, *, convention: str = "plain") -> pd.DataFrame:
    """Strength of every neuron: a row per neuron, in id order.

    Columns: neuron, layer, index, strength, strength_in, strength_out, strength_positive,
    strength_negative (<= 0), strength_absolute, degree_in, degree_out. Strength is signed and is
    the sum of in and out; positive + negative = strength; positive - negative = absolute. Only
    trained links count (kind ``weight``), and a zero weight is a link. Weights are summed in
    float64 whatever their type; a NaN weight makes the strengths it enters NaN.

    ``convention="plain"`` counts no bias and equals
    ``igraph.Graph.strength(mode="all", weights="weight")`` of the explicit graph.
    ``convention="paper"`` counts the bias as one more link into hidden and output neurons and adds
    1 to every input (a link in) and output neuron (a link out), as the figures of La Malfa, La
    Malfa, Nicosia and Latora (2021, arXiv 2110.02628) do.

    >>> import torch, cntgraph as cnt
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> _ = torch.nn.init.constant_(layer.weight, 0.5)
    >>> cnt.strength(cnt.trace(layer, (1, 2)))[["layer", "index", "strength"]]
        layer  index  strength
    0   input      0       0.5
    1   input      1       0.5
    2  linear      0       1.0
    """
    import numpy as np
    import pandas as pd

    sums = _sums(network, convention)
    with np.errstate(invalid="ignore"):  # of infinities of both signs the sum is NaN
        columns = np.empty((6, network.neuron_count))
        total, inward, outward, positive, negative, absolute = columns
        np.add(sums[0, 0], sums[0, 1], out=inward)
        np.add(sums[1, 0], sums[1, 1], out=outward)
        np.add(sums[0, 0], sums[1, 0], out=positive)
        np.add(sums[0, 1], sums[1, 1], out=negative)
        np.add(positive, negative, out=total)
        np.subtract(positive, negative, out=absolute)
    identity, names, counted = _frame(network)
    if convention == "paper":
        counted = counted + _open_ends(network)
    measured = pd.DataFrame(columns.T, columns=names, index=identity.index, copy=False)
    return pd.concat([identity, measured, counted], axis=1)


def _frame(network: Network) -> tuple[pd.DataFrame, pd.Index[str], pd.DataFrame]:
    """What every epoch's table shares: neuron, layer, index; names of sums; the degrees.

    Labels cost pandas more time than the sums cost the processor, so they are made once.
    """
    import pandas as pd

    known: tuple[pd.DataFrame, pd.Index[str], pd.DataFrame] | None
    known = network.topology.get("frame")
    if known is None:
        identity = network.identities()
        counts = pd.Index(STRENGTH_COLUMNS[6:])
        degrees = pd.DataFrame(_degrees(network).T, columns=counts, index=identity.index)
        known = identity, pd.Index(STRENGTH_COLUMNS[:6]), degrees
        network.topology["frame"] = known
    return known


def strengths_by_layer(network: Network, convention: str) -> dict[str, NDArray[np.float64]]:
    """The signed strengths of each layer's neurons, by layer name."""
    import numpy as np

    sums = _sums(network, convention)
    with np.errstate(invalid="ignore"):
        total = sums.sum(axis=(0, 1))
    return {layer.name: total[layer.first : layer.last] for layer in network.layers}


def _sums(network: Network, convention: str) -> NDArray[np.float64]:
    """Sums (in/out, positive/negative, neuron)."""
    import numpy as np

    if convention not in CONVENTIONS:
        raise InputRefused(
            f"convention={convention!r}", why=did_you_mean(str(convention), CONVENTIONS)
        )
    sums = np.zeros((2, 2, network.neuron_count))
    for block in network.blocks:
        if block.link_kind == "weight":
            into, out = _block_sums(block)
            target = slice(block.target_first, block.target_first + into.shape[1])
            source = slice(block.source_first, block.source_first + block.source_size)
            sums[0, :, target] += into
            sums[1, :, source] += out
    if convention == "paper":
        for layer in network.layers:
            _add_open_ends(network, layer, sums)
    return sums


def _block_sums(block: Block) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positive and negative weights summed at each target and each source: (2, neurons) each."""
    import torch

    w, operator = block.tensor.detach(), block.operator
    plain = isinstance(operator, Dense) and operator.copies == 1 and block.inputs is None
    if plain and w.device.type == "cpu" and w.dtype in (torch.float32, torch.float64):
        from cntgraph.network.kernels import signed_sums

        # without a detour through tensors, which costs as much as the sums of a small layer
        into, out = signed_sums(w.contiguous().numpy()[:, :, None])
        return into[:, :, 0], out[:, :, 0]
    return tuple(side.cpu().numpy() for side in block.sums())  # type: ignore[return-value]


def _degrees(network: Network) -> NDArray[np.int64]:
    """Links in and out of each neuron (in/out, neuron): the same for every epoch."""
    import numpy as np

    found = np.zeros((2, network.neuron_count), dtype=np.int64)
    for block in network.blocks:
        if block.link_kind == "weight":
            into, out = block.counts()
            found[0, block.target_first : block.target_first + len(into)] += into.numpy()
            found[1, block.source_first : block.source_first + len(out)] += out.numpy()
    return found


def _add_open_ends(network: Network, layer: Layer, sums: NDArray[np.float64]) -> None:
    """The paper's links from nowhere: a bias into a neuron, a unit link at either end."""
    import numpy as np

    here = slice(layer.first, layer.last)
    if layer.kind == "input":
        sums[0, 0, here] += 1.0
    if layer.kind == "output":
        sums[1, 0, here] += 1.0
    bias = network.bias(layer)
    if bias is not None:
        sums[0, 0, here] += np.maximum(bias, 0.0)
        sums[0, 1, here] += np.minimum(bias, 0.0)


def _open_ends(network: Network) -> NDArray[np.int64]:
    """How many of the paper's links from nowhere each neuron has, (neuron, in/out)."""
    import numpy as np

    layers = network.layers
    ends = [((a.kind == "input") + (a.bias is not None), a.kind == "output") for a in layers]
    counts = np.asarray(ends, dtype=np.int64).reshape(-1, 2)
    return counts.repeat([layer.size for layer in layers], axis=0)
