"""A NetworkX graph of the network: readable, and the heaviest of the ways out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.graphs.listing import (
    attributes,
    chosen,
    pairs,
    paused_collector,
    weights,
)
from cntgraph.graphs.memory import require_memory

if TYPE_CHECKING:
    import networkx

    from cntgraph.network import Block, Network

__all__ = ["to_networkx"]

PER_LINK = 400  # bytes at the peak of building, measured: 302; dictionaries grow by doubling
PER_NEURON = 1_100
_WHAT = "a NetworkX graph"


def to_networkx(network: Network, kinds: Sequence[str] = ("weight",)) -> networkx.DiGraph[int]:
    """The network as a NetworkX ``DiGraph``: a node per neuron, an edge per link.

    Nodes are neuron ids with ``layer, index, channel, y, x`` (None where they mean nothing);
    edges have ``weight`` and, where more than one kind of link is asked for, ``kind``. Where two
    links join the same two neurons the result is a ``MultiDiGraph``, so that none is lost.

    >>> import torch, cntgraph as cnt
    >>> cnt.trace(torch.nn.Linear(3, 2), (1, 3)).to_networkx().number_of_edges()
    6

    Raises `InputRefused` where it would not fit in memory, before anything is allocated.
    """
    import networkx

    blocks, links = chosen(network, kinds)
    require_memory(links, PER_LINK, network.neuron_count, PER_NEURON, what=_WHAT)
    graph: Any = networkx.DiGraph()
    if _parallel(blocks):
        require_memory(links, 2 * PER_LINK, network.neuron_count, PER_NEURON, what=_WHAT)
        graph = networkx.MultiDiGraph()
    with paused_collector():
        columns = attributes(network)
        rows = zip(*columns.values(), strict=True)
        graph.add_nodes_from(
            (neuron, dict(zip(columns, row, strict=True))) for neuron, row in enumerate(rows)
        )
        graph.add_edges_from(_edges(blocks, with_kind=len(set(kinds)) > 1))
    return graph


def _edges(
    blocks: Sequence[Block], *, with_kind: bool
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    for block in blocks:
        links = zip(pairs(block), weights(block), strict=True)
        if with_kind:
            kind = block.link_kind
            for (target, source), weight in links:
                yield source, target, {"weight": weight, "kind": kind}
        else:
            for (target, source), weight in links:
                yield source, target, {"weight": weight}


def _parallel(blocks: Sequence[Block]) -> bool:
    """True if two links join the same two neurons."""
    ways = [(block.source, block.target) for block in blocks]
    for way in dict.fromkeys(ways):
        between = [b for b in blocks if (b.source, b.target) == way]
        if (len(between) > 1 or not _simple(between[0])) and _repeats(between):
            return True
    return False


def _simple(block: Block) -> bool:
    """True if no link of this one block can repeat another, known without listing them."""
    regular = block.kind in ("dense", "convolution", "diagonal")
    if not regular or block.inputs is None:
        return regular
    places = block.inputs[block.inputs >= 0]
    return len(np.unique(places)) == len(places)


def _repeats(blocks: Sequence[Block]) -> bool:
    height = blocks[0].operator.size_out
    keys = [
        (links.source - block.source_first) * height + (links.target - block.target_first)
        for block in blocks
        for links in block.links()
    ]
    every = np.sort(np.concatenate(keys)) if keys else np.zeros(0, dtype=np.int64)
    return bool((every[1:] == every[:-1]).any())
