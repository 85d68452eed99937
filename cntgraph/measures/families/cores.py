"""Who is in the thick of it: degrees, cores, and whether the strong are joined to the strong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import DegenerateMeasure, InputRefused, did_you_mean
from cntgraph.measures.declaring import declared
from cntgraph.measures.families.wiring import OF_SIGN, UNTRAINED, links_of_sign, unknown_signs
from cntgraph.measures.nulls import null_models
from cntgraph.measures.refusing import (
    refuse_constant,
    refuse_without_links,
    refuse_without_weight,
)
from cntgraph.measures.weighted import Weighted

if TYPE_CHECKING:
    from cntgraph.measures.steps import Values

__all__: list[str] = []

AMONG = ("network", "layer")


@declared(
    level="neuron",
    signs=OF_SIGN,
    cost="sums",
    formula=r"$k_i = |\{j: i \to j\}| + |\{j: j \to i\}|$, parallel links counted each",
    sees="after a filter: neurons that many of the kept links start or end at",
    leave="it knows no weights: `strength_absolute` is its weighted form, `disparity_in` and "
    "`disparity_out` say how many links matter",
    degenerate="one value per layer, as in every full network of dense layers; no links",
    igraph='degree(mode="all")',
    reference="Freeman 1978",
)
def degree(graph: Weighted) -> NDArray[Any]:
    """Number of the neuron's links, in and out.

    ``absolute`` counts every link, also one of weight zero; ``positive`` and ``negative`` count
    the links of that sign, and a neuron with a weight that is not a number has NaN of them.

    Source: Freeman, 1978, doi:10.1016/0378-8733(78)90021-7.
    """
    refuse_without_links(graph, "degree")
    counted = _counts(graph) if graph.sign == "absolute" else _counts_of_sign(graph)
    refuse_constant(graph, "degree", counted, fix=UNTRAINED)
    return counted


@declared(
    level="neuron",
    signs=OF_SIGN,
    cost="igraph",
    formula=r"the largest $k$ such that the neuron is in a subgraph in which every neuron has at "
    r"least $k$ links",
    sees="after a filter: the densely wired middle of the network, from its rim at 1 inwards",
    leave="it knows no weights: `s_core` peels by strength and needs no filter",
    degenerate="one value per layer, as in every full network of dense layers; no links",
    igraph='coreness(mode="all")',
    reference="Seidman 1983; Batagelj and Zaversnik 2003",
)
def coreness(graph: Weighted) -> NDArray[Any]:
    """The k-core number of a neuron, directions left aside.

    ``absolute`` follows every link, also one of weight zero; ``positive`` and ``negative`` the
    links of that sign.

    Source: Seidman, 1983, doi:10.1016/0378-8733(83)90028-X.
    """
    refuse_without_links(graph, "coreness")
    if unknown_signs(graph):
        return np.full(graph.neuron_count, np.nan)
    partners = _partners(graph) if graph.sign == "absolute" else None
    if partners is None:
        found = np.asarray(links_of_sign(graph).coreness(mode="all"))
    else:
        cores = _layer_cores(partners)
        layers = graph.network.layers
        found = np.repeat([cores[a.name] for a in layers], [a.size for a in layers])
    refuse_constant(graph, "coreness", found, fix=f"ask for s_core; {UNTRAINED}")
    return found


@declared(
    level="neuron",
    signs=OF_SIGN,
    cost="links",
    formula=r"the largest $s$ such that the neuron is in a subgraph in which every neuron has at "
    r"least the strength $s$, in and out",
    sees="the core of the network: neurons strongly joined to neurons that are strongly joined",
    leave="small layers of strong neurons end in the core by their size; compare within a layer",
    degenerate="one value per layer, as where all weights of a full network are equal; no link has "
    "a weight under the sign",
    igraph='where every link weighs 1: coreness(mode="all")',
    reference="Eidsaa and Almaas 2013; Batagelj and Zaversnik 2011",
)
def s_core(graph: Weighted) -> Values:
    """The strength at which a neuron leaves the network as it is peeled from the weakest inwards.

    The weakest neuron is taken away with its links, again and again, directions left aside; a
    neuron's value is the largest strength that had to go before it did. The shells of Eidsaa
    and Almaas are the neurons of equal value, numbered in its order.

    Source: Eidsaa and Almaas, 2013, doi:10.1103/PhysRevE.88.062819.
    """
    refuse_without_weight(graph, "s_core")
    links, n = graph.links, graph.neuron_count
    if not np.isfinite(links.weight).all():
        return np.full(n, np.nan)
    from cntgraph.measures.families.peeling import shells, undirected

    start, neighbour, weight = undirected(links.source, links.target, links.weight, n)
    found: Values = shells(start, neighbour, weight, _strength(graph))
    refuse_constant(graph, "s_core", found, fix=UNTRAINED)
    return found


@declared(
    level="network",
    signs=OF_SIGN,
    cost="links",
    formula=r"$\phi = \frac{W_>}{\sum_{l=1}^{E_>} w_l^{rank}}$, $W_>$ the weight of the $E_>$ "
    r"links between rich neurons, $w^{rank}$ the weights of all links, largest first; rich: the "
    'share `top` of the neurons with the largest strength, of the network or `among="layer"`',
    sees="1: the links among the strong are the strongest there are; towards 0: the strong spend "
    "their weight elsewhere",
    leave="the rich of a whole network are those of its small layers, whose neurons have many "
    'links each: `among="layer"` takes the strongest of every layer, and `shuffles=` compares with '
    "the same network, its weights shuffled block by block",
    degenerate="no link with a weight under the sign joins two rich neurons, as where they are "
    "all of one layer",
    reference="Opsahl, Colizza, Panzarasa and Ramasco 2008",
)
def rich_club(
    graph: Weighted,
    *,
    top: float = 0.1,
    among: str = "network",
    shuffles: int = 0,
    seed: int = 0,
) -> dict[str, float]:
    """The weighted rich-club coefficient of the strongest neurons.

    Rich are the share ``top`` (at least one) of all neurons, or with ``among="layer"`` of each
    layer's, with the largest strength in and out under the sign, and those as strong as the last
    of them. With ``shuffles`` > 0 there are two more columns: ``rich_club_null``, the mean over
    networks whose weights were shuffled within each block, their own strongest neurons being the
    rich, and ``rich_club_ratio``, the coefficient over it; a shuffle without a link among its rich
    counts as 0.

    Source: Opsahl, Colizza, Panzarasa and Ramasco, 2008, doi:10.1103/PhysRevLett.101.168702.
    """
    if not 0 < top <= 1:
        raise InputRefused(f"top={top}", fix="give a share above 0 and up to 1")
    if among not in AMONG:
        raise InputRefused(f"among={among!r}", why=did_you_mean(str(among), AMONG))
    networks = null_models(graph.network, "weights", shuffles, seed=seed)
    refuse_without_weight(graph, "rich_club")
    known = bool(np.isfinite(graph.links.weight).all())
    value = _rich_club(graph, top, among) if known else float("nan")
    if value == 0:
        _refuse_no_club(graph, top, among)
    if not shuffles:
        return {"rich_club": value}
    others = (Weighted(network, graph.sign, graph.kinds) for network in networks)
    null = float(np.mean([_rich_club(other, top, among) if known else value for other in others]))
    ratio = value / null if null else float("nan")
    return {"rich_club": value, "rich_club_null": null, "rich_club_ratio": ratio}


def _rich_club(graph: Weighted, top: float, among: str) -> float:
    """The coefficient; 0 where no link joins two of the rich."""
    links, rich = graph.links, _rich(graph, top, among)
    there = links.weight > 0
    joining = there & rich[links.source] & rich[links.target]
    count = int(joining.sum())
    if not count:
        return 0.0
    largest = np.partition(links.weight[there], -count)[-count:]
    return float(links.weight[joining].sum() / largest.sum())


def _rich(graph: Weighted, top: float, among: str) -> NDArray[np.bool_]:
    strength = _strength(graph)
    whole = [slice(0, len(strength))]
    layers = [slice(a.first, a.last) for a in graph.network.layers if a.size]
    rich = strength > 0
    for part in whole if among == "network" else layers:
        found = strength[part]
        rich[part] &= found >= np.sort(found)[-math.ceil(top * len(found))]
    return rich


def _refuse_no_club(graph: Weighted, top: float, among: str) -> None:
    rich = _rich(graph, top, among)
    where = [a.name for a in graph.network.layers if rich[a.first : a.last].any()]
    larger = f"a larger share: top={min(1.0, 3 * top):g}"
    raise DegenerateMeasure(
        "rich_club says nothing on this network",
        why=f"no link with weight joins two of its {int(rich.sum())} strongest neurons, "
        f"which are in {', '.join(where)}",
        fix=larger if among == "layer" else f"among='layer', or {larger}",
    )


def _strength(graph: Weighted) -> Values:
    """Strength in and out under the sign."""
    links, n = graph.links, graph.neuron_count
    found: Values = np.zeros(n)
    for ends in (links.source, links.target):
        found += np.bincount(ends, links.weight, n)
    return found


def _counts(graph: Weighted) -> NDArray[np.int64]:
    found = np.zeros(graph.neuron_count, np.int64)
    for block in graph.blocks:
        into, out = block.counts()
        found[block.target_first : block.target_first + len(into)] += into.numpy()
        found[block.source_first : block.source_first + len(out)] += out.numpy()
    return found


def _counts_of_sign(graph: Weighted) -> NDArray[Any]:
    links, n = graph.links, graph.neuron_count
    one = np.where(np.isnan(links.weight), np.nan, links.weight > 0)
    found = np.bincount(links.source, one, n) + np.bincount(links.target, one, n)
    return found if np.isnan(found).any() else found.astype(np.int64)


def _partners(graph: Weighted) -> dict[str, dict[str, int]] | None:
    """How many links a neuron of a layer has with each other layer; None where neurons differ."""
    found: dict[str, dict[str, int]] = {a.name: {} for a in graph.network.layers}
    for block in graph.blocks:
        into, out = (count.numpy() for count in block.counts())
        if block.link_count == 0:
            continue
        if np.ptp(into) or np.ptp(out):
            return None
        for one, other, count in (
            (block.target, block.source, into[0]),
            (block.source, block.target, out[0]),
        ):
            found[one][other] = found[one].get(other, 0) + int(count)
    return found


def _layer_cores(partners: dict[str, dict[str, int]]) -> dict[str, int]:
    """The core of each layer: neurons with equal partners are peeled together, layer by layer."""
    left, level, found = set(partners), 0, {}
    while left:
        degree = {a: sum(n for b, n in partners[a].items() if b in left) for a in left}
        weakest = min(left, key=lambda a: degree[a])
        level = max(level, degree[weakest])
        found[weakest] = level
        left.remove(weakest)
    return found
