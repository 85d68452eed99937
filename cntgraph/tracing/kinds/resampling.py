"""Resampling: nearest neighbours only move values, every interpolation is a set of fixed links.

An interpolation acts along each axis on its own, with weights that sum to one. So the operator
itself, in float64 and on one axis at a time, says what they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import product_pattern
from cntgraph.tracing.kinds.fixed import along_axes, floating, outer, probed, summed
from cntgraph.tracing.kinds.registry import Bound, activity, handles, opname

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []


@handles(
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    makes="",
)
def nearest(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Values move and none is changed: the operator runs on the ids, exact as float64."""
    target: Any = node.target
    (x, *rest) = bound.values()
    return target(x.to(torch.float64), *rest).to(torch.int64)


@handles(
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
    "_upsample_lanczos2d_aa",
    makes="fixed fixed, opaque data",
)
def interpolation(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links: the product of one small matrix for each axis."""
    x: Tensor = bound["input"] if "input" in bound else bound["self"]
    n = int(opname(node).removesuffix("_aa")[-2])
    outputs, corners = node.meta["val"].shape[-n:], bool(bound["align_corners"])
    if opname(node).endswith("_aa") and outputs[-1] == 1:
        return None  # where the width is one, PyTorch's own kernel mixes up its rows
    op, scales = getattr(torch.ops.aten, opname(node)).default, _scales(bound, n)
    axes, weights = [], []
    for k in range(n):

        def apply(units: Tensor, k: int = k) -> Tensor:
            return _one_axis(op, units, k, outputs, corners, scales)

        found = probed(apply, x.shape[-n + k], outputs[k])
        if found is None:
            return None
        axes.append(found[0])
        weights.append(found[1])
    return along_axes(run, node, x, axes, outer(weights))


def _one_axis(
    op: Any, units: Tensor, k: int, outputs: Any, corners: bool, scales: list[float | None]
) -> Tensor:
    """Units along axis ``k``: alike along the others, where two positions stay two."""
    n = len(outputs)
    # a single position would do, were it not for kernels that confuse axes of length one
    shape = [units.shape[1] if j == k else 2 for j in range(n)]
    column = units.reshape(len(units), *(-1 if j == k else 1 for j in range(n)))
    given = column.expand(-1, *shape).unsqueeze(1).contiguous()
    to = [outputs[k] if j == k else 2 for j in range(n)]
    found: Tensor = op(given, to, corners, *(scales[k] if j == k else None for j in range(n)))
    return found[(slice(None), 0, *(slice(None) if j == k else 0 for j in range(n)))]


def _scales(bound: Bound, n: int) -> list[float | None]:
    if bound.get("scale_factors") is not None:
        return list(bound["scale_factors"])
    named = [name for name in ("scales", "scales_d", "scales_h", "scales_w") if name in bound]
    given = [bound[name] for name in named]
    return given if len(given) == n else [None] * n


@handles("grid_sampler", "grid_sampler_2d", "grid_sampler_3d", makes="fixed fixed, opaque data")
def grid_sampler(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Fixed links where the grid belongs to the architecture, the same for every channel."""
    x, grid = bound["input"], bound["grid"]
    target: Any = node.target
    if not activity(x) or not isinstance(grid, Expression) or grid.parameters or len(x) != 1:
        return None
    rest = {name: value for name, value in bound.items() if name not in ("input", "grid")}
    places = grid.evaluate({}, torch.float64).cpu()

    def apply(units: Tensor) -> Tensor:
        found: Tensor = target(units.reshape(1, len(units), *x.shape[2:]), places, **rest)
        return found

    sizes = math.prod(x.shape[2:]), math.prod(node.meta["val"].shape[2:])
    found = probed(apply, *sizes)
    if found is None or not floating(node.args[0]):
        return None
    pattern = product_pattern([found[0]], x.shape[1])
    return summed(run, node, x, pattern, literal(torch.from_numpy(found[1])))
