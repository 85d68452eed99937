"""Running a model on neuron ids instead of numbers.

The abstract value of a tensor of activities is an int64 tensor of neuron ids, 0 being the
constant zero. Whatever only moves values (views, slices, concatenations, padding ...) runs as it
is on the ids. What computes makes a new draft of a layer and reads the ids it is given. A value
that no input reaches is an `Expression` over the weights. An operator that is not known becomes
an opaque join that carries its own name, executable but without weighted links.
"""

from __future__ import annotations

import operator as python_operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.errors import ModelRefused
from cntgraph.network.expressions import (
    POINTWISE,
    REINDEXING,
    Call,
    Expression,
    Slot,
    literal,
    parameter,
    short_name,
)
from cntgraph.network.geometry import Index, Pattern
from cntgraph.network.operators import Diagonal, Opaque, Operator
from cntgraph.tracing.drafts import Draft, Part
from cntgraph.tracing.exporting import Exported
from cntgraph.tracing.refusing import user_line

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

__all__ = ["Interpreter", "flat"]

# Constants even where they are given activities: they take their shape and type alone.
SHAPE_ONLY = frozenset(
    "zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty fill".split()
)
# Arguments that are places, not values, of what is moved.
PLACES = ("index", "indices", "mask", "condition", "repeats")
BATCHED = ("matmul", "bmm", "baddbmm", "scaled_dot_product_attention")
_NUMBER = re.compile(r"@\d+$")
ONE = literal(torch.tensor(1.0, dtype=torch.float64))


def flat(ids: Tensor) -> Index:
    """Ids as a flat array."""
    return ids.reshape(-1).numpy()


