"""Normalisation: a fixed scale and shift, or statistics of the activities and a trained one.

Statistics are computed by an opaque join without parameters; what was trained is a diagonal of
scale links behind it, so the weight and the bias of every norm are in the network.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cntgraph.network.expressions import Call, Expression, Slot
from cntgraph.network.operators import Diagonal, Opaque
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    constant,
    handles,
    op_name,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []


@handles(
    "cudnn_batch_norm",
    "miopen_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_no_update",
    makes="diagonal scale, diagonal identity, opaque data",
)
def batch_norm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A fixed scale and shift per channel, or those of the batch where nothing was recorded."""
    bound = {"eps": bound.get("epsilon", 1e-5), **bound}  # as cuDNN's own operator calls it
    x, (gamma, beta) = bound["input"], _affine(bound)
    mean, variance = bound.get("running_mean"), bound.get("running_var")
    if not activity(x) or not constant(gamma, beta, mean, variance):
        return None
    if mean is None or variance is None or bound.get("training", False):
        numbers = (True, 0.0, bound["eps"])
        call = Call(
            "aten._native_batch_norm_legit.no_stats", (Slot(0), None, None, *numbers), (), 0
        )
        parts = x.shape[1] if x.shape[0] == 1 else 1
        ids = _normalised(run, node, x, call, _per_channel(x, gamma), _per_channel(x, beta), parts)
    else:
        ids = _running(run, node, bound, mean, variance)
    several = isinstance(node.meta["val"], (tuple, list))
    return [ids] + [None] * (len(node.meta["val"]) - 1) if several else ids


@handles("instance_norm", makes="diagonal scale, diagonal identity, opaque data")
def instance_norm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Statistics of each channel of each sample; a batch norm where running ones are used."""
    if not bound["use_input_stats"]:
        return batch_norm(run, node, bound)
    running = {"running_mean": None, "running_var": None}
    return _by_channel(run, node, {**bound, **running})


@handles("group_norm", "native_group_norm", makes="diagonal scale, diagonal identity, opaque data")
def group_norm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Statistics of each group of channels, then a scale and shift per channel."""
    return _by_channel(run, node, bound)


@handles(
    "layer_norm",
    "native_layer_norm",
    "rms_norm",
    "_fused_rms_norm",
    makes="diagonal scale, diagonal identity, opaque data",
)
def layer_norm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Statistics over the last axes, then a scale and shift for each place in them."""
    x = bound["input"]
    rest = x.ndim - len(bound["normalized_shape"])
    return _trained(run, node, bound, *_affine(bound), math.prod(x.shape[:rest]))


def _affine(bound: Bound) -> tuple[Any, Any]:
    return bound.get("weight"), bound.get("bias")


def _by_channel(run: Interpreter, node: Node, bound: Bound) -> Any:
    x, (gamma, beta) = bound["input"], _affine(bound)
    if not activity(x) or not constant(gamma, beta):
        return None
    groups = bound.get("num_groups", bound.get("group", x.shape[1]))
    affine = _per_channel(x, gamma), _per_channel(x, beta)
    return _trained(run, node, bound, *affine, x.shape[0] * groups)


def _per_channel(x: Tensor, value: Expression | None) -> Expression | None:
    return None if value is None else value.apply("aten.view.default", [1, -1] + [1] * (x.ndim - 2))


def _trained(run: Interpreter, node: Node, bound: Bound, gamma: Any, beta: Any, parts: int) -> Any:
    """The node's own operator without what was trained, and that behind it.

    Each of the parts has statistics of its own.
    """
    x = bound["input"]
    if not activity(x) or not constant(gamma, beta):
        return None
    several = isinstance(node.meta["val"], (tuple, list))
    plain = {**bound, "weight": None, "bias": None}
    names = [a.name for a in node.target._schema.arguments if a.name in bound]  # type: ignore[union-attr]
    given = tuple((name, plain[name]) for name in names if name != "input")
    call = Call(op_name(node), (Slot(0),), given, 0 if several else None)
    ids = _normalised(run, node, x, call, gamma, beta, parts)
    return [ids] + [None] * (len(node.meta["val"]) - 1) if several else ids


def _normalised(
    run: Interpreter,
    node: Node,
    x: Tensor,
    call: Call,
    gamma: Expression | None,
    beta: Expression | None,
    parts: int,
) -> Tensor:
    """A join that normalises, and behind it the scale and shift that were trained, if any."""
    name, shape, size = run.name(node, gamma or beta), tuple(x.shape), math.prod(x.shape)
    plain = gamma is None and beta is None
    ids = run.draft(
        name if plain else f"{name}.statistics",
        shape,
        parts=[Part(flat(x), Opaque(size, size, parts=parts), ONE, "data")],
        join=call,
        operands=(shape,),
        line=run.line(node),
    )
    if plain:
        return ids
    kind = "identity" if gamma is None else "scale"
    part = Part(flat(ids), Diagonal(shape), gamma or ONE, kind)
    return run.draft(name, shape, parts=[part], shift=beta, line=run.line(node))


def _running(
    run: Interpreter, node: Node, bound: Bound, mean: Expression, variance: Expression
) -> Tensor:
    x, (gamma, beta) = bound["input"], _affine(bound)
    over = variance.apply("aten.add.Scalar", bound["eps"]).apply("aten.rsqrt.default")
    # the trained factor comes first: a scale link's parameter is the norm's weight
    factor = over if gamma is None else gamma.apply("aten.mul.Tensor", over)
    shift = mean.apply("aten.mul.Tensor", factor).apply("aten.neg.default")
    if beta is not None:
        shift = beta.apply("aten.add.Tensor", shift)
    shape = [1, -1] + [1] * (x.ndim - 2)
    traced = tuple(x.shape)
    part = Part(flat(x), Diagonal(traced), factor.apply("aten.view.default", shape), "scale")
    return run.draft(
        run.name(node),
        traced,
        parts=[part],
        shift=shift.apply("aten.view.default", shape),
        norm=(factor, shift),
        line=run.line(node),
    )
