"""What a measure will cost, known before it starts.

Rates are of one core of an ordinary machine; a plan is right within a few times, which is enough
to tell a second from a day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cntgraph.measures.weighted import Weighted

__all__ = ["COSTS", "Cost"]


@dataclass(frozen=True)
class Cost:
    """How time and memory grow, in words and as an estimate."""

    text: str
    seconds: Callable[[Weighted], float]
    bytes: Callable[[Weighted], float]


def _weights(graph: Weighted) -> float:
    return float(sum(tensor.numel() for tensor in graph.network.weights.values()))


def _carried(graph: Weighted) -> float:
    """The work of one application of every block to a vector: less than its links where it can."""
    return float(sum(step.work for step in graph.steps))


def _links(graph: Weighted) -> float:
    return float(graph.link_count)


def _all_pairs(graph: Weighted) -> float:
    """Links times sources: what sweeps from every neuron would try without bounds."""
    return graph.network.neuron_count * _links(graph)


def _squares(graph: Weighted) -> float:
    from cntgraph.measures.products import seconds_of_squares

    return seconds_of_squares(graph)


COSTS = {
    "sums": Cost(
        "O(weights): one read of the weights, no link is listed",
        lambda g: 2e-9 * _weights(g) + 1e-7 * g.network.neuron_count,
        lambda g: 64.0 * g.network.neuron_count + 16 * _weights(g),
    ),
    "sweep": Cost(
        "O(one forward pass): a sweep of operators, no link is listed",
        lambda g: 4e-9 * _carried(g) + 1e-7 * g.network.neuron_count,
        lambda g: 64.0 * g.network.neuron_count + 16 * _weights(g),
    ),
    "iteration": Cost(
        "O(forward passes until it converges): operators, no link is listed",
        lambda g: 2e-7 * _carried(g) + 1e-6 * g.network.neuron_count,
        lambda g: 256.0 * g.network.neuron_count + 16 * _weights(g),
    ),
    "links": Cost(
        "O(links), which are listed",
        lambda g: 2e-7 * _links(g),
        lambda g: 60 * _links(g) + 64 * g.network.neuron_count,
    ),
    "pairs": Cost(
        "O(neurons x links) at worst, a fraction of it by bounds; links are listed",
        lambda g: 3e-11 * _all_pairs(g) + 4e-8 * _links(g),
        lambda g: 72 * _links(g) + 512 * g.network.neuron_count,
    ),
    "products": Cost(
        "O(links x partners of a neuron): products of sparse or dense matrices",
        _squares,
        lambda g: 160 * _links(g) + 64 * g.network.neuron_count,
    ),
    "igraph": Cost(
        "O(links) in igraph, which needs some 200 bytes a link",
        lambda g: 5e-6 * _links(g),
        lambda g: 200 * _links(g) + 250 * g.network.neuron_count,
    ),
}
