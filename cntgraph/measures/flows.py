"""What flows through a network, in one sweep: what arrives is known before it is passed on.

On a network whose layers are in topological order the usual iterations end after a single pass,
and a pass is the network's own operators with |w| in place of w. No link is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.errors import InputRefused
from cntgraph.measures.declaring import PATH_KINDS, declared

if TYPE_CHECKING:
    from cntgraph.measures.steps import Step, Turned, Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []


@declared(
    level="neuron",
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"$r_j = \frac{1}{Z}\bigl(1 + d \sum_i r_i \frac{|w_{ij}|}{\sum_k |w_{ik}|}\bigr)$, "
    r"$d$ the damping, $\sum_j r_j = 1$",
    sees="where a walker along the links is found: neurons fed by strong shares of strong neurons",
    leave="deeper layers collect more walkers; compare neurons within a layer",
    igraph='pagerank(weights="weight")',
    reference="Brin and Page 1998",
)
def pagerank(graph: Weighted, *, damping: float = 0.85) -> Values:
    """PageRank along the direction of computation, summing to 1.

    What a neuron without outgoing links would hand to everybody only changes the scale, so the
    result is igraph's of the explicit graph of absolute weights.

    Source: Brin and Page, 1998, doi:10.1016/S0169-7552(98)00110-X.
    """
    return _ranks(graph, graph.steps, damping)


@declared(
    level="neuron",
    kinds=PATH_KINDS,
    cost="sweep",
    formula=r"PageRank of the graph with every link turned round",
    sees="neurons that strong shares of the outputs come from",
    leave="earlier layers collect more walkers; compare neurons within a layer",
    igraph='reverse_edges(), then pagerank(weights="weight")',
    reference="Brin and Page 1998",
)
def pagerank_backward(graph: Weighted, *, damping: float = 0.85) -> Values:
    """PageRank against the direction of computation: from the outputs to the inputs."""
    return _ranks(graph, graph.turned, damping)


def _ranks(graph: Weighted, steps: Sequence[Step | Turned], damping: float) -> Values:
    if not 0 <= damping < 1:
        raise InputRefused(f"damping={damping}", fix="give a number from 0 to less than 1")
    out = np.zeros(graph.neuron_count)
    for step in steps:
        out[step.source] += step.pull(np.ones(step.target.stop - step.target.start))
    rank = np.ones_like(out)
    for step in steps:  # a source is complete before it is passed on
        rank[step.target] += damping * step.push(shares(rank[step.source], out[step.source]))
    rank /= rank.sum()
    return rank


def shares(value: Values, of: Values) -> Values:
    """A quotient that is zero where nothing is divided by nothing."""
    return np.divide(value, of, out=np.zeros_like(value), where=of != 0)
