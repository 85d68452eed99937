"""Normalisation: a fixed scale and shift, or statistics of the activities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cntgraph.network.operators import Diagonal
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import flat
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    handles,
    opname,
)

if TYPE_CHECKING:
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []


@handles(
    "_native_batch_norm_legit_no_training", "batch_norm", "native_batch_norm", "cudnn_batch_norm"
)
def batch_norm(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A fixed scale and shift per channel, from the running statistics."""
    x, mean, variance = bound["input"], bound.get("running_mean"), bound.get("running_var")
    if not activity(x) or mean is None or variance is None or bound.get("training", False):
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
    return ids if opname(node) == "batch_norm" else [ids, None, None]
