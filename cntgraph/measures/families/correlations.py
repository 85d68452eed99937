"""Whether strong neurons are linked to strong ones: strengths compared at both ends of the links.

Both measures are sweeps of the operators over the strengths. No link is listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cntgraph.errors import DegenerateMeasure
from cntgraph.measures.declaring import declared
from cntgraph.measures.families.distribution import sums_of_blocks
from cntgraph.measures.steps import Step, Values

if TYPE_CHECKING:
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []

ROUNDING = 1e-12  # relative: strengths that differ by less are one strength, summed in two orders


class Sized(NamedTuple):
    """A step with |w|, and |w| summed at its targets and at its sources."""

    step: Step
    into: Values
    out: Values


@declared(
    level="block",
    signs=("absolute", "signed"),
    cost="sweep",
    formula=r"$r = \frac{\sum_{ij} |w_{ij}| (s_i - \bar s)(s_j - \bar s')}"
    r"{\sqrt{\sum_{ij} |w_{ij}| (s_i - \bar s)^2} \sqrt{\sum_{ij} |w_{ij}| (s_j - \bar s')^2}}$ "
    r"over the links $i \to j$ of a pair of layers, $\bar s$ and $\bar s'$ the means over the same "
    r"links with the same weights, $s$ the total strength of a neuron (in and out, of all its "
    'links in the network): of $|w|$, or of $w$ with `sign="signed"`',
    sees="1: heavy links join strong neurons to strong ones and weak to weak; -1: strong to weak; "
    "0: heavy links are where the strengths alone would put them or anywhere",
    leave="a pair of layers has few neurons: the correlation is over links, but no more than the "
    "neurons of the smaller layer are independent",
    degenerate="a layer of one neuron or of one strength (NaN for that pair; refused where no pair "
    "is left). Without weights it says nothing on a full layer: if each neuron is linked to every "
    "neuron of the next layer, the strengths at both ends are independent and their correlation "
    "is 0 whatever was trained, which is why the links are weighted",
    igraph='assortativity(types1, types2, directed=True, weights="weight") of the subgraph of the '
    'two layers with weights abs(w), both types being strength(weights="weight") of the whole '
    "graph of abs(w), or of w where signed (igraph 1.0 or later)",
    reference="Newman 2003; Leung and Chau 2007",
)
def assortativity(graph: Weighted) -> Values:
    """Strength assortativity of every pair of layers: a correlation over links, from -1 to 1.

    Each link counts by |w|. The strengths are centred before they are multiplied, so that nothing
    cancels. A pair in which one end has a single strength (one neuron, say) has no correlation and
    is NaN. Blocks that join the same two layers are taken together.

    Raises `DegenerateMeasure` where no pair of layers has a correlation.

    Source: Newman, 2003; with weights Leung and Chau, 2007.
    """
    strength = _strengths(graph)
    joined: dict[tuple[str, str], list[Sized]] = {}
    for sized in _absolute(graph):
        joined.setdefault((sized.step.block.source, sized.step.block.target), []).append(sized)
    with np.errstate(invalid="ignore"):
        found = [_correlation(joined[pair], strength) for pair in graph.pairs]
    if all(r is None for r in found):
        raise DegenerateMeasure(
            "assortativity says nothing on this network",
            why="in none of its pairs of layers do links join neurons of different strengths "
            f"to neurons of different strengths ({len(found)} pairs, "
            f"{graph.link_count:,} links)",
            fix="cnt.measure(network, 'disparity_in', 'disparity_out') tells how a neuron's "
            "weight is spread over its links",
        )
    return np.array([np.nan if r is None else r for r in found])


@declared(
    level="neuron",
    signs=("absolute", "signed"),
    cost="sweep",
    formula=r"$\frac{\sum_j |w_{kj}| s_j}{\sum_j |w_{kj}|}$ over the links of $k$ in and out, "
    r"$s_j$ the total strength of the neuron at their other end: of $|w|$, or of $w$ with "
    r'`sign="signed"`',
    sees="neurons whose heavy links lead to and from strong neurons",
    leave="layers differ in size: strength grows with the number of links, so compare neurons "
    "within a layer, or see `assortativity`. Without weights it would be the same average for "
    "every neuron of a full layer, which all have the same neighbours",
    reference="Barrat et al. 2004",
)
def neighbour_strength(graph: Weighted) -> Values:
    """Average strength of a neuron's neighbours, each weighted by the |w| of the link to it.

    A neighbour joined by two links counts by both. NaN where a neuron has no links, or only links
    of weight zero.

    Source: Barrat, Barthelemy, Pastor-Satorras and Vespignani, 2004.
    """
    strength = _strengths(graph)
    summed, weight = np.zeros_like(strength), np.zeros_like(strength)
    with np.errstate(invalid="ignore"):
        for step, into, out in _absolute(graph):
            summed[step.target] += step.push(strength[step.source])
            summed[step.source] += step.pull(strength[step.target])
            weight[step.target] += into
            weight[step.source] += out
        return np.divide(summed, weight, out=np.full_like(summed, np.nan), where=weight != 0)


def _absolute(graph: Weighted) -> list[Sized]:
    """The steps with |w|, by which a link counts whatever the strengths keep of its sign."""
    if "sized steps" not in graph.shared:
        graph.shared["sized steps"] = [
            Sized(Step(block, "absolute"), into[0] - into[1], out[0] - out[1])
            for block, (into, out) in zip(graph.blocks, sums_of_blocks(graph), strict=True)
        ]
    found: list[Sized] = graph.shared["sized steps"]
    return found


def _strengths(graph: Weighted) -> Values:
    """The total strength of every neuron: of its links in and out, under the sign."""
    total = np.zeros(graph.neuron_count)
    with np.errstate(invalid="ignore"):
        for step, (into, out) in zip(graph.steps, sums_of_blocks(graph), strict=True):
            signs = np.array([1.0, 1.0 if graph.sign == "signed" else -1.0])
            total[step.target] += signs @ into
            total[step.source] += signs @ out
    return total


def _correlation(steps: list[Sized], strength: Values) -> float | None:
    """The correlation over the links of some steps; None where an end has one strength."""
    source, target = steps[0].step.source, steps[0].step.target
    into = np.sum([s.into for s in steps], axis=0)
    out = np.sum([s.out for s in steps], axis=0)
    x, y = _centred(strength[source], out), _centred(strength[target], into)
    if x is None or y is None:
        return None
    joint = sum(float(y @ s.step.push(x)) for s in steps)
    return float(joint / np.sqrt((out @ x**2) * (into @ y**2)))


def _centred(strength: Values, weight: Values) -> Values | None:
    """Strengths less their mean over the links; None where the links see a single strength."""
    linked = weight != 0
    seen = strength[linked]
    if not len(seen) or np.ptp(seen) <= ROUNDING * np.abs(seen).max():
        return None
    found: Values = np.where(linked, strength - np.average(seen, weights=weight[linked]), 0.0)
    return found
