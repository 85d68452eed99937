"""Sums over trained weights that a kernel shares among positions: convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cntgraph.network.geometry import Axis
from cntgraph.network.operators import Convolution
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    constant,
    each,
    handles,
)

if TYPE_CHECKING:
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []


@handles(
    "conv1d",
    "conv2d",
    "conv3d",
    "convolution",
    makes="convolution weight, convolution fixed, opaque data",
)
def convolution(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A convolution over one to three axes with any stride, padding, dilation and groups."""
    x, w, b = bound["input"], bound["weight"], bound.get("bias")
    if not activity(x) or not constant(w, b):
        return None
    shape = w.evaluate(run.exported.state).shape
    n, transposed = len(shape) - 2, bool(bound.get("transposed", False))
    sizes = x.shape[-n:]
    stride, dilation = each(bound.get("stride", 1), n), each(bound.get("dilation", 1), n)
    groups = bound.get("groups", 1)
    padding = bound.get("padding", 0)
    ends = _same(padding, shape[2:], dilation) or [(p, p) for p in each(padding, n)]
    extra = each(bound.get("output_padding", 0), n)
    axes = tuple(
        Axis(sizes[k], shape[2 + k], stride[k], dilation[k], *ends[k], transposed, extra[k])
        for k in range(n)
    )
    channels = (shape[0], shape[1] * groups) if transposed else (shape[1] * groups, shape[0])
    copies = math.prod(x.shape[: -n - 1])
    op = Convolution(*channels, groups, axes, copies)
    if b is not None:
        b = b.apply("aten.view.default", [-1] + [1] * n)
    return run.linear(node, x, op, w, bias=b, link_kind="weight" if w.parameters else "fixed")


@handles(
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    makes="convolution weight, convolution fixed, opaque data",
)
def transposed_convolution(run: Interpreter, node: Node, bound: Bound) -> Any:
    """The adjoint of a convolution."""
    return convolution(run, node, {**bound, "transposed": True})


def _same(padding: Any, taps: Any, dilation: list[int]) -> list[tuple[int, int]] | None:
    """Ends of ``padding="same"``: an even kernel pads the far end more."""
    if padding == "valid":
        return [(0, 0)] * len(taps)
    if padding != "same":
        return None
    total = [d * (k - 1) for d, k in zip(dilation, taps, strict=True)]
    return [(t // 2, t - t // 2) for t in total]
