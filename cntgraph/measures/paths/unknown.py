"""What a link of unknown length leaves unknown: a weight that is NaN may be the shortest way.

Such links are not followed. What their length could change is NaN, and the rest is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cntgraph.measures.paths.sweeps import links_of

if TYPE_CHECKING:
    from cntgraph.measures.paths.adjacency import Places
    from cntgraph.measures.weighted import Weighted

__all__ = ["Marks", "unknown_between", "unknown_from"]

Marks = NDArray[np.bool_]


def unknown_from(graph: Weighted) -> Marks:
    """The neurons that a path leads from to a link of unknown length: their distances."""
    links = links_of(graph)
    marks = _at(graph, links.unknown_source)
    if marks.any():
        from cntgraph.measures.paths.reaching import ancestors

        marks |= ancestors(links, marks)
    return marks


def unknown_between(graph: Weighted, sources: Places, targets: Places) -> Marks:
    """The neurons between two of these that a link of unknown length may join: their betweenness.

    They are on a path from a source that reaches such a link, and on one to a target behind one.
    """
    links = links_of(graph)
    if not len(links.unknown_source):
        return np.zeros(graph.neuron_count, np.bool_)
    from cntgraph.measures.paths.reaching import ancestors, descendants

    marks = _at(graph, links.unknown_target)
    behind = (marks | descendants(links, marks)) & _at(graph, targets)
    before = unknown_from(graph) & _at(graph, sources)
    found: Marks = descendants(links, before) & ancestors(links, behind)
    return found


def _at(graph: Weighted, neurons: Places) -> Marks:
    marks = np.zeros(graph.neuron_count, np.bool_)
    marks[neurons] = True
    return marks
