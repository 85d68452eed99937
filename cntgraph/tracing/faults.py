"""What a traced graph can hold that no network means: values that become numbers, shapes or chance.

The exporter follows these and says nothing; a network that ignored them would be wrong in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Graph, Node

from cntgraph.errors import ModelRefused
from cntgraph.tracing.calling import inside
from cntgraph.tracing.refusing import CHOICE, NUMBER, told_at

__all__ = ["DRAWN", "refuse_faults"]

DRAWN = "draw only while training: if self.training: ..."

# Operators that multiply activities by weights, which must be of one type.
_PRODUCTS = frozenset("linear addmm mm bmm baddbmm matmul conv1d conv2d conv3d convolution".split())
_DRAWS = frozenset(
    """rand randn randint randperm rand_like randn_like randint_like normal normal_functional
    bernoulli multinomial uniform exponential poisson geometric cauchy log_normal random
    dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout""".split()
)


def refuse_faults(graph: Graph, name: str) -> None:
    """Raise `ModelRefused` for the first fault of the graph, with the user's own line."""
    for node in graph.nodes:
        for why, fix in _faults(node) if node.op == "call_function" else ():
            where = told_at(str(node.meta.get("stack_trace") or ""))
            path = _path(node)
            if not where and path:
                where = f"\n       in module {path}"
            raise ModelRefused(f"{name} cannot be traced", why=why + where, fix=fix)


def _faults(node: Node) -> Iterator[tuple[str, str]]:
    value, name = node.meta.get("val"), str(getattr(node.target, "_opname", node.target))
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        yield "a value leaves the network as a Python number", NUMBER
    results = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(n, torch.SymInt) for x in results for n in getattr(x, "shape", ())):
        yield f"how many values {name} gives depends on the values", CHOICE
    if name in _DRAWS and _draws(name, node):
        yield f"{name} draws random numbers in evaluation mode too", DRAWN
    if name in _PRODUCTS:
        yield from _of_several_types(node)


def _draws(name: str, node: Node) -> bool:
    """Dropout draws only where it is told to train, with a probability that is not 0."""
    return "dropout" not in name or (len(node.args) > 2 and all(node.args[1:3]))


def _of_several_types(node: Node) -> Iterator[tuple[str, str]]:
    """The exporter does not look at types; the operator itself would fail on these."""
    values: list[Any] = [a.meta.get("val") for a in node.all_input_nodes]
    types = [str(x.dtype).removeprefix("torch.") for x in values if isinstance(x, torch.Tensor)]
    where = f"module {_path(node)}" if _path(node) else str(node.target)
    if any("complex" in one for one in types):
        yield f"{where} computes with complex numbers", "split them: torch.view_as_real(x)"
    elif len(set(types)) > 1:
        given, wanted = types[0], types[1]
        how = "x.float()" if wanted == "float32" else f"x.to(torch.{wanted})"
        yield (
            f"{where} is given {given} where its weights are {wanted}",
            f"give it what it takes: {how}",
        )


def _path(node: Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return inside(str(stack[-1][0])) if stack else ""
