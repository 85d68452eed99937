"""An igraph graph is built once per wiring; an epoch is a copy of it with other weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cntgraph.graphs.listing import (
    attributes,
    chosen,
    link_kinds,
    pairs,
    paused_collector,
    weights,
)
from cntgraph.graphs.memory import require_memory

if TYPE_CHECKING:
    import igraph

    from cntgraph.network import Block, Network

__all__ = ["to_igraph"]

PER_LINK = 140  # bytes at the peak of building, measured: 117 dense, 89 convolutions
PER_NEURON = 250
KEPT = 4_000_000  # links: a larger wiring is built again rather than kept, at 40 bytes each


def to_igraph(network: Network, kinds: Sequence[str] = ("weight",)) -> igraph.Graph:
    """The network as a directed igraph graph: a vertex per neuron, an edge per link.

    Vertex ids are neuron ids; vertices have ``layer, index, channel, y, x`` (None where they mean
    nothing). Edges come in the order of `Network.links`, with ``weight`` and, where more than one
    kind of link is asked for, ``kind``. Parallel links stay parallel edges. The graph is yours:
    changing it changes neither the network nor another graph.

    >>> import torch, cntgraph as cnt
    >>> graph = cnt.trace(torch.nn.Linear(3, 2), (1, 3)).to_igraph()
    >>> graph.vcount(), graph.ecount()
    (5, 6)

    Raises `InputRefused` where it would not fit in memory, before anything is allocated.
    """
    blocks, links = chosen(network, kinds)
    require_memory(links, PER_LINK, network.neuron_count, PER_NEURON, what="an igraph graph")
    with paused_collector():
        graph = _wiring(network, kinds, blocks, links)
        listed: list[float] = []
        for block in blocks:
            listed += weights(block)
        graph.es["weight"] = listed
    return graph


def _wiring(
    network: Network, kinds: Sequence[str], blocks: Sequence[Block], links: int
) -> igraph.Graph:
    shared, key = network.topology, f"igraph of {sorted(set(kinds))}"
    if key in shared:
        return shared[key].copy()
    graph = _built(network, blocks)
    if len(set(kinds)) > 1:
        graph.es["kind"] = link_kinds(blocks)
    if links > KEPT:
        return graph
    shared[key] = graph
    return graph.copy()


def _built(network: Network, blocks: Sequence[Block]) -> igraph.Graph:
    import igraph

    edges = itertools.chain.from_iterable(pairs(block) for block in blocks)
    graph = igraph.Graph(network.neuron_count, edges=edges, directed=True)
    graph.reverse_edges()
    for name, values in attributes(network).items():
        graph.vs[name] = values
    return graph
