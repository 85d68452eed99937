"""Distances and paths estimated from a sample of the neurons, each with its error.

Betweenness adds up over the sources of paths, so some sources are drawn and swept (Brandes and
Pich 2007). The distances from every neuron are wanted at once, so for those some targets are
drawn, and swept against the links (Eppstein and Wang 2004). Each function returns a value and
half the width of a 95 % interval around it; see `Sample.error`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cntgraph.measures.paths.adjacency import Places
from cntgraph.measures.paths.sampling import MISS, Sample
from cntgraph.measures.paths.sweeps import (
    Gathered,
    links_of,
    marked,
    sweep_from,
    sweep_towards,
)

if TYPE_CHECKING:
    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted

__all__ = ["betweenness", "closeness", "efficiency", "harmonic"]

Estimate = tuple["Values", "Values"]


def betweenness(graph: Weighted, sources: Places, of: Places, *, to_ends: bool) -> Estimate:
    """Betweenness from some ``sources`` out of ``of``, of the paths to all neurons or to outputs.

    What depends on a neuron is at most the number of neurons that paths may end at behind it.
    """
    marks, none = _marks(graph, sources), np.zeros(graph.neuron_count)
    if to_ends:
        found, ends = sweep_from(graph, none, marks, none)[6:], marked(graph, "output")
    else:
        found, ends = sweep_from(graph, marks, none, none)[4:6], none + 1
    total, squares = found
    error = Sample(len(sources), len(of)).error(total, squares, _behind(graph, ends))
    return total * (len(of) / len(sources)), error * len(of)


def harmonic(graph: Weighted, targets: Places) -> Estimate:
    """Harmonic centrality from the distances to some targets; none is below the shortest link."""
    n, found = graph.neuron_count, _towards(graph, targets)
    error = Sample(len(targets), n).error(found.inverse, found.inverse_squared, _nearest(graph))
    return found.inverse * (n / len(targets) / (n - 1)), error * (n / (n - 1))


def closeness(graph: Weighted, targets: Places) -> Estimate:
    """Closeness as a quotient of two means over some targets: of the reached, of the distances.

    No distance exceeds the longest path, and no closeness the inverse of the shortest link.
    """
    from cntgraph.measures.paths.reaching import longest_paths

    sample, found = Sample(len(targets), graph.neuron_count), _towards(graph, targets)
    far, most = longest_paths(links_of(graph)), _nearest(graph)
    wide = sample.error(found.total, found.total_squared, far, miss=MISS / 2)
    wide_reached = sample.error(found.reached, found.reached, np.sign(far), miss=MISS / 2)
    reached, total = found.reached / len(targets), found.total / len(targets)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = reached / total
        low = np.maximum(reached - wide_reached, 0) / (total + wide)
        high = np.where(total > wide, (reached + wide_reached) / (total - wide), np.inf)
        return value, np.maximum(np.minimum(high, most) - value, value - low)


def efficiency(graph: Weighted, sources: Places) -> Estimate:
    """Efficiency from the harmonic centrality of some sources."""
    n, none = graph.neuron_count, np.zeros(graph.neuron_count)
    found = sweep_from(graph, none, none, _marks(graph, sources)).inverse[sources] / (n - 1)
    most = (_behind(graph, none + 1) * _nearest(graph)).max() / (n - 1)
    error = Sample(len(sources), n).error(found.sum(), (found**2).sum(), most)
    return found.mean(), error


def _marks(graph: Weighted, neurons: Places) -> Values:
    found = np.zeros(graph.neuron_count)
    found[neurons] = 1
    return found


def _behind(graph: Weighted, ends: Values) -> Values:
    """How many of the neurons that ``ends`` marks are in layers after a neuron's own."""
    up_to = np.concatenate([[0], np.cumsum(ends)])
    layers = graph.network.layers
    last = np.repeat([layer.last for layer in layers], [layer.size for layer in layers])
    behind: Values = up_to[-1] - up_to[last]
    return behind


def _nearest(graph: Weighted) -> Values:
    """The inverse of the shortest link out of a neuron; 0 where there is none."""
    from cntgraph.measures.paths.reaching import shortest_steps

    with np.errstate(divide="ignore"):
        found: Values = 1 / shortest_steps(links_of(graph))
    return found


def _towards(graph: Weighted, targets: Places) -> Gathered:
    """Sweeps from these targets, once for all measures of a call."""
    key = "swept towards"
    if key not in graph.shared or not np.array_equal(graph.shared[key][0], targets):
        graph.shared[key] = targets, sweep_towards(graph, targets)
    found: Gathered = graph.shared[key][1]
    return found
