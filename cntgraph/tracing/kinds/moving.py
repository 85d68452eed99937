"""What moves values to places that are known: only ids move, or sums of those that meet.

An index that is itself computed from activities is not known, and its operator stays opaque.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import Pattern
from cntgraph.network.operators import Diagonal, Fixed
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat
from cntgraph.tracing.kinds.fixed import every, floating
from cntgraph.tracing.kinds.registry import Bound, activity, handles

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []

PLACES = ("index", "indices", "repeats")
VALUES = ("self", "src", "source")


@handles(
    "gather",
    "take",
    "take_along_dim",
    "repeat_interleave",
    "index_copy",
    "scatter",
    makes="opaque data",
)
def move(run: Interpreter, node: Node, bound: Bound) -> Any:
    """The operator itself, run on ids at places that are known."""
    given = dict(bound)
    for name in PLACES:
        if isinstance(bound.get(name), (Expression, torch.Tensor)):
            given[name] = _known(run, bound[name])
            if given[name] is None:
                return None
    if bound.get("value") or bound.get("reduce"):
        return None
    given |= {n: run.neurons(bound[n], run.name(node)) for n in VALUES if n in bound}
    target: Any = node.target
    return target(**given)


@handles("type_as", makes="opaque data")
def cast(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Ids do not know the type of their values."""
    return bound["self"] if activity(bound["self"]) else None


@handles("index_put", makes="diagonal identity, fixed fixed, opaque data")
def assign(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Values written over others only move; values added to others are summed."""
    indices = [None if i is None else _known(run, i) for i in bound["indices"]]
    if any(k is None and i is not None for k, i in zip(indices, bound["indices"], strict=True)):
        return None
    places = torch.ops.aten.index.Tensor(_places(node), indices)
    if bound.get("accumulate"):
        return _met(run, node, bound["self"], bound["values"], places, every(places.numel(), 1.0))
    name = run.name(node)
    ids = run.neurons(bound["self"], name).reshape(-1).clone()
    ids[places.reshape(-1)] = run.neurons(bound["values"], name).expand(places.shape).reshape(-1)
    return ids.reshape(node.meta["val"].shape)


@handles("scatter_add", "scatter_reduce", makes="diagonal identity, fixed fixed, opaque data")
def scatter_add(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Sums or means of the values that meet at a place; places one by one."""
    index = _known(run, bound["index"])
    if index is None or not activity(bound["src"]) or not index.ndim:
        return None
    source = bound["src"][tuple(slice(0, n) for n in index.shape)]
    return _reduced(run, node, bound, source, _places(node).gather(bound["dim"], index))


@handles("index_add", "index_reduce", makes="diagonal identity, fixed fixed, opaque data")
def index_add(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Sums or means of the values that meet at a place; places along one axis."""
    index = _known(run, bound["index"])
    if index is None or not activity(bound["source"]):
        return None
    return _reduced(
        run, node, bound, bound["source"], _places(node).index_select(bound["dim"], index)
    )


def _reduced(run: Interpreter, node: Node, bound: Bound, source: Tensor, places: Tensor) -> Any:
    how, base = bound.get("reduce", "sum"), bound["self"]
    if how == "sum":
        share = every(places.numel(), float(bound.get("alpha", 1)))
        return _met(run, node, base, source, places, share)
    if how != "mean" or not _is_zero(base):
        return None
    met = torch.bincount(places.reshape(-1)).to(torch.float64)
    met += float(bound.get("include_self", True))  # a mean with the zero that was there
    return _met(run, node, base, source, places, literal(1.0 / met[places.reshape(-1)]))


def _met(
    run: Interpreter, node: Node, base: Any, source: Any, places: Tensor, weight: Expression
) -> Any:
    """A layer of what was there plus what is added at the places."""
    if not activity(source) or not all(floating(n) for n in (node.args[0], node.args[-1])):
        return None
    shape = tuple(node.meta["val"].shape)
    spread = source.expand(places.shape)
    each, size = np.arange(places.numel()), math.prod(shape)
    pattern = Pattern(1, len(each), size, each, places.reshape(-1).numpy())
    parts = [Part(flat(spread), Fixed(pattern), weight, "fixed")]
    if activity(base):
        parts.insert(0, Part(flat(base), Diagonal(shape), ONE, "identity"))
    shift = None if activity(base) or _is_zero(base) else base
    return run.draft(run.name(node), shape, parts=parts, shift=shift, line=run.line(node))


def _places(node: Node) -> Tensor:
    shape = node.meta["val"].shape
    return torch.arange(math.prod(shape)).reshape(shape)


def _is_zero(value: Any) -> bool:
    if not isinstance(value, Expression):
        return isinstance(value, (int, float)) and value == 0
    if value.parameters:
        return False
    return not bool(value.evaluate({}).any())


def _known(run: Interpreter, value: Any) -> Tensor | None:
    """An index or a mask that no activity reaches."""
    if not isinstance(value, Expression):
        return None
    return value.evaluate(run.exported.state).cpu()
