"""Groups of neurons that hold together: Leiden's partition, and where neurons stand in it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.declaring import declared
from cntgraph.measures.refusing import refuse_without_weight

if TYPE_CHECKING:
    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []

SPLIT = ("absolute", "positive", "negative")
NULLS = ("layers", "undirected")
EQUAL = 1e-9  # strengths that differ by less, relative to their mean, differ by rounding


@declared(
    level="neuron",
    signs=SPLIT,
    cost="igraph",
    formula=r"the partition $c$ found by Leiden to maximise "
    r"$\sum_{ij} \bigl(w_{ij} - \gamma\,\frac{s_i s_j}{2m}\bigr)\,\delta(c_i, c_j)$ over the "
    r"undirected graph, $s_i$ the strength in and out, $m$ the total weight, $\gamma$ the "
    r"resolution",
    sees="neurons that are joined to each other more strongly than to the rest: circuits, and "
    "parts of the network that do not need each other",
    leave="near-best partitions are many: compare several seeds before a single community is "
    "read into; for the question whether there are modules at all use `modularity` or "
    "`normalised_cut` with a null model",
    degenerate="no link has a weight under the sign",
    igraph='as_undirected(mode="each"), then community_leiden(objective_function="modularity", '
    'weights="weight", n_iterations=-1), with igraph.set_random_number_generator('
    "random.Random(seed)); communities renumbered by their first neuron",
    reference="Traag, Waltman and van Eck 2019",
)
def community(graph: Weighted, *, resolution: float = 1.0, seed: int = 0) -> NDArray[Any]:
    """The community of each neuron, numbered from 0 in the order of their first neurons.

    Leiden on the undirected graph, whose links count by their weight under the sign, repeated
    until nothing improves. The same ``seed`` gives the same communities; a larger ``resolution``
    gives smaller ones. A neuron without any weight is a community of its own. Where a weight is
    not a finite number there is no partition, and every neuron's is NaN.

    Source: Traag, Waltman and van Eck, 2019, doi:10.1038/s41598-019-41695-z.
    """
    return partition(graph, "community", resolution, seed)


@declared(
    level="neuron",
    signs=SPLIT,
    cost="igraph",
    formula=r"$P_i = 1 - \sum_c \bigl(\frac{s_{ic}}{s_i}\bigr)^2$, $s_{ic}$ the strength of "
    r"neuron $i$, in and out, towards the neurons of community $c$; 0 where $s_i = 0$",
    sees="connectors: neurons whose weight is spread evenly over many communities; 0 for those "
    "that keep to one",
    leave="it is relative to the partition, so the column `community` of the same call belongs "
    "beside it; with few communities it has little room, at most $1 - 1/$their number",
    degenerate="no link has a weight under the sign",
    reference="Guimera and Amaral 2005; Rubinov and Sporns 2011",
)
def participation(graph: Weighted, *, resolution: float = 1.0, seed: int = 0) -> Values:
    """How evenly a neuron's strength is spread over the communities, from 0 to below 1.

    The communities are those of `community` with the same options and the same sign; with
    ``sign="positive"`` and ``"negative"`` the two kinds of weight are looked at apart.

    Source: Guimera and Amaral, 2005, doi:10.1038/nature03288.
    """
    found = partition(graph, "participation", resolution, seed)
    if np.isnan(found).any():
        return found
    towards = _towards(graph, found)
    strength = np.asarray(towards.sum(axis=1)).ravel()
    rows = np.repeat(np.arange(graph.neuron_count), np.diff(towards.indptr))
    squares = np.bincount(rows, (towards.data / strength[rows]) ** 2, graph.neuron_count)
    result: Values = np.where(strength > 0, 1.0 - squares, 0.0)
    return result


@declared(
    level="neuron",
    signs=SPLIT,
    cost="igraph",
    formula=r"$z_i = \frac{s_{i c_i} - \mu_{c_i}}{\sigma_{c_i}}$, $s_{i c_i}$ the strength of "
    r"neuron $i$ towards its own community, $\mu$ and $\sigma$ (of the population) over that "
    r"community; 0 where $\sigma = 0$",
    sees="hubs of their own community",
    leave="strengths of layers of different size differ by the architecture, and a community "
    "spans layers; beside `participation` it tells connector hubs from provincial ones",
    degenerate="no link has a weight under the sign",
    reference="Guimera and Amaral 2005",
)
def within_module_z(graph: Weighted, *, resolution: float = 1.0, seed: int = 0) -> Values:
    """How far a neuron's strength within its community stands out there, in deviations.

    The communities are those of `community` with the same options and the same sign.

    Source: Guimera and Amaral, 2005, doi:10.1038/nature03288.
    """
    found = partition(graph, "within_module_z", resolution, seed)
    if np.isnan(found).any():
        return found
    own, size = _own_strength(graph, found), np.bincount(found)
    mean = np.bincount(found, own) / size
    deviation = np.sqrt(np.bincount(found, (own - mean[found]) ** 2) / size)
    differs = (deviation > EQUAL * mean)[found]
    result: Values = np.zeros(graph.neuron_count)
    np.divide(own - mean[found], deviation[found], out=result, where=differs)
    return result


@declared(
    level="network",
    signs=SPLIT,
    cost="igraph",
    formula=r"$Q = \frac{1}{m} \sum_b \sum_{ij} \Bigl(w^b_{ij} - "
    r"\frac{s^{out,b}_i s^{in,b}_j}{m_b}\Bigr)\,\delta(c_i, c_j)$ over the pairs $b$ of joined "
    r"""layers, $m_b$ the weight of a pair, $m$ of all; with `null="undirected"` Newman's """
    r"$\frac{1}{2m} \sum_{ij} \bigl(w_{ij} - \frac{s_i s_j}{2m}\bigr)\,\delta(c_i, c_j)$",
    sees="how much more weight stays within communities than the strengths alone would put there",
    leave="any partition of a random network has some modularity: compare with epoch 0 and with "
    "shuffled weights, as `normalised_cut` does",
    degenerate="no link has a weight under the sign",
    igraph='with null="undirected": modularity(membership, weights="weight", directed=False)',
    reference="Barber 2007; Newman and Girvan 2004",
)
def modularity(
    graph: Weighted, *, resolution: float = 1.0, seed: int = 0, null: str = "layers"
) -> float:
    """Weight within the communities of `community` beyond what a null model expects.

    ``null="layers"`` expects links only where layers are joined, in proportion to what a neuron
    sends and another receives between those two layers: for a single pair of layers this is
    Barber's bipartite modularity, and for more their mean, weighted by the pairs' weight.
    ``null="undirected"`` is igraph's modularity, which expects links within a layer as well.
    ``resolution`` shapes the partition and leaves the yardstick as it is.

    Source: Barber, 2007, doi:10.1103/PhysRevE.76.066102.
    """
    if null not in NULLS:
        raise InputRefused(f"null={null!r}", why=did_you_mean(str(null), NULLS))
    found = partition(graph, "modularity", resolution, seed)
    if np.isnan(found).any():
        return float("nan")
    links = graph.links
    inside = links.weight[found[links.source] == found[links.target]].sum()
    total = links.weight.sum()
    if null == "layers":
        expected = sum(_expected(graph, found, pair) for pair in range(len(graph.pairs)))
    else:
        ends = np.bincount(found[links.source], links.weight, found.max() + 1)
        ends += np.bincount(found[links.target], links.weight, found.max() + 1)
        expected = (ends / total) @ ends / 4
    return float((inside - expected) / total)