class Interpreter:
    """Executes an exported graph on ids; `drafts` and `outputs` are what it found.

    ``handlers`` say by an operator's name what it becomes; what they leave alone is opaque.
    """

    def __init__(
        self,
        exported: Exported,
        handlers: Mapping[str, Callable[..., Any]],
        *,
        recurrent: str = "unrolled",
    ) -> None:
        self.exported = exported
        self.handlers = handlers
        self.recurrent = recurrent
        self.drafts: list[Draft] = []
        self.values: dict[Node, Any] = {}
        self.outputs: list[Tensor] = []
        self.states: list[Tensor] = []  # outputs of the view of one time step beside the model's
        self.silent: set[str] = set()  # parameters that were given nothing but zeros to multiply
        self.encodings: dict[Any, Tensor] = {}  # one-hot neurons already made of some integers
        self._next = 1
        self._names: dict[str, int] = {}

    def run(self) -> None:
        """Interpret every node in order."""
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            elif node.op == "output":
                self._finish(node)
            else:
                raise ModelRefused(
                    f"the traced graph holds {node.op} {node.target}, which no neuron means"
                )

    # -- what enters and leaves ---------------------------------------------------------------

    def _placeholder(self, node: Node) -> Any:
        name = node.name
        if name in self.exported.parameters:
            return parameter(self.exported.parameters[name])
        if name in self.exported.constants:
            return literal(self.exported.constants[name])
        if not isinstance(node.meta.get("val"), torch.Tensor):
            return node.meta.get("val")
        given = self.exported.inputs.get(name, name)
        return self.draft(given, tuple(node.meta["val"].shape), kind="input")

    def _finish(self, node: Node) -> None:
        by_name = {n.name: n for n in self.values}
        for name in self.exported.outputs:
            value = self.values.get(by_name[name]) if name in by_name else None
            if value is None:
                continue
            self.outputs.append(self.neurons(value, f"output_{len(self.outputs)}"))
        self.outputs += self.states

    # -- one node -----------------------------------------------------------------------------

    def _call(self, node: Node) -> Any:
        args = _resolved(node.args, self.values)
        kwargs = _resolved(node.kwargs, self.values)
        if node.target is python_operator.getitem:
            return args[0][args[1]]
        if not node.users:
            return None  # an assertion, which has nothing to say of neurons
        if not isinstance(node.target, torch._ops.OpOverload):
            raise ModelRefused(
                f"the operator {node.target} at {self.line(node)} cannot be read as neurons",
                why="it calls back into Python or branches on values",
                fix="replace it by tensor operators in the model's forward",
            )
        op = f"{node.target.namespace}.{node.target._opname}.{node.target._overloadname}"
        name = short_name(op)
        if not _has_neurons((args, kwargs)) or name in SHAPE_ONLY:
            return self._constant(node, op, args, kwargs)
        bound = _bind(node.target, args, kwargs)
        if name in REINDEXING and not _by_activity(node, bound):
            moved = self._moved(node, bound)
            if moved is not None:
                return moved
        if name in self.handlers:
            handled = self.handlers[name](self, node, bound)
            if handled is not None:
                return handled
        if name in POINTWISE and _operand_count(bound) == 1:
            return self.activation(node, op, bound)
        return self.opaque(node, op, bound)

    def _constant(self, node: Node, op: str, args: Any, kwargs: Any) -> Any:
        """An expression: no activity reaches it."""
        value = node.meta.get("val")
        if short_name(op) in SHAPE_ONLY and isinstance(value, torch.Tensor):
            fill = _fill_value(short_name(op), args)
            if fill is not None:
                return Expression(
                    "aten.full.default", (list(value.shape), fill), (("dtype", value.dtype),)
                )
            args = tuple(_shape_only(a, node) for a in args)
        if not op.startswith("aten."):
            raise ModelRefused(
                f"the operator {op} at {self.line(node)} is not one of PyTorch's own",
                fix="replace it by tensor operators in the model's forward",
            )
        expression = Expression(op, tuple(args), tuple(dict(kwargs).items()))
        if isinstance(value, (tuple, list)):
            items = range(len(value))
            return [Expression(op, tuple(args), tuple(dict(kwargs).items()), i) for i in items]
        return expression

    def _moved(self, node: Node, bound: dict[str, Any]) -> Any:
        """The operator itself, run on ids; None if it brings in values other than zero."""
        if _fills(bound):
            return None
        args = {
            name: self._ids_or_value(value, node, name in PLACES) for name, value in bound.items()
        }
        for name in ("dtype", "device", "layout", "memory_format", "non_blocking", "copy"):
            if name in args:
                args.pop(name)
        target: Any = node.target
        if target._opname == "_to_copy":
            return next(v for v in args.values() if isinstance(v, torch.Tensor))
        if target._opname in ("view", "_unsafe_view"):
            return args["self"].reshape(args["size"])  # ids need not lie in memory as values do
        try:
            return _as_ids(_invoke(target, args))
        except (NotImplementedError, RuntimeError):
            # some kernels know no integers; ids are exact as float64
            wide = {name: _float(value) for name, value in args.items()}
            return _as_ids(_invoke(target, wide))

    def _ids_or_value(self, value: Any, node: Node, place: bool) -> Any:
        if isinstance(value, Expression):
            if place:
                return value.evaluate(self.exported.state).cpu()
            return self.neurons(value, self.name(node) + ".constant")
        if isinstance(value, (list, tuple)):
            return [self._ids_or_value(v, node, place) for v in value]
        return value

    # -- making drafts ------------------------------------------------------------------------

    def draft(
        self,
        name: str,
        traced: tuple[int, ...],
        *,
        kind: str = "hidden",
        line: str = "",
        **fields: Any,
    ) -> Tensor:
        """A new layer's ids, shaped as traced."""
        used = self._names.get(name, 0)
        self._names[name] = used + 1
        draft = Draft(
            name if not used else f"{name}#{used + 1}", kind, traced, self._next, **fields
        )
        draft.line = line
        self.drafts.append(draft)
        self._next += draft.size
        return torch.arange(draft.first, self._next).reshape(traced)

    def neurons(self, value: Any, name: str) -> Tensor:
        """Ids of a value; a constant becomes a layer of constant neurons, zeros become id 0."""
        if not isinstance(value, Expression):
            ids: Tensor = value
            return ids
        if value.op == "aten.full.default" and value.args[1] == 0:
            return torch.zeros(list(value.args[0]), dtype=torch.int64)
        known = value.evaluate(self.exported.state)
        if not value.parameters and not known.any():
            return torch.zeros(known.shape, dtype=torch.int64)
        return self.draft(name, tuple(known.shape), kind="constant", value=value)

    def linear(
        self,
        node: Node,
        ids: Tensor,
        op: Operator,
        weight: Expression,
        *,
        bias: Expression | None = None,
        link_kind: str = "weight",
        name: str = "",
        **fields: Any,
    ) -> Tensor:
        """A layer computed by one linear operator, shaped as the node."""
        part = Part(flat(ids), op, weight, link_kind)
        traced = tuple(node.meta["val"].shape) if "traced" not in fields else fields.pop("traced")
        return self.draft(
            name or self.name(node, weight),
            traced,
            parts=[part],
            bias=bias,
            line=self.line(node),
            **fields,
        )

    def combined(
        self,
        node: Node,
        terms: list[tuple[Tensor, Expression, str]],
        shift: Expression | None = None,
    ) -> Tensor:
        """A layer that sums others element by element; each term is (ids, factor, kind of link)."""
        shape = tuple(node.meta["val"].shape)
        parts = []
        for ids, factor, kind in terms:
            spread = ids.expand(shape)
            parts.append(Part(flat(spread), Diagonal(shape), factor, kind))
        line = self.line(node)
        return self.draft(self.name(node), shape, parts=parts, shift=shift, line=line)

    def activation(self, node: Node, op: str, bound: dict[str, Any]) -> Tensor:
        """A layer that applies a function to each neuron; contraction makes it an attribute."""
        (slot,) = [name for name, v in bound.items() if isinstance(v, torch.Tensor)]
        call = _as_call(node.target, op, {**bound, slot: Slot(0)})
        ids: Tensor = bound[slot]
        part = Part(flat(ids), Diagonal(tuple(ids.shape)), ONE, "identity")
        return self.draft(
            self.name(node), tuple(ids.shape), parts=[part], function=call, line=self.line(node)
        )

    def opaque(
        self,
        node: Node,
        op: str,
        bound: dict[str, Any],
        *,
        pattern: Pattern | None = None,
        link_kind: str = "data",
    ) -> Any:
        """A layer computed by an operator without weights, from all the operands it reads."""
        if not op.startswith("aten."):
            raise ModelRefused(
                f"the operator {op} at {self.line(node)} is not one of PyTorch's own",
                fix="replace it by tensor operators in the model's forward",
            )
        operands: list[Tensor] = []
        sources = _bind(node.target, node.args, node.kwargs)
        filled = {
            name: _slotted(value, operands, sources.get(name)) for name, value in bound.items()
        }
        value = node.meta["val"]
        if not isinstance(value, (tuple, list)):
            return self._join(
                node, op, filled, operands, tuple(value.shape), None, pattern, link_kind
            )
        read = {u.args[1] for u in node.users if u.target is python_operator.getitem}
        return [
            self._join(node, op, filled, operands, tuple(v.shape), i, pattern, link_kind)
            if i in read and isinstance(v, torch.Tensor)
            else None
            for i, v in enumerate(value)
        ]

    def _join(
        self,
        node: Node,
        op: str,
        filled: dict[str, Any],
        operands: list[Tensor],
        shape: tuple[int, ...],
        item: int | None,
        pattern: Pattern | None,
        link_kind: str,
    ) -> Tensor:
        outputs = int(np.prod(shape))
        parts = []
        for k, ids in enumerate(operands):
            known = pattern
            if known is None and tuple(ids.shape) == shape and _elementwise(op):
                known = Pattern(outputs, 1, 1, np.zeros(1, np.int64), np.zeros(1, np.int64))
            apart = _parts(op, tuple(ids.shape), shape)
            operator = Opaque(ids.numel(), outputs, known, apart)
            parts.append(Part(flat(ids), operator, ONE, link_kind, k))
        call = _as_call(node.target, op, filled, item)
        return self.draft(
            self.name(node),
            shape,
            parts=parts,
            join=call,
            operands=tuple(tuple(ids.shape) for ids in operands),
            line=self.line(node),
        )

    # -- names --------------------------------------------------------------------------------

    def name(self, node: Node, weight: Expression | None = None) -> str:
        """The user's module path; for what no leaf module computes, the path and the operator."""
        stack = list(node.meta.get("nn_module_stack", {}).values())
        path = str(stack[-1][0]).removeprefix("model").removeprefix(".") if stack else ""
        path = _NUMBER.sub("", path)  # the exporter numbers the calls of a module used twice
        short = str(getattr(node.target, "_opname", node.name)).strip("_")
        if path and path in self.exported.leaves:
            return path
        owner = _module_of(weight.parameters[0]) if weight and weight.parameters else ""
        if owner:
            return owner
        return f"{path}.{short}" if path else short

    def maker(self, ids: Tensor) -> str:
        """The name of the one layer that all these neurons belong to, if it is one."""
        starts = torch.tensor([draft.first for draft in self.drafts])
        found = torch.unique(torch.searchsorted(starts, ids.reshape(-1), right=True))
        return self.drafts[int(found[0]) - 1].name if len(found) == 1 and found[0] else ""

    def line(self, node: Node) -> str:
        """The line of the user's code that made this node."""
        return user_line(node.meta.get("stack_trace") or "")


