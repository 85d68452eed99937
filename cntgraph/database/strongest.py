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

from cntgraph.database.links import rectangles

if TYPE_CHECKING:
    from cntgraph.network import Block, Network

__all__ = ["strongest"]

PATH_KINDS = ("weight", "identity", "fixed", "scale", "select")

AT_ONCE = 100_000  # links; sessions have as many of them side by side

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
        for source, size, onwards in _sizes(block, path):
            np.fmax.at(path, source, onwards)
            if block.link_kind == "weight":
                np.fmax.at(out, source, size)
    return {"path_out": path, "largest_out": out}


def _sizes(block: Block, path: Values) -> Iterator[tuple[Index, Values, Values]]:
    """Sources, the largest |weight| out of each, and the largest |product| on through a target."""
    for sources, targets, weights in rectangles(block) or ():
        size = np.abs(weights)
        onwards = size * path[targets][:, None]
        yield sources, np.fmax.reduce(size), np.fmax.reduce(onwards)
    if rectangles(block) is None:
        for links in block.links(AT_ONCE):
            weight = links.weight if block.link_kind != "select" else np.ones(len(links.weight))
            size = np.abs(weight)
            yield links.source, size, size * path[links.target]
