"""What flows through a network, in one sweep: what arrives is known before it is passed on.

On a network whose layers are in topological order the usual iterations end after a single pass,
and a pass is the network's own operators with the weights under the sign. No link is listed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.errors import DegenerateMeasure, InputRefused
from cntgraph.measures.declaring import PATH_KINDS, declared
from cntgraph.measures.families.scaled import swept
from cntgraph.measures.refusing import refuse_without_links

if TYPE_CHECKING:
    from cntgraph.measures.steps import Step, Turned, Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []

Steps = Sequence["Step | Turned"]
SMALLEST, LARGEST = -307.0, 308.0  # decimal exponents of what float64 holds with all its digits


@declared(
    level="neuron",
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"$r_j = \frac{1}{Z}\bigl(1 + d \sum_i r_i \frac{|w_{ij}|}{\sum_k |w_{ik}|}\bigr)$, "
    r"$d$ the damping, $\sum_j r_j = 1$",
    sees="where a walker along the links is found: neurons fed by strong shares of strong neurons",
    leave="deeper layers collect more walkers; compare neurons within a layer, or `by_layer=True`",
    degenerate="no links: every neuron has the same rank",
    igraph='pagerank(weights="weight")',
    reference="Brin and Page 1998",
)
def pagerank(graph: Weighted, *, damping: float = 0.85, by_layer: bool = False) -> Values:
    """PageRank along the direction of computation, summing to 1; ``by_layer``, in every layer.

    What a neuron without outgoing links would hand to everybody only changes the scale, so the
    result is igraph's of the explicit graph of absolute weights.

    Source: Brin and Page, 1998, doi:10.1016/S0169-7552(98)00110-X.
    """
    refuse_without_links(graph, "pagerank")
    return _ranks(graph, graph.steps, damping, by_layer=by_layer)


@declared(
    level="neuron",
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"PageRank of the graph with every link turned round",
    sees="neurons that strong shares of the outputs come from",
    leave="earlier layers collect more walkers; compare within a layer, or `by_layer=True`",
    degenerate="no links: every neuron has the same rank",
    igraph='reverse_edges(), then pagerank(weights="weight")',
    reference="Brin and Page 1998",
)
def pagerank_backward(graph: Weighted, *, damping: float = 0.85, by_layer: bool = False) -> Values:
    """PageRank against the direction of computation, from the outputs to the inputs.

    It sums to 1; ``by_layer``, in every layer.
    """
    refuse_without_links(graph, "pagerank_backward")
    return _ranks(graph, graph.turned, damping, by_layer=by_layer)


@declared(
    level="neuron",
    signs=("absolute", "signed"),
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"$x_j = \beta + \alpha \sum_i w_{ij} x_i$ (of $|w|$ unless signed), not normalised",
    sees="neurons that many strong paths of any length end in; shorter paths count for more",
    leave="it grows with depth and, where layers are wide, as fast as alpha times their strengths "
    "multiply: compare neurons within a layer, or give a smaller alpha",
    degenerate="no links: every neuron has the value beta",
    reference="Katz 1953",
)
def katz(graph: Weighted, *, alpha: float = 0.1, beta: float = 1.0) -> Values:
    """Katz centrality: all paths that end at a neuron, a path of k links counted by alpha^k.

    Each path counts by the product of its weights. A layered network has no cycles, so the sum is
    finite for every alpha and one sweep gives it exactly; NetworkX's
    ``katz_centrality(normalized=False)`` and the solution of (I - alpha A^T) x = beta are the same.
    What leaves the range of float64 is infinite.

    Source: Katz, 1953, doi:10.1007/BF02289026.
    """
    _refuse_infinite(alpha=alpha, beta=beta)
    refuse_without_links(graph, "katz")
    found = np.full(graph.neuron_count, float(beta))
    with np.errstate(over="ignore", invalid="ignore"):
        for step in graph.steps:
            found[step.target] += alpha * step.push(found[step.source])
    return found


@declared(
    level="neuron",
    signs=("absolute", "signed"),
    kinds=PATH_KINDS,
    cost="iteration",
    formula=r"$c_j = \sum_{k \ge 0} \sum_i \frac{(A^k)_{ij}}{k!} = \sum_i (e^A)_{ij}$, "
    r"$A_{ij} = |w_{ij}|$, or $w_{ij}$ where signed",
    sees="neurons that many strong paths end in; a path of k links counts by 1/k!, so long ones "
    "fade faster than in `katz`",
    leave="it grows with depth: compare neurons within a layer; `katz` takes one sweep, this one "
    "for every length of path",
    degenerate="no links: every neuron has the value 1",
    reference="Benzi and Klymko 2013",
)
def communicability(graph: Weighted) -> Values:
    """Total communicability: all walks that end at a neuron, one of k links counted by 1/k!.

    As in `katz` it is what a neuron receives: the sum of its column of the exponential of the
    weight matrix (weight of i -> j in row i); Benzi and Klymko, whose networks are undirected, sum
    rows. A walk of a layered network is a path, so the series ends with the longest.

    Source: Benzi and Klymko, 2013, doi:10.1093/comnet/cnt007.
    """
    refuse_without_links(graph, "communicability")
    term = np.ones(graph.neuron_count)
    found = term.copy()
    length = 0
    with np.errstate(over="ignore", invalid="ignore"):
        while term.any():
            length += 1
            longer = np.zeros_like(term)
            for step in graph.steps:
                if term[step.source].any():
                    longer[step.target] += step.push(term[step.source])
            term = longer / length
            found += term
    return found


@declared(
    level="neuron",
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"$p_j = \Bigl(\sum_{\pi: \text{input} \to j} \prod_{\pi} |w|\Bigr)"
    r"\Bigl(\sum_{\pi: j \to \text{output}} \prod_{\pi} |w|\Bigr)$",
    sees="neurons that much of all the weight of paths from inputs to outputs runs through; ReLU "
    "rescaling, which changes strength and not the function, leaves it as it is",
    leave="signs are gone: two paths that cancel count twice",
    degenerate="no path of weights other than zero from an input to an output (after a filter, "
    "or if the links that carry values are left out)",
    reference="Neyshabur et al. 2015; Tanaka et al. 2020",
)
def path_score(graph: Weighted, *, normalised: bool = False) -> Values:
    """The weight of all paths from an input to an output through a neuron.

    A path weighs the product of its |weights|. The score is what comes from the layers of kind
    ``input`` (an input itself counts 1) times what goes to those of kind ``output`` (an output
    itself counts 1, and besides what it feeds). It is the saliency that SynFlow prunes by, summed
    over the links into a neuron. ``normalised`` divides by the weight of all paths, so that it is
    the share of them that run through the neuron.

    Multiplying the weights into a hidden ReLU neuron by a > 0 and dividing those out of it by a
    changes neither the function nor any path score.

    The products of deep networks may leave the range of float64 between the inputs and the outputs
    without harm. If the scores themselves do, `InputRefused` says so; shares always fit, those
    below 1e-308 of the whole being 0.

    Source: Neyshabur, Salakhutdinov and Srebro, 2015, arXiv 1506.02617; Tanaka et al., 2020, arXiv
    2006.05467.
    """
    refuse_without_links(graph, "path_score")
    start = _of_kind(graph, "input")
    score = swept(graph, graph.steps, start)
    score = score.times(swept(graph, graph.turned, _of_kind(graph, "output")))
    if not score.values.any():
        _refuse_unconnected(graph, "path_score", "an input to an output")
    if normalised:
        return score.over_total(start).plain()
    found = score.plain()
    largest = score.magnitude()
    if not SMALLEST < largest < LARGEST and math.isfinite(largest):
        raise InputRefused(
            "path_score leaves the range of floating point on this network",
            why=f"the largest is about 1e{largest:+.0f}: products of weights grow or shrink with "
            "every layer",
            fix="ask for normalised=True: the share of all paths' weight",
        )
    return found


@declared(
    level="neuron",
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"$f_j = s_j + \sum_i f_i \frac{|w_{ij}|}{\sum_k |w_{ik}|}$, "
    r"$s_j = 1 / \text{number of inputs}$ at inputs and 0 elsewhere",
    sees="how much of what is let in at the inputs passes a neuron, if every neuron hands it on "
    "in proportion to |w|",
    leave="it looks only at what lies before a neuron: one that feeds nothing but weak links may "
    "have much of it; `path_score` looks both ways",
    degenerate="no links lead out of the inputs with a weight other than zero",
    reference="Newman 2005",
)
def flow(graph: Weighted) -> Values:
    """Random-walk flow: the share of walkers from the inputs that pass a neuron.

    A walker starts at an input neuron, all being equally likely (layers of kind ``constant`` are
    no inputs), follows a link with a probability in proportion to |w|, and ends where no weight
    leads on. It passes a neuron at most once, so an input neuron's value is 1 / number of inputs
    and the values where walkers end sum to 1. Ends are the outputs, but also hidden neurons whose
    links all weigh 0 or lead only where the kinds of link that are followed do not: what ends
    there does not reach an output.

    These are the walks of Newman (2005, doi:10.1016/j.socnet.2004.11.009) on a directed network
    from all inputs at once; nothing is subtracted for walking back, since nobody can.
    """
    refuse_without_links(graph, "flow")
    start = _of_kind(graph, "input")
    passing = _handed_on(graph, graph.steps, start / max(start.sum(), 1.0))
    if not passing[start == 0].any():
        _refuse_unconnected(graph, "flow", "an input to any other neuron")
    return passing


def _ranks(graph: Weighted, steps: Steps, damping: float, *, by_layer: bool) -> Values:
    if not 0 <= damping < 1:
        raise InputRefused(f"damping={damping}", fix="give a number from 0 to less than 1")
    rank = _handed_on(graph, steps, np.ones(graph.neuron_count), damping)
    spans = [slice(layer.first, layer.last) for layer in graph.network.layers]
    for span in spans if by_layer else [slice(None)]:
        rank[span] /= rank[span].sum()
    return rank


def _handed_on(graph: Weighted, steps: Steps, value: Values, part: float = 1.0) -> Values:
    """Give ``part`` of every neuron's value to those its links lead to, in proportion to weight."""
    for step in steps:  # a source is complete before it is passed on
        share = shares(value[step.source], _strength_out(graph, steps, step.source.start))
        value[step.target] += part * step.push(share)
    return value


