"""Links as Python lists, in the order of `Network.links`, without an object per number.

A convolution uses one weight in many links. Neuron ids and weights are therefore boxed once, and
every link refers to them: a list of links costs 8 bytes an entry, and no time in the allocator.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.network.geometry import Index
from cntgraph.network.operators import Dense

if TYPE_CHECKING:
    from cntgraph.network import Block, Network

__all__ = ["arrays", "attributes", "chosen", "link_kinds", "pairs", "paused_collector", "weights"]

BATCH = 250_000  # links at a time: large enough for NumPy, small beside the graph


def chosen(network: Network, kinds: Sequence[str]) -> tuple[list[Block], int]:
    """The blocks with links of these kinds, and how many links they have."""
    blocks = list(network.carrying_blocks(kinds))
    return blocks, sum(block.link_count for block in blocks)


def attributes(network: Network) -> dict[str, list[Any]]:
    """The columns of `Network.neurons` beside the id, as lists; what means nothing is None."""
    columns: dict[str, list[Any]] = {name: [] for name in ("layer", "index", "channel", "y", "x")}
    for layer in network.layers:
        place = layer.coordinates()
        columns["layer"] += [layer.name] * layer.size
        columns["index"] += range(layer.size)
        for name in ("channel", "y", "x"):
            known = place.get(name)
            columns[name] += [None] * layer.size if known is None else known.tolist()
    return columns


def pairs(block: Block) -> Iterator[tuple[int, int]]:
    """Every link as (target, source): the order in which dense layers need no array at all."""
    sources = _boxed(block.source_first, block.source_size)
    targets = _boxed(block.target_first, block.operator.size_out)
    if _complete(block):
        return _products(block, sources, targets)
    return itertools.chain.from_iterable(
        zip(targets[target].tolist(), sources[source].tolist(), strict=True)
        for source, target, _ in block.places(BATCH)
    )


def weights(block: Block) -> list[float]:
    """The weights of a block's links; links that share a parameter share the number."""
    entries = block.operator.entries(block.tensor.detach().cpu())
    values: list[float] = _float64(entries).tolist()
    if _complete(block):
        copies: int = block.operator.copies  # type: ignore[attr-defined]
        return values if copies == 1 else values * copies
    boxed = np.empty(len(values), dtype=object)
    boxed[:] = values
    listed: list[float] = []
    for _, _, element in block.places(BATCH):
        listed += boxed[element].tolist()
    return listed


def link_kinds(blocks: Sequence[Block]) -> list[str]:
    """The kind of every link."""
    return [kind for b in blocks for kind in itertools.repeat(b.link_kind, b.link_count)]


def arrays(blocks: Sequence[Block], links: int) -> tuple[Index, Index, NDArray[np.float64]]:
    """Source, target and weight of every link, as arrays filled in place."""
    # SciPy keeps 32-bit positions up to here, and would make a copy of wider ones
    largest = max((b.target_first + b.operator.size_out for b in blocks), default=0)
    largest = max([largest, links, *(b.source_first + b.source_size for b in blocks)])
    integer = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
    source, target = np.empty(links, dtype=integer), np.empty(links, dtype=integer)
    weight = np.empty(links)
    at = 0
    for block in blocks:
        for batch in block.links(BATCH):
            cut = slice(at, at + len(batch.source))
            source[cut], target[cut], weight[cut] = batch.source, batch.target, batch.weight
            at = cut.stop
    return source, target, weight  # type: ignore[return-value]


@contextmanager
def paused_collector() -> Iterator[None]:
    """No garbage collection while millions of objects are made that are no garbage."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _complete(block: Block) -> bool:
    """True if every weight of a dense block is a link at every one of its positions."""
    known = block.inputs is None or bool((block.inputs >= 0).all())
    return isinstance(block.operator, Dense) and known


def _boxed(first: int, count: int) -> NDArray[Any]:
    """Neuron ids as Python's own integers, each made once."""
    return np.arange(first, first + count).astype(object)


def _products(
    block: Block, sources: NDArray[Any], targets: NDArray[Any]
) -> Iterator[tuple[int, int]]:
    dense = block.operator
    assert isinstance(dense, Dense)
    heard = sources if block.inputs is None else sources[block.inputs]
    return itertools.chain.from_iterable(
        itertools.product(outputs.tolist(), inputs.tolist())
        for outputs, inputs in zip(
            targets.reshape(dense.copies, -1), heard.reshape(dense.copies, -1), strict=True
        )
    )


def _float64(entries: Any) -> NDArray[np.float64]:
    import torch

    wide: NDArray[np.float64] = entries.to(torch.float64).numpy()
    return wide
