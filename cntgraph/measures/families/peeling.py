"""Peels a graph from its weakest neuron inwards, at the speed of a compiled heap."""

from __future__ import annotations

import heapq
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["shells"]


@numba.njit(cache=True, nogil=True)
def shells(start: Any, neighbour: Any, weight: Any, strength: Any) -> Any:
    """For each neuron the largest strength s such that a subgraph with it has no weaker neuron.

    The undirected graph as CSR arrays, each link at both of its ends; ``strength`` is used up.
    """
    n = len(strength)
    found = np.empty(n)
    gone = np.zeros(n, dtype=np.bool_)
    heap = [(strength[i], i) for i in range(n)]
    heapq.heapify(heap)
    level = -np.inf
    while len(heap) > 0:
        known, i = heapq.heappop(heap)
        if gone[i]:  # strengths only fall, so the last entry of a neuron came first
            continue
        gone[i] = True
        level = max(level, known)
        found[i] = level
        for k in range(start[i], start[i + 1]):
            j = neighbour[k]
            if not gone[j] and weight[k] != 0:
                strength[j] -= weight[k]
                heapq.heappush(heap, (strength[j], j))
    return found


def undirected(source: NDArray[Any], target: NDArray[Any], weight: NDArray[Any], n: int) -> Any:
    """CSR arrays in which every link stands at both of its ends."""
    ends = np.concatenate([source, target])
    order = np.argsort(ends, kind="stable")
    start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(ends, minlength=n), out=start[1:])
    return start, np.concatenate([target, source])[order], np.concatenate([weight, weight])[order]
