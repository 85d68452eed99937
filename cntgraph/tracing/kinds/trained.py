"""Sums over trained weights: dense layers and convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cntgraph.network.geometry import Axis
from cntgraph.network.operators import Convolution, Dense
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


@handles("linear")
def linear(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``input @ weight.T + bias`` at every position."""
    x, w, b = bound["input"], bound["weight"], bound.get("bias")
    if not activity(x) or not constant(w, b):
        return None
    inputs = x.shape[-1]
    outputs = node.meta["val"].shape[-1]
    op = Dense(inputs, outputs, copies=math.prod(x.shape[:-1]))
    return run.linear(node, x, op, w, bias=b)


@handles("addmm")
def addmm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``bias + input @ weight``."""
    if bound.get("beta", 1) != 1 or bound.get("alpha", 1) != 1:
        return None
    turned = {"input": bound["mat1"], "bias": bound["self"]}
    return _product(run, node, turned, bound["mat2"])


@handles("mm", "matmul")
def matmul(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A product with a matrix of weights on either side."""
    a, b = bound["self"], bound["mat2"] if "mat2" in bound else bound["other"]
    if activity(a):
        return _product(run, node, {"input": a}, b)
    if activity(b) and b.ndim == 2 and len(node.meta["val"].shape) == 2:
        inputs, copies = b.shape
        outputs = node.meta["val"].shape[0]
        op = Dense(inputs, outputs, copies=copies)
        return run.linear(node, b.T, op, a, traced=(copies, outputs)).T
    return None


def _product(run: Interpreter, node: Node, bound: Bound, w: Any) -> Any:
    if not activity(bound["input"]) or not constant(w, bound.get("bias")):
        return None
    inputs, outputs = bound["input"].shape[-1], node.meta["val"].shape[-1]
    known = w.evaluate(run.exported.state)
    if tuple(known.shape) != (inputs, outputs):
        return None
    turned = {**bound, "weight": w.apply("aten.t.default")}
    return linear(run, node, turned)


@handles("conv1d", "conv2d", "conv3d", "convolution")
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
    return run.linear(node, x, op, w, bias=b)


@handles("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
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
