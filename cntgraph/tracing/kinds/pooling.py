"""Pooling: averages are fixed links, a maximum selects."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.network.geometry import AxisLinks, Pattern, product_pattern, windows
from cntgraph.tracing.kinds.fixed import along_axes, every, outer
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    each,
    first_of,
    handles,
    op_name,
    opname,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__ = ["select"]


@handles("avg_pool1d", "avg_pool2d", "avg_pool3d", makes="fixed fixed")
def average_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links of one over the window."""
    x = bound["self"]
    axes, areas = [], []
    for size, starts, taps, padding, _ in _sliding(node, bound):
        axis = windows(size, starts, starts + taps)
        # what a window counts ends with the padding, even where rounding up takes it further
        padded = np.minimum(starts + taps, size + padding) - starts
        axes.append(axis)
        areas.append(padded[axis.target] if bound.get("count_include_pad", True) else axis.counts)
    divisor = bound.get("divisor_override")
    if divisor:
        return along_axes(run, node, x, axes, every(_pairs(axes), 1.0 / divisor))
    return _averages(run, node, x, axes, areas)


@handles(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    makes="fixed fixed",
)
def adaptive_average_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links of one over windows as even as can be."""
    axes = _adaptive(node, bound["self"])
    return _averages(run, node, bound["self"], axes, [axis.counts for axis in axes])


@handles(
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool1d_with_indices",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    makes="opaque select, opaque data",
)
def max_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An opaque join that selects one value of each window."""
    x = bound["self"]
    axes = [
        windows(size, starts, starts + dilation * (taps - 1) + 1, dilation)
        for size, starts, taps, _, dilation in _sliding(node, bound)
    ]
    return select(run, node, bound, product_pattern(axes, math.prod(x.shape[: -len(axes)])))


@handles(
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    makes="opaque select, opaque data",
)
def adaptive_max_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An opaque join that selects one value of each adaptive window."""
    axes = _adaptive(node, bound["self"])
    lead = math.prod(bound["self"].shape[: -len(axes)])
    return select(run, node, bound, product_pattern(axes, lead))


def select(
    run: Interpreter, node: Node, bound: Bound, pattern: Pattern, values: tuple[int, ...] = (0,)
) -> Any:
    """An opaque join that hands on one of the values it reads, where the pattern says.

    ``values`` are the results that do so; another result, a place say, is computed from data.
    """
    if not activity(bound["self"]):
        return None
    made = len(run.drafts)
    found = run.opaque(node, op_name(node), bound, pattern=pattern, link_kind="select")
    for draft in run.drafts[made:]:
        if draft.join is not None and (draft.join.item or 0) not in values:
            for part in draft.parts:
                part.link_kind = "data"
    return found


def _sliding(node: Node, bound: Bound) -> Iterator[tuple[int, Any, int, int, int]]:
    """For each axis its size, where its windows start, their taps, padding and dilation."""
    n = int(opname(node).removesuffix("_with_indices")[-2])
    sizes, outputs = bound["self"].shape[-n:], first_of(node.meta["val"]).shape[-n:]
    kernel = each(bound["kernel_size"], n)
    stride = each(bound.get("stride") or kernel, n)
    padding, dilation = each(bound.get("padding", 0), n), each(bound.get("dilation", 1), n)
    for k in range(n):
        starts = np.arange(outputs[k]) * stride[k] - padding[k]
        yield sizes[k], starts, kernel[k], padding[k], dilation[k]


def _adaptive(node: Node, x: Tensor) -> list[AxisLinks]:
    n = int(opname(node)[-2])
    outputs = first_of(node.meta["val"]).shape[-n:]
    axes = []
    for size, count in zip(x.shape[-n:], outputs, strict=True):
        o = np.arange(count)
        axes.append(windows(size, o * size // count, -(-(o + 1) * size // count)))
    return axes


def _averages(
    run: Interpreter, node: Node, x: Tensor, axes: list[AxisLinks], areas: list[Any]
) -> Any:
    area = outer([np.asarray(a, dtype=np.float64) for a in areas])
    return along_axes(run, node, x, axes, area.apply("aten.reciprocal.default"))


def _pairs(axes: list[AxisLinks]) -> int:
    return math.prod(len(axis.source) for axis in axes)
