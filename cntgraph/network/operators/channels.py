"""Dense layers and convolutions: every output channel hears every input channel of its group.

A dense layer is a convolution without axes. Strengths need no image: the kernels are summed over
the other channel first, and what remains is how often each tap is applied at each position.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cntgraph.network.geometry import Axis, Index, product_of_axes
from cntgraph.network.operators.operator import Columns, Links, Operator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Convolution", "Dense"]


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
        triples = product_of_axes(self.axes)
        wide = self.channels_in // self.groups
        pairs = self.copies * self.channels_out * wide
        at_once = max(1, batch // max(1, len(triples[0])))
        for first in range(0, pairs, at_once):
            channel, i = np.divmod(np.arange(first, min(first + at_once, pairs)), wide)
            copy, o = np.divmod(channel, self.channels_out)
            group = o // (self.channels_out // self.groups)
            for cut in range(0, len(triples[0]), batch):
                part = tuple(t[cut : cut + batch] for t in triples)
                yield self._columns(copy, o, group * wide + i, part)

    def _columns(self, copy: Index, o: Index, i: Index, triples: tuple[Index, ...]) -> Columns:
        """The links from input channels ``i`` to output channels ``o``, pair by pair."""
        out, tap, source = triples
        inputs = math.prod(a.size for a in self.axes)
        outputs = math.prod(a.outputs for a in self.axes)
        wide, high = self.channels_in // self.groups, self.channels_out // self.groups
        kernel = i * high + o % high if self.transposed else o * wide + i % wide
        from_channel = (copy * self.channels_in + i) * inputs
        to_channel = (copy * self.channels_out + o) * outputs
        return (
            (from_channel[:, None] + source).reshape(-1),
            (to_channel[:, None] + out).reshape(-1),
            (kernel[:, None] * self.taps + tap).reshape(-1),
        )

    def links_into(self, place: int) -> Columns:
        channel, position = divmod(place, math.prod(a.outputs for a in self.axes))
        copy, o = divmod(channel, self.channels_out)
        wide = self.channels_in // self.groups
        i = o // (self.channels_out // self.groups) * wide + np.arange(wide)
        triples = product_of_axes(self.axes)
        here = triples[0] == position
        return self._columns(np.full_like(i, copy), np.full_like(i, o), i, _at(triples, here))

    def links_out_of(self, place: int) -> Columns:
        channel, position = divmod(place, math.prod(a.size for a in self.axes))
        copy, i = divmod(channel, self.channels_in)
        high = self.channels_out // self.groups
        o = i // (self.channels_in // self.groups) * high + np.arange(high)
        triples = product_of_axes(self.axes)
        here = triples[2] == position
        return self._columns(np.full_like(o, copy), o, np.full_like(o, i), _at(triples, here))

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

    def transpose(self, w: Tensor, y: Tensor) -> Tensor:
        """The gradient of `forward`, without the forward pass that differentiating would take."""
        import torch

        axes = self.axes
        image = y.reshape(-1, self.channels_out, *(a.outputs for a in axes))
        uneven = not self.transposed and any(a.before != a.after for a in axes)
        padded = [a.size + (a.before + a.after) * uneven for a in axes]
        x = y.new_empty(1).expand(len(image), self.channels_in, *padded)  # its shape is all it is
        found = torch.ops.aten.convolution_backward(
            *(image, x, w.to(y.dtype), None),
            [a.stride for a in axes],
            [0 if uneven else a.before for a in axes],
            [a.dilation for a in axes],
            self.transposed,
            [a.extra for a in axes],
            self.groups,
            [True, False, False],
        )[0]
        if uneven:
            inside = (slice(a.before, a.before + a.size) for a in axes)
            found = found[(slice(None), slice(None), *inside)]
        return found.reshape(len(y), -1)  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "channels_in": self.channels_in,
            "channels_out": self.channels_out,
            "groups": self.groups,
            "copies": self.copies,
            "axes": [vars(Axis(**{f: getattr(a, f) for f in _AXIS})) for a in self.axes],
        }


def _at(triples: tuple[Index, ...], here: NDArray[np.bool_]) -> tuple[Index, ...]:
    return tuple(t[here] for t in triples)


_AXIS = tuple(Axis.__dataclass_fields__)


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
