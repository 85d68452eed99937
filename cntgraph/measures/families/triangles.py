"""Triangles: neurons whose partners are joined. Only skip connections close any."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.errors import DegenerateMeasure
from cntgraph.measures.declaring import declared
from cntgraph.measures.families.wiring import OF_SIGN, UNTRAINED, links_of_sign, unknown_signs
from cntgraph.measures.refusing import refuse_constant

if TYPE_CHECKING:
    import igraph

    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []

NONE = "no triangles: a link joins two layers, and only a skip connection closes a third side"


@declared(
    level="neuron",
    signs=OF_SIGN,
    cost="igraph",
    formula=r"$C_i = \frac{t_i}{k_i (k_i - 1) / 2}$, $t_i$ the pairs of partners of $i$ that are "
    r"joined, $k_i$ its partners; 0 where $k_i < 2$",
    sees="neurons whose partners are joined too, as skip connections join them",
    leave="without skip connections it is 0: `square_clustering` counts the shortest loops of a "
    "layered network",
    degenerate=f"{NONE}; one value per layer, where all of these are full",
    igraph='as_undirected(), then transitivity_local_undirected(mode="zero")',
    reference="Watts and Strogatz 1998",
)
def clustering(graph: Weighted) -> Values:
    """The share of a neuron's pairs of partners that are joined, directions left aside.

    ``absolute`` follows every link, also one of weight zero; ``positive`` and ``negative`` the
    links of that sign.

    Source: Watts and Strogatz, 1998, doi:10.1038/30918.
    """
    simple = _with_triangles(graph, "clustering")
    if simple is None:
        return np.full(graph.neuron_count, np.nan)
    found = np.asarray(simple.transitivity_local_undirected(mode="zero"))
    refuse_constant(graph, "clustering", found, fix=UNTRAINED)
    return found


@declared(
    level="network",
    signs=OF_SIGN,
    cost="igraph",
    formula=r"$\frac{3 \times \text{triangles}}{\text{pairs of links that share a neuron}}$",
    sees="how often the two ends of a path of two links are joined themselves",
    leave="without skip connections it is 0: `square_clustering` counts the shortest loops of a "
    "layered network",
    degenerate=NONE,
    igraph="as_undirected(), then transitivity_undirected()",
    reference="Wasserman and Faust 1994",
)
def transitivity(graph: Weighted) -> float:
    """The share of paths of two links whose ends are joined, directions left aside."""
    simple = _with_triangles(graph, "transitivity")
    return float("nan") if simple is None else float(simple.transitivity_undirected())


@declared(
    level="network",
    signs=OF_SIGN,
    cost="pairs",
    formula=r"$\sigma = \frac{C / C_{rand}}{L / L_{rand}}$, $C$ the transitivity, $L$ the mean "
    r"number of links between two neurons, of a random graph $C_{rand} = k / n$ and "
    r"$L_{rand} = \ln n / \ln k$ with $n$ neurons of mean degree $k$",
    sees="more triangles than a random graph of this size and density has, at distances as short",
    leave="the random graph knows no layers, so what the layers do is counted as structure; "
    "compare epochs and filters of one architecture, never architectures",
    degenerate=NONE,
    reference="Humphries and Gurney 2008; Watts and Strogatz 1998",
)
def small_world(graph: Weighted) -> float:
    """Small-world sigma of the largest connected part, against an Erdos-Renyi random graph.

    Directions and weights are left aside. The random graph is not drawn: its clustering and its
    distances are the expectations of Watts and Strogatz (1998).

    Source: Humphries and Gurney, 2008, doi:10.1371/journal.pone.0002051.
    """
    simple = _with_triangles(graph, "small_world")
    if simple is None:
        return float("nan")
    part = simple.connected_components(mode="weak").giant()
    n, k = part.vcount(), 2 * part.ecount() / part.vcount()
    clustered = part.transitivity_undirected(mode="zero") / (k / n)
    distant = part.average_path_length(directed=False) / (math.log(n) / math.log(k))
    return float(clustered / distant)


def _with_triangles(graph: Weighted, name: str) -> igraph.Graph | None:
    """The graph of the links of the sign, without parallel ones; None if signs are unknown."""
    if _may_have_triangles(graph):
        if unknown_signs(graph):
            return None
        if "simple" not in graph.shared:
            graph.shared["simple"] = links_of_sign(graph).copy().simplify()
        if graph.shared["simple"].transitivity_undirected(mode="zero") > 0:
            return graph.shared["simple"]
    raise DegenerateMeasure(
        f"{name} says nothing on this network",
        why="it has no triangles: no two partners of a neuron are joined",
        fix="ask for square_clustering; kinds=('weight', 'identity') follows skip connections too",
    )


def _may_have_triangles(graph: Weighted) -> bool:
    """True if three layers are joined each to each; otherwise no three neurons can be."""
    into: dict[str, set[str]] = {}
    for source, target in graph.pairs:
        into.setdefault(target, set()).add(source)
    none: set[str] = set()
    return any(into[target] & into.get(source, none) for source, target in graph.pairs)
