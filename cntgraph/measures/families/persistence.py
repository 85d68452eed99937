"""Neural persistence: at which weights the neurons of two layers grow together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import DegenerateMeasure, InputRefused
from cntgraph.measures.declaring import declared
from cntgraph.measures.families.matrices import between, sizes, sparse
from cntgraph.measures.refusing import refuse_without_links

if TYPE_CHECKING:
    from cntgraph.measures.steps import Step, Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []


@declared(
    level="block",
    cost="links",
    formula=r"$\frac{1}{(n-1)^{1/p}} \bigl(\sum_{e \in F} (1 - v_e)^p\bigr)^{1/p}$, $v_e = |w_e| / "
    r"\max |w|$ with the maximum over the whole network, $F$ the maximum spanning forest of the "
    r"two layers, $n$ the neurons of both; $p=2$. Without `normalised` the fraction in front is 1",
    sees="near 1: the neurons of two layers hang together by weak links only, while a few links of "
    "the network are strong; near 0: strong links reach every neuron",
    leave="one outlier decides the maximum of the whole network and with it every value; and it "
    "looks at the n - 1 links of a forest only, not at how strong the others are",
    degenerate="all weights are zero; NaN for a pair of layers without links",
    igraph="spanning_tree(weights=[1 - abs(w) / largest ...]) of the undirected subgraph of the "
    "two layers, then the p-norm of its weights over (n - 1)^(1/p)",
    reference="Rieck et al. 2019",
)
def persistence(graph: Weighted, *, p: float = 2.0, normalised: bool = True) -> Values:
    """Neural persistence of every pair of layers, from 0 to 1 (to (n - 1)^(1/p) if not normalised).

    Links are added from the heaviest down. All n neurons of the two layers are there from the
    beginning, at 1; the links that join two components, those of a maximum spanning forest, end
    one at v = |w| / max |w|, which has persisted for 1 - v. Of those the p-norm is taken (``p`` is
    1 or more, ``float("inf")`` too). Normalised it is divided by (n - 1)^(1/p), its largest value
    for weights from 0 to 1, as the paper and its authors' code do.

    Between n neurons of which a filter has left c components the forest has n - c links, and
    nothing is added for components that never meet; a link of weight zero joins last, for 1. A
    convolution is taken with every link it stands for (unrolled), and of parallel links the
    heaviest counts. NaN for a pair of layers that no links join, or in which a weight is NaN or
    infinite; the maximum is the largest finite |w|.

    Raises `DegenerateMeasure` where all weights are zero, and `InputRefused` for p below 1.

    Source: Rieck, Togninalli, Bock, Moor, Horn, Gumbsch and Borgwardt, 2019.
    """
    if not p >= 1:
        raise InputRefused(f"p={p}", why="a norm has p of 1 or more", fix="leave it at 2")
    refuse_without_links(graph, "persistence")
    if graph.largest == 0:
        raise DegenerateMeasure(
            "persistence says nothing on this network",
            why=f"each of its {graph.link_count:,} links weighs 0, so no link comes before another",
            fix="train it first",
        )
    return np.array(list(_norms(graph, p, normalised=normalised)))


def _norms(graph: Weighted, p: float, *, normalised: bool) -> Iterator[float]:
    for pair in graph.pairs:
        steps = graph.between(*pair)
        lives = _lives(steps, graph.largest)
        norm = np.nan if lives is None else float(np.linalg.norm(lives, ord=p))
        yield norm / (sum(sizes(steps)) - 1) ** (1 / p) if normalised else norm


def _lives(steps: Sequence[Step], largest: float) -> Values | None:
    """How long each component persists that a link ends; None where that is not known."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    (source, target), weight = between(steps)
    if not len(weight) or not np.isfinite(weight).all():
        return None
    life = 1.0 - np.abs(weight) / largest
    n = sum(sizes(steps))
    # SciPy takes a stored zero for no link, so every life is one longer while it looks
    joined = sparse(life + 1.0, (source, target + sizes(steps)[0]), (n, n))
    if joined.nnz < len(life):  # parallel links, which were added up
        source, target, life = _heaviest(source, target, life)
        joined = sparse(life + 1.0, (source, target + sizes(steps)[0]), (n, n))
    found: Values = minimum_spanning_tree(joined).data - 1.0
    return found


def _heaviest(
    source: NDArray[Any], target: NDArray[Any], life: Values
) -> tuple[NDArray[Any], NDArray[Any], Values]:
    """Of links that join the same two neurons the heaviest."""
    order = np.lexsort((life, target, source))
    source, target, life = source[order], target[order], life[order]
    first = (np.diff(source, prepend=-1) != 0) | (np.diff(target, prepend=-1) != 0)
    return source[first], target[first], life[first]
