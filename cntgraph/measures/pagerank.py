"""PageRank of a layered network is one sweep: what flows is known before it is passed on.

On a network whose layers are in topological order the usual iteration ends after a single pass.
With |w| the absolute weight of a link and s its source's absolute out-strength,

    rank_target = 1 + damping * sum over its links of rank_source * |w| / s

and the ranks are scaled to sum to 1. What a neuron without outgoing links would hand to everybody
only changes that scale, so the result is `igraph.Graph.pagerank` of the explicit graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cntgraph.errors import InputRefused
from cntgraph.network import Block, Network
from cntgraph.network.expressions import literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["PATH_KINDS", "pagerank", "pagerank_backward"]

PATH_KINDS = ("weight", "identity", "fixed", "scale", "select")


def pagerank(
    network: Network, *, damping: float = 0.85, kinds: Sequence[str] = PATH_KINDS
) -> NDArray[np.float64]:
    """PageRank of every neuron along the direction of computation, in id order, summing to 1.

    Weights are taken absolute; carrying links are followed too: identity, fixed and scale with
    their weight, select with 1. Source: Brin and Page, 1998, doi:10.1016/S0169-7552(98)00110-X.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> from cntgraph.tracing import trace
    >>> pagerank(trace(layer, (1, 2))).round(3).tolist()
    [0.213, 0.213, 0.574]
    """
    steps = _steps(network, kinds)
    return _sweep(network, steps, damping)


def pagerank_backward(
    network: Network, *, damping: float = 0.85, kinds: Sequence[str] = PATH_KINDS
) -> NDArray[np.float64]:
    """PageRank against the direction of computation: of the graph with every link turned round."""
    steps = [_Turned(step) for step in reversed(_steps(network, kinds))]
    return _sweep(network, steps, damping)


def _sweep(
    network: Network, steps: Sequence[_Absolute | _Turned], damping: float
) -> NDArray[np.float64]:
    import torch

    if not 0 <= damping < 1:
        raise InputRefused(f"damping={damping}", fix="give a number from 0 to less than 1")
    out = torch.zeros(network.neuron_count, dtype=torch.float64)
    for step in steps:
        target = torch.ones(step.target.stop - step.target.start, dtype=torch.float64)
        out[step.source] += step.pull(target)
    rank = torch.ones_like(out)
    for step in steps:  # in topological order: a source is complete before it is passed on
        share = torch.where(out[step.source] == 0, 0.0, rank[step.source] / out[step.source])
        rank[step.target] += damping * step.push(share)
    total: NDArray[np.float64] = (rank / rank.sum()).numpy()
    return total


def _steps(network: Network, kinds: Sequence[str]) -> list[_Absolute]:
    """The blocks in the topological order of the layers they lead to."""
    sizes = {layer.name: layer.size for layer in network.layers}
    blocks = sorted(network.carrying_blocks(kinds), key=lambda b: b.target_first)
    return [_Absolute(_absolute(block), sizes[block.target]) for block in blocks]


def _absolute(block: Block) -> Block:
    """The block with |w| of the weights that its links list, in float64."""
    import torch

    # not `map`: it folds batch norms in float64, and links are listed as precise as stored
    return replace(block, weight=literal(block.tensor.detach().to(torch.float64).abs()))


@dataclass(frozen=True)
class _Absolute:
    """A block with absolute weights, applied where they are, from and to vectors on the CPU."""

    block: Block
    target_size: int

    @property
    def source(self) -> slice:
        return slice(self.block.source_first, self.block.source_first + self.block.source_size)

    @property
    def target(self) -> slice:
        return slice(self.block.target_first, self.block.target_first + self.target_size)

    def push(self, x: Tensor) -> Tensor:
        if self.block.kind == "opaque":
            return self._along_links(x, self.source, self.target, forward=True)
        return self.block.forward(x.to(self.block.tensor.device)[None])[0].cpu()

    def pull(self, y: Tensor) -> Tensor:
        if self.block.kind == "opaque":
            return self._along_links(y, self.target, self.source, forward=False)
        return self.block.transpose(y.to(self.block.tensor.device)[None])[0].cpu()

    def _along_links(self, x: Tensor, here: slice, there: slice, *, forward: bool) -> Tensor:
        """What an opaque block carries: its join is not linear, its links are."""
        import torch

        total = torch.zeros(there.stop - there.start, dtype=torch.float64)
        for links in self.block.links():
            ends = (links.source, links.target) if forward else (links.target, links.source)
            source, target = (torch.from_numpy(end) for end in ends)
            weighted = x[source - here.start] * torch.from_numpy(links.weight)
            total.index_add_(0, target - there.start, weighted)
        return total


@dataclass(frozen=True)
class _Turned:
    """A step walked the other way."""

    step: _Absolute

    @property
    def source(self) -> slice:
        return self.step.target

    @property
    def target(self) -> slice:
        return self.step.source

    def push(self, x: Tensor) -> Tensor:
        return self.step.pull(x)

    def pull(self, y: Tensor) -> Tensor:
        return self.step.push(y)
