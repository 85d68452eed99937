"""Links kept as pairs: pooling, what a filter leaves, and joins without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cntgraph.errors import InputRefused
from cntgraph.network.geometry import Index, Pattern
from cntgraph.network.operators.operator import Columns, Links, Operator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Fixed", "Opaque", "Sparse"]


@dataclass(frozen=True, eq=False)
class Fixed(Operator):
    """Links whose weights belong to the architecture: average pooling, upsampling, means."""

    kind: ClassVar[str] = "fixed"
    pattern: Pattern

    @property
    def size_in(self) -> int:
        return self.pattern.lead * self.pattern.size_in

    @property
    def size_out(self) -> int:
        return self.pattern.lead * self.pattern.size_out

    def _apply(self, w: Tensor, x: Tensor, source: Index, target: Index, size: int) -> Tensor:
        import torch

        maps = x.reshape(-1, len(x[0]) // self.pattern.lead) if len(x) else x
        matrix = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([target, source])).to(x.device),
            w.to(device=x.device, dtype=x.dtype),
            (size, maps.shape[1]),
            check_invariants=False,
        )
        return (matrix @ maps.T).T.reshape(len(x), -1)

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        p = self.pattern
        return self._apply(w, x, p.source, p.target, p.size_out)

    def transpose(self, w: Tensor, y: Tensor) -> Tensor:
        p = self.pattern
        return self._apply(w, y, p.target, p.source, p.size_in)

    def links(self, batch: int) -> Links:
        yield from _pattern_links(self.pattern, batch)

    def links_into(self, place: int) -> Columns:
        return _pattern_links_at(self.pattern, target=place)

    def links_out_of(self, place: int) -> Columns:
        return _pattern_links_at(self.pattern, source=place)

    def counts(self) -> tuple[Tensor, Tensor]:
        return _pattern_counts(self.pattern)

    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        p = self.pattern
        parts = torch.stack([w.to(torch.float64).clamp(min=0), w.to(torch.float64).clamp(max=0)])
        into, out = parts.new_zeros(2, p.size_out), parts.new_zeros(2, p.size_in)
        into.index_add_(1, torch.from_numpy(p.target).to(w.device), parts)
        out.index_add_(1, torch.from_numpy(p.source).to(w.device), parts)
        return into.repeat(1, p.lead), out.repeat(1, p.lead)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "pattern": self.pattern.to_json()}


@dataclass(frozen=True, eq=False)
class Sparse(Fixed):
    """Trained links listed one by one: what a filter leaves of a block."""

    kind: ClassVar[str] = "sparse"


@dataclass(frozen=True, eq=False)
class Opaque(Operator):
    """A way for data into a join that has no weights: max pooling, products, anything unknown.

    The join itself is executed by the layer; the block knows, where ``pattern`` is given, which
    values reach which neuron. Where it is not, the values are ``parts`` of equal length, one after
    the other, and every value may reach every neuron of its own part.
    """

    kind: ClassVar[str] = "opaque"
    size: int
    outputs: int
    pattern: Pattern | None = None
    parts: int = 1

    @property
    def size_in(self) -> int:
        return self.size

    @property
    def size_out(self) -> int:
        return self.outputs

    @property
    def _part(self) -> tuple[int, int]:
        """Inputs and outputs of one part."""
        return self.size // self.parts, self.outputs // self.parts

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        raise InputRefused("an opaque block is not linear: its layer computes it")

    def links(self, batch: int) -> Links:
        if self.pattern is not None:
            for source, target, _ in _pattern_links(self.pattern, batch):
                yield source, target, np.zeros(len(source), dtype=np.int64)
            return
        wide, high = self._part
        at_once = max(1, batch // max(1, wide))
        for first in range(0, self.outputs if wide else 0, at_once):
            target = np.arange(first, min(first + at_once, self.outputs))[:, None]
            for cut in range(0, wide, batch):
                within = np.arange(cut, min(cut + batch, wide))
                yield _without_weight(target // high * wide + within, target)

    def links_into(self, place: int) -> Columns:
        if self.pattern is not None:
            return _without_weight(*_pattern_links_at(self.pattern, target=place)[:2])
        wide, high = self._part
        return _without_weight(place // high * wide + np.arange(wide), place)

    def links_out_of(self, place: int) -> Columns:
        if self.pattern is not None:
            return _without_weight(*_pattern_links_at(self.pattern, source=place)[:2])
        wide, high = self._part
        return _without_weight(place, place // wide * high + np.arange(high))

    def counts(self) -> tuple[Tensor, Tensor]:
        import torch

        if self.pattern is not None:
            return _pattern_counts(self.pattern)
        wide, high = self._part
        return torch.full((self.outputs,), wide), torch.full((self.size,), high)

    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        zero = w.new_zeros(1)
        return zero.expand(2, self.outputs), zero.expand(2, self.size)

    def to_json(self) -> dict[str, Any]:
        pattern = None if self.pattern is None else self.pattern.to_json()
        sizes = {"size": self.size, "outputs": self.outputs, "parts": self.parts}
        return {"kind": self.kind, **sizes, "pattern": pattern}


def _without_weight(source: Index | int, target: Index | int) -> Columns:
    from_, to = (a.reshape(-1) for a in np.broadcast_arrays(source, target))
    return from_, to, np.zeros(len(from_), dtype=np.int64)


def _pattern_links(p: Pattern, batch: int) -> Links:
    at_once = max(1, batch // max(1, len(p.source)))
    for first in range(0, p.lead, at_once):
        lead = np.arange(first, min(first + at_once, p.lead))[:, None]
        for cut in range(0, len(p.source), batch):
            s = slice(cut, cut + batch)
            place = np.arange(len(p.source))[s]
            yield (
                (lead * p.size_in + p.source[s]).reshape(-1),
                (lead * p.size_out + p.target[s]).reshape(-1),
                np.tile(place, len(lead)),
            )


def _pattern_links_at(
    p: Pattern, *, source: int | None = None, target: int | None = None
) -> Columns:
    """The links of one input or of one output."""
    if target is not None:
        lead, place = divmod(target, p.size_out)
        found = np.flatnonzero(p.target == place)
    else:
        assert source is not None
        lead, place = divmod(source, p.size_in)
        found = np.flatnonzero(p.source == place)
    return lead * p.size_in + p.source[found], lead * p.size_out + p.target[found], found


def _pattern_counts(p: Pattern) -> tuple[Tensor, Tensor]:
    import torch

    into = torch.from_numpy(np.bincount(p.target, minlength=p.size_out).astype(np.int64))
    out = torch.from_numpy(np.bincount(p.source, minlength=p.size_in).astype(np.int64))
    return into.repeat(p.lead), out.repeat(p.lead)
