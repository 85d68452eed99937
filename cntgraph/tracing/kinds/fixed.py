"""Fixed links: their weights belong to the architecture, and are the same in every channel.

Most run along each axis on its own, so that the links of a map are a product of short lists. What
has no such form is found by applying the operator itself to unit vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cntgraph.network.expressions import REINDEXING, Expression, literal, short_name
from cntgraph.network.geometry import AxisLinks, Pattern, product_pattern
from cntgraph.network.operators import Fixed

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__ = ["along_axes", "every", "floating", "outer", "probed", "summed"]

Weights = NDArray[np.float64]

PROBED = 200_000_000  # entries of a matrix that is still worth reading column by column
LISTED = 5_000_000  # pairs that a pattern may hold: three arrays of them are 120 MB
CHUNK = 4_000_000  # entries computed at a time


def along_axes(
    run: Interpreter, node: Node, x: Tensor, axes: Sequence[AxisLinks], weight: Expression
) -> Tensor:
    """A layer of fixed links over the last axes of ``x``, the same for all that comes before."""
    pattern = product_pattern(axes, math.prod(x.shape[: x.ndim - len(axes)]))
    return summed(run, node, x, pattern, weight)


def summed(run: Interpreter, node: Node, x: Tensor, pattern: Pattern, weight: Expression) -> Tensor:
    """A layer of fixed links, named by its module."""
    name = run.name(node)
    return run.linear(node, x, Fixed(pattern), weight, link_kind="fixed", name=name)


def every(count: int, value: float) -> Expression:
    """The same weight ``count`` times."""
    return Expression("aten.full.default", ([count], value), (("dtype", torch.float64),))


def outer(factors: Sequence[Weights]) -> Expression:
    """The weights of a product of axes from those of each axis, in the order of its pairs."""
    if all(len(f) and (f == f[0]).all() for f in factors):
        return every(math.prod(map(len, factors)), math.prod(float(f[0]) for f in factors))
    product = literal(torch.from_numpy(factors[0]))
    for factor in factors[1:]:
        column = product.apply("aten.view.default", [-1, 1])
        product = column.apply("aten.mul.Tensor", literal(torch.from_numpy(factor)))
        product = product.apply("aten.reshape.default", [-1])
    return product


def probed(
    apply: Callable[[Tensor], Tensor], size: int, outputs: int
) -> tuple[AxisLinks, Weights] | None:
    """The links of a linear map of (batch, size) to (batch, outputs), by its own unit vectors.

    Entries that are exactly zero are no links. None where the map is too large for this.
    """
    if size * outputs > PROBED:
        return None
    at_once = max(1, CHUNK // max(1, size + outputs))
    found, total = [], 0
    for first in range(0, size, at_once):
        unit = torch.zeros(min(at_once, size - first), size, dtype=torch.float64)
        unit.diagonal(first).fill_(1.0)
        rows = apply(unit).reshape(len(unit), outputs).numpy()
        source, target = np.nonzero(rows)
        found.append((source + first, target, rows[source, target]))
        total += len(source)
        if total > LISTED:
            return None
    source, target, weight = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(target, kind="stable")
    return AxisLinks(size, outputs, source[order], target[order]), weight[order]


def floating(value: Any) -> bool:
    """True if a node's values are real numbers, and were so before they were cast or moved.

    A cast leaves no trace in the ids, and a share of an integer would be rounded.
    """
    while isinstance(getattr(value, "meta", {}).get("val"), torch.Tensor):
        if not value.meta["val"].dtype.is_floating_point:
            return False
        moved = value.op == "call_function" and short_name(_op(value)) in REINDEXING
        value = value.all_input_nodes[0] if moved and value.all_input_nodes else None
    return True


def _op(node: Node) -> str:
    return "aten." + str(getattr(node.target, "_opname", ""))
