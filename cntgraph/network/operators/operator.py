"""What every kind of block can do: apply itself, go backwards, and list its links.

An operator is geometry alone; the weights are given to every call. It sees its input and its
output flat, the batch in front: ``forward`` maps (batch, size_in) to (batch, size_out), and
``links`` names by integers which input feeds which output through which element of the weight
tensor. The law that binds the two is tested for every kind: the links reproduce the forward.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cntgraph.network.geometry import Index

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from cntgraph.network.expressions import Expression

__all__ = ["Columns", "Links", "Operator", "Values"]

Values = TypeVar("Values", "Tensor", "NDArray[Any]")
Columns = tuple[Index, Index, Index]  # source, target, element of the weight
Links = Iterator[Columns]


@dataclass(frozen=True, eq=False)
class Operator(ABC):
    """A linear map with links, or an opaque one that only knows where its data runs."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def size_in(self) -> int:
        """Length of the flat input."""

    @property
    @abstractmethod
    def size_out(self) -> int:
        """Length of the flat output."""

    @abstractmethod
    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        """A x, for ``x`` (batch, size_in)."""

    def transpose(self, w: Tensor, y: Tensor) -> Tensor:
        """A' y, for ``y`` (batch, size_out): the adjoint of `forward`."""
        import torch

        start = y.new_zeros((len(y), self.size_in))
        (found,) = torch.func.vjp(lambda x: self.forward(w, x), start)[1](y)
        return found  # type: ignore[no-any-return]

    @abstractmethod
    def links(self, batch: int) -> Links:
        """Batches of (source, target, element of the weight) as flat int64 positions."""

    @abstractmethod
    def links_into(self, place: int) -> Columns:
        """The links into one output."""

    @abstractmethod
    def links_out_of(self, place: int) -> Columns:
        """The links out of one input."""

    @abstractmethod
    def counts(self) -> tuple[Tensor, Tensor]:
        """Number of links into each output and out of each input."""

    @abstractmethod
    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Positive and negative weights summed at each output and input: (2, size)."""

    def entries(self, w: Values) -> Values:
        """The flat tensor, or array, that the elements of `links` point into."""
        return w.reshape(-1)

    def flat_weight(self, weight: Expression) -> Expression:
        """The expression whose value is `entries`."""
        return weight.apply("aten.reshape.default", [-1])

    def masked_sums(self, w: Tensor, present: Tensor) -> Tensor:
        """The first of `sums` where only some inputs exist: (2, size_out)."""
        import torch

        x = present.to(torch.float64)[None]
        parts = [w.to(torch.float64).clamp(min=0), w.to(torch.float64).clamp(max=0)]
        return torch.cat([self.forward(part, x) for part in parts])

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What `operator_from_json` reads."""
