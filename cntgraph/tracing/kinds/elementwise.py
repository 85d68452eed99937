"""Element by element: sums, scales, activations, and what does nothing.

A constant factor of any broadcastable shape makes scale links, a constant summand is a shift of
the layer. Two activities that are multiplied make a join without weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.network.expressions import Call, Expression, Slot
from cntgraph.network.geometry import Pattern
from cntgraph.network.operators import Diagonal, Opaque
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    as_expression,
    constant,
    factor_of,
    handles,
    op_name,
    opname,
    real,
    trained,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []

Term = tuple[Any, float]  # a value and the number it is multiplied by


@handles("add", "sub", "rsub", "subtract", makes="diagonal identity, diagonal scale, opaque data")
def add(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A residual sum by identity links; a constant operand is a shift of the layer."""
    alpha = bound.get("alpha", 1)
    factors = {"add": (1.0, alpha), "rsub": (-alpha, 1.0)}.get(opname(node), (1.0, -alpha))
    return _sum(run, node, list(zip((bound["self"], bound["other"]), factors, strict=True)))


@handles("neg", "negative", makes="diagonal scale, opaque data")
def neg(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Minus one times each neuron."""
    return _sum(run, node, [(bound["self"], -1.0)])


@handles(
    "mul",
    "div",
    "multiply",
    "divide",
    "true_divide",
    makes="diagonal scale, diagonal identity, opaque data",
)
def scale(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A constant factor is a diagonal of scale links; a constant over an activity is a function."""
    a, b = bound["self"], bound["other"]
    if not real(run, node, a, b) or bound.get("rounding_mode"):
        return None
    divides = opname(node) in ("div", "divide", "true_divide")
    if activity(a) and activity(b):
        return _elementwise(run, node, bound)
    if divides and activity(b):
        return _function(run, node, bound)
    x, factor = (a, b) if activity(a) else (b, a)
    w = _number(run, factor)
    if divides:
        w = w.apply("aten.reciprocal.default")
    return run.combined(node, [(x, w, "scale")])


@handles("addcmul", "addcdiv", makes="diagonal identity, diagonal scale, opaque data")
def added(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``self + value * tensor1 * tensor2``, or over tensor2: linear where a factor is constant."""
    start, a, b = bound["self"], bound["tensor1"], bound["tensor2"]
    divides, value = opname(node) == "addcdiv", bound.get("value", 1)
    if not real(run, node, start, a, b) or (activity(b) and (divides or activity(a))):
        return None
    x, w = (b, _number(run, a)) if activity(b) else (a, _number(run, b))
    w = w.apply("aten.reciprocal.default") if divides else w
    if not activity(x):
        product = _number(run, x).apply("aten.mul.Tensor", w)
        return _sum(run, node, [(start, 1.0), (product, value)])
    w = w if value == 1 else w.apply("aten.mul.Scalar", value)
    terms, shift = ([(start, ONE, "identity")], None) if activity(start) else ([], start)
    return run.combined(node, [*terms, (x, w, "scale")], shift)


@handles("lerp", makes="diagonal scale, opaque data")
def interpolate(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``self + weight * (end - self)``: linear where the weight is constant."""
    a, b, weight = bound["self"], bound["end"], bound["weight"]
    if activity(weight) or not real(run, node, a, b):
        return None
    w = _number(run, weight)
    rest = w.apply("aten.rsub.Scalar", 1.0)
    ends = ((a, rest), (b, w))
    terms = [(v, f, "scale") for v, f in ends if activity(v)]
    fixed = [f.apply("aten.mul.Tensor", _number(run, v)) for v, f in ends if not activity(v)]
    return run.combined(node, terms, fixed[0] if fixed else None)


@handles("where", "masked_fill", makes="opaque data")
def choose(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A constant mask takes some neurons and, in the other places, others or a constant."""
    if "mask" in bound:
        mask, kept, filled = bound["mask"], bound["self"], bound["value"]
    else:
        mask, filled, kept = bound["condition"], bound.get("self"), bound.get("other")
    if activity(mask) or kept is None:
        return None
    if trained(run, mask):  # which are taken is another matter in every epoch
        return _elementwise(run, node, bound)
    known = mask.evaluate(run.exported.state).cpu().to(torch.bool)
    ids = [_ids(run, node, value, used) for value, used in ((filled, known), (kept, ~known))]
    chosen = torch.where(known, ids[0], ids[1])
    return chosen.expand(node.meta["val"].shape)


@handles(
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "clamp",
    "clamp_min",
    "clamp_max",
    "pow",
    "max",
    "min",
    makes="diagonal identity, opaque data",
)
def limited(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A function of each neuron, which may have a constant of its own in each place."""
    values = [v for v in bound.values() if isinstance(v, (torch.Tensor, Expression))]
    if opname(node) in ("max", "min") and "other" not in bound:
        return None
    if len(values) == 1 and opname(node) != "pow":
        return None
    given = [v for v in values if activity(v)]
    return _function(run, node, bound) if len(given) == 1 else _elementwise(run, node, bound)


@handles("glu", makes="diagonal identity, opaque data")
def gated(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Half of the neurons times the sigmoid of the other half."""
    x = bound["self"]
    a, b = x.chunk(2, bound.get("dim", -1))
    name, line = run.name(node), run.line(node)
    shape = tuple(a.shape)
    part = Part(flat(b), Diagonal(shape), ONE, "identity")
    sigmoid = Call("aten.sigmoid.default")
    gate = run.draft(f"{name}.gate", shape, parts=[part], function=sigmoid, line=line)
    one = np.zeros(1, dtype=np.int64)
    op = Opaque(a.numel(), a.numel(), Pattern(a.numel(), 1, 1, one, one))
    return run.draft(
        name,
        shape,
        parts=[Part(flat(ids), op, ONE, "data", k) for k, ids in enumerate((a, gate))],
        join=Call("aten.mul.Tensor", (Slot(0), Slot(1))),
        operands=(shape, shape),
        line=line,
    )


@handles(
    "softmax",
    "_softmax",
    "log_softmax",
    "_log_softmax",
    "prelu",
    makes="diagonal identity, opaque data",
)
def layer_function(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A function of the whole layer, or one with parameters, is an activation as well."""
    if not activity(bound["self"]) or not constant(bound.get("weight")):
        return None
    return run.activation(node, op_name(node), bound)


@handles("rrelu", makes="diagonal identity, opaque data")
def randomised_relu(run: Interpreter, node: Node, bound: Bound) -> Any:
    """In evaluation mode the slope is the middle of its range."""
    if bound.get("training"):
        return None
    slope = (bound.get("lower", 1 / 8) + bound.get("upper", 1 / 3)) / 2
    ids = bound["self"]
    call = Call("aten.leaky_relu.default", (Slot(0), slope))
    return _applied(run, node, ids, call)


@handles("native_dropout", makes="")
def identity(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Nothing happens in evaluation mode; a dropout that always draws is left as it is."""
    if bound.get("train") and bound.get("p") != 0:
        return None
    x = bound.get("input", bound.get("self"))
    return [x, None] if opname(node) == "native_dropout" else x


@handles("copy", makes="")
def copy(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An assignment in place, made functional: the values are those of the source."""
    source = run.neurons(bound["src"], run.name(node))
    return source.expand(node.meta["val"].shape)


def _sum(run: Interpreter, node: Node, given: list[Term]) -> Any:
    """Values times numbers, added up; constants are the layer's shift."""
    if not real(run, node, *(value for value, _ in given)):
        return None
    shift: Expression | None = None
    terms = []
    for value, factor in given:
        if activity(value):
            terms.append((value, *factor_of(factor)))
        else:
            part = as_expression(value)
            part = part if factor == 1 else part.apply("aten.mul.Scalar", factor)
            shift = part if shift is None else shift.apply("aten.add.Tensor", part)
    return run.combined(node, terms, shift)


def _number(run: Interpreter, value: Any) -> Expression:
    """A factor as real numbers: a mask is one of zeros and ones."""
    factor = as_expression(value)
    if factor.evaluate(run.exported.state).is_floating_point():
        return factor
    return factor.apply("aten._to_copy.default", dtype=torch.float64)


def _ids(run: Interpreter, node: Node, value: Any, used: Tensor) -> Tensor:
    """Neurons of a value of which some places are used; a number is one constant neuron."""
    if activity(value):
        ids: Tensor = value
        return ids
    if not bool(used.any()):
        return torch.zeros((), dtype=torch.int64)
    return run.neurons(as_expression(value), f"{run.name(node)}.constant")


def _elementwise(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A join of operands that are broadcast before, so that each neuron hears its own alone."""
    shape = node.meta["val"].shape
    spread = {n: v.expand(shape) if activity(v) else v for n, v in bound.items()}
    return run.opaque(node, op_name(node), spread)


def _function(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An activation with constants in it."""
    shape = node.meta["val"].shape
    spread = {n: v.expand(shape) if activity(v) else v for n, v in bound.items()}
    return run.activation(node, op_name(node), spread)


def _applied(run: Interpreter, node: Node, ids: Tensor, call: Call) -> Tensor:
    shape = tuple(ids.shape)
    part = Part(flat(ids), Diagonal(shape), ONE, "identity")
    return run.draft(run.name(node), shape, parts=[part], function=call, line=run.line(node))
