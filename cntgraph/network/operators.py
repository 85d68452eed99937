"""The kinds of block: each is linear in its input, and can list its links.

An operator is geometry alone; the weights are given to every call. It sees its input and its
output flat, the batch in front: ``forward`` maps (batch, size_in) to (batch, size_out), and
``links`` names by integers which input feeds which output through which element of the weight
tensor. The law that binds the two is tested for every kind: the links reproduce the forward.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused
from cntgraph.network.geometry import Axis, Index, Pattern, product_of_axes

if TYPE_CHECKING:
    from torch import Tensor

    from cntgraph.network.expressions import Expression

__all__ = [
    "Convolution",
    "Dense",
    "Diagonal",
    "Fixed",
    "Opaque",
    "Operator",
    "Sparse",
    "operator_from_json",
]

Links = Iterator[tuple[Index, Index, Index]]


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
    def counts(self) -> tuple[Tensor, Tensor]:
        """Number of links into each output and out of each input."""

    @abstractmethod
    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Positive and negative weights summed at each output and input: (2, size)."""

    def entries(self, w: Tensor) -> Tensor:
        """The flat tensor that the elements of `links` point into."""
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


class _Channels(Operator):
    """Every output channel hears every input channel of its group: dense and convolution."""

    copies: int
    channels_in: int
    channels_out: int
    groups: int
    axes: tuple[Axis, ...]

    @property
    def size_in(self) -> int:
        return self.copies * self.channels_in * math.prod(a.size for a in self.axes)

    @property
    def size_out(self) -> int:
        return self.copies * self.channels_out * math.prod(a.outputs for a in self.axes)

    @property
    def transposed(self) -> bool:
        return bool(self.axes) and self.axes[0].transposed

    @property
    def taps(self) -> int:
        return math.prod(a.taps for a in self.axes)

    def links(self, batch: int) -> Links:
        out, tap, source = product_of_axes(self.axes)
        inputs, outputs = (
            math.prod(a.size for a in self.axes),
            math.prod(a.outputs for a in self.axes),
        )
        wide, high = self.channels_in // self.groups, self.channels_out // self.groups
        pairs = self.copies * self.channels_out * wide
        at_once = max(1, batch // max(1, len(out)))
        for first in range(0, pairs, at_once):
            pair = np.arange(first, min(first + at_once, pairs))
            channel, i = np.divmod(pair, wide)
            copy, o = np.divmod(channel, self.channels_out)
            group = o // high
            if self.transposed:
                element = ((group * wide + i) * high + o % high) * self.taps
            else:
                element = (o * wide + i) * self.taps
            from_channel = (copy * self.channels_in + group * wide + i) * inputs
            for cut in range(0, len(out), batch):
                s = slice(cut, cut + batch)
                yield (
                    (from_channel[:, None] + source[s]).reshape(-1),
                    (channel[:, None] * outputs + out[s]).reshape(-1),
                    (element[:, None] + tap[s]).reshape(-1),
                )

    @cached_property
    def _incidence(self) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        return [a.incidence() for a in self.axes]

    def _spread(self, sums: Tensor, side: int) -> Tensor:
        """(..., channels, taps) to (..., neurons), by how often a tap is applied at each."""
        import torch

        if not self.axes and self.copies == 1:
            return sums[..., 0]
        shape = sums.shape[:-1]
        spread = sums.reshape(*shape, *(a.taps for a in self.axes))
        for incidence in self._incidence:
            matrix = torch.from_numpy(incidence[side]).to(sums.device)
            # the axis in front is contracted and comes back last, so the axes keep their order
            spread = torch.tensordot(spread, matrix, dims=([len(shape)], [1]))
        flat = spread.reshape(*shape[:-1], -1)
        return flat.repeat(*([1] * (flat.ndim - 1)), self.copies)

    def _channel_sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """(2, channels_out, taps) and (2, channels_in, taps): one read of the weights."""
        import torch

        grouped = w.detach().reshape(self.groups, -1, w.shape[1], self.taps)
        sums = [_signed_sums(part) for part in grouped]
        into, out = sums[0] if len(sums) == 1 else map(torch.hstack, zip(*sums, strict=True))
        return (out, into) if self.transposed else (into, out)

    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        into, out = self._channel_sums(w)
        return self._spread(into, 0), self._spread(out, 1)

    def masked_sums(self, w: Tensor, present: Tensor) -> Tensor:
        import torch

        by_channel = present.reshape(self.copies, self.channels_in, -1)
        if not self.axes or not bool((by_channel == by_channel[:1, :1]).all()):
            return super().masked_sums(w, present)
        # padding is the same in every channel, so the channels can be summed before
        out, tap, source = (torch.from_numpy(a).to(w.device) for a in product_of_axes(self.axes))
        outputs = math.prod(a.outputs for a in self.axes)
        applied = torch.zeros(self.taps * outputs, dtype=torch.float64, device=w.device)
        applied.index_add_(0, tap * outputs + out, by_channel[0, 0][source].to(torch.float64))
        into, _ = self._channel_sums(w)
        return (into @ applied.reshape(self.taps, outputs)).reshape(2, -1).repeat(1, self.copies)

    def counts(self) -> tuple[Tensor, Tensor]:
        import torch

        wide, high = self.channels_in // self.groups, self.channels_out // self.groups
        into = torch.full((self.channels_out, self.taps), float(wide), dtype=torch.float64)
        out = torch.full((self.channels_in, self.taps), float(high), dtype=torch.float64)
        return self._spread(into, 0).to(torch.int64), self._spread(out, 1).to(torch.int64)


@dataclass(frozen=True, eq=False)
class Dense(_Channels):
    """y = W x with W (channels_out, channels_in), at each of ``copies`` positions."""

    kind: ClassVar[str] = "dense"
    channels_in: int
    channels_out: int
    copies: int = 1
    groups: ClassVar[int] = 1  # type: ignore[misc]
    axes: ClassVar[tuple[Axis, ...]] = ()  # type: ignore[misc]

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        return (x.reshape(-1, self.channels_in) @ w.T).reshape(len(x), -1)

    def transpose(self, w: Tensor, y: Tensor) -> Tensor:
        return (y.reshape(-1, self.channels_out) @ w).reshape(len(y), -1)

    # positions come before channels here, after them in a convolution
    def links(self, batch: int) -> Links:
        per_row = self.channels_in
        rows = self.copies * self.channels_out
        at_once = max(1, batch // max(1, per_row))
        for first in range(0, rows if per_row else 0, at_once):
            row = np.arange(first, min(first + at_once, rows))
            copy, o = np.divmod(row, self.channels_out)
            for cut in range(0, per_row, batch):
                i = np.arange(cut, min(cut + batch, per_row))
                yield (
                    (copy[:, None] * per_row + i).reshape(-1),
                    np.repeat(row, len(i)),
                    (o[:, None] * per_row + i).reshape(-1),
                )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "channels_in": self.channels_in,
            "channels_out": self.channels_out,
            "copies": self.copies,
        }


@dataclass(frozen=True, eq=False)
class Convolution(_Channels):
    """A convolution over one to three axes, transposed or not; weights laid out as PyTorch's."""

    kind: ClassVar[str] = "convolution"
    channels_in: int
    channels_out: int
    groups: int
    axes: tuple[Axis, ...]
    copies: int = 1

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        from torch.nn import functional

        image = x.reshape(-1, self.channels_in, *(a.size for a in self.axes))
        w = w.to(x.dtype)
        n = len(self.axes)
        stride = tuple(a.stride for a in self.axes)
        dilation = tuple(a.dilation for a in self.axes)
        if self.transposed:
            call = (
                functional.conv_transpose1d,
                functional.conv_transpose2d,
                functional.conv_transpose3d,
            )
            before = tuple(a.before for a in self.axes)
            extra = tuple(a.extra for a in self.axes)
            y = call[n - 1](image, w, None, stride, before, extra, self.groups, dilation)
        else:
            plain = (functional.conv1d, functional.conv2d, functional.conv3d)
            if any(a.before != a.after for a in self.axes):
                ends = [e for a in reversed(self.axes) for e in (a.before, a.after)]
                image, padding = functional.pad(image, ends), (0,) * n
            else:
                padding = tuple(a.before for a in self.axes)
            y = plain[n - 1](image, w, None, stride, padding, dilation, self.groups)
        return y.reshape(len(x), -1)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "channels_in": self.channels_in,
            "channels_out": self.channels_out,
            "groups": self.groups,
            "copies": self.copies,
            "axes": [vars(Axis(**{f: getattr(a, f) for f in _AXIS})) for a in self.axes],
        }


