"""What lets a query find the strongest links and paths by looking at few links.

``largest_out`` is the largest |weight| of the trained links out of a neuron: the strongest n links
of a network leave the n neurons where it is largest. ``path_in`` and ``path_out`` are the largest
|product| of the weights on a path from the inputs to the neuron, and from it to the outputs: a
link (s, t) lies on a path of at least x exactly if path_in(s) * |weight| * path_out(t) >= x.

Along a path, links of kind weight, identity, fixed and scale count with their weight, select with
1; what depends on the data is not followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cntgraph.network import Block, Network

__all__ = ["strongest"]

PATH_KINDS = ("weight", "identity", "fixed", "scale", "select")

Index = NDArray[np.int64]
Values = NDArray[np.float64]


def strongest(network: Network) -> dict[str, Values]:
    """path_in, path_out (0 where there is no path) and largest_out (NaN without links), per neuron.

    >>> found = strongest(network)                                           # doctest: +SKIP
    >>> (found["path_in"] * found["path_out"]).max()   # of the strongest path  # doctest: +SKIP
    """
    before, after = np.zeros(network.neuron_count), np.zeros(network.neuron_count)
    out = np.full(network.neuron_count, np.nan)
    for layer in network.layers:
        if layer.kind == "input":
            before[layer.first : layer.last] = 1
        if layer.kind == "output":
            after[layer.first : layer.last] = 1
    order = {layer.name: place for place, layer in enumerate(network.layers)}
    blocks = [block for block in network.blocks if block.link_kind in PATH_KINDS]
    # All blocks into a layer come before all blocks out of it, and then the other way about. The
    # larger of a number and NaN is the number: a link that is NaN leads nowhere.
    for block in sorted(blocks, key=lambda b: order[b.source]):
        for source, target, size in _sizes(block):
            np.fmax.at(before, target, size * before[source])
            if block.link_kind == "weight":
                np.fmax.at(out, source, size)
    for block in sorted(blocks, key=lambda b: order[b.target], reverse=True):
        for source, target, size in _sizes(block):
            np.fmax.at(after, source, size * after[target])
    return {"path_in": before, "path_out": after, "largest_out": out}


def _sizes(block: Block) -> Iterator[tuple[Index, Index, Values]]:
    for links in block.links():
        size = np.ones(len(links.weight)) if block.link_kind == "select" else np.abs(links.weight)
        yield links.source, links.target, size
