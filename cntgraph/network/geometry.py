"""Where an operator's links run, as integers: which output touches which input by which tap.

A convolution is a product of axes, and along one axis it is a list of triples (output position,
kernel tap, input position). Links, degrees and strengths all follow from those triples, so
padding, stride, dilation and transposition are understood in this one place.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Axis", "AxisLinks", "Pattern", "decode", "encode", "product_pattern", "windows"]

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a convolution, ``before`` and ``after`` being its padding.

    >>> Axis(size=3, taps=3, before=1, after=1).outputs
    3
    """

    size: int
    taps: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    transposed: bool = False
    extra: int = 0  # output padding of a transposed convolution

    @property
    def outputs(self) -> int:
        """Number of output positions."""
        reach = self.dilation * (self.taps - 1)
        if self.transposed:
            return (self.size - 1) * self.stride - self.before - self.after + reach + 1 + self.extra
        return (self.size + self.before + self.after - reach - 1) // self.stride + 1

    @cached_property
    def triples(self) -> tuple[Index, Index, Index]:
        """Output positions, taps and input positions of every application inside the input."""
        narrow, wide = (self.size, self.outputs) if self.transposed else (self.outputs, self.size)
        step = np.repeat(np.arange(narrow), self.taps)
        tap = np.tile(np.arange(self.taps), narrow)
        place = step * self.stride + tap * self.dilation - self.before
        inside = (place >= 0) & (place < wide)
        step, tap, place = step[inside], tap[inside], place[inside]
        return (place, tap, step) if self.transposed else (step, tap, place)

    def incidence(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How often a tap is applied at each output and input: (outputs, taps), (size, taps)."""
        out, tap, source = self.triples
        at_output = np.zeros((self.outputs, self.taps))
        at_input = np.zeros((self.size, self.taps))
        np.add.at(at_output, (out, tap), 1.0)
        np.add.at(at_input, (source, tap), 1.0)
        return at_output, at_input


def product_of_axes(axes: Sequence[Axis]) -> tuple[Index, Index, Index]:
    """The triples of all axes together, as flat positions and flat taps."""
    out = tap = source = np.zeros(1, dtype=np.int64)
    for axis in axes:
        o, k, i = axis.triples
        out = (out[:, None] * axis.outputs + o).reshape(-1)
        tap = (tap[:, None] * axis.taps + k).reshape(-1)
        source = (source[:, None] * axis.size + i).reshape(-1)
    return out, tap, source


@dataclass(frozen=True, eq=False)
class Pattern:
    """Pairs (source, target) of one map, repeated ``lead`` times side by side.

    Pooling acts on every channel alike: the pairs are those of one channel.
    """

    lead: int
    size_in: int
    size_out: int
    source: Index
    target: Index

    def __len__(self) -> int:
        return self.lead * len(self.source)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        sizes = {"lead": self.lead, "size_in": self.size_in, "size_out": self.size_out}
        return {**sizes, "source": encode(self.source), "target": encode(self.target)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Pattern:
        """The pattern that `to_json` wrote."""
        source, target = decode(data["source"]), decode(data["target"])
        return Pattern(data["lead"], data["size_in"], data["size_out"], source, target)


@dataclass(frozen=True, eq=False)
class AxisLinks:
    """Which input positions each output position of one axis hears, as pairs.

    >>> windows(5, np.array([-1, 1, 3]), np.array([2, 4, 6])).source.tolist()
    [0, 1, 1, 2, 3, 3, 4]
    """

    size: int
    outputs: int
    source: Index
    target: Index

    @property
    def counts(self) -> Index:
        """How many inputs the target of each pair hears."""
        heard: Index = np.bincount(self.target, minlength=self.outputs)[self.target]
        return heard


def windows(size: int, starts: Index, ends: Index, step: int = 1) -> AxisLinks:
    """Every ``step``-th position from a start up to its end, one window for each output."""
    reach = int((ends - starts).max(initial=0))
    place = starts[:, None] + np.arange(0, reach, step)
    inside = (place >= 0) & (place < size) & (place < ends[:, None])
    return AxisLinks(size, len(starts), place[inside], np.nonzero(inside)[0])


def product_pattern(axes: Sequence[AxisLinks], lead: int) -> Pattern:
    """The pairs of all axes together; those of the last axis run fastest."""
    target = source = np.zeros(1, dtype=np.int64)
    for axis in axes:
        target = (target[:, None] * axis.outputs + axis.target).reshape(-1)
        source = (source[:, None] * axis.size + axis.source).reshape(-1)
    sizes = math.prod(a.size for a in axes), math.prod(a.outputs for a in axes)
    return Pattern(lead, *sizes, source, target)


def encode(index: Index) -> dict[str, Any]:
    """Integers as text: differences, deflated; regular wiring shrinks to almost nothing."""
    steps = np.diff(index, prepend=np.int64(0)).astype("<i8")
    packed = base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode()
    return {"count": len(index), "packed": packed}


def decode(data: dict[str, Any]) -> Index:
    """The integers that `encode` packed."""
    count = int(data["count"])
    stream = zlib.decompressobj()
    raw = stream.decompress(base64.b64decode(data["packed"]), max_length=8 * count + 1)
    return np.cumsum(np.frombuffer(raw, dtype="<i8", count=count)).astype(np.int64)
