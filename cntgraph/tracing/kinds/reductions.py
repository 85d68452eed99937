"""Reductions: sums and means are fixed links, a largest or smallest value is selected."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import AxisLinks, Pattern, product_pattern, windows
from cntgraph.tracing.kinds.fixed import (
    LISTED,
    along_axes,
    every,
    floating,
    probed,
    summed,
)
from cntgraph.tracing.kinds.pooling import select
from cntgraph.tracing.kinds.registry import Bound, activity, handles, op_name, opname

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []

UNITS = 4096  # inputs of a map that is applied to one unit vector after another


@handles("sum", "mean", makes="fixed fixed, opaque data")
def total(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Over any axes: one window over all that is reduced, for each value that is kept."""
    if not floating(node.args[0]):
        # a share of an integer would be rounded: the operator counts in the type of its result
        return run.opaque(node, op_name(node), {**bound, "dtype": node.meta["val"].dtype})
    turned = _turned(bound["self"], bound.get("dim"))
    count = turned.shape[1]
    if not count:
        return None
    share = 1.0 if opname(node) == "sum" else 1.0 / count
    return along_axes(run, node, turned, [_whole(count)], every(count, share))


@handles("trace", makes="fixed fixed, opaque data")
def trace(run: Interpreter, node: Node, bound: Bound) -> Any:
    """The sum of the diagonal."""
    diagonal = bound["self"].diagonal()
    if not len(diagonal) or not floating(node.args[0]):
        return None
    return along_axes(run, node, diagonal, [_whole(len(diagonal))], every(len(diagonal), 1.0))


@handles("amax", "amin", "max", "min", "aminmax", makes="opaque select, opaque data")
def extreme(run: Interpreter, node: Node, bound: Bound) -> Any:
    """An opaque join that selects one of the values that are reduced."""
    if "other" in bound:
        return None
    turned = _turned(bound["self"], bound.get("dim"))
    of_all = op_name(node) in ("aten.max.default", "aten.min.default")
    over = {} if of_all else {"dim": 1}
    given = {"self": turned, **over}
    pattern = product_pattern([_whole(turned.shape[1])], len(turned))
    values = (0, 1) if opname(node) == "aminmax" else (0,)
    return select(run, node, given, pattern, values)


@handles("cumsum", "diff", makes="fixed fixed, opaque data")
def along_one_axis(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links from the matrix of the operator along its axis."""
    if not floating(node.args[0]):
        return None
    x = bound["self"]
    axis = bound.get("dim", -1) % x.ndim
    ends = [bound.get(name) for name in ("prepend", "append")]
    first, last = ([] if e is None else [run.neurons(e, run.name(node))] for e in ends)
    x = torch.cat([*first, x, *last], axis)
    target: Any = node.target
    given = {"n": bound.get("n", 1)} if opname(node) == "diff" else {}

    def apply(units: Tensor) -> Tensor:
        found: Tensor = target(units, dim=1, **given)
        return found

    outputs = node.meta["val"].shape[axis]
    found = probed(apply, x.shape[axis], outputs)
    inner = math.prod(x.shape[axis + 1 :])
    if found is None or len(found[1]) * inner > LISTED:
        return None
    each = np.arange(inner)
    axes = [found[0], AxisLinks(inner, inner, each, each)]
    pattern = product_pattern(axes, math.prod(x.shape[:axis]))
    return summed(run, node, x, pattern, literal(torch.from_numpy(found[1].repeat(inner))))


@handles(
    "trapezoid", "cumulative_trapezoid", "affine_grid_generator", makes="fixed fixed, opaque data"
)
def linear_map(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links of an operator that is linear in its one activity, by its unit vectors."""
    (name, *others) = [n for n, value in bound.items() if activity(value)]
    x, fixed = bound[name], {n: v for n, v in bound.items() if n != name}
    constants = [v for v in fixed.values() if isinstance(v, Expression)]
    if others or x.numel() > UNITS or any(c.parameters for c in constants):
        return None
    known = {
        n: v.evaluate({}, torch.float64).cpu() if isinstance(v, Expression) else v
        for n, v in fixed.items()
    }
    target: Any = node.target
    # by position: a schema may call its first argument self
    names = [a.name for a in target._schema.arguments if not a.kwarg_only and a.name in bound]
    named = {n: v for n, v in known.items() if n not in names}

    def apply(units: Tensor) -> Tensor:
        rows = [[u.reshape(x.shape) if n == name else known[n] for n in names] for u in units]
        return torch.stack([target(*row, **named).reshape(-1) for row in rows])

    found = probed(apply, x.numel(), node.meta["val"].numel())
    if found is None:
        return None
    weight = literal(torch.from_numpy(found[1]))
    return summed(run, node, x, product_pattern([found[0]], 1), weight)


@handles("col2im", makes="fixed fixed")
def fold(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A sum over overlapping windows: where im2col takes from, col2im brings back to."""
    x, (height, width) = bound["self"], bound["output_size"]
    place = torch.arange(1, height * width + 1, dtype=torch.float64).reshape(1, 1, height, width)
    windows_of = [bound[n] for n in ("kernel_size", "dilation", "padding", "stride")]
    taken = torch.ops.aten.im2col.default(place, *windows_of).reshape(-1).to(torch.int64).numpy()
    source = np.flatnonzero(taken)
    lead = x.numel() // len(taken)
    pattern = Pattern(lead, len(taken), height * width, source, taken[source] - 1)
    return summed(run, node, x, pattern, every(len(source), 1.0))


def _whole(count: int) -> AxisLinks:
    return windows(count, np.zeros(1, dtype=np.int64), np.full(1, count))


def _turned(x: Tensor, dim: Any) -> Tensor:
    """(values that are kept, values reduced to each), from the axes that are reduced."""
    axes = range(x.ndim) if dim is None or dim == [] else dim
    axes = (
        sorted({a % x.ndim for a in ([axes] if isinstance(axes, int) else axes)}) if x.ndim else []
    )
    kept = [a for a in range(x.ndim) if a not in axes]
    sizes = math.prod(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes)
    return x.permute(*kept, *axes).reshape(sizes)
