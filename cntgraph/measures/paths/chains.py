"""Neurons with a single link out need no sweep: all their paths begin with that link.

So do most neurons of a network that pools. A chain of such neurons leads to its root, whose sweep
serves them all: their distances are the root's and what the chain is long, and what depends on the
root's paths counts once more for each of them (as for the trees that hang off a graph in
Sariyuce, Saule, Kaya and Catalyurek 2013).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["chains", "measure_from", "pass_on", "stands_for"]


@numba.njit(cache=True, nogil=True)
def chains(adj: Any) -> Any:
    """For each neuron with one link out where it leads (else -1) and how far; each one's followers.

    The followers of a root are ``followers[first[root] : first[root + 1]]``.
    """
    n = len(adj.layer_of)
    degree, leads, step = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    for block in range(len(adj.targets)):
        row = adj.out_base[block]
        for source in range(adj.source_first[block], adj.source_first[block] + adj.sources[block]):
            start = adj.out_start[row]
            if adj.out_start[row + 1] > start:
                degree[source] += adj.out_start[row + 1] - start
                leads[source], step[source] = adj.out_target[start], adj.out_length[start]
            row += 1
    root, first = np.empty(n, np.int64), np.zeros(n + 1, np.int64)
    for source in range(n - 1, -1, -1):
        if degree[source] == 1:
            root[source] = root[leads[source]]
            first[root[source] + 1] += 1
        else:
            root[source], leads[source] = source, -1
    for i in range(n):
        first[i + 1] += first[i]
    followers, filled = np.empty(first[n], np.int64), first.copy()
    for source in range(n):
        if leads[source] >= 0:
            followers[filled[root[source]]] = source
            filled[root[source]] += 1
    return leads, step, first, followers


@numba.njit(cache=True, nogil=True)
def stands_for(chained: Any, own: Any) -> Any:
    """How many sources each neuron stands for: its own and those whose chains lead through it."""
    leads = chained[0]
    found = own.copy()
    for row in range(len(own)):
        for source in range(len(leads)):
            if leads[source] >= 0:
                found[row, leads[source]] += found[row, source]
    return found


@numba.njit(cache=True, nogil=True, fastmath={"reassoc"}, error_model="numpy")
def _sums(near: Any, count: Any, further: Any) -> Any:
    """Sums of distances and of their inverses, from a place that is so much further away."""
    total = 0.0
    inverse = 0.0
    for i in range(count):
        total += near[i] + further
        inverse += 1.0 / (near[i] + further)
    return total, inverse


@numba.njit(cache=True, nogil=True, error_model="numpy")
def measure_from(chained: Any, root: Any, near: Any, count: Any, distances: Any) -> None:
    """Sum the distances from a root, and from those that lead to it.

    ``near`` holds the ``count`` distances from the root, its own in front. Rows of ``distances``:
    the sum, the sum of inverses, and how many neurons are reached.
    """
    leads, step, first, followers = chained
    distances[0, root], distances[1, root] = _sums(near[1:], count - 1, 0.0)
    distances[2, root] = count - 1
    for i in range(first[root], first[root + 1]):
        source = followers[i]
        here, further = leads[source], step[source]
        total, inverse, passed = 0.0, 0.0, 0
        while here != root:
            total += further
            inverse += 1.0 / further
            passed += 1
            further += step[here]
            here = leads[here]
        rest = _sums(near, count, further)
        distances[0, source] = total + rest[0]
        distances[1, source] = inverse + rest[1]
        distances[2, source] = passed + count


@numba.njit(cache=True, nogil=True)
def pass_on(chained: Any, weights: Any, ends: Any, distances: Any, found: Any) -> None:
    """Add to ``found`` what depends on the neurons along the chains: all that they reach.

    Rows of ``found``: over all targets and its square, over the ``ends`` and its square. Row 3 of
    ``distances``, how many ends are reached, is known of roots and becomes known of the others.
    """
    leads = chained[0]
    for source in range(len(leads) - 1, -1, -1):
        here = leads[source]
        if here >= 0:
            distances[3, source] = distances[3, here] + ends[here]
    for source in range(len(leads)):
        here = leads[source]
        if here >= 0:
            for row in range(2):
                depends, times = distances[2 + row, here], weights[row, source]
                found[2 * row, here] += times * depends
                found[2 * row + 1, here] += times * depends * depends
