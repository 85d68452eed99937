"""The same sweeps as products of matrices over (min, +), for a device that multiplies many at once.

All sources of a batch go through the network together: their distances to a layer are the least
sums of their distances to the layers before it and the lengths of the links between. Nothing is
left out by bounds, as a core would do it; ties and the paths they share are those of `sweeping`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from cntgraph.measures.paths.adjacency import Adjacency, Places
from cntgraph.measures.paths.sweeping import TIE

if TYPE_CHECKING:
    from cntgraph.measures.steps import Values

__all__ = ["sweep_in_batches"]

AT_ONCE = 2**25  # sums that are looked at together: 256 MB of float64, and a few times that

Rows = torch.Tensor  # (sources of the batch, neurons of a layer)


class _Complete(NamedTuple):
    """Every pair of two layers, the length of each in the row of its target."""

    source: slice
    target: slice
    length: torch.Tensor  # (targets, sources)

    @property
    def width(self) -> int:
        """Numbers that one source of the batch needs."""
        return self.length.numel()

    def least(self, far: Rows) -> Rows:
        return (far[:, None, :] + self.length).amin(2)

    def _on_a_shortest(self, far: Rows, best: Rows) -> torch.Tensor:
        return far[:, None, :] + self.length <= best[:, :, None] * TIE

    def paths(self, far: Rows, best: Rows, paths: Rows) -> Rows:
        return torch.where(self._on_a_shortest(far, best), paths[:, None, :], 0.0).sum(2)

    def handed(self, far: Rows, best: Rows, share: Rows) -> Rows:
        return torch.where(self._on_a_shortest(far, best), share[:, :, None], 0.0).sum(1)


class _Listed(NamedTuple):
    """Some pairs of two layers, one by one; parallel links are several."""

    source: slice
    target: slice
    start: torch.Tensor
    end: torch.Tensor
    length: torch.Tensor

    @property
    def width(self) -> int:
        return max(1, self.length.numel())

    def least(self, far: Rows) -> Rows:
        found = far.new_full((len(far), self.target.stop - self.target.start), torch.inf)
        sums = far[:, self.start] + self.length
        return found.scatter_reduce_(1, self.end.expand(len(far), -1), sums, "amin")

    def _on_a_shortest(self, far: Rows, best: Rows) -> torch.Tensor:
        return far[:, self.start] + self.length <= best[:, self.end] * TIE

    def paths(self, far: Rows, best: Rows, paths: Rows) -> Rows:
        through = torch.where(self._on_a_shortest(far, best), paths[:, self.start], 0.0)
        return torch.zeros_like(best).index_add_(1, self.end, through)

    def handed(self, far: Rows, best: Rows, share: Rows) -> Rows:
        back = torch.where(self._on_a_shortest(far, best), share[:, self.end], 0.0)
        return torch.zeros_like(far).index_add_(1, self.start, back)


def sweep_in_batches(
    adj: Adjacency,
    sources: Places,
    weights: Values,
    ends: Values,
    device: torch.device,
) -> tuple[Values, Values]:
    """Distances (4, neurons) and what depends on each neuron (4, neurons), as `sweep` has them.

    Every source stands for itself: ``weights`` (2, neurons) are 1 where its paths to all targets,
    and those to the ``ends``, are wanted.
    """
    n = len(adj.layer_of)
    blocks = list(_blocks(adj, device))
    credits = [torch.ones(n, dtype=torch.float64), torch.from_numpy(ends)]
    credit = torch.stack(credits).to(device)
    distances, found = np.zeros((4, n)), torch.zeros(4, n, dtype=torch.float64, device=device)
    rows = max(1, AT_ONCE // max(n, 1))
    for first in range(0, len(sources), rows):
        batch = sources[first : first + rows]
        at = torch.from_numpy(batch).to(device)
        far = _distances(blocks, at, n)
        distances[:, batch] = _sums(far, at, credit[1]).cpu().numpy()
        wanted = torch.from_numpy(weights[:, batch]).to(device)
        if wanted.any():
            paths = _paths(blocks, far, at)
            for k in range(2):
                depends = _depends(blocks, far, paths, credit[k], at) * wanted[k][:, None]
                found[2 * k] += depends.sum(0)
                found[2 * k + 1] += depends.square().sum(0)
    return distances, found.cpu().numpy()


def _blocks(adj: Adjacency, device: torch.device) -> Iterator[_Complete | _Listed]:
    for place in range(len(adj.sources)):
        source, target = int(adj.source_first[place]), int(adj.target_first[place])
        sources, targets = int(adj.sources[place]), int(adj.targets[place])
        ends = slice(source, source + sources), slice(target, target + targets)
        base = adj.out_base[place]
        starts = adj.out_start[base : base + sources + 1]
        cut = slice(starts[0], starts[-1])
        length = torch.from_numpy(adj.out_length[cut])
        if adj.by_rows[place]:
            yield _Complete(*ends, length.view(sources, targets).T.contiguous().to(device))
            continue
        start = torch.from_numpy(np.repeat(np.arange(sources), np.diff(starts)))
        end = torch.from_numpy(adj.out_target[cut].astype(np.int64) - target)
        yield _Listed(*ends, start.to(device), end.to(device), length.to(device))


def _parts(block: _Complete | _Listed, at: torch.Tensor) -> Iterator[slice]:
    """The rows whose source lies no later than the block's, so many together as are looked at."""
    last = int(torch.searchsorted(at, block.source.stop))
    step = max(1, AT_ONCE // block.width)
    yield from (slice(k, min(k + step, last)) for k in range(0, last, step))


def _distances(blocks: list[_Complete | _Listed], at: torch.Tensor, n: int) -> Rows:
    """Distances from each source to every neuron; infinite where nothing leads."""
    far = torch.full((len(at), n), torch.inf, dtype=torch.float64, device=at.device)
    far[torch.arange(len(at), device=at.device), at] = 0.0
    for block in blocks:  # in topological order: their sources are final
        for part in _parts(block, at):
            best = far[part, block.target]
            torch.minimum(best, block.least(far[part, block.source]), out=best)
    return far


def _paths(blocks: list[_Complete | _Listed], far: Rows, at: torch.Tensor) -> Rows:
    """How many shortest paths lead from each source to every neuron."""
    paths = torch.zeros_like(far)
    paths[torch.arange(len(at), device=at.device), at] = 1.0
    for block in blocks:
        for part in _parts(block, at):
            paths[part, block.target] += block.paths(
                far[part, block.source], far[part, block.target], paths[part, block.source]
            )
    return paths


def _depends(
    blocks: list[_Complete | _Listed], far: Rows, paths: Rows, credit: Rows, at: torch.Tensor
) -> Rows:
    """What depends on every neuron, of each source; nothing on the source itself."""
    depends = torch.zeros_like(far)
    for block in reversed(blocks):
        for part in _parts(block, at):
            there = paths[part, block.target]
            share = (credit[block.target] + depends[part, block.target]) / there
            share = torch.where(there > 0, share, 0.0)
            ends = far[part, block.source], far[part, block.target]
            depends[part, block.source] += block.handed(*ends, share) * paths[part, block.source]
    depends[torch.arange(len(at), device=at.device), at] = 0.0
    return depends


def _sums(far: Rows, at: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """Of each source the sum of its distances, of their inverses, how many it reaches, and ends."""
    reached = far.isfinite()
    reached[torch.arange(len(at), device=at.device), at] = False
    return torch.stack(
        [
            torch.where(reached, far, 0.0).sum(1),
            torch.where(reached, 1.0 / far, 0.0).sum(1),
            reached.sum(1).double(),
            torch.where(reached, ends, 0.0).sum(1),
        ]
    )
