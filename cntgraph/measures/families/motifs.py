"""Small patterns: squares around a neuron, butterflies and bifans between layers, diamonds.

All four are pairs of paths of two links with the same ends. So they are counted by products of
matrices, exactly, and never looked for one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import DegenerateMeasure
from cntgraph.measures.declaring import declared
from cntgraph.measures.families.matrices import (
    adjacency,
    between,
    ends_of,
    joins_all,
    signs_of,
    sizes,
    sparse,
    weights_of,
    whole,
)
from cntgraph.measures.products import gram_norm, squared_norms
from cntgraph.measures.refusing import refuse_constant, refuse_without_links

if TYPE_CHECKING:
    import scipy.sparse

    from cntgraph.measures.steps import Step, Values
    from cntgraph.measures.weighted import Weighted

__all__ = ["square_clustering_of"]

FILTER = "cnt.measure(network.filtered('top:16'), ...) looks at the strongest links of each neuron"


@declared(
    level="neuron",
    cost="products",
    formula=r"$C_4(v) = \frac{\sum_{u<w} q_v(u,w)}{\sum_{u<w} "
    r"[k_u + k_w - 2(1 + q_v(u,w) + \theta_{uw}) + q_v(u,w)]}$ over the pairs $u, w$ of neighbours "
    r"of $v$: $q_v(u,w)$ their common neighbours other than $v$, $k$ degrees, $\theta_{uw} = 1$ "
    r"where $u$ and $w$ are linked; 0 where nothing is possible",
    sees="of the squares that a neuron's neighbours could close, the share that is closed: neurons "
    "whose strong links lead where their neighbours' strong links lead",
    leave="weights matter: it only asks which links are there, and one of weight zero is. On a "
    "network that was not filtered those are the architecture's, borders of convolutions included",
    degenerate="every neuron is linked to the whole next layer, or no square is left: one value "
    "per layer, of the architecture; ask for it after a filter",
    reference="Lind, Gonzalez and Herrmann 2005; Zhang et al. 2008",
)
def square_clustering(graph: Weighted) -> Values:
    """Square clustering, exactly `networkx.square_clustering` of the undirected simple graph.

    Directions are forgotten and parallel links are one. With A the adjacency matrix all of it
    follows from the diagonals of A^3 and A^4: the paths of two links from v to each other neuron,
    squared and summed, are counted layer by layer as a dense or as a sparse product.

    Raises `DegenerateMeasure` where every layer has a single value.

    Source: Lind, Gonzalez and Herrmann, 2005; the possible squares as in Zhang, Wang, Li, Li, Di
    and Fan, 2008.
    """
    refuse_without_links(graph, "square_clustering")
    if all(any(joins_all(s.block) for s in graph.between(*pair)) for pair in graph.pairs):
        raise DegenerateMeasure(
            "square_clustering says nothing on this network",
            why="every neuron is linked to the whole next layer: all neurons of a layer have the "
            "same neighbours, and one value, whatever was trained",
            fix=FILTER,
        )
    values = square_clustering_of(adjacency(graph), _parts(graph))
    refuse_constant(graph, "square_clustering", values, fix=FILTER)
    return values


def square_clustering_of(matrix: scipy.sparse.csr_array, parts: Sequence[slice]) -> Values:
    """Square clustering of an `adjacency` matrix; ``parts`` are its layers.

    With C = A A and D_v the sum of the degrees of v's neighbours, the squares at v are
    S = (sum_w C_vw^2 - D_v - k_v (k_v - 1)) / 2, and S / ((k_v - 1) D_v - k_v (k_v - 1) - t - S)
    with t = sum_w C_vw A_vw, twice the triangles at v, is the clustering.
    """
    degree = np.diff(matrix.indptr).astype(np.float64)
    around = matrix @ degree
    fourth, third = squared_norms(matrix, matrix, parts, closing=True)
    pairs = degree * (degree - 1)
    squares = (fourth - around - pairs) / 2
    possible = (degree - 1) * around - pairs - third - squares
    found: Values = np.divide(squares, possible, out=np.zeros_like(squares), where=possible > 0)
    return found


@declared(
    level="block",
    cost="products",
    formula=r"$\sum_{u<v} \binom{c_{uv}}{2}$, $c_{uv}$ the neurons of the target layer that are "
    r"linked to both $u$ and $v$ of the source layer",
    sees="how much the fans of the neurons of a layer overlap: many butterflies for the same "
    "number of links mean that neurons share their strong partners",
    leave="numbers of links differ: compare networks with the same filter. Of a convolution that "
    "was not filtered it is the architecture's number; signs matter: see `bifan_balance`",
    degenerate="every pair of layers is fully joined: (n choose 2)(m choose 2) for layers of n and "
    "m neurons, whatever was trained; ask for it after a filter",
    igraph="count_subisomorphisms_vf2(Graph.Ring(4)) / 8 of the undirected, simplified subgraph of "
    "the two layers",
    reference="Robins and Alexander 2004; Latapy et al. 2008",
)
def butterflies(graph: Weighted) -> Values:
    """Butterflies between two layers: two neurons of each, all four linked.

    Two neurons joined by parallel links are joined once; a link of weight zero is a link. Exact
    up to 2^53, about 9e15.

    Raises `DegenerateMeasure` where every pair of layers is fully joined.

    Source: Robins and Alexander, 2004; Latapy, Magnien and Del Vecchio, 2008.
    """
    refuse_without_links(graph, "butterflies")
    found, full = [], []
    for pair in graph.pairs:
        steps = graph.between(*pair)
        n, m = sizes(steps)
        pattern = None if any(joins_all(s.block) for s in steps) else _pattern(steps)
        full.append(pattern is None or pattern.nnz == n * m)
        found.append(_all_fours(n, m) if full[-1] else four_cycles(pattern))
    if all(full):
        raise DegenerateMeasure(
            "butterflies says nothing on this network",
            why="every pair of layers is fully joined, so their number is "
            f"(n choose 2)(m choose 2), {found[0]:,.0f} between {' and '.join(graph.pairs[0])}",
            fix=f"{FILTER}; bifan_balance looks at the signs of all of them",
        )
    return np.array(found)


@declared(
    level="block",
    signs=("signed",),
    cost="products",
    formula=r"mean of $\sigma_{ik}\sigma_{il}\sigma_{jk}\sigma_{jl}$ over all $i<j$ of the source "
    r"and $k<l$ of the target layer whose four links are there, $\sigma = \pm 1$ the sign of a "
    r"weight, 0 of weight zero",
    sees="how far two neurons agree on the signs of what they send: 1 if any two neurons of the "
    "source layer send all their targets the same signs, or all opposite ones (the matrix of signs "
    "is a column times a row); about 0 for random signs",
    leave="sizes of weights matter: `hub` and `authority` look at the weights themselves",
    degenerate="no four links of a pair of layers are a bifan (NaN for that pair; refused where "
    "that is so in all of them)",
    reference="Milo et al. 2002; Cartwright and Harary 1956",
)
def bifan_balance(graph: Weighted) -> Values:
    """Balance of the bifans between two layers: the mean product of their four signs.

    A bifan is two sources, two targets and a link from each source to each target; it is balanced
    if the product of its signs is positive. From -1 to 1. Of parallel links each makes bifans of
    its own. It says something on the full network, which is all bifans. A NaN weight makes its
    pair of layers NaN.

    Raises `DegenerateMeasure` where there is no bifan at all.

    Source: Milo, Shen-Orr, Itzkovitz, Kashtan, Chklovskii and Alon, 2002; balance of cycles of
    signs Cartwright and Harary, 1956.
    """
    refuse_without_links(graph, "bifan_balance")
    found = [_bifans(graph.between(*pair)) for pair in graph.pairs]
    if not any(number for _, number in found):
        raise DegenerateMeasure(
            "bifan_balance says nothing on this network",
            why=f"its {graph.link_count:,} links hold no bifan: no two neurons have two targets "
            "in common",
            fix="filter less, or ask for balance, which looks at the signs of single neurons",
        )
    return np.array([total / number if number else np.nan for total, number in found])


@declared(
    level="network",
    signs=("signed",),
    cost="products",
    formula=r"mean of $\sigma_{ab}\sigma_{bd}\sigma_{ac}\sigma_{cd}$ over all $a \to b \to d$, "
    r"$a \to c \to d$ with $b \ne c$, $\sigma$ the sign of a weight",
    sees="how far the paths from one neuron to another agree in sign: 1 if all of them excite, or "
    "all inhibit; about 0 for random signs; below 0 if paths cancel each other",
    leave="it is one number for the whole network: `bifan_balance` tells pairs of layers apart",
    degenerate="no two paths of two links have the same ends, as where trained layers are joined "
    "by pooling: kinds=('weight', 'fixed', 'select') follows the links that carry values too",
    reference="Milo et al. 2002; Zambra et al. 2020",
)
def diamond_balance(graph: Weighted) -> float:
    """Balance of the diamonds of the whole network: the mean product of their four signs.

    A diamond is two paths of two links from one neuron to another; where they have the same sign
    it is balanced (a coherent one). From -1 to 1. A weight of zero has sign 0, parallel links make
    diamonds of their own, and one NaN weight makes it NaN. The two middle neurons may be in
    different layers, if connections skip some.

    Raises `DegenerateMeasure` where there is no diamond.

    Source: Milo et al., 2002; in trained networks Zambra, Maritan and Testolin, 2020.
    """
    refuse_without_links(graph, "diamond_balance")
    ends, parts = ends_of(graph.blocks), _parts(graph)
    size = graph.neuron_count, graph.neuron_count
    number = _diamonds(sparse(np.ones(graph.link_count, np.int32), ends, size), parts)
    if not number:
        raise DegenerateMeasure(
            "diamond_balance says nothing on this network",
            why=f"its {graph.link_count:,} links of kind {' or '.join(graph.kinds)} hold no "
            "diamond: no two paths of two links have the same ends",
            fix="filter less, or follow what carries values between trained links: "
            "kinds=('weight', 'fixed', 'identity', 'scale', 'select')",
        )
    signs = signs_of(weights_of(graph.blocks))
    return _diamonds(sparse(signs, ends, size), parts) / number


# -- counting ---------------------------------------------------------------------------------


def four_cycles(matrix: scipy.sparse.csr_array | NDArray[Any]) -> float:
    """The products of the four entries where two rows and two columns meet, summed over all.

    The squares of the entries of M M' add up to four times that, and to what has the same row or
    the same column twice, which is taken away.
    """
    squares = matrix * matrix
    rows, columns = (squares.sum(axis, dtype=np.float64) for axis in (1, 0))
    fourth = float((squares * squares).sum(dtype=np.float64))
    same = float(rows @ rows) + float(columns @ columns) - fourth
    return (gram_norm(matrix) - same) / 4


def _diamonds(matrix: scipy.sparse.csr_array, parts: Sequence[slice]) -> float:
    """Pairs of paths through different neurons: pairs of paths less those through the same one."""
    squares = matrix * matrix
    into, out = (squares.sum(axis, dtype=np.float64) for axis in (0, 1))
    return (float(squared_norms(matrix, matrix, parts)[0].sum()) - float(into @ out)) / 2


def _bifans(steps: Sequence[Step]) -> tuple[float, float]:
    """Products of the four signs, summed over all bifans of a pair of layers; their number."""
    signs = whole(steps)
    if signs is not None:
        return four_cycles(signs), _all_fours(*signs.shape)
    ends, weight = between(steps)
    number = four_cycles(sparse(np.ones(len(weight), np.int32), ends, sizes(steps)))
    return four_cycles(sparse(signs_of(weight), ends, sizes(steps))), number


def _all_fours(n: int, m: int) -> float:
    return float(math.comb(n, 2) * math.comb(m, 2))


def _parts(graph: Weighted) -> list[slice]:
    return [slice(layer.first, layer.last) for layer in graph.network.layers]


def _pattern(steps: Sequence[Step]) -> scipy.sparse.csr_array:
    """1 where two neurons of a pair of layers are joined, by however many links."""
    source, target = ends_of([step.block for step in steps])
    ends = source - steps[0].source.start, target - steps[0].target.start
    matrix = sparse(np.ones(len(source), np.int32), ends, sizes(steps))
    matrix.data[:] = 1
    return matrix