def partition(graph: Weighted, name: str, resolution: float, seed: int) -> NDArray[Any]:
    """The community of each neuron, found once for all measures of a call; NaN without one."""
    if not (math.isfinite(resolution) and resolution >= 0):
        raise InputRefused(f"resolution={resolution}", fix="give a number of 0 or more")
    key = f"community, resolution={resolution}, seed={seed}"
    if key not in graph.shared:
        refuse_without_weight(graph, name)
        finite = bool(np.isfinite(graph.links.weight).all())
        found = _leiden(graph, resolution, seed) if finite else np.full(graph.neuron_count, np.nan)
        graph.shared[key] = found
    known: NDArray[Any] = graph.shared[key]
    return known.copy()


def _leiden(graph: Weighted, resolution: float, seed: int) -> NDArray[np.int64]:
    undirected = graph.igraph(directed=False)
    with _drawing_from(random.Random(seed)):
        found = undirected.community_leiden(
            objective_function="modularity",
            weights="weight",
            resolution=resolution,
            n_iterations=-1,
        )
    return by_first(np.asarray(found.membership))


def by_first(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The same groups, numbered from 0 in the order in which they first appear."""
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    numbered: NDArray[np.int64] = place[label]
    return numbered


@contextmanager
def _drawing_from(generator: random.Random) -> Iterator[None]:
    """igraph draws from this generator, and afterwards from Python's own, as it always does."""
    import igraph

    igraph.set_random_number_generator(generator)
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)


def _towards(graph: Weighted, found: NDArray[np.int64]) -> Any:
    """Strength of each neuron, in and out, towards each community: a CSR matrix."""
    from scipy.sparse import csr_array

    n = graph.neuron_count
    members = csr_array((np.ones(n), (np.arange(n), found)), shape=(n, int(found.max()) + 1))
    towards = csr_array(graph.matrix @ members + graph.matrix.T @ members)
    towards.eliminate_zeros()
    return towards


def _own_strength(graph: Weighted, found: NDArray[np.int64]) -> Values:
    links, n = graph.links, graph.neuron_count
    inside = found[links.source] == found[links.target]
    weight = links.weight[inside]
    own: Values = np.zeros(n)
    for ends in (links.source, links.target):
        own += np.bincount(ends[inside], weight, n)
    return own


def _expected(graph: Weighted, found: NDArray[np.int64], pair: int) -> float:
    """The weight that a pair of layers puts within communities, if only strengths decide it."""
    sent, received = np.zeros(graph.neuron_count), np.zeros(graph.neuron_count)
    for step in graph.between(*graph.pairs[pair]):
        sent[step.source] += step.pull(np.ones(step.target.stop - step.target.start))
        received[step.target] += step.push(np.ones(step.source.stop - step.source.start))
    total = sent.sum()
    if total == 0:
        return 0.0
    return float(np.bincount(found, sent) @ np.bincount(found, received) / total)
