"""Element by element: identity, skip, scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from cntgraph.network.operators.operator import Columns, Links, Operator, Values

if TYPE_CHECKING:
    from torch import Tensor

    from cntgraph.network.expressions import Expression

__all__ = ["Diagonal"]


@dataclass(frozen=True, eq=False)
class Diagonal(Operator):
    """y = w x element by element, ``w`` broadcast to ``shape``: identity, skip, scale."""

    kind: ClassVar[str] = "diagonal"
    shape: tuple[int, ...]

    @property
    def size_in(self) -> int:
        return math.prod(self.shape)

    @property
    def size_out(self) -> int:
        return math.prod(self.shape)

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        return x * w.to(x.dtype).expand(self.shape).reshape(1, -1)

    def transpose(self, w: Tensor, y: Tensor) -> Tensor:
        return self.forward(w, y)

    def entries(self, w: Values) -> Values:
        if isinstance(w, np.ndarray):
            return np.broadcast_to(w, self.shape).reshape(-1)
        return w.expand(self.shape).reshape(-1)

    def flat_weight(self, weight: Expression) -> Expression:
        spread = weight.apply("aten.expand.default", list(self.shape))
        return spread.apply("aten.reshape.default", [-1])

    def links(self, batch: int) -> Links:
        for first in range(0, self.size_in, batch):
            place = np.arange(first, min(first + batch, self.size_in))
            yield place, place, place

    def links_into(self, place: int) -> Columns:
        here = np.asarray([place])
        return here, here, here

    def links_out_of(self, place: int) -> Columns:
        return self.links_into(place)

    def counts(self) -> tuple[Tensor, Tensor]:
        import torch

        ones = torch.ones(self.size_in, dtype=torch.int64)
        return ones, ones

    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        flat = w.detach().to(torch.float64).expand(self.shape).reshape(-1)
        parts = torch.stack([flat.clamp(min=0), flat.clamp(max=0)])
        return parts, parts

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "shape": list(self.shape)}