_AXIS = tuple(Axis.__dataclass_fields__)


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

    def entries(self, w: Tensor) -> Tensor:
        return w.expand(self.shape).reshape(-1)

    def flat_weight(self, weight: Expression) -> Expression:
        spread = weight.apply("aten.expand.default", list(self.shape))
        return spread.apply("aten.reshape.default", [-1])

    def links(self, batch: int) -> Links:
        for first in range(0, self.size_in, batch):
            place = np.arange(first, min(first + batch, self.size_in))
            yield place, place, place

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
    values may reach which neuron.
    """

    kind: ClassVar[str] = "opaque"
    size: int
    outputs: int
    pattern: Pattern | None = None

    @property
    def size_in(self) -> int:
        return self.size

    @property
    def size_out(self) -> int:
        return self.outputs

    def forward(self, w: Tensor, x: Tensor) -> Tensor:
        raise InputRefused("an opaque block is not linear: its layer computes it")

    def links(self, batch: int) -> Links:
        if self.pattern is not None:
            for source, target, _ in _pattern_links(self.pattern, batch):
                yield source, target, np.zeros(len(source), dtype=np.int64)

    def counts(self) -> tuple[Tensor, Tensor]:
        import torch

        if self.pattern is None:
            return torch.zeros(self.outputs, dtype=torch.int64), torch.zeros(
                self.size, dtype=torch.int64
            )
        return _pattern_counts(self.pattern)

    def sums(self, w: Tensor) -> tuple[Tensor, Tensor]:
        into, out = self.counts()
        zero = into.new_zeros(1).to(w.dtype)
        return zero.expand(2, len(into)), zero.expand(2, len(out))

    def to_json(self) -> dict[str, Any]:
        pattern = None if self.pattern is None else self.pattern.to_json()
        return {"kind": self.kind, "size": self.size, "outputs": self.outputs, "pattern": pattern}


def operator_from_json(data: dict[str, Any]) -> Operator:
    """The operator that `to_json` described."""
    fields = {k: v for k, v in data.items() if k != "kind"}
    match data.get("kind"):
        case "dense":
            return Dense(**fields)
        case "convolution":
            return Convolution(**{**fields, "axes": tuple(Axis(**a) for a in fields["axes"])})
        case "diagonal":
            return Diagonal(tuple(fields["shape"]))
        case "fixed":
            return Fixed(Pattern.from_json(fields["pattern"]))
        case "sparse":
            return Sparse(Pattern.from_json(fields["pattern"]))
        case "opaque":
            pattern = fields["pattern"]
            found = None if pattern is None else Pattern.from_json(pattern)
            return Opaque(fields["size"], fields["outputs"], found)
        case unknown:
            raise InputRefused(f"a block of kind {unknown!r} is not known to this version")


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


def _pattern_counts(p: Pattern) -> tuple[Tensor, Tensor]:
    import torch

    into = torch.from_numpy(np.bincount(p.target, minlength=p.size_out).astype(np.int64))
    out = torch.from_numpy(np.bincount(p.source, minlength=p.size_in).astype(np.int64))
    return into.repeat(p.lead), out.repeat(p.lead)


def _signed_sums(w: Tensor) -> tuple[Tensor, Tensor]:
    """Positive and negative parts of ``w`` (A, B, K) summed over B and over A, in float64."""
    import torch

    if w.device.type == "cpu" and w.dtype in (torch.float32, torch.float64) and w.numel():
        from cntgraph.network.kernels import signed_sums

        rows, columns = signed_sums(w.contiguous().numpy())
        return torch.from_numpy(rows), torch.from_numpy(columns)
    wide = w.to(torch.float64)
    parts = torch.stack([wide.clamp(min=0), torch.where(wide > 0, 0.0, wide)])
    return parts.sum(2), parts.sum(1)
