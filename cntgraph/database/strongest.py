"""What lets a query find the strongest links and paths by looking at few links.

``largest_out`` is the largest |weight| of the trained links out of a neuron: the strongest n links
of a network leave the n neurons where it is largest. ``path_out`` is the largest |product| of the
weights on a path from the neuron to the outputs, 1 for an output: of a path that has come as far
as the neuron, the best end is known.

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
    """path_out (0 where no path leads out) and largest_out (NaN without links) of every neuron.

    >>> found = strongest(network)                                       # doctest: +SKIP
    >>> found["path_out"][:784].max()   # |product| of the strongest path  # doctest: +SKIP
    """
    path, out = np.zeros(network.neuron_count), np.full(network.neuron_count, np.nan)
    for layer in network.layers:
        if layer.kind == "output":
            path[layer.first : layer.last] = 1
    order = {layer.name: place for place, layer in enumerate(network.layers)}
    blocks = [block for block in network.blocks if block.link_kind in PATH_KINDS]
    # All blocks out of a layer come before all blocks into it. The larger of a number and NaN is
    # the number: a link that is NaN leads nowhere.
    for block in sorted(blocks, key=lambda b: order[b.target], reverse=True):
        for source, target, size in _sizes(block):
            np.fmax.at(path, source, size * path[target])
            if block.link_kind == "weight":
                np.fmax.at(out, source, size)
    return {"path_out": path, "largest_out": out}


def _sizes(block: Block) -> Iterator[tuple[Index, Index, Values]]:
    for links in block.links():
        size = np.ones(len(links.weight)) if block.link_kind == "select" else np.abs(links.weight)
        yield links.source, links.target, size
