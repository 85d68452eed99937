"""The register of handlers, and the small words they share.

A handler is given the interpreter, the node and the operator's arguments by name; it returns ids,
or None to leave the node to the opaque join.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cntgraph.network.blocks import LINK_KINDS
from cntgraph.network.expressions import Expression, literal
from cntgraph.tracing.interpreting import ONE

if TYPE_CHECKING:
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__ = [
    "DECLARED",
    "HANDLERS",
    "Bound",
    "Declared",
    "Made",
    "activity",
    "as_expression",
    "constant",
    "each",
    "factor_of",
    "first_of",
    "handles",
    "made",
    "op_name",
    "opname",
    "real",
    "trained",
]

BLOCK_KINDS = ("dense", "convolution", "diagonal", "fixed", "opaque")

Bound = dict[str, Any]
Handler = Callable[["Interpreter", "Node", Bound], Any]
Made = tuple[str, str]  # a kind of block and a kind of its links: ("dense", "weight")

HANDLERS: dict[str, Handler] = {}
DECLARED: dict[str, list[Declared]] = {}


@dataclass(frozen=True, eq=False)
class Declared:
    """A handler, what it becomes in the words of its docstring, and the blocks it may make."""

    handler: Handler
    makes: tuple[Made, ...]

    @property
    def becomes(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").partition("\n")[0]


def handles(*names: str, makes: str) -> Callable[[Handler], Handler]:
    """Register a handler for operators of these names; one that declines leaves it to the next.

    ``makes`` are the blocks that it may make, the opaque join of what it declines among them:
    ``"dense weight, opaque data"``. What only moves ids makes none.
    """

    def register(handler: Handler) -> Handler:
        declared = Declared(handler, made(makes))
        for name in names:
            DECLARED.setdefault(name, []).append(declared)
            HANDLERS[name] = _in_turn(HANDLERS[name], handler) if name in HANDLERS else handler
        return handler

    return register


def made(spelled: str) -> tuple[Made, ...]:
    """``(("dense", "weight"), ("opaque", "data"))`` of ``"dense weight, opaque data"``."""
    pairs = [tuple(pair.split()) for pair in spelled.split(",") if pair]
    wrong = [p for p in pairs if len(p) != 2 or p[0] not in BLOCK_KINDS or p[1] not in LINK_KINDS]
    if wrong:
        raise ValueError(f"{wrong} in {spelled!r}: a kind of block, then a kind of link")
    return tuple((block, link) for block, link in pairs)


def _in_turn(first: Handler, second: Handler) -> Handler:
    def either(run: Interpreter, node: Node, bound: Bound) -> Any:
        handled = first(run, node, bound)
        return second(run, node, bound) if handled is None else handled

    return either


def activity(value: Any) -> bool:
    """True for ids of neurons."""
    return isinstance(value, torch.Tensor)


def constant(*values: Any) -> bool:
    """True if no value is an activity."""
    return all(value is None or isinstance(value, Expression) for value in values)


def as_expression(value: Any) -> Expression:
    """A number as an expression; expressions as they are."""
    if isinstance(value, Expression):
        return value
    return literal(torch.tensor(float(value), dtype=torch.float64))


def factor_of(factor: float) -> tuple[Expression, str]:
    """A factor and the kind of link that it makes."""
    return (ONE, "identity") if factor == 1 else (as_expression(factor), "scale")


def each(value: Any, n: int) -> list[int]:
    """One value for each of ``n`` axes."""
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    return given * n if len(given) == 1 else given


def first_of(value: Any) -> Any:
    """The first of several results."""
    return value[0] if isinstance(value, (list, tuple)) else value


def real(run: Interpreter, node: Node, *values: Any) -> bool:
    """True if neither the result nor a constant that takes part is made of complex numbers."""
    constants = [v.evaluate(run.exported.state) for v in values if isinstance(v, Expression)]
    return not any(v.is_complex() for v in (*constants, first_of(node.meta["val"])))


def trained(run: Interpreter, *values: Any) -> bool:
    """True if a parameter takes part: what it gives is another in every epoch."""
    names = (n for v in values if isinstance(v, Expression) for n in v.parameters)
    return any(isinstance(run.exported.state[name], torch.nn.Parameter) for name in names)


def opname(node: Node) -> str:
    """``max_pool2d`` of the node of that operator."""
    target: Any = node.target
    name: str = target._opname
    return name


def op_name(node: Node) -> str:
    """``aten.max_pool2d.default`` of the node of that operator."""
    target: Any = node.target
    return f"aten.{target._opname}.{target._overloadname}"
