"""Every link twice: out of its source, and into its target with the shortest in front."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused
from cntgraph.graphs.memory import require_memory
from cntgraph.measures.steps import Values, of_sign
from cntgraph.network.operators import Dense

if TYPE_CHECKING:
    import torch

    from cntgraph.measures.weighted import Weighted
    from cntgraph.network import Block

__all__ = ["Adjacency", "adjacency"]

PER_LINK = 72  # bytes at the peak: both orders, and one block's links as they are listed
WIDE = 32  # targets, at least, in a block that is relaxed by rows
SAMPLE = 512  # lengths looked at, whether they repeat
DISTINCT = 0.9  # of them, at least, in such a block
AT_ONCE = 32  # targets whose links are put in place together
LONGEST = 1e300  # further than that, sums of lengths may be infinite
PER_NEURON = 512  # what a sweep writes

Ids = NDArray[np.uint32]
Places = NDArray[np.int64]
_Rows = tuple[Places, Ids, Values]


class Adjacency(NamedTuple):
    """The links of finite length, block by block in topological order, as the kernels read them.

    A block has a row of ``in_start`` for each of its targets, from ``in_base`` on, and one of
    ``out_start`` for each of its sources, from ``out_base`` on. Order by length is for blocks that
    several neurons of a layer may be reached before; only one input neuron ever is. Complete blocks
    are relaxed ``by_rows``: they are listed out of their sources alone, each target in its turn.
    """

    layer_of: Places  # a value per neuron
    into: Places  # the blocks into layer l are those from into[l] to into[l + 1]
    source_layer: Places  # a value per block, here and below
    source_first: Places
    sources: Places
    target_first: Places
    targets: Places
    in_base: Places
    out_base: Places
    in_start: Places
    in_source: Ids
    in_length: Values
    out_start: Places
    out_target: Ids
    out_length: Values
    out_shortest: Values  # the length of the first link of a row that is by_rows, at its shortest
    in_order: NDArray[np.bool_]  # per block, whether the links into a target are sorted by length
    by_rows: NDArray[np.bool_]
    unknown_source: Places  # the two ends of each link of no known length: NaN
    unknown_target: Places


class _Links(NamedTuple):
    """Links of one block, by the indices of neurons within their layers."""

    source: NDArray[np.int32]
    target: NDArray[np.int32]
    length: Values

    def only(self, kept: NDArray[np.bool_]) -> _Links:
        if kept.all():
            return self
        return _Links(self.source[kept], self.target[kept], self.length[kept])


def adjacency(graph: Weighted, *, turned: bool = False) -> Adjacency:
    """The links that lead somewhere; ``turned`` turns all of them round and counts ids backwards.

    A link of infinite length is left out. Refused where they do not fit in memory.
    """
    links, neurons = graph.link_count, graph.neuron_count
    require_memory(links, PER_LINK, neurons, PER_NEURON, what="a list of links by length")
    blocks = [block for block in graph.blocks if block.link_count]
    if turned:
        blocks.sort(key=lambda b: (-b.source_first, -b.target_first))
    ends = np.array([_ends(b, neurons, turned=turned) for b in blocks], np.int64).reshape(-1, 4)
    sizes = [layer.size for layer in graph.network.layers][:: -1 if turned else 1]
    return _filled(graph, blocks, _empty(sizes, ends, links), turned=turned)


def _ends(block: Block, neurons: int, *, turned: bool) -> tuple[int, int, int, int]:
    """The first neuron and the number of a block's sources, then of its targets."""
    source, target = block.source_first, block.target_first
    sources, targets = block.source_size, block.operator.size_out
    if source >= target:  # sweeps rely on it
        raise InputRefused(
            f"block {block.name} leads back from {block.source} to {block.target}",
            why="distances are found layer by layer, in the order of ids",
        )
    if turned:
        return neurons - target - targets, targets, neurons - source - sources, sources
    return source, sources, target, targets


def _empty(sizes: list[int], ends: Places, count: int) -> Adjacency:
    source_first, sources, target_first, targets = ends.T.copy()
    layer_of = np.repeat(np.arange(len(sizes)), sizes)
    reached = set(target_first.tolist())
    return Adjacency(
        layer_of,
        into=np.searchsorted(layer_of[target_first], np.arange(len(sizes) + 1)),
        source_layer=layer_of[source_first],
        source_first=source_first,
        sources=sources,
        target_first=target_first,
        targets=targets,
        in_base=np.cumsum(targets + 1) - targets - 1,
        out_base=np.cumsum(sources + 1) - sources - 1,
        in_start=np.zeros(int((targets + 1).sum()), np.int64),
        in_source=np.empty(count, np.uint32),
        in_length=np.empty(count),
        out_start=np.zeros(int((sources + 1).sum()), np.int64),
        out_target=np.empty(count, np.uint32),
        out_length=np.empty(count),
        out_shortest=np.full(int((sources + 1).sum()), np.inf),
        by_rows=np.zeros(len(sources), np.bool_),
        in_order=np.array([first in reached for first in source_first.tolist()], np.bool_),
        unknown_source=np.empty(0, np.int64),
        unknown_target=np.empty(0, np.int64),
    )


