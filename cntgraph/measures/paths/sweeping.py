"""The sweeps themselves: distances from a source, and what depends on its shortest paths.

A layer's distances are found from the layers before it, block by block, in one of two directions
(after Beamer, Asanovic and Patterson 2012). Few sources push: each of their links is tried. Many
are pulled from: a target tries its links in ascending order of length and stops where the link
and the nearest source together are longer than the best path found, which leaves all but a few
links of a layer untouched. Complete blocks are relaxed by `rows`.

Paths whose lengths differ by less than ``EPSILON`` of their sum are equally short, as in igraph.
The backward pass is Brandes' (2001): a neuron hands what depends on it to its predecessors.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from cntgraph.measures.paths.chains import measure_from
from cntgraph.measures.paths.rows import relax, row_state, through_rows

__all__ = ["EPSILON", "gather", "sweep"]

EPSILON = 1e-10
TIE = (1 + EPSILON) / (1 - EPSILON)  # how much longer than the best an equally short path may be
STRICT = 1 - 2.0**-50  # where ties do not matter, a path must be shorter by more than rounding
PER_TARGET = 8.0  # what a pull costs besides its links, in links
GUESS = 24.0  # links that a pull tries, before any has been counted


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _state(n: Any, layers: Any, blocks: Any) -> Any:
    """What a sweep writes: clean before and after each, except for what ``reached`` spares it."""
    return (
        np.full(n, np.inf),  # distance
        np.zeros(n),  # number of shortest paths
        np.zeros(n, np.uint32),  # predecessor
        np.zeros(n, np.bool_),  # whether there may be others as short
        np.zeros(n, np.uint32),  # the neurons that are reached, layer by layer
        np.zeros(layers + 1, np.int64),  # where each layer begins among these
        np.full(layers, np.inf),  # the smallest distance in each layer
        np.zeros((blocks, 2)),  # links tried by pulls and targets pulled, of each block
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _push(adj: Any, block: Any, state: Any, count: Any, factor: Any) -> Any:
    """Try every link out of the sources that are reached."""
    distance, _, predecessor, tied, reached, begin, _, _ = state
    layer = adj.source_layer[block]
    base = adj.out_base[block] - adj.source_first[block]
    for i in range(begin[layer], begin[layer + 1]):
        source = reached[i]
        near = distance[source]
        for k in range(adj.out_start[base + source], adj.out_start[base + source + 1]):
            target = adj.out_target[k]
            found = near + adj.out_length[k]
            best = distance[target]
            if found <= best * factor:
                if found < best:
                    if best == np.inf:
                        reached[count] = target
                        count += 1
                    tied[target] = best <= found * factor
                    distance[target] = found
                    predecessor[target] = source
                else:
                    tied[target] = True
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _pull(adj: Any, block: Any, state: Any, count: Any, factor: Any) -> Any:
    """Try the links into every target, the shortest first, while one of them may still help.

    Returns how many neurons are reached now, and how many links were tried.
    """
    distance, _, predecessor, tied, reached, _, nearest, _ = state
    near = nearest[adj.source_layer[block]]
    base, first = adj.in_base[block], adj.target_first[block]
    tried = 0
    for j in range(adj.targets[block]):
        target = first + j
        old = distance[target]
        best, via = old, predecessor[target]
        second = old if tied[target] else np.inf
        k, stop = adj.in_start[base + j], adj.in_start[base + j + 1]
        tried -= k
        while k < stop and adj.in_length[k] <= best * factor - near:
            source = adj.in_source[k]
            found = distance[source] + adj.in_length[k]
            via = source if found < best else via  # no branch that could be guessed wrongly
            second = min(second, max(found, best))
            best = min(found, best)
            k += 1
        tried += k
        if best < np.inf:
            distance[target], predecessor[target] = best, via
            tied[target] = second <= best * factor
            if old == np.inf:
                reached[count] = target
                count += 1
    return count, tried


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pulls(adj: Any, block: Any, share: Any, tries: Any) -> Any:
    """Whether fewer links are tried by a pull than by a push, as far as earlier pulls tell."""
    if not adj.in_order[block]:
        return False
    targets = adj.targets[block]
    links = adj.in_start[adj.in_base[block] + targets] - adj.in_start[adj.in_base[block]]
    usable = GUESS if tries[block, 1] == 0 else tries[block, 0] / tries[block, 1]
    return targets * PER_TARGET + min(float(links), targets * usable / share) < links * share


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _forward(adj: Any, source: Any, state: Any, rows: Any, factor: Any) -> Any:
    """Distances from a source; returns how many neurons are reached, itself among them."""
    distance, paths, _, tied, reached, begin, nearest, tries = state
    own = adj.layer_of[source]
    for layer in range(own + 1):
        begin[layer], nearest[layer] = 0, np.inf
    begin[own + 1], nearest[own] = 1, 0.0
    reached[0], distance[source], paths[source], tied[source] = source, 0.0, 1.0, False
    count = 1
    for layer in range(own + 1, len(nearest)):
        for block in range(adj.into[layer], adj.into[layer + 1]):
            before = adj.source_layer[block]
            present = begin[before + 1] - begin[before]
            if present == 0:
                continue
            if adj.by_rows[block]:
                count = relax(adj, block, state, rows, count, factor)
                continue
            share = present / adj.sources[block]
            if _pulls(adj, block, share, tries):
                count, tried = _pull(adj, block, state, count, factor)
                tries[block, 0] += tried * share  # those from a source that is reached
                tries[block, 1] += adj.targets[block]
            else:
                count = _push(adj, block, state, count, factor)
        begin[layer + 1] = count
        nearest[layer] = np.inf
        for i in range(begin[layer], count):
            nearest[layer] = min(nearest[layer], distance[reached[i]])
    return count


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _through(adj: Any, target: Any, state: Any, depends: Any, share: Any) -> Any:
    """The number of shortest paths to a target, over all its predecessors that are as near.

    Each of them is handed ``share`` for every path through it.
    """
    distance, paths, _, _, _, _, nearest, _ = state
    layer, most = adj.layer_of[target], distance[target] * TIE
    total = 0.0
    for block in range(adj.into[layer], adj.into[layer + 1]):
        if adj.by_rows[block]:
            total += through_rows(adj, block, target, most, state, depends, share)
            continue
        limit = most - nearest[adj.source_layer[block]] if adj.in_order[block] else np.inf
        row = adj.in_base[block] + target - adj.target_first[block]
        for k in range(adj.in_start[row], adj.in_start[row + 1]):
            if adj.in_length[k] > limit:
                break
            source = adj.in_source[k]
            if distance[source] + adj.in_length[k] <= most:
                total += paths[source]
                depends[source] += share * paths[source]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _count_paths(adj: Any, state: Any, count: Any, depends: Any) -> None:
    _, paths, predecessor, tied, reached, _, _, _ = state
    for i in range(1, count):
        target = reached[i]
        if tied[target]:
            paths[target] = _through(adj, target, state, depends, 0.0)
        else:
            paths[target] = paths[predecessor[target]]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _backward(
    adj: Any, state: Any, count: Any, credit: Any, weight: Any, depends: Any, found: Any
) -> None:
    """Add to ``found`` how much depends on every neuron, and its square, ``weight`` times.

    ``credit`` is 1 for the neurons that paths may end at; ``depends`` is zero before and after.
    """
    _, paths, predecessor, tied, reached, _, _, _ = state
    for i in range(count - 1, 0, -1):
        target = reached[i]
        here = depends[target]
        depends[target] = 0.0
        found[0, target] += weight * here
        found[1, target] += weight * here * here
        if tied[target]:
            _through(adj, target, state, depends, (credit[target] + here) / paths[target])
        else:
            depends[predecessor[target]] += credit[target] + here
    depends[reached[0]] = 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def sweep(adj: Any, chained: Any, roots: Any, weights: Any, ends: Any, distances: Any) -> Any:
    """A sweep along the links from each of some roots.

    ``weights`` (2, neurons) says how many sources each root stands for, over all targets and over
    the ``ends``. Of the roots and their followers ``distances`` (4, neurons) gets the sum of
    distances, of their inverses, how many neurons are reached, and how many ends. Returned
    (4, neurons): what depends on each neuron, its square, and both for the ends.
    """
    n = len(adj.layer_of)
    state = _state(n, len(adj.into) - 1, len(adj.targets))
    rows, distance, reached = row_state(adj), state[0], state[4]
    depends, near, everywhere, found = np.zeros(n), np.empty(n), np.ones(n), np.zeros((4, n))
    for root in roots:
        with_paths = weights[0, root] > 0 or weights[1, root] > 0
        count = _forward(adj, root, state, rows, TIE if with_paths else STRICT)
        there = -ends[root]
        for i in range(count):
            near[i] = distance[reached[i]]
            there += ends[reached[i]]
        distances[3, root] = there
        measure_from(chained, root, near, count, distances)
        if with_paths:
            _count_paths(adj, state, count, depends)
        if weights[0, root] > 0:
            _backward(adj, state, count, everywhere, weights[0, root], depends, found[:2])
        if weights[1, root] > 0:
            _backward(adj, state, count, ends, weights[1, root], depends, found[2:])
        for i in range(count):
            distance[reached[i]] = np.inf
    return found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gather(adj: Any, sources: Any) -> Any:
    """A sweep from each of some sources, summed up at the neurons that are reached.

    Rows: distances, their squares, inverses, their squares, and how many sources reach it.
    """
    n = len(adj.layer_of)
    state = _state(n, len(adj.into) - 1, len(adj.targets))
    rows, distance, reached = row_state(adj), state[0], state[4]
    found = np.zeros((5, n))
    for source in sources:
        count = _forward(adj, source, state, rows, STRICT)
        for i in range(1, count):
            neuron = reached[i]
            far = distance[neuron]
            found[0, neuron] += far
            found[1, neuron] += far * far
            found[2, neuron] += 1.0 / far
            found[3, neuron] += 1.0 / (far * far)
            found[4, neuron] += 1.0
            distance[neuron] = np.inf
        distance[source] = np.inf
    return found
