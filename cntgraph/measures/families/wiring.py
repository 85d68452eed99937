"""What the wiring alone decides: which links there are, whatever they weigh.

Of a full layered network it is known before any training, and is refused. Something is left to
say where a filter has chosen the links by their weights, or of the links of one sign.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.errors import DegenerateMeasure
from cntgraph.measures.declaring import declared
from cntgraph.measures.refusing import refuse_without_links, refuse_without_weight

if TYPE_CHECKING:
    import igraph

    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted
    from cntgraph.network import Block

__all__ = ["OF_SIGN", "UNTRAINED", "links_of_sign", "unknown_signs"]

OF_SIGN = ("absolute", "positive", "negative")
UNTRAINED = "network.filtered('top:32') keeps the strongest links, sign='positive' those above 0"


@declared(
    level="network",
    signs=OF_SIGN,
    cost="links",
    formula=r"$\frac{\sum_b e_b}{\sum_b n_b n'_b}$ over the pairs $b$ of joined layers, $e_b$ the "
    r"pairs of neurons that links join, $n_b n'_b$ those that they could join",
    sees="the share of possible links that are there: after a filter how concentrated the weight "
    'is, with `sign="positive"` the share of positive weights',
    leave="after `top:K` it is little more than K over the layers' size; use `disparity_in` and "
    "`disparity_out` for how a neuron's weight is spread",
    degenerate="every pair of joined layers is complete, and it is 1; no links",
    reference="Wasserman and Faust 1994",
)
def density(graph: Weighted) -> float:
    """Linked pairs of neurons over the possible ones, between those layers that are joined.

    Parallel links count once. ``absolute`` counts every link, also one of weight zero;
    ``positive`` and ``negative`` count the links of that sign.
    """
    refuse_without_links(graph, "density")
    size = {layer.name: layer.size for layer in graph.network.layers}
    possible = sum(size[source] * size[target] for source, target in graph.pairs)
    joined = possible if _complete(graph) else _joined(graph)
    if unknown_signs(graph):
        return float("nan")
    if joined == possible:
        raise DegenerateMeasure(
            "density says nothing on this network",
            why=f"each of its {len(graph.pairs)} pairs of joined layers is complete: density is 1",
            fix=UNTRAINED,
        )
    return joined / possible


@declared(
    level="network",
    cost="igraph",
    formula=r"$\frac{|\{(i, j): i \to j,\ j \to i\}|}{|\{(i, j): i \to j\}|}$",
    sees="links that are answered",
    leave="use `assortativity` for how the two ends of a link are related",
    degenerate="no link leads back, which is every feed-forward network, recurrent ones unrolled "
    "in time among them: it is 0",
    igraph="reciprocity()",
    reference="Newman, Forrest and Balthrop 2002",
)
def reciprocity(graph: Weighted) -> float:
    """The share of links that are answered by one in the other direction."""
    _refuse_forward(graph, "reciprocity", "none is answered", "ask for assortativity")
    return float(graph.igraph().reciprocity())


@declared(
    level="network",
    cost="igraph",
    formula=r"the number of classes of neurons that reach each other along links",
    sees="loops: fewer components than neurons",
    leave="use `community` for groups of neurons that hold together",
    degenerate="no link leads back: it is the number of neurons",
    igraph='connected_components(mode="strong")',
    reference="Tarjan 1972",
)
def strong_components(graph: Weighted) -> int:
    """Number of strongly connected components: sets of neurons that all reach each other."""
    alone = f"each of the {graph.neuron_count:,} neurons is a component"
    _refuse_forward(graph, "strong_components", alone, "ask for community")
    return len(graph.igraph().connected_components(mode="strong"))


@declared(
    level="neuron",
    signs=OF_SIGN,
    cost="igraph",
    formula=r"$\lambda x_j = \sum_i x_i w_{ij}$, or with `directed=False` "
    r"$\lambda x_j = \sum_i x_i (w_{ij} + w_{ji})$, $\lambda$ the largest, $\max_j x_j = 1$",
    sees="neurons joined strongly to central neurons, in whichever direction",
    leave="it gathers in the heaviest part of the network: `hub` and `authority` look at each "
    "block by itself, `pagerank` follows the direction",
    degenerate="with directions, no link leads back: powers of the weight matrix vanish, its "
    "largest eigenvalue is 0 and everything ends in the last layer",
    igraph='eigenvector_centrality(weights="weight"), with directed=False of '
    'as_undirected(mode="each")',
    reference="Bonacich 1972",
)
def eigenvector(graph: Weighted, *, directed: bool = True) -> Values:
    """Eigenvector centrality: central is what central neurons are joined to; the largest is 1.

    With directions it is empty on a feed-forward network and refused. ``directed=False`` asks
    for that of the undirected network, which exists wherever a link has weight.

    Source: Bonacich, 1972, doi:10.1080/0022250X.1972.9989806.
    """
    if directed:
        empty = "powers of the weight matrix vanish and all ends in the last layer"
        _refuse_forward(graph, "eigenvector", empty, "directed=False; or hub, authority, pagerank")
    refuse_without_weight(graph, "eigenvector")
    if not np.isfinite(graph.links.weight).all():
        return np.full(graph.neuron_count, np.nan)
    with warnings.catch_warnings():  # that parts of no weight have none is said above
        warnings.filterwarnings("ignore", "Some eigenvector centralities", RuntimeWarning)
        # igraph 1.0 refuses directed=False, and needs no word for an undirected graph
        found = graph.igraph(directed=directed).eigenvector_centrality(weights="weight")
    return np.asarray(found)


def links_of_sign(graph: Weighted) -> igraph.Graph:
    """The undirected graph of the links of a sign; with ``absolute`` of all, whatever they weigh.

    It is shared: do not change it.
    """
    whole = graph.igraph(directed=False)
    if graph.sign == "absolute":
        return whole
    if "links of sign" not in graph.shared:
        kept = np.flatnonzero(np.asarray(whole.es["weight"]) > 0)
        graph.shared["links of sign"] = whole.subgraph_edges(kept.tolist(), delete_vertices=False)
    return graph.shared["links of sign"]


def unknown_signs(graph: Weighted) -> bool:
    """True where it cannot be told which links are of the sign asked for: a weight is NaN."""
    return graph.sign != "absolute" and bool(np.isnan(graph.links.weight).any())


def _complete(graph: Weighted) -> bool:
    """True if it is known without a list of links that all the possible ones are there."""
    if graph.sign != "absolute":
        return False
    return set(graph.pairs) == {(b.source, b.target) for b in graph.blocks if _joins_all(b)}


def _joins_all(block: Block) -> bool:
    from cntgraph.network.operators import Dense

    heard = block.source_size if block.inputs is None else len(set(block.inputs[block.inputs >= 0]))
    dense = isinstance(block.operator, Dense) and block.operator.copies == 1
    return dense and heard == block.source_size


def _joined(graph: Weighted) -> int:
    links = graph.links
    kept = slice(None) if graph.sign == "absolute" else links.weight > 0
    return len(np.unique(links.source[kept] * graph.neuron_count + links.target[kept]))


def _refuse_forward(graph: Weighted, name: str, so: str, fix: str) -> None:
    """Refuse what needs a link that leads back: a loop."""
    forward = all(block.source_first < block.target_first for block in graph.blocks)
    if forward or graph.igraph().is_dag():
        why = f"no link leads back to an earlier layer: {so}"
        raise DegenerateMeasure(f"{name} says nothing on this network", why=why, fix=fix)