def _of_kind(graph: Weighted, kind: str) -> Values:
    """1 at the neurons of the layers of a kind, 0 elsewhere."""
    found = np.zeros(graph.neuron_count)
    for layer in graph.network.layers:
        if layer.kind == kind:
            found[layer.first : layer.last] = 1.0
    return found


def _strength_out(graph: Weighted, steps: Steps, first: int) -> Values:
    """The weight that leads out of the neurons of a layer, by its first one.

    It is summed when it is needed: weights that are read twice in a row are read from the cache.
    """
    key = "strengths out of steps" if steps is graph.steps else "strengths out of turned steps"
    known: dict[int, Values] = graph.shared.setdefault(key, {})
    if first not in known:
        leaving = [s for s in steps if s.source.start == first]
        known[first] = sum(  # type: ignore[assignment]
            s.pull(np.ones(s.target.stop - s.target.start)) for s in leaving
        )
    return known[first]


def _refuse_infinite(**options: float) -> None:
    for name, value in options.items():
        if not math.isfinite(value):
            raise InputRefused(f"{name}={value}", fix="give a finite number")


def _refuse_unconnected(graph: Weighted, name: str, ends: str) -> None:
    raise DegenerateMeasure(
        f"{name} says nothing on this network",
        why=f"no path of weights other than zero leads from {ends} "
        f"along links of kind {' or '.join(graph.kinds)}",
        fix="filter less, or follow the links that carry values too: leave kinds= out",
    )


def shares(value: Values, of: Values) -> Values:
    """A quotient that is zero where nothing is divided by nothing."""
    return np.divide(value, of, out=np.zeros_like(value), where=of != 0)