def _filled(graph: Weighted, blocks: list[Block], empty: Adjacency, *, turned: bool) -> Adjacency:
    from cntgraph.measures.paths.sorting import fill

    at = 0
    unknown = [(empty.unknown_source, empty.unknown_target)]
    for place, block in enumerate(blocks):
        weight = _dense(block, turned=turned)
        if weight is not None and _filled_by_rows(graph, weight, empty, place, at):
            at += weight.numel()
            continue
        links = _listed(graph, block, turned=turned) if weight is None else _all(graph, weight)
        first = empty.source_first[place], empty.target_first[place]
        lost = links.only(np.isnan(links.length))
        unknown.append((lost.source + first[0], lost.target + first[1]))
        links = links.only(links.length < np.inf)
        fill(tuple(links), first, at, *_rows(empty, place), bool(empty.in_order[place]))
        at += len(links.length)
    cut = {name: getattr(empty, name)[:at] for name in ("in_source", "in_length")}
    cut |= {name: getattr(empty, name)[:at] for name in ("out_target", "out_length")}
    source, target = (np.concatenate(ends) for ends in zip(*unknown, strict=True))
    return empty._replace(**cut, unknown_source=source, unknown_target=target)


def _dense(block: Block, *, turned: bool) -> torch.Tensor | None:
    """The weights of a dense block, a row for each target; None for another block."""
    operator = block.operator
    if not isinstance(operator, Dense) or operator.copies != 1 or block.inputs is not None:
        return None
    weight = operator.entries(block.tensor.detach()).cpu()
    weight = weight.reshape(operator.channels_out, operator.channels_in)
    return weight.T.flip(0, 1) if turned else weight


def _filled_by_rows(
    graph: Weighted, weight: torch.Tensor, adj: Adjacency, place: int, at: int
) -> bool:
    """Put a dense block's links from place ``at`` on, row for row out of its sources.

    Not if targets are few, if some links lead nowhere, or if lengths repeat: equally short paths
    are counted faster where links are sorted. Some targets have their turn together, so that what
    lies between stays in the cache.
    """
    targets, sources = weight.shape
    sample = _lengths(graph, weight.reshape(-1)[:: max(1, weight.numel() // SAMPLE)])
    if targets < WIDE or len(np.unique(sample)) <= DISTINCT * len(sample):
        return False
    cut, base = slice(at, at + weight.numel()), adj.out_base[place]
    rows = adj.out_length[cut].reshape(sources, targets)
    shortest = adj.out_shortest[base : base + sources]
    for j in range(0, targets, AT_ONCE):
        lengths = _lengths(graph, weight[j : j + AT_ONCE])
        if not lengths.max() < LONGEST:  # NaN neither
            return False
        rows[:, j : j + AT_ONCE] = lengths.T
        np.minimum(shortest, lengths.min(axis=0), out=shortest)
    first, (into, out) = adj.target_first[place], _rows(adj, place)
    adj.out_target[cut].reshape(sources, targets)[:] = np.arange(
        first, first + targets, dtype=np.uint32
    )
    into[0][:], out[0][:] = at, at + targets * np.arange(sources + 1)
    adj.by_rows[place] = True
    return True


def _lengths(graph: Weighted, weight: torch.Tensor) -> Values:
    return graph.length_of(of_sign(weight.double().numpy(), graph.sign))


def _all(graph: Weighted, weight: torch.Tensor) -> _Links:
    """All links of a dense block, also those that lead nowhere."""
    targets, sources = (np.arange(size, dtype=np.int32) for size in weight.shape)
    source, target = np.tile(sources, len(targets)), np.repeat(targets, len(sources))
    return _Links(source, target, _lengths(graph, weight).ravel())


def _rows(adj: Adjacency, place: int) -> tuple[_Rows, _Rows]:
    """The arrays that a block's links are put into, by targets and by sources."""
    into = slice(adj.in_base[place], adj.in_base[place] + adj.targets[place] + 1)
    out = slice(adj.out_base[place], adj.out_base[place] + adj.sources[place] + 1)
    return (
        (adj.in_start[into], adj.in_source, adj.in_length),
        (adj.out_start[out], adj.out_target, adj.out_length),
    )


def _listed(graph: Weighted, block: Block, *, turned: bool) -> _Links:
    parts = list(_parts(graph, block))
    links = parts[0] if len(parts) == 1 else _Links(*map(np.concatenate, zip(*parts, strict=True)))
    if not turned:
        return links
    last = block.operator.size_out - 1, block.source_size - 1
    return _Links(last[0] - links.target, last[1] - links.source, links.length)


def _parts(graph: Weighted, block: Block) -> Iterator[_Links]:
    for links in block.links():
        source = (links.source - block.source_first).astype(np.int32)
        target = (links.target - block.target_first).astype(np.int32)
        yield _Links(source, target, graph.length_of(of_sign(links.weight, graph.sign)))
