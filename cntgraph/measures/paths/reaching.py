"""What can be reached at all, and how long a path can be: each one pass over the links."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["ancestors", "descendants", "longest_paths", "shortest_steps"]


@numba.njit(cache=True, nogil=True)
def descendants(adj: Any, start: Any) -> Any:
    """The neurons that a path leads to from one of ``start``, over links of unknown length too."""
    hit = np.zeros(len(start), np.bool_)
    changed = True
    while changed:  # more than once only where links of unknown length lead on
        for block in range(len(adj.targets)):
            for i in range(adj.sources[block]):
                source, row = adj.source_first[block] + i, adj.out_base[block] + i
                if start[source] or hit[source]:
                    for k in range(adj.out_start[row], adj.out_start[row + 1]):
                        hit[adj.out_target[k]] = True
        changed = False
        for k in range(len(adj.unknown_source)):
            source, target = adj.unknown_source[k], adj.unknown_target[k]
            if (start[source] or hit[source]) and not hit[target]:
                hit[target] = changed = True
    return hit


@numba.njit(cache=True, nogil=True)
def ancestors(adj: Any, finish: Any) -> Any:
    """The neurons that a path leads from to one of ``finish``, over any links, as above."""
    hit = np.zeros(len(finish), np.bool_)
    changed = True
    while changed:
        for block in range(len(adj.targets) - 1, -1, -1):
            for i in range(adj.sources[block]):
                source, row = adj.source_first[block] + i, adj.out_base[block] + i
                for k in range(adj.out_start[row], adj.out_start[row + 1]):
                    target = adj.out_target[k]
                    if finish[target] or hit[target]:
                        hit[source] = True
                        break
        changed = False
        for k in range(len(adj.unknown_source)):
            source, target = adj.unknown_source[k], adj.unknown_target[k]
            if (finish[target] or hit[target]) and not hit[source]:
                hit[source] = changed = True
    return hit


@numba.njit(cache=True, nogil=True)
def shortest_steps(adj: Any) -> Any:
    """The length of every neuron's shortest link out: nothing else is nearer. Infinite for none."""
    found = np.full(len(adj.layer_of), np.inf)
    for block in range(len(adj.targets)):
        for i in range(adj.sources[block]):
            source, row = adj.source_first[block] + i, adj.out_base[block] + i
            for k in range(adj.out_start[row], adj.out_start[row + 1]):
                found[source] = min(found[source], adj.out_length[k])
    return found


@numba.njit(cache=True, nogil=True)
def longest_paths(adj: Any) -> Any:
    """The length of the longest path out of every neuron, which no distance exceeds."""
    found = np.zeros(len(adj.layer_of))
    for block in range(len(adj.targets) - 1, -1, -1):
        for i in range(adj.sources[block]):
            source, row = adj.source_first[block] + i, adj.out_base[block] + i
            for k in range(adj.out_start[row], adj.out_start[row + 1]):
                far = adj.out_length[k] + found[adj.out_target[k]]
                found[source] = max(found[source], far)
    return found
