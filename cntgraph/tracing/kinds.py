"""What each operator becomes: one handler a family, found by the operator's name.

This is the room for a new kind of block. A handler is given the interpreter, the node and the
operator's arguments by name; it returns ids, or None to leave the node to the opaque join.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import Axis, Pattern, pooling_windows
from cntgraph.network.operators import Convolution, Dense, Diagonal, Fixed
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__ = ["HANDLERS"]

Bound = dict[str, Any]
Handler = Callable[["Interpreter", "Node", Bound], Any]

HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for operators of these names."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


# -- trained sums -------------------------------------------------------------------------------


@handles("linear")
def linear(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``input @ weight.T + bias`` at every position."""
    x, w, b = bound["input"], bound["weight"], bound.get("bias")
    if not _activity(x) or not _constant(w, b):
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
    if _activity(a):
        return _product(run, node, {"input": a}, b)
    if _activity(b) and b.ndim == 2 and len(node.meta["val"].shape) == 2:
        inputs, copies = b.shape
        outputs = node.meta["val"].shape[0]
        op = Dense(inputs, outputs, copies=copies)
        return run.linear(node, b.T, op, a, traced=(copies, outputs)).T
    return None


def _product(run: Interpreter, node: Node, bound: Bound, w: Any) -> Any:
    if not _activity(bound["input"]) or not _constant(w, bound.get("bias")):
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
    if not _activity(x) or not _constant(w, b):
        return None
    shape = w.evaluate(run.exported.state).shape
    n, transposed = len(shape) - 2, bool(bound.get("transposed", False))
    sizes = x.shape[-n:]
    stride, dilation = _each(bound.get("stride", 1), n), _each(bound.get("dilation", 1), n)
    groups = bound.get("groups", 1)
    padding = bound.get("padding", 0)
    ends = _same(padding, shape[2:], dilation) or [(p, p) for p in _each(padding, n)]
    extra = _each(bound.get("output_padding", 0), n)
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


# -- sums without weights -----------------------------------------------------------------------


