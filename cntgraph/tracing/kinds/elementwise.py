"""Element by element: sums, scales, activations, and what does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cntgraph.network.expressions import Expression
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    as_expression,
    constant,
    factor_of,
    handles,
    op_name,
    opname,
)

if TYPE_CHECKING:
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []


@handles("add", "sub", "rsub")
def add(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A residual sum by identity links; a constant operand is a shift of the layer."""
    name = opname(node)
    a, b, alpha = bound["self"], bound["other"], bound.get("alpha", 1)
    factors = {"add": (1.0, alpha), "sub": (1.0, -alpha), "rsub": (-alpha, 1.0)}[name]
    shift: Expression | None = None
    terms = []
    for value, factor in zip((a, b), factors, strict=True):
        if activity(value):
            terms.append((value, *factor_of(factor)))
        else:
            part = as_expression(value)
            part = part if factor == 1 else part.apply("aten.mul.Scalar", factor)
            shift = part if shift is None else shift.apply("aten.add.Tensor", part)
    return run.combined(node, terms, shift)


@handles("neg")
def neg(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Minus one times each neuron."""
    return run.combined(node, [(bound["self"], *factor_of(-1.0))])


@handles("mul", "div")
def scale(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A constant factor is a diagonal of scale links; two activities make an opaque join."""
    a, b = bound["self"], bound["other"]
    divides = opname(node) == "div"
    if (activity(a) and activity(b)) or bound.get("rounding_mode"):
        if activity(a) and activity(b):
            shape = node.meta["val"].shape
            spread = {"self": a.expand(shape), "other": b.expand(shape)}
            return run.opaque(node, op_name(node), {**bound, **spread})
        return None
    if divides and activity(b):
        return None
    x, factor = (a, b) if activity(a) else (b, a)
    w = as_expression(factor)
    if divides:
        w = w.apply("aten.reciprocal.default")
    return run.combined(node, [(x, w, "scale")])


@handles("softmax", "_softmax", "log_softmax", "_log_softmax", "prelu")
def layer_function(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A function of the whole layer, or one with parameters, is an activation as well."""
    if not activity(bound["self"]) or not constant(bound.get("weight")):
        return None
    return run.activation(node, op_name(node), bound)


@handles("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "detach", "lift")
def identity(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Nothing happens in evaluation mode."""
    x = bound.get("input", bound.get("self"))
    return [x, None] if opname(node) == "native_dropout" else x


@handles("copy")
def copy(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An assignment in place, made functional: the values are those of the source."""
    source = run.neurons(bound["src"], run.name(node))
    return source.expand(node.meta["val"].shape)
