"""Distances and the paths that take them: closeness, harmonic centrality, betweenness, efficiency.

Exact over all pairs of neurons, from one set of sweeps for all measures of a call; or estimated
from some of the neurons, with an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.errors import DegenerateMeasure
from cntgraph.measures.declaring import LENGTHS, PATH_KINDS, declared
from cntgraph.measures.paths import estimates
from cntgraph.measures.paths.sampling import drawn
from cntgraph.measures.paths.sweeps import Found, links_of, marked, sweep_from
from cntgraph.measures.paths.unknown import unknown_between, unknown_from
from cntgraph.measures.refusing import refuse_constant, refuse_without_weight

if TYPE_CHECKING:
    from cntgraph.measures.paths.adjacency import Places
    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []

OF_DISTANCES = frozenset({"closeness", "harmonic", "efficiency"})
FAMILY = OF_DISTANCES | {"betweenness", "betweenness_io"}
DISTANCE = (
    r"$d(i, j)$ the length of a shortest path along links of length $1/|w|$ (`length=` knows "
    r"$-\log(|w|/\max|w|)$, $|w|$ and $1$ too)"
)
PATHS = (
    r"$\sigma_{st}$ the number of shortest paths from $s$ to $t$ and $\sigma_{st}(i)$ of those "
    r"through $i$; links of length $1/|w|$ (`length=` knows $-\log(|w|/\max|w|)$, $|w|$ and $1$ "
    "too)"
)
OTHERWISE = "filter the links first: network.filtered('top:32'), or ask for strength"


def _declared(**said: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return declared(
        signs=("absolute", "positive", "negative"),
        lengths=LENGTHS,
        kinds=PATH_KINDS,
        cost="pairs",
        **said,
    )


@_declared(
    level="neuron",
    formula=r"$c_i = \frac{r_i}{\sum_j d(i, j)}$ over the $r_i$ neurons $j$ that $i$ reaches, "
    + DISTANCE,
    sees="neurons from which, on average, whatever they reach is near: along strong links",
    leave="a single weak link between neighbouring layers is a long distance that nothing "
    "shortens, and the mean is ruled by them: use `harmonic`",
    degenerate="one value per layer, as with length='unit' in every full layered network",
    igraph='closeness(mode="out", weights=lengths)',
    reference="Freeman 1978; Newman 2001",
)
def closeness(graph: Weighted, *, samples: int = 0, seed: int = 0) -> Any:
    """The inverse of the mean distance to the neurons that are reached, along the links.

    As igraph's normalised closeness with mode="out": NaN where nothing is reached. Output neurons
    reach nothing.

    With ``samples`` the distances to that many neurons stand for all, and the column
    ``closeness_error`` is half the width of a 95 % interval around each neuron's value.

    Sources: Freeman, 1978, doi:10.1016/0378-8733(78)90021-7; weights as inverse lengths: Newman,
    2001, doi:10.1103/PhysRevE.64.016132.
    """
    _refuse_empty(graph, "closeness")
    targets = _drawn(graph, samples, seed)
    if len(targets) < graph.neuron_count:
        value, error = estimates.closeness(graph, targets)
    else:
        found = _found(graph, "closeness")
        with np.errstate(divide="ignore", invalid="ignore"):
            value, error = found.reached / found.total, np.zeros(graph.neuron_count)
    return _columns(graph, "closeness", value, error if samples else None, unknown_from(graph))


@_declared(
    level="neuron",
    formula=r"$h_i = \frac{1}{n - 1} \sum_{j \neq i} \frac{1}{d(i, j)}$, 0 for what is not "
    "reached, " + DISTANCE,
    sees="neurons that much of the network is near to, along strong links",
    leave="early layers have more of the network before them; compare neurons within a layer",
    degenerate="one value per layer, as with length='unit' in every full layered network",
    igraph='harmonic_centrality(mode="out", weights=lengths)',
    reference="Marchiori and Latora 2000; Opsahl et al. 2010",
)
def harmonic(graph: Weighted, *, samples: int = 0, seed: int = 0) -> Any:
    """The mean of the inverse distances to all other neurons, along the links.

    As igraph's normalised harmonic centrality with mode="out". Infinite for a neuron that is at
    distance 0 from another: with length="log" that is where the strongest link starts.

    With ``samples`` the distances to that many neurons stand for all, and the column
    ``harmonic_error`` is half the width of a 95 % interval around each neuron's value.

    Sources: Marchiori and Latora, 2000, doi:10.1016/S0378-4371(00)00311-3; lengths: Opsahl,
    Agneessens and Skvoretz, 2010, doi:10.1016/j.socnet.2010.03.006.
    """
    _refuse_empty(graph, "harmonic")
    n, targets = graph.neuron_count, _drawn(graph, samples, seed)
    if len(targets) < n:
        value, error = estimates.harmonic(graph, targets)
    else:
        value, error = _found(graph, "harmonic").inverse / (n - 1), np.zeros(n)
    return _columns(graph, "harmonic", value, error if samples else None, unknown_from(graph))


@_declared(
    level="neuron",
    formula=r"$b_i = \sum_{s \neq i \neq t} \frac{\sigma_{st}(i)}{\sigma_{st}}$, " + PATHS,
    sees="neurons that the strongest ways between other neurons lead through",
    leave="few neurons get almost all of it where few links are much stronger; `flow` follows "
    "every way by its share, `path_score` sums them all",
    degenerate="one value per layer, as with length='unit' in every full layered network",
    igraph="betweenness(directed=True, weights=lengths)",
    reference="Freeman 1977; Brandes 2001",
)
def betweenness(graph: Weighted, *, samples: int = 0, seed: int = 0) -> Any:
    """The number of pairs of other neurons whose shortest path leads through it, shared by ties.

    Along the links, not normalised, as igraph's. Paths are equally short where their lengths
    differ by less than 1e-10 of their sum, so scaling all weights changes nothing with
    length="inverse" or "weight"; igraph measures the difference against that sum plus 2. Parallel
    links are paths of their own.

    With ``samples`` that many sources stand for all, and the column ``betweenness_error`` is half
    the width of a 95 % interval around each neuron's value.

    Sources: Freeman, 1977, doi:10.2307/3033543; Brandes, 2001, doi:10.1080/0022250X.2001.9990249.
    """
    every = np.arange(graph.neuron_count)
    return _betweenness(graph, "betweenness", every, every, samples, seed)


@_declared(
    level="neuron",
    formula=r"$b_i = \sum_{s \in in,\, t \in out} \frac{\sigma_{st}(i)}{\sigma_{st}}$ over "
    r"$s \neq i \neq t$, " + PATHS,
    sees="hidden neurons that the strongest ways from an input to an output lead through",
    leave="with few outputs few neurons are on a shortest path at all; `betweenness` counts the "
    "ways between all neurons, `path_score` sums all paths from inputs to outputs",
    degenerate="one value per layer, as with length='unit' in every full layered network",
    igraph="betweenness(directed=True, weights=lengths, sources=inputs, targets=outputs)",
    reference="Freeman 1977; Brandes 2008",
)
def betweenness_io(graph: Weighted, *, samples: int = 0, seed: int = 0) -> Any:
    """Betweenness of the paths from neurons of input layers to neurons of output layers.

    As igraph's with these sources and targets; else as `betweenness`. With ``samples`` that many
    input neurons stand for all.

    Source: Brandes, 2008, doi:10.1016/j.socnet.2007.11.001 (subsets of sources and targets).
    """
    inputs = np.flatnonzero(marked(graph, "input"))
    outputs = np.flatnonzero(marked(graph, "output"))
    return _betweenness(graph, "betweenness_io", inputs, outputs, samples, seed)


@_declared(
    level="network",
    formula=r"$E = \frac{1}{n (n - 1)} \sum_{i \neq j} \frac{1}{d(i, j)}$, 0 for what is not "
    "reached, " + DISTANCE,
    sees="a network whose neurons reach each other along strong links, over few of them",
    leave="it grows with the scale of the weights: compare epochs of one run, or scale first",
    degenerate="no link leads anywhere, or two neurons are at distance 0, as with length='log'",
    igraph='numpy.mean(harmonic_centrality(mode="out", weights=lengths))',
    reference="Latora and Marchiori 2001",
)
def efficiency(graph: Weighted, *, samples: int = 0, seed: int = 0) -> Any:
    """The mean over ordered pairs of neurons of the inverse of their distance, along the links.

    With ``samples`` that many sources stand for all, and ``efficiency_error`` is half the width of
    a 95 % interval around it.

    Source: Latora and Marchiori, 2001, doi:10.1103/PhysRevLett.87.198701.
    """
    _refuse_empty(graph, "efficiency")
    sources = _drawn(graph, samples, seed)
    if len(sources) < graph.neuron_count:
        value, error = estimates.efficiency(graph, sources)
    else:
        value = _found(graph, "efficiency").inverse.mean() / (graph.neuron_count - 1)
        error = np.zeros(())
    if np.isinf(value):
        raise DegenerateMeasure(
            "efficiency says nothing on this network",
            why="two of its neurons are at distance 0, whose inverse is infinite",
            fix="ask for length='inverse'" if graph.length == "log" else "ask for closeness",
        )
    if len(links_of(graph).unknown_source):
        value = error = np.full((), np.nan)
    columns = {"efficiency": float(value), "efficiency_error": float(error)}
    return columns if samples else columns["efficiency"]


def _betweenness(
    graph: Weighted, name: str, starts: Places, ends: Places, samples: int, seed: int
) -> Any:
    _refuse_empty(graph, name)
    sources = drawn(starts, samples, seed)
    if len(sources) < len(starts):
        to_ends = name == "betweenness_io"
        value, error = estimates.betweenness(graph, sources, starts, to_ends=to_ends)
    else:
        found, error = _found(graph, name), np.zeros(graph.neuron_count)
        value = found.depends_ends if name == "betweenness_io" else found.depends
    lost = unknown_between(graph, starts, ends)
    return _columns(graph, name, value, error if samples else None, lost)


def _found(graph: Weighted, name: str) -> Found:
    """What sweeps from all neurons find, once for all measures of a call that need them."""
    wanted = (graph.wanted | {name}) & FAMILY
    known, found = graph.shared.get("swept from all", (frozenset(), None))
    if name not in known:
        every = np.ones(graph.neuron_count)
        found = sweep_from(
            graph,
            every * ("betweenness" in wanted),
            marked(graph, "input") * ("betweenness_io" in wanted),
            every * bool(wanted & OF_DISTANCES),
        )
        graph.shared["swept from all"] = wanted, found
    swept: Found = found
    return swept


def _drawn(graph: Weighted, samples: int, seed: int) -> Places:
    return drawn(np.arange(graph.neuron_count), samples, seed)


def _columns(
    graph: Weighted, name: str, value: Values, error: Values | None, lost: Any
) -> Values | dict[str, Values]:
    """The values, NaN where they are ``lost``; refused where the architecture decides them."""
    if any(layer.size > 1 for layer in graph.network.layers):
        fix = f"ask for length='inverse', {OTHERWISE}" if graph.length == "unit" else OTHERWISE
        known = np.where(np.isnan(value), 0.0, value)  # nothing is reached
        refuse_constant(graph, name, np.where(lost, np.nan, known), fix=fix)
    value = np.where(lost, np.nan, value)
    if error is None:
        return value
    return {name: value, f"{name}_error": np.where(np.isnan(value), np.nan, error)}


def _refuse_empty(graph: Weighted, name: str) -> None:
    """Raise `DegenerateMeasure` where no link has a length."""
    links = links_of(graph)
    if len(links.out_length) or len(links.unknown_source):
        return
    refuse_without_weight(graph, name)
    raise DegenerateMeasure(
        f"{name} says nothing on this network",
        why=f"each of its {graph.link_count:,} links is infinitely long",
        fix=f"ask for another length: {', '.join(one for one in LENGTHS if one != graph.length)}",
    )