def _module_of(name: str) -> str:
    """The module of a weight: ``fc`` of ``fc.weight``, ``a.in_proj`` of ``a.in_proj_weight``."""
    path, parametrized, _ = name.partition(".parametrizations.")
    if parametrized:
        return path
    head, _, last = name.rpartition(".")
    if last == "weight" or last.startswith("weight_"):
        return head
    return name.removesuffix("_weight")


def _resolved(value: Any, values: dict[Node, Any]) -> Any:
    from torch.fx import Node

    if isinstance(value, Node):
        return values[value]
    if isinstance(value, dict):
        return {k: _resolved(v, values) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(v, values) for v in value]
    return value


def _has_neurons(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_neurons(v) for v in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_neurons(v) for v in value)
    return isinstance(value, torch.Tensor)


def _operand_count(bound: dict[str, Any]) -> int:
    return sum(isinstance(v, torch.Tensor) for v in bound.values())


def _bind(target: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments by the names of the operator's schema; what was not given is left out."""
    names = [a.name for a in target._schema.arguments]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _invoke(target: Any, bound: dict[str, Any]) -> Any:
    positional = [a.name for a in target._schema.arguments if not a.kwarg_only]
    args = [bound[name] for name in positional if name in bound]
    return target(*args, **{n: v for n, v in bound.items() if n not in positional})


def _as_call(target: Any, op: str, bound: dict[str, Any], item: int | None = None) -> Call:
    positional = [a.name for a in target._schema.arguments if not a.kwarg_only]
    args = tuple(bound[name] for name in positional if name in bound)
    named = tuple((n, v) for n, v in bound.items() if n not in positional)
    return Call(op, args, named, item)


def _fills(bound: dict[str, Any]) -> bool:
    """True where a padding brings in something other than zero."""
    constant = bound.get("mode", "constant") == "constant" and "pad" in bound
    return constant and bool(bound.get("value"))


def _as_ids(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(torch.int64)
    return [_as_ids(v) for v in value]


def _float(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype == torch.int64:
        return value.to(torch.float64)
    if isinstance(value, (list, tuple)):
        return [_float(v) for v in value]
    return value


def _slotted(value: Any, operands: list[Tensor], source: Any) -> Any:
    """Slots for the activities; sums are numbers, so what is read as integers is cast to them."""
    if isinstance(value, torch.Tensor):
        operands.append(value)
        slot = Slot(len(operands) - 1)
        like = getattr(source, "meta", {}).get("val")
        if like is None or like.dtype.is_floating_point or like.dtype.is_complex:
            return slot
        return Call("aten._to_copy.default", (slot,), (("dtype", like.dtype),))
    if isinstance(value, (list, tuple)):
        given = source if isinstance(source, (list, tuple)) else [None] * len(value)
        return [_slotted(v, operands, s) for v, s in zip(value, given, strict=True)]
    return value


def _by_activity(node: Node, bound: dict[str, Any]) -> bool:
    """True where values are moved by activities, or change as they are cast."""
    if any(_has_neurons(bound.get(name)) for name in PLACES):
        return True
    given, made = bound.get("self"), node.meta.get("val")
    if not isinstance(given, torch.Tensor) or not isinstance(made, torch.Tensor):
        return False
    (source,) = [n for n in node.all_input_nodes if n is node.args[0]]
    before, after = source.meta["val"].dtype, made.dtype
    if before in (after, torch.bool):
        return False
    return after == torch.bool or (_inexact(before) and not _inexact(after))


def _inexact(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype.is_complex


def _fill_value(name: str, args: Any) -> float | None:
    if name == "fill":
        return None if isinstance(args[1], Expression) else float(args[1])
    return {"zeros_like": 0.0, "new_zeros": 0.0, "ones_like": 1.0, "new_ones": 1.0}.get(name)


def _shape_only(value: Any, node: Node) -> Any:
    return (
        literal(torch.zeros(node.meta["val"].shape)) if isinstance(value, torch.Tensor) else value
    )


# Operators that bring each value together with those in the same place alone.
ELEMENTWISE = POINTWISE | frozenset(
    """add addcdiv addcmul atan2 bitwise_and bitwise_not bitwise_or bitwise_xor copysign div eq
    floor_divide fmax fmin fmod ge gt hypot isnan le lerp logical_and logical_not logical_or
    logical_xor lt masked_fill maximum minimum mul ne remainder sub _to_copy where""".split()
)


def _elementwise(op: str) -> bool:
    return short_name(op) in ELEMENTWISE


def _parts(op: str, read: tuple[int, ...], made: tuple[int, ...]) -> int:
    """The matrices of a batch of products, which have nothing to do with one another."""
    if short_name(op) in BATCHED and read[:-2] == made[:-2]:
        return int(np.prod(made[:-2]))
    return 1
