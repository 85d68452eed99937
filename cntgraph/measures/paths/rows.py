"""Distances over a complete block: whole rows of links at a time, from the sources that matter.

Every source of such a block leads to every target, so a row of lengths lies in memory as the
targets do, and no id is looked up. A source matters only if it and its shortest link together are
no longer than the longest distance found: of a dense layer about one in seven.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["relax", "row_state", "through_rows"]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def row_state(adj: Any) -> Any:
    """What relaxing writes besides the state of a sweep."""
    widest, most = 0, 0
    for block in range(len(adj.targets)):
        if adj.by_rows[block]:
            widest, most = max(widest, adj.targets[block]), max(most, adj.sources[block])
    return (
        np.empty(widest),  # the second shortest way to each target
        np.empty(most, np.uint32),  # the sources that are tried
        np.full(len(adj.targets), np.inf),  # the limit that the source before this one led to
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _two_rows(near: Any, other: Any, row: Any, below: Any, names: Any, best: Any) -> None:
    """Try the links of two sources to all targets: one alone would wait for its own writing."""
    distance, second, predecessor = best
    for t in range(len(distance)):
        found, after = near + row[t], other + below[t]
        old, via = distance[t], predecessor[t]
        via = names[0] if found < old else via
        between, later = min(found, old), min(max(found, old), second[t])
        predecessor[t] = names[1] if after < between else via
        second[t] = min(max(after, between), later)
        distance[t] = min(after, between)


@numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc"})
def _longest(distance: Any) -> Any:
    longest = 0.0
    for t in range(len(distance)):
        longest = max(longest, distance[t])
    return longest


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _try(adj: Any, block: Any, far: Any, tried: Any, best: Any) -> Any:
    """Try some sources; returns the longest distance to a target then."""
    targets = adj.targets[block]
    base = adj.out_base[block] - adj.source_first[block]
    for i in range(0, len(tried), 2):
        one, two = tried[i], tried[min(i + 1, len(tried) - 1)]
        start, below = adj.out_start[base + one], adj.out_start[base + two]
        _two_rows(
            far[one],
            far[two] if i + 1 < len(tried) else np.inf,
            adj.out_length[start : start + targets],
            adj.out_length[below : below + targets],
            (one, two),
            best,
        )
    return _longest(best[0])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _chosen(adj: Any, block: Any, state: Any, above: Any, limit: Any, tried: Any) -> Any:
    """The sources reached whose shortest way on is longer than ``above``, up to ``limit``."""
    distance, reached, begin = state[0], state[4], state[5]
    layer = adj.source_layer[block]
    base = adj.out_base[block] - adj.source_first[block]
    count = 0
    for i in range(begin[layer], begin[layer + 1]):
        source = reached[i]
        nearest = distance[source] + adj.out_shortest[base + source]
        tried[count] = source
        count += above < nearest <= limit
    return tried[:count]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def relax(adj: Any, block: Any, state: Any, rows: Any, count: Any, factor: Any) -> Any:
    """Distances over a complete block, some of whose sources are reached; all its targets are then.

    Returns how many neurons are reached now. The limit is first that of the sweep before this one,
    which started nearby; where it proves too low, the sources above it have their turn.
    """
    distance, _, predecessor, tied, reached, begin, _, _ = state
    second, spare, limits = rows
    first, targets = adj.target_first[block], adj.targets[block]
    fresh = begin[adj.layer_of[first]] == count
    for j in range(targets):
        target = first + j
        second[j] = distance[target] if not fresh and tied[target] else np.inf
        if fresh or distance[target] == np.inf:
            reached[count] = target
            count += 1
    best = distance[first : first + targets], second[:targets], predecessor[first:]
    slack = max(factor, 1.0)
    limit = limits[block]
    tried = _chosen(adj, block, state, -1.0, limit, spare)
    longest = _try(adj, block, distance, tried, best) * slack
    if longest > limit:
        tried = _chosen(adj, block, state, limit, longest, spare)
        longest = _try(adj, block, distance, tried, best) * slack
    limits[block] = longest
    for j in range(targets):
        tied[first + j] = second[j] <= distance[first + j] * factor
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def through_rows(
    adj: Any, block: Any, target: Any, most: Any, state: Any, depends: Any, share: Any
) -> Any:
    """The number of paths to a target over a complete block that are no longer than ``most``.

    Each predecessor is handed ``share`` for every path through it.
    """
    distance, paths, _, _, reached, begin, _, _ = state
    layer = adj.source_layer[block]
    base = adj.out_base[block] - adj.source_first[block]
    place, total = target - adj.target_first[block], 0.0
    for i in range(begin[layer], begin[layer + 1]):
        source = reached[i]
        if distance[source] + adj.out_shortest[base + source] > most:
            continue
        if distance[source] + adj.out_length[adj.out_start[base + source] + place] <= most:
            total += paths[source]
            depends[source] += share * paths[source]
    return total
