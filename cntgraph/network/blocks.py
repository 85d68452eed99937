"""A block joins two layers: a linear operator that can also list its links.

`Block` binds an operator to its weights and to the neurons it reads. ``inputs`` says which
neuron of the source feeds each place of the operator's input (-1: none of this layer), so that
views, permutations, concatenations and padding cost nothing and need no operator of their own;
None means the whole source layer in order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import Index, decode, encode
from cntgraph.network.operators import Columns, Operator, operator_from_json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LINK_KINDS", "Block", "LinkBatch"]

LINK_KINDS = ("weight", "fixed", "identity", "scale", "select", "data")


@dataclass(frozen=True, eq=False)
class LinkBatch:
    """Some links of one block, as columns."""

    source: Index
    target: Index
    weight: np.ndarray[Any, np.dtype[np.float64]]
    parameter: Index | int  # which of the block's parameters; -1 for none
    element: Index
    place: Index  # the entry of the operator's weight, which `element` traces to its parameter


@dataclass(frozen=True, eq=False)
class Block:
    """The links from one layer to another.

    ``kind`` is dense, convolution, diagonal, fixed or opaque; ``link_kind`` is weight, fixed,
    identity, scale, select or data. ``source_first`` and ``target_first`` are the ids of the first
    neurons of the two layers.
    """

    name: str
    source: str
    target: str
    link_kind: str
    operator: Operator = field(repr=False)
    weight: Expression = field(repr=False)
    weights: Mapping[str, Tensor] = field(repr=False)
    source_first: int = field(repr=False)
    target_first: int = field(repr=False)
    source_size: int = field(repr=False)
    inputs: Index | None = field(default=None, repr=False)
    operand: int = field(default=0, repr=False)

    @property
    def kind(self) -> str:
        """The kind of operator."""
        return self.operator.kind

    @property
    def certain(self) -> bool:
        """True if its links are known one by one, not only what may reach what."""
        return getattr(self.operator, "pattern", None) is not None or self.kind != "opaque"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the model's tensors that its weights are computed from."""
        return self.weight.parameters

    @cached_property
    def link_count(self) -> int:
        """Number of links, counted without listing them."""
        return int(self.counts()[0].sum())

    @property
    def tensor(self) -> Tensor:
        """The weights as the operator takes them, where they are stored.

        As precise as they are stored; in float64 where they are computed from others.
        """
        import torch

        return self.weight.evaluate(self.weights, torch.float64 if self.weight.computed else None)

    @property
    def array(self) -> np.ndarray[Any, Any] | None:
        """`tensor` as an array and without PyTorch, where a run has stored what it is made of."""
        return self.weight.array(self.weights)

    @cached_property
    def _inputs(self) -> Tensor | None:
        import torch

        return None if self.inputs is None else torch.from_numpy(self.inputs)

    def gather(self, x: Tensor) -> Tensor:
        """The operator's input (batch, size_in) from the values of the source layer."""
        if self._inputs is None:
            return x
        index = self._inputs.to(x.device)
        return x[:, index.clamp(min=0)].masked_fill(index < 0, 0)

    def _scatter(self, y: Tensor, size: int) -> Tensor:
        if self._inputs is None:
            return y
        index = self._inputs.to(y.device)
        kept = index >= 0
        return y.new_zeros(len(y), size).index_add_(1, index[kept], y[:, kept])

    def forward(self, x: Tensor) -> Tensor:
        """What it adds to the target: (batch, source size) to (batch, target size)."""
        if not x.is_floating_point():  # tokens and masks, counted as numbers
            x = x.to(self.tensor.dtype)
        w = self.weight.evaluate(self.weights, x.dtype)
        return self.operator.forward(w.to(x.dtype), self.gather(x))

    def transpose(self, y: Tensor) -> Tensor:
        """The adjoint of `forward`: (batch, target size) to (batch, source size)."""
        w = self.weight.evaluate(self.weights, y.dtype)
        return self._scatter(self.operator.transpose(w.to(y.dtype), y), self.source_size)

    def map(self, f: Callable[[Tensor], Tensor]) -> Block:
        """The same links with ``f`` of their weights; ``f`` is applied to the float64 weights.

        >>> block.map(torch.abs).forward(ones)          # absolute in-strength  # doctest: +SKIP
        """
        import torch

        return replace(self, weight=literal(f(self.weight.evaluate(self.weights, torch.float64))))

    def sums(self) -> tuple[Tensor, Tensor]:
        """Positive and negative weights summed in float64 at each target and at each source.

        Shapes (2, target size) and (2, source size), the positive sum first.
        """
        w = self.tensor
        into, out = self.operator.sums(w)
        index = self._inputs
        if index is None:
            return into, out
        present = index.to(w.device) >= 0
        if not bool(present.all()):
            into = self.operator.masked_sums(w, present)
        return into, self._scatter(out, self.source_size)

    def counts(self) -> tuple[Tensor, Tensor]:
        """Number of links into each target and out of each source, whatever their weight."""
        into, out = self.operator.counts()
        index = self._inputs
        if index is None:
            return into, out
        present = index >= 0
        if not bool(present.all()):
            into = self._present_counts(present)
        return into, self._scatter(out[None], self.source_size)[0]

    def _present_counts(self, present: Tensor) -> Tensor:
        import torch

        if self.operator.kind in ("dense", "convolution"):
            ones = torch.ones(self.tensor.shape, dtype=torch.float64)
            return self.operator.masked_sums(ones, present.cpu())[0].round().to(torch.int64)
        into = torch.zeros(self.operator.size_out, dtype=torch.int64)
        for source, target, _ in self.operator.links(1_000_000):
            kept = present[torch.from_numpy(source)]
            into.index_add_(0, torch.from_numpy(target), kept.to(torch.int64))
        return into

    def links(self, batch: int = 1_000_000) -> Iterator[LinkBatch]:
        """The links as columns of global neuron ids, at most ``batch`` at a time."""
        entries, origins = self._entries()
        for columns in self.operator.links(batch):
            yield self._named(columns, entries, origins)

    def places(self, batch: int = 1_000_000) -> Iterator[Columns]:
        """The links by their places in both layers and the entries of the weight they point to.

        `links` also says which parameter each weight comes from, which takes longer.
        """
        return map(self._reading, self.operator.links(batch))

    def links_of(self, neuron: int) -> Iterator[LinkBatch]:
        """The links into and out of one neuron, by its id; no other link is listed."""
        at, from_ = neuron - self.target_first, neuron - self.source_first
        found: list[Columns] = []
        if 0 <= at < self.operator.size_out:
            found.append(self.operator.links_into(at))
        if 0 <= from_ < self.source_size:
            places = [from_] if self.inputs is None else np.flatnonzero(self.inputs == from_)
            found += [self.operator.links_out_of(int(place)) for place in places]
        if found:
            entries, origins = self._entries()
            yield from (self._named(columns, entries, origins) for columns in found)

    def _named(
        self, columns: Columns, entries: Tensor | np.ndarray[Any, Any], origins: Index | None
    ) -> LinkBatch:
        """An operator's links by the ids of neurons, without those that read nothing."""
        source, target, element = self._reading(columns)
        parameter, within = (0, element) if origins is None else self._parted(origins[element])
        return LinkBatch(
            source + self.source_first,
            target + self.target_first,
            _float64(entries, element),
            parameter,
            within,
            element,
        )

    def _reading(self, columns: Columns) -> Columns:
        """An operator's links by places in the source layer, without those that read nothing."""
        source, target, element = columns
        if self.inputs is None:
            return columns
        source = self.inputs[source]
        kept = source >= 0
        if kept.all():
            return source, target, element
        return source[kept], target[kept], element[kept]

    def _parted(self, origin: Index) -> tuple[Index | int, Index]:
        """Which of the parameters an origin is in, and which of its elements; -1 for none."""
        tensors: Mapping[str, Any] = getattr(self.weights, "arrays", self.weights)
        starts = np.cumsum([0, *(math.prod(tensors[name].shape) for name in self.parameters)])
        which = np.searchsorted(starts, origin, side="right") - 1
        return which, np.where(origin < 0, -1, origin - starts[which])

    def _entries(self) -> tuple[Tensor | np.ndarray[Any, Any], Index | None]:
        """The weights that the operator's links point into, and where these come from.

        The origins are None where the weight is one parameter as it is.
        """
        stored = self.array
        plain = self.weight.op == "parameter" and self.kind != "diagonal"
        if stored is not None:
            places = None if plain else self.operator.entries(self.weight.places(self.weights))
            return self.operator.entries(stored), places
        values = self.operator.entries(self.tensor.detach().cpu())
        if plain:
            return values, None
        origins = self.weight.origins(self.weights)
        return values, self.operator.entries(origins).numpy()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; the weights stay where they are."""
        return {
            "name": self.name,
            "source": self.source,
            "target": self.target,
            "link_kind": self.link_kind,
            "link_count": self.link_count,
            "parameters": list(self.parameters),
            "operator": self.operator.to_json(),
            "weight": self.weight.to_json(),
            "source_first": self.source_first,
            "target_first": self.target_first,
            "source_size": self.source_size,
            "inputs": None if self.inputs is None else encode(self.inputs),
            "operand": self.operand,
        }

    @staticmethod
    def from_json(data: dict[str, Any], weights: Mapping[str, Tensor]) -> Block:
        """The block that `to_json` described, bound to weights."""
        return Block(
            data["name"],
            data["source"],
            data["target"],
            data["link_kind"],
            operator_from_json(data["operator"]),
            Expression.from_json(data["weight"]),
            weights,
            data["source_first"],
            data["target_first"],
            data["source_size"],
            None if data["inputs"] is None else decode(data["inputs"]),
            data["operand"],
        )


def _float64(
    entries: Tensor | np.ndarray[Any, Any], element: Index
) -> np.ndarray[Any, np.dtype[np.float64]]:
    if isinstance(entries, np.ndarray):
        return entries[element].astype(np.float64)
    import torch

    if entries.dtype not in (torch.float32, torch.float64):
        entries = entries.to(torch.float64)
    return entries.numpy()[element].astype(np.float64)
