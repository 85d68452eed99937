"""Pooling: averages are fixed links, a maximum selects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.network.expressions import literal
from cntgraph.network.geometry import Pattern, pooling_windows
from cntgraph.network.operators import Fixed
from cntgraph.tracing.kinds.registry import (
    Bound,
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

__all__: list[str] = []


@handles("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links of one over the window."""
    x = bound["self"]
    n = int(opname(node)[-2])
    kernel = each(bound["kernel_size"], n)
    stride = each(bound.get("stride") or kernel, n)
    padding = each(bound.get("padding", 0), n)
    outputs = node.meta["val"].shape[-n:]
    windows, shares = [], []
    for k in range(n):
        size, over = x.shape[-n + k], bound.get("count_include_pad", True)
        axis = [_window(o * stride[k] - padding[k], kernel[k], size) for o in range(outputs[k])]
        ends = [
            min(o * stride[k] - padding[k] + kernel[k], size + padding[k])
            for o in range(outputs[k])
        ]
        padded = [e - (o * stride[k] - padding[k]) for o, e in enumerate(ends)]
        windows.append(axis)
        shares.append(padded if over else [len(w) for w in axis])
    return _averages(run, node, x, windows, shares, bound.get("divisor_override"))


@handles(
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d"
)
def adaptive_average_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links of one over windows as even as can be."""
    x = bound["self"]
    n = int(opname(node)[-2])
    windows = _adaptive(x.shape[-n:], node.meta["val"].shape[-n:])
    return _averages(run, node, x, windows, [[len(w) for w in axis] for axis in windows], None)


@handles("mean")
def mean(run: Interpreter, node: Node, bound: Bound) -> Any:
    """The mean over trailing or inner axes is pooling over all of them."""
    x = bound["self"]
    axes = bound.get("dim")
    axes = range(x.ndim) if axes is None or axes == [] else axes
    axes = sorted(a % x.ndim for a in (axes if isinstance(axes, (list, tuple, range)) else [axes]))
    kept = [a for a in range(x.ndim) if a not in axes]
    turned = x.permute(*kept, *axes).reshape(math.prod(x.shape[a] for a in kept), -1)
    count = turned.shape[1]
    pattern = pooling_windows([[np.arange(count)]], len(turned), [count])
    weight = literal(torch.full((count,), 1.0 / count, dtype=torch.float64))
    return run.linear(node, turned, Fixed(pattern), weight, link_kind="fixed", name=run.name(node))


@handles(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"
)
def max_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An opaque join that selects one value of each window."""
    x = bound["self"]
    n = int(opname(node).removesuffix("_with_indices")[-2])
    kernel = each(bound["kernel_size"], n)
    stride = each(bound.get("stride") or kernel, n)
    padding, dilation = each(bound.get("padding", 0), n), each(bound.get("dilation", 1), n)
    outputs = first_of(node.meta["val"]).shape[-n:]
    windows = [
        [
            _window(o * stride[k] - padding[k], kernel[k], x.shape[-n + k], dilation[k])
            for o in range(outputs[k])
        ]
        for k in range(n)
    ]
    return run.opaque(node, op_name(node), bound, pattern=_pattern(x, windows), link_kind="select")


@handles("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An opaque join that selects one value of each adaptive window."""
    x = bound["self"]
    n = int(opname(node)[-2])
    windows = _adaptive(x.shape[-n:], first_of(node.meta["val"]).shape[-n:])
    return run.opaque(node, op_name(node), bound, pattern=_pattern(x, windows), link_kind="select")


def _window(start: int, taps: int, size: int, dilation: int = 1) -> Any:
    places = start + dilation * np.arange(taps)
    return places[(places >= 0) & (places < size)]


def _adaptive(sizes: Any, outputs: Any) -> list[list[Any]]:
    return [
        [np.arange(o * size // n, -(-(o + 1) * size // n)) for o in range(n)]
        for size, n in zip(sizes, outputs, strict=True)
    ]


def _pattern(x: Tensor, windows: list[list[Any]]) -> Pattern:
    n = len(windows)
    return pooling_windows(windows, math.prod(x.shape[:-n]), x.shape[-n:])


def _averages(
    run: Interpreter,
    node: Node,
    x: Tensor,
    windows: list[list[Any]],
    shares: list[list[int]],
    divisor: int | None,
) -> Any:
    pattern = _pattern(x, windows)
    area = np.ones(1)
    for axis in shares:
        area = (area[:, None] * np.asarray(axis, dtype=np.float64)).reshape(-1)
    area = np.full_like(area, divisor) if divisor else area
    weight = literal(torch.from_numpy(1.0 / area[pattern.target]))
    name = run.name(node)
    return run.linear(node, x, Fixed(pattern), weight, link_kind="fixed", name=name)