@handles("add", "sub", "rsub")
def add(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A residual sum by identity links; a constant operand is a shift of the layer."""
    name = node.target._opname  # type: ignore[union-attr]
    a, b, alpha = bound["self"], bound["other"], bound.get("alpha", 1)
    factors = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[name]
    shift: Expression | None = None
    terms = []
    for value, factor in zip((a, b), factors, strict=True):
        if _activity(value):
            terms.append((value, *_factor(factor)))
        else:
            part = _as_expression(value)
            part = part if factor == 1 else part.apply("aten.mul.Scalar", factor)
            shift = part if shift is None else shift.apply("aten.add.Tensor", part)
    return run.combined(node, terms, shift)


@handles("neg")
def neg(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Minus one times each neuron."""
    return run.combined(node, [(bound["self"], *_factor(-1.0))])


@handles("mul", "div")
def scale(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A constant factor is a diagonal of scale links; two activities make an opaque join."""
    a, b = bound["self"], bound["other"]
    divides = node.target._opname == "div"  # type: ignore[union-attr]
    if (_activity(a) and _activity(b)) or bound.get("rounding_mode"):
        if _activity(a) and _activity(b):
            shape = node.meta["val"].shape
            spread = {"self": a.expand(shape), "other": b.expand(shape)}
            return run.opaque(node, _op(node), {**bound, **spread})
        return None
    if divides and _activity(b):
        return None
    x, factor = (a, b) if _activity(a) else (b, a)
    w = _as_expression(factor)
    if divides:
        w = w.apply("aten.reciprocal.default")
    return run.combined(node, [(x, w, "scale")])


# -- normalisation and activations --------------------------------------------------------------


@handles(
    "_native_batch_norm_legit_no_training", "batch_norm", "native_batch_norm", "cudnn_batch_norm"
)
def batch_norm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A fixed scale and shift per channel, from the running statistics."""
    x, mean, variance = bound["input"], bound.get("running_mean"), bound.get("running_var")
    if not _activity(x) or mean is None or variance is None or bound.get("training", False):
        return None
    gamma, beta, eps = bound.get("weight"), bound.get("bias"), bound.get("eps", 1e-5)
    over = variance.apply("aten.add.Scalar", eps).apply("aten.rsqrt.default")
    # the trained factor comes first: a scale link's parameter is the norm's weight
    factor = over if gamma is None else gamma.apply("aten.mul.Tensor", over)
    shift = mean.apply("aten.mul.Tensor", factor).apply("aten.neg.default")
    if beta is not None:
        shift = beta.apply("aten.add.Tensor", shift)
    shape = [1, -1] + [1] * (x.ndim - 2)
    traced = tuple(x.shape)
    part = Part(flat(x), Diagonal(traced), factor.apply("aten.view.default", shape), "scale")
    ids = run.draft(
        run.name(node),
        traced,
        parts=[part],
        shift=shift.apply("aten.view.default", shape),
        norm=(factor, shift),
        line=run.line(node),
    )
    return ids if node.target._opname == "batch_norm" else [ids, None, None]  # type: ignore[union-attr]


@handles("softmax", "_softmax", "log_softmax", "_log_softmax", "prelu")
def layer_function(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A function of the whole layer, or one with parameters, is an activation as well."""
    if not _activity(bound["self"]) or not _constant(bound.get("weight")):
        return None
    return run.activation(node, _op(node), bound)


@handles("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "detach", "lift")
def identity(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Nothing happens in evaluation mode."""
    x = bound.get("input", bound.get("self"))
    return [x, None] if node.target._opname == "native_dropout" else x  # type: ignore[union-attr]


@handles("copy")
def copy(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An assignment in place, made functional: the values are those of the source."""
    source = run.neurons(bound["src"], run.name(node))
    return source.expand(node.meta["val"].shape)


# -- pooling ------------------------------------------------------------------------------------


@handles("avg_pool1d", "avg_pool2d", "avg_pool3d")
def average_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links of one over the window."""
    x = bound["self"]
    n = int(node.target._opname[-2])  # type: ignore[union-attr]
    kernel = _each(bound["kernel_size"], n)
    stride = _each(bound.get("stride") or kernel, n)
    padding = _each(bound.get("padding", 0), n)
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
    n = int(node.target._opname[-2])  # type: ignore[union-attr]
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
    n = int(node.target._opname.removesuffix("_with_indices")[-2])  # type: ignore[union-attr]
    kernel = _each(bound["kernel_size"], n)
    stride = _each(bound.get("stride") or kernel, n)
    padding, dilation = _each(bound.get("padding", 0), n), _each(bound.get("dilation", 1), n)
    outputs = _first(node.meta["val"]).shape[-n:]
    windows = [
        [
            _window(o * stride[k] - padding[k], kernel[k], x.shape[-n + k], dilation[k])
            for o in range(outputs[k])
        ]
        for k in range(n)
    ]
    return run.opaque(node, _op(node), bound, pattern=_pattern(x, windows), link_kind="select")


@handles("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def adaptive_max_pool(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An opaque join that selects one value of each adaptive window."""
    x = bound["self"]
    n = int(node.target._opname[-2])  # type: ignore[union-attr]
    windows = _adaptive(x.shape[-n:], _first(node.meta["val"]).shape[-n:])
    return run.opaque(node, _op(node), bound, pattern=_pattern(x, windows), link_kind="select")


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


# -- small words --------------------------------------------------------------------------------


def _activity(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _constant(*values: Any) -> bool:
    return all(value is None or isinstance(value, Expression) for value in values)


def _as_expression(value: Any) -> Expression:
    if isinstance(value, Expression):
        return value
    return literal(torch.tensor(float(value), dtype=torch.float64))


def _factor(factor: float) -> tuple[Expression, str]:
    return (ONE, "identity") if factor == 1 else (_as_expression(factor), "scale")


def _each(value: Any, n: int) -> list[int]:
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    return given * n if len(given) == 1 else given


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) else value


def _op(node: Node) -> str:
    target: Any = node.target
    return f"aten.{target._opname}.{target._overloadname}"
