"""A network under one convention: which links, what of their signs, how long each of them is.

Every measure is given one, and what several of them need is computed once: the absolute operators,
the listed links, the distances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.graphs.memory import require_memory
from cntgraph.measures.steps import Step, Turned, Values, of_sign
from cntgraph.network import Block, Network
from cntgraph.network.geometry import Index

if TYPE_CHECKING:
    import igraph
    import scipy.sparse

__all__ = ["Links", "Weighted"]

PER_LINK = 60  # bytes at the peak of listing: ids, weights and one copy of each


@dataclass(frozen=True, eq=False)
class Links:
    """Every link: ids of its two neurons, its weight under the sign, and its block."""

    source: Index
    target: Index
    weight: Values
    block: NDArray[np.int32]  # the place of its block in `Weighted.blocks`


@dataclass(eq=False)
class Weighted:
    """A network whose links have the kinds, the sign and the length that a call asks for.

    ``length`` is ``inverse`` (1/w), ``log`` (-log(w / largest)), ``weight`` (w) or ``unit`` (1),
    of the weight under the sign. ``largest`` is the largest such weight of the network, or of all
    the epochs it is one of. ``wanted`` names all measures of the call that see it, so that the
    first to need a distance computes what the others need as well.
    """

    network: Network
    sign: str
    kinds: tuple[str, ...]
    length: str = ""
    wanted: frozenset[str] = frozenset()
    given_largest: float | None = None
    shared: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks that are followed, in the topological order of the layers they lead to."""
        found = self.network.carrying_blocks(self.kinds)
        return tuple(sorted(found, key=lambda b: (b.target_first, b.source_first)))

    @property
    def neuron_count(self) -> int:
        """Number of neurons."""
        return self.network.neuron_count

    @cached_property
    def link_count(self) -> int:
        """Number of links that are followed, counted without listing them."""
        return sum(block.link_count for block in self.blocks)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The blocks as linear maps, in topological order: a source is complete before its step."""
        return tuple(Step(block, self.sign) for block in self.blocks)

    @cached_property
    def turned(self) -> tuple[Turned, ...]:
        """The steps of the graph with every link turned round, in its topological order."""
        return tuple(Turned(step) for step in reversed(self.steps))

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of layers (source, target) that links join, in topological order."""
        return tuple(dict.fromkeys((b.source, b.target) for b in self.blocks))

    def between(self, source: str, target: str) -> tuple[Step, ...]:
        """The steps from one layer to another: two where a block and a skip join the same pair."""
        ends = source, target
        return tuple(s for s in self.steps if (s.block.source, s.block.target) == ends)

    @cached_property
    def links(self) -> Links:
        """Every link, listed block by block; refused where they do not fit in memory."""
        count = self.link_count
        require_memory(count, PER_LINK, self.neuron_count, 64, what="a list of links")
        source, target = np.empty(count, np.int64), np.empty(count, np.int64)
        weight, block = np.empty(count), np.empty(count, np.int32)
        at = 0
        for place, one in enumerate(self.blocks):
            for batch in one.links():
                cut = slice(at, at + len(batch.source))
                source[cut], target[cut], block[cut] = batch.source, batch.target, place
                weight[cut] = of_sign(batch.weight, self.sign)
                at = cut.stop
        return Links(source, target, weight, block)

    @cached_property
    def largest(self) -> float:
        """The largest weight under the sign: of the network, or of all epochs of its run."""
        if self.given_largest is not None:
            return self.given_largest
        return largest_weight(self.network, self.sign, self.kinds)

    @cached_property
    def lengths(self) -> Values:
        """The length of every link of `links`; infinite where the weight is zero."""
        return self.length_of(self.links.weight)

    def length_of(self, weight: Values) -> Values:
        """The length of links of these weights under the sign; none is negative, NaN stays NaN."""
        found: Values
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            if self.length == "inverse":
                found = 1.0 / weight
                return np.abs(found, out=found)  # of -0.0 too it is infinite
            if self.length == "log":  # an infinite weight is no shorter than the largest finite one
                found = np.maximum(-np.log(weight / self.largest), 0.0)
            elif self.length == "unit":
                found = np.where(np.isnan(weight), np.nan, 1.0)
            else:
                found = weight
        return np.where(weight == 0, np.inf, found)

    @cached_property
    def matrix(self) -> scipy.sparse.csr_array:
        """The weight of i -> j in row i and column j; parallel links are added up."""
        import scipy.sparse

        links, n = self.links, self.neuron_count
        ends = links.source, links.target
        return scipy.sparse.csr_array((links.weight, ends), shape=(n, n))

    def igraph(self, *, directed: bool = True) -> igraph.Graph:
        """The explicit graph with these weights; its edges come in the order of `Network.links`."""
        key = f"igraph, directed={directed}"
        if key not in self.shared:
            graph = self.network.to_igraph(self.kinds)
            graph.es["weight"] = of_sign(np.asarray(graph.es["weight"]), self.sign).tolist()
            self.shared[key] = graph if directed else graph.as_undirected(mode="each")
        return self.shared[key]


def largest_weight(network: Network, sign: str, kinds: Sequence[str]) -> float:
    """The largest finite weight of a network's links under a sign; 0 where there is none."""
    return max((_largest(b, sign) for b in network.carrying_blocks(kinds)), default=0.0)


def _largest(block: Block, sign: str) -> float:
    if block.link_count == 0:
        return 0.0
    if block.inputs is None or bool((block.inputs >= 0).all()):  # every entry is a link's weight
        entries = block.operator.entries(block.tensor.detach()).double().cpu().numpy()
        return _finite_maximum(of_sign(entries, sign))
    return max(_finite_maximum(of_sign(links.weight, sign)) for links in block.links())


def _finite_maximum(weight: Values) -> float:
    return float(weight[np.isfinite(weight)].max(initial=0.0))
