"""A network's links as matrices of ones, counts or signs, of all neurons or between two layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.graphs.memory import require_memory
from cntgraph.network import Block
from cntgraph.network.operators import Dense

if TYPE_CHECKING:
    import scipy.sparse

    from cntgraph.measures.steps import Step, Values
    from cntgraph.measures.weighted import Weighted

__all__ = [
    "adjacency",
    "between",
    "ends_of",
    "joins_all",
    "signs_of",
    "sizes",
    "sparse",
    "weights_of",
    "whole",
]

PER_LINK = 100  # bytes at the peak: links listed, and as sparse matrices in both directions
Flat = NDArray[Any]
Ends = tuple[Flat, Flat]


def adjacency(graph: Weighted) -> scipy.sparse.csr_array:
    """Which neurons are linked, in either direction: a symmetric matrix of ones."""
    n = graph.neuron_count
    ends = ends_of(graph.blocks)
    matrix = sparse(np.ones(len(ends[0]), np.int32), ends, (n, n))
    both = (matrix + matrix.T).tocsr()
    both.data[:] = 1
    return both


def ends_of(blocks: Sequence[Block]) -> Ends:
    """The ids of the two neurons of every link, whatever it weighs."""
    count = sum(block.link_count for block in blocks)
    reach = max((b.target_first + b.operator.size_out for b in blocks), default=0)
    reach = max([reach, *(b.source_first + b.source_size for b in blocks)])
    require_memory(count, PER_LINK, reach, 64, what="a matrix")
    short = np.int32 if max(count, reach) < 1 << 31 else np.int64
    source, target = np.empty(count, short), np.empty(count, short)
    at = 0
    for block in blocks:
        for from_, to, _ in block.places():
            cut = slice(at, at + len(from_))
            np.add(from_, block.source_first, out=source[cut], casting="same_kind")
            np.add(to, block.target_first, out=target[cut], casting="same_kind")
            at = cut.stop
    return source, target


def weights_of(blocks: Sequence[Block]) -> Values:
    """The weight of every link, in the order of `ends_of`."""
    weight = np.empty(sum(block.link_count for block in blocks))
    at = 0
    for block in blocks:
        entries = block.operator.entries(block.tensor.detach().cpu())
        stored = entries.numpy() if entries.dtype.itemsize >= 4 else entries.double().numpy()
        for from_, _, element in block.places():
            weight[at : at + len(from_)] = stored[element]
            at += len(from_)
    return weight


def sparse(values: Flat, ends: Ends, size: tuple[int, int]) -> scipy.sparse.csr_array:
    """Values in their places (row, column), those in the same place added up."""
    import scipy.sparse

    return scipy.sparse.csr_array((values, ends), shape=size)


def signs_of(weight: Values) -> Flat:
    """Signs as whole numbers, which sparse products add fastest, unless one is not a number."""
    signs = np.sign(weight)
    return signs if np.isnan(signs).any() else signs.astype(np.int32)


def between(steps: Sequence[Step]) -> tuple[Ends, Values]:
    """Every link from one layer to another: its places in both, and its weight."""
    blocks = [step.block for step in steps]
    source, target = ends_of(blocks)
    source -= steps[0].source.start
    target -= steps[0].target.start
    return (source, target), weights_of(blocks)


def sizes(steps: Sequence[Step]) -> tuple[int, int]:
    """Number of neurons of the source and of the target layer."""
    source, target = steps[0].source, steps[0].target
    return source.stop - source.start, target.stop - target.start


def joins_all(block: Block) -> bool:
    """True where a dense block links every neuron of one layer to every neuron of the other."""
    operator, inputs = block.operator, block.inputs
    if not isinstance(operator, Dense) or operator.copies != 1:
        return False
    return inputs is None or len(np.unique(inputs[inputs >= 0])) == block.source_size


def whole(steps: Sequence[Step]) -> NDArray[np.float32] | None:
    """The signs (source, target) between two layers, where one dense block joins each pair once.

    The sources are in the order in which the block reads them, which patterns do not depend on.
    """
    block = steps[0].block
    if len(steps) > 1 or not joins_all(block) or block.operator.size_in != block.source_size:
        return None
    require_memory(math.prod(sizes(steps)), 24, sum(sizes(steps)), 64, what="a matrix")
    w = block.tensor.detach().cpu()
    stored = w.numpy() if w.dtype.itemsize >= 4 else w.double().numpy()  # half types NumPy lacks
    signs: NDArray[np.float32] = np.sign(stored).astype(np.float32).T
    return signs
