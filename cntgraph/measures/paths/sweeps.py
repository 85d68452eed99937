"""Sweeps of a whole network, from all its neurons or from some, shared out among threads.

The sources are dealt out into parts that do not depend on the machine, and what the parts find is
added up in their order: the numbers are the same whatever the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cntgraph.measures.paths.adjacency import Adjacency, Places, adjacency
from cntgraph.measures.steps import Values

if TYPE_CHECKING:
    from cntgraph.measures.weighted import Weighted

__all__ = ["Found", "Gathered", "links_of", "marked", "sweep_from", "sweep_towards"]

PARTS = 32  # at most: each holds eight numbers a neuron
LEAST = 128  # sources in a part


class Found(NamedTuple):
    """What sweeps along the links found, a value per neuron.

    Distances are those from the neuron, where they were asked for; what depends on it is summed
    over all sources.
    """

    total: Values  # the sum of its distances to the neurons it reaches
    inverse: Values  # the sum of their inverses
    reached: Values  # how many it reaches
    ends: Values  # how many of them are in output layers
    depends: Values  # shares of the shortest paths that lead through it
    depends_squared: Values  # of every source the square, summed
    depends_ends: Values  # both of the paths that end in output layers
    depends_ends_squared: Values


class Gathered(NamedTuple):
    """What sweeps against the links add up to: sums over the targets that a neuron reaches."""

    total: Values
    total_squared: Values
    inverse: Values
    inverse_squared: Values
    reached: Values


def links_of(graph: Weighted) -> Adjacency:
    """The links by length, listed once for all measures of a call."""
    if "links by length" not in graph.shared:
        graph.shared["links by length"] = adjacency(graph)
    found: Adjacency = graph.shared["links by length"]
    return found


def marked(graph: Weighted, kind: str) -> Values:
    """1 at the neurons of the layers of a kind, 0 elsewhere."""
    found = np.zeros(graph.neuron_count)
    for layer in graph.network.layers:
        found[layer.first : layer.last] = layer.kind == kind
    return found


def sweep_from(graph: Weighted, sources: Values, inputs: Values, measured: Values) -> Found:
    """Sweeps from ``sources`` to all neurons, and from ``inputs`` to those of output layers.

    Each marks with 1 the neurons that it means, and ``measured`` those whose distances are wanted.
    A network on a GPU is swept there.
    """
    devices = (block.tensor.device for block in graph.blocks)
    device = next((one for one in devices if one.type == "cuda"), None)
    if device is not None:
        from cntgraph.measures.paths.minplus import sweep_in_batches

        wanted, ends = np.stack([sources, inputs]), marked(graph, "output")
        swept = np.flatnonzero(wanted.any(axis=0) | (measured > 0))
        return Found(
            *np.concatenate(sweep_in_batches(links_of(graph), swept, wanted, ends, device))
        )
    return _swept(graph, sources, inputs, measured)


def _swept(graph: Weighted, sources: Values, inputs: Values, measured: Values) -> Found:
    from cntgraph.measures.paths.chains import chains, pass_on, stands_for
    from cntgraph.measures.paths.sweeping import sweep

    links, ends = links_of(graph), marked(graph, "output")
    chained = chains(links)
    stands = stands_for(chained, np.stack([sources, inputs, measured]))
    roots = np.flatnonzero(stands.any(axis=0) & (chained[0] < 0))
    weights, distances = stands[:2], np.zeros((4, graph.neuron_count))
    found = np.zeros((4, graph.neuron_count))
    for part in _dealt(lambda part: sweep(links, chained, part, weights, ends, distances), roots):
        found += part
    pass_on(chained, weights, ends, distances, found)
    return Found(*distances, *found)


def sweep_towards(graph: Weighted, targets: Places) -> Gathered:
    """Sweeps of the graph with every link turned round, from ``targets``."""
    from cntgraph.measures.paths.sweeping import gather

    links, last = adjacency(graph, turned=True), graph.neuron_count - 1
    found = np.zeros((5, graph.neuron_count))
    for part in _dealt(lambda part: gather(links, part), last - targets):
        found += part
    return Gathered(*found[:, ::-1])


def _dealt(sweep: Callable[[Places], Values], sources: Places) -> Iterator[Values]:
    """What a sweep finds from each part of the sources, in the order of the parts."""
    parts = min(PARTS, -(-len(sources) // LEAST))
    dealt = [sources[k::parts] for k in range(parts)]
    cores = min(_cores(), parts)
    if cores <= 1:
        yield from map(sweep, dealt)
        return
    with ThreadPoolExecutor(cores) as threads:
        yield from threads.map(sweep, dealt)


def _cores() -> int:
    """How many threads may run: as many as the process has cores, or numba was allowed."""
    import numba

    allowed: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return min(allowed, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1024)
