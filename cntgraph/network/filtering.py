"""A network with fewer links: the strongest of each neuron, a backbone, or those above a bound.

A filtered block is a sparse map whose weights are picked from the same parameters, so another
epoch's weights still fit it. The filter itself looks at the weights it was made with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused
from cntgraph.network.blocks import Block, LinkBatch
from cntgraph.network.expressions import literal
from cntgraph.network.geometry import Index, Pattern
from cntgraph.network.operators import Sparse

if TYPE_CHECKING:
    from cntgraph.network.network import Network

__all__ = ["filtered_blocks"]

FORMS = "top:K, backbone:ALPHA, above:X or nonzero"
Size = NDArray[np.float64]
Keep = Callable[[Index, Index, Size, int], NDArray[np.bool_]]


def filtered_blocks(network: Network, links: str) -> tuple[list[Block], float]:
    """The blocks with the trained links that a filter keeps, and the share of |weight| in them."""
    keep = _filter(links)
    trained = [b for b in network.blocks if b.link_kind == "weight"]
    listed = [_joined(block) for block in trained]
    columns = [np.concatenate([getattr(k, c) for k in listed] or [[]]) for c in _COLUMNS]
    source, target = columns[0].astype(np.int64), columns[1].astype(np.int64)
    # a weight that is not a number is kept rather than lost
    size = np.nan_to_num(np.abs(columns[2]), nan=np.inf)
    kept = keep(source, target, size, network.neuron_count)
    ends = np.cumsum([len(k.source) for k in listed])[:-1]
    chosen = dict(zip((b.name for b in trained), np.split(kept, ends), strict=True))
    links_of = dict(zip((b.name for b in trained), listed, strict=True))
    blocks = [
        _sparse(b, links_of[b.name], chosen[b.name]) if b.name in chosen else b
        for b in network.blocks
    ]
    weight = np.abs(columns[2])
    total = float(np.nansum(weight))
    return blocks, float(np.nansum(weight[kept])) / total if total else 1.0


_COLUMNS = ("source", "target", "weight")


def _filter(links: str) -> Keep:
    name, _, value = links.partition(":")
    try:
        if name == "top" and int(value) > 0:
            return lambda s, t, w, n: _top(s, w, int(value)) | _top(t, w, int(value))
        if name == "backbone" and 0 < float(value) <= 1:
            alpha = float(value)
            return lambda s, t, w, n: _significant(s, w, n, alpha) | _significant(t, w, n, alpha)
        if name == "above" and float(value) >= 0:
            return lambda s, t, w, n: w > float(value)
        if links == "nonzero":
            return lambda s, t, w, n: w != 0
    except ValueError:
        pass
    raise InputRefused(f"links={links!r} is not a filter", fix=f"give {FORMS}, as in 'top:32'")


def _top(neuron: Index, size: Size, count: int) -> NDArray[np.bool_]:
    """True for the strongest links of each neuron; among equals the first listed."""
    order = np.lexsort((-size, neuron))
    grouped = neuron[order]
    starts = np.flatnonzero(np.diff(grouped, prepend=-1))
    lengths = np.diff(starts, append=len(grouped))
    rank = np.arange(len(grouped)) - np.repeat(starts, lengths)
    kept = np.zeros(len(neuron), dtype=bool)
    kept[order] = rank < count
    return kept


def _significant(neuron: Index, size: Size, neurons: int, alpha: float) -> NDArray[np.bool_]:
    """The disparity filter: p = (1 - share)^(degree - 1) < alpha.

    Source: Serrano, Boguna and Vespignani, 2009.
    """
    strength = np.bincount(neuron, weights=size, minlength=neurons)[neuron]
    degree = np.bincount(neuron, minlength=neurons)[neuron]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(strength > 0, size / strength, 0.0)
    p: Size = (1.0 - np.nan_to_num(share, nan=1.0)) ** (degree - 1)
    return p < alpha


def _joined(block: Block) -> LinkBatch:
    batches = list(block.links())
    if not batches:
        none = np.zeros(0, dtype=np.int64)
        return LinkBatch(none, none, np.zeros(0), 0, none, none)
    columns = ("source", "target", "weight", "element", "place")
    joined = {c: np.concatenate([getattr(b, c) for b in batches]) for c in columns}
    return LinkBatch(**joined, parameter=0)


def _sparse(block: Block, links: LinkBatch, kept: NDArray[np.bool_]) -> Block:
    import torch

    source = links.source[kept] - block.source_first
    target = links.target[kept] - block.target_first
    pattern = Pattern(1, block.source_size, block.operator.size_out, source, target)
    flat = block.operator.flat_weight(block.weight)
    picked = flat.apply(
        "aten.index_select.default", 0, literal(torch.from_numpy(links.place[kept]))
    )
    return replace(block, operator=Sparse(pattern), weight=picked, inputs=None)
