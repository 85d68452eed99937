"""A sum over labelled axes of activities times a constant is one linear operator.

A label that both operands have is a group where it remains and an input where it is summed over;
one of the weight alone is an output, one of the activity alone a copy. The weight is only moved,
never computed, so that a link keeps its parameter and its element.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from cntgraph.network.expressions import Expression
from cntgraph.network.geometry import Axis
from cntgraph.network.operators import Convolution, Dense, Diagonal, Operator
from cntgraph.tracing.kinds.registry import activity

if TYPE_CHECKING:
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__ = ["Factor", "contraction", "distinct", "labels", "shape_of"]

UNNAMED = 0x1000  # labels of axes that no letter names: further than any letter of an equation


class Factor(NamedTuple):
    """An operand of a product and the label of each of its axes."""

    value: Any
    axes: str


def contraction(
    run: Interpreter,
    node: Node,
    x: Factor,
    w: Factor,
    out: str,
    *,
    bias: Expression | None = None,
    alpha: float = 1,
) -> Any:
    """Ids of ``alpha * sum(x * w) + bias`` with the axes ``out``; ``w`` is the constant.

    A bias has the shape of the result or one that broadcasts to it.
    """
    x, w, size = _matched(run, *distinct(x, w), out)
    weight = _computable(run, w.value)
    if alpha != 1:
        weight = weight.apply("aten.mul.Scalar", alpha)
    groups = [a for a in out if a in x.axes and a in w.axes]
    inputs = [a for a in x.axes if a not in out]
    outputs = [a for a in out if a not in x.axes]
    if not inputs and not outputs:
        return _scaled(run, node, x, Factor(weight, w.axes), out, bias)
    before, after = _copies(out, w.axes, [*groups, *outputs])
    order = [*before, *groups, *outputs, *after]
    parts = (before, groups, inputs, outputs, after)
    op, shape = _operator(*(math.prod(size[a] for a in part) for part in parts))
    return run.linear(
        node,
        x.value.permute([x.axes.index(a) for a in (*before, *groups, *inputs, *after)]),
        op,
        _laid_out(run, weight, [w.axes.index(a) for a in (*groups, *outputs, *inputs)], shape),
        bias=_turned(run, bias, [out.index(a) for a in order]),
        link_kind="weight" if weight.parameters else "fixed",
        traced=tuple(size[a] for a in order),
    ).permute([order.index(a) for a in out])


def _copies(out: str, weight: str, own: list[str]) -> tuple[list[str], list[str]]:
    """The axes along which the weights are shared: those before the weight's own, those after.

    The layer then has the axes of the result, in their order, wherever an operator can have them.
    """
    copies = [a for a in out if a not in weight]
    after = [a for a in copies if out.index(a) > max(map(out.index, own), default=len(out))]
    before = [a for a in copies if a not in after]
    return (before, after) if [*before, *own, *after] == list(out) else (copies, [])


def _operator(
    copies: int, groups: int, inputs: int, outputs: int, places: int
) -> tuple[Operator, list[int]]:
    """The linear map and the shape of its weight; ``places`` come after the channels."""
    if groups == places == 1:
        return Dense(inputs, outputs, copies), [outputs, inputs]
    axes = (Axis(places, 1),)
    op = Convolution(groups * inputs, groups * outputs, groups, axes, copies)
    return op, [groups * outputs, inputs, 1]


def _scaled(
    run: Interpreter, node: Node, x: Factor, w: Factor, out: str, bias: Expression | None
) -> Any:
    """No axis is summed over and none is new: a factor for each element."""
    order = sorted(w.axes, key=out.index)
    factor = _laid_out(run, w.value, [w.axes.index(a) for a in order], None)
    for k, a in enumerate(out):
        if a not in w.axes:
            factor = factor.apply("aten.unsqueeze.default", k)
    ids = x.value.permute([x.axes.index(a) for a in out])
    shape = tuple(ids.shape)
    return run.linear(
        node, ids, Diagonal(shape), factor, link_kind="scale", traced=shape, shift=bias
    )


def distinct(x: Factor, w: Factor) -> tuple[Factor, Factor]:
    """Operands without a label twice: of those, the diagonal."""
    while again := [a for a in x.axes if x.axes.count(a) > 1]:
        first, second = [k for k, a in enumerate(x.axes) if a == again[0]][:2]
        rest = x.axes[:first] + x.axes[first + 1 : second] + x.axes[second + 1 :]
        x = Factor(x.value.diagonal(0, first, second), rest + again[0])
    while again := [a for a in w.axes if w.axes.count(a) > 1]:
        first, second = [k for k, a in enumerate(w.axes) if a == again[0]][:2]
        rest = w.axes[:first] + w.axes[first + 1 : second] + w.axes[second + 1 :]
        w = Factor(w.value.apply("aten.diagonal.default", 0, first, second), rest + again[0])
    return x, w


def _matched(
    run: Interpreter, x: Factor, w: Factor, out: str
) -> tuple[Factor, Factor, dict[str, int]]:
    """Operands that share every label that is summed over, and the size of each label."""
    ids, weight, lengths = x.value, w.value, list(shape_of(run, w.value))
    size = dict(zip(w.axes, lengths, strict=True))
    for a, n in zip(x.axes, ids.shape, strict=True):
        size[a] = n if size.get(a, 1) == 1 else size[a]
    ids = ids.expand([size[a] for a in x.axes])
    axes = w.axes
    for k in range(len(axes) - 1, -1, -1):  # a single weight for all is of no axis
        if lengths[k] == 1 and axes[k] in x.axes and (axes[k] in out or size[axes[k]] > 1):
            weight, axes = weight.apply("aten.squeeze.dim", k), axes[:k] + axes[k + 1 :]
    for a in axes:
        if a not in out and a not in x.axes:  # the same neuron, by every weight of the axis
            ids = ids.unsqueeze(-1).expand(*ids.shape, size[a])
            x = Factor(ids, x.axes + a)
    summed = [a for a in x.axes if a not in out and a not in axes]
    if summed:  # every neuron of the axis, by the same weight
        for _ in summed:
            weight = weight.apply("aten.unsqueeze.default", -1)
        axes += "".join(summed)
        weight = weight.apply("aten.expand.default", [size[a] for a in axes])
    return Factor(ids, x.axes), Factor(weight, axes), size


def _laid_out(
    run: Interpreter, weight: Expression, order: list[int], shape: list[int] | None
) -> Expression:
    """A weight with its axes in this order, then in this shape; as it is where nothing moves."""
    if order != sorted(order):
        swap = order == [1, 0]
        weight = (
            weight.apply("aten.t.default") if swap else weight.apply("aten.permute.default", order)
        )
    if shape is not None and list(shape_of(run, weight)) != shape:
        weight = weight.apply("aten.reshape.default", shape)
    return weight


def _turned(run: Interpreter, bias: Expression | None, order: list[int]) -> Expression | None:
    """A bias for the layer, whose axes may be in another order than the result's."""
    if bias is None or order == sorted(order):
        return bias
    shape = list(shape_of(run, bias))
    full = bias.apply("aten.reshape.default", [1] * (len(order) - len(shape)) + shape)
    return full.apply("aten.permute.default", order)


def _computable(run: Interpreter, weight: Expression) -> Expression:
    """A weight of integers or of truth values as numbers."""
    if weight.evaluate(run.exported.state).is_floating_point():
        return weight
    return weight.apply("aten._to_copy.default", dtype=torch.float64)


def shape_of(run: Interpreter, value: Any) -> tuple[int, ...]:
    """The shape of ids or of a constant."""
    return tuple(value.shape if activity(value) else value.evaluate(run.exported.state).shape)


def labels(count: int, first: int = 0) -> str:
    """Labels for axes without a name, the last axis having the same one whatever their number."""
    return "".join(chr(UNNAMED + first + count - k) for k in range(count))
