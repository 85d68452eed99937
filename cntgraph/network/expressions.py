"""A weight of the network is an expression over the model's named tensors.

Mostly that is one parameter as it is. Tied, transposed or sliced parameters, folded batch
norms and reparametrised weights are the same parameters with tensor operators applied, so an
epoch is another mapping of names to tensors and the expression is computed again. A `Call` is
the same thing with holes in it: an activation or an opaque join, waiting for neurons' values.

Both are plain values that go to JSON and come back; what comes back may name nothing but pure
operators of PyTorch's ``aten`` library.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.errors import InputRefused
from cntgraph.network.arrays import array_of_json, as_array, computed, json_of_array, widened

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "POINTWISE",
    "REINDEXING",
    "Call",
    "Expression",
    "Slot",
    "literal",
    "operator",
    "parameter",
    "short_name",
]

Weights = Mapping[str, "Tensor"]

# An operator of these moves elements and never changes them, so it can be replayed on the
# positions of the elements: that is how a link knows its parameter after a transpose or a slice.
REINDEXING = frozenset(
    """alias as_strided block_diag broadcast_tensors cat channel_shuffle clone column_stack
    concat concatenate constant_pad_nd detach diag diag_embed diagflat diagonal diagonal_scatter
    dstack expand flip fliplr flipud hstack im2col index index_select native_channel_shuffle pad
    permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d reflection_pad3d
    repeat replication_pad1d replication_pad2d replication_pad3d reshape _reshape_alias roll
    rot90 select select_scatter slice slice_scatter split split_with_sizes squeeze stack t tile
    _to_copy transpose tril triu unbind unfold unsafe_split unsafe_split_with_sizes _unsafe_view
    unsqueeze view vstack""".split()
)

# Activations: one value in, one value out, whatever the shape.
POINTWISE = frozenset(
    """abs acos asin atan celu clamp clamp_max clamp_min cos elu erf exp expm1 gelu hardshrink
    hardsigmoid hardswish hardtanh leaky_relu log log1p log_sigmoid mish pow reciprocal relu relu6
    round rsqrt selu sigmoid sign silu sin sinh softplus softshrink sqrt square tan tanh
    threshold""".split()
)

_NAME = re.compile(r"aten\.([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z_][A-Za-z0-9_]*)")
_REFUSED = frozenset({"from_file"})  # the one pure operator that reads a file


def operator(name: str) -> Callable[..., Any]:
    """The pure ``aten`` operator of that name, ``aten.permute.default`` say."""
    import torch

    base, overload = _named(name)
    try:
        found = getattr(getattr(torch.ops.aten, base), overload)
    except AttributeError as missing:
        raise InputRefused(
            f"this PyTorch has no operator {name}",
            why=f"torch is {torch.__version__}; the run was written by another version",
            fix="export the run again",
        ) from missing
    if found._schema.is_mutable:
        raise InputRefused(f"{name!r} changes its arguments, which a network may not")
    return found  # type: ignore[no-any-return]


def _named(name: str) -> tuple[str, str]:
    """The two parts of an operator's name; what no operator is called is refused."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] in _REFUSED:
        raise InputRefused(f"{name!r} is not an operator that a network may hold")
    return match[1], match[2]


def short_name(op: str) -> str:
    """``leaky_relu`` of ``aten.leaky_relu.default``."""
    return op.split(".")[1] if op.startswith("aten.") else op


@dataclass(frozen=True)
class _Type:
    """A type of tensors by its name, so that a network is read without PyTorch."""

    name: str

    def __call__(self) -> torch.dtype:
        """The type itself."""
        import torch

        found = getattr(torch, self.name, None)
        if not isinstance(found, torch.dtype):
            raise InputRefused(f"{self.name!r} is not a type of tensor")
        return found


@dataclass(frozen=True)
class Slot:
    """The place in a `Call` where the values of an operand go."""

    operand: int


@dataclass(frozen=True, eq=False)
class Expression:
    """A tensor computed from named tensors: ``op`` is ``parameter``, ``literal`` or an operator.

    >>> import torch
    >>> w = parameter("fc.weight")
    >>> w.apply("aten.t.default").evaluate({"fc.weight": torch.tensor([[1., 2.]])}).shape
    torch.Size([2, 1])
    """

    op: str
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    item: int | None = None

    def apply(self, op: str, *args: Any, **kwargs: Any) -> Expression:
        """This expression as the first argument of an operator."""
        return Expression(op, (self, *args), tuple(kwargs.items()))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the tensors it is computed from, in order of first use."""
        return tuple(dict.fromkeys(_leaves((self,))))

    @property
    def computed(self) -> bool:
        """True if values are computed, not only moved: a folded batch norm, a weight norm."""
        if self.op in ("parameter", "literal"):
            return False
        return short_name(self.op) not in REINDEXING or any(
            e.computed for e in _expressions((self.args, self.kwargs))
        )

    def evaluate(self, weights: Weights, dtype: torch.dtype | None = None) -> Tensor:
        """The tensor, from these weights; floating leaves are cast to ``dtype`` first."""
        if self.op == "parameter":
            value = weights[self.args[0]]
            return _cast(value, dtype)
        if self.op == "literal":
            return _cast(_beside(_as_tensor(self.args[0]), weights), dtype)
        call = operator(self.op)
        args, kwargs = _fill((self.args, self.kwargs), lambda e: e.evaluate(weights, dtype))
        result = call(*args, **{k: v for k, v in kwargs if k not in _PLACEMENT})
        # constants are made in the type they were traced with
        return _cast(_picked(result, self.item), dtype)

    def array(self, weights: Weights) -> NDArray[Any] | None:
        """What `evaluate` gives in float64, as an array and without PyTorch; None where it cannot.

        It can where the tensors are those that a run has stored and the operators are few: what
        folds batch norms, averages, transposes. What is not computed keeps its type.
        """
        arrays: Mapping[str, NDArray[Any]] | None = getattr(weights, "arrays", None)
        return None if arrays is None else self._array(arrays, wide=self.computed)

    def _array(self, arrays: Mapping[str, NDArray[Any]], *, wide: bool) -> NDArray[Any] | None:
        if self.op == "parameter":
            return widened(arrays[self.args[0]]) if wide else arrays[self.args[0]]
        if self.op == "literal":
            kept = as_array(self.args[0])
            return kept if kept is None or not wide else widened(kept)

        def value(part: Any) -> Any:
            return part._array(arrays, wide=wide) if isinstance(part, Expression) else part

        args = [value(part) for part in self.args]
        if self.item is not None or any(part is None for part in args):
            return None
        kwargs = {
            name: part.name if isinstance(part, _Type) else part
            for name, part in self.kwargs
            if name not in _PLACEMENT
        }
        found = computed(self.op, args, kwargs)
        return found if found is None or not wide else widened(found)

    def origins(self, weights: Weights) -> Tensor:
        """Where each entry comes from, in the entry's own place; -1 for no element of one tensor.

        Origins count through the elements of `parameters`, one tensor after another: with 10 in
        the first, 13 is the element 3 of the second. Where several meet in an entry (a folded
        batch norm, a weight norm) it is the first that has as many elements as the result.
        """
        sizes = {name: weights[name].numel() for name in self.parameters}
        return self._origins(weights, _starts(sizes))

    def places(self, weights: Weights) -> NDArray[np.int64]:
        """`origins` as an array and without PyTorch, for whoever was given an `array`."""
        arrays: Mapping[str, NDArray[Any]] = weights.arrays  # type: ignore[attr-defined]
        starts = _starts({name: arrays[name].size for name in self.parameters})
        return self._places(arrays, starts)

    def _places(
        self, arrays: Mapping[str, NDArray[Any]], starts: Mapping[str, int]
    ) -> NDArray[np.int64]:
        if self.op == "parameter":
            value = arrays[self.args[0]]
            return np.arange(value.size).reshape(value.shape) + starts[self.args[0]]
        if self.parameters and short_name(self.op) in REINDEXING:
            first, *rest = self.args
            rest = [e._array(arrays, wide=False) if isinstance(e, Expression) else e for e in rest]
            moved = computed(self.op, [first._places(arrays, starts), *rest], {})
            assert moved is not None  # as the values were
            return moved
        shape = self._shape(arrays)
        for operand in _expressions(self.args):
            if operand.parameters and operand._shape(arrays) == shape:
                return operand._places(arrays, starts)
        return np.full(shape, -1)

    def _shape(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
        value = self._array(arrays, wide=False)
        assert value is not None
        return value.shape

    def _origins(self, weights: Weights, starts: Mapping[str, int]) -> Tensor:
        import torch

        if self.op == "parameter":
            value = weights[self.args[0]]
            return torch.arange(value.numel()).reshape(value.shape) + starts[self.args[0]]
        if self.parameters and short_name(self.op) in REINDEXING:
            return self._moved(weights, starts)
        value = self.evaluate(weights)
        for operand in _expressions(self.args):
            if operand.parameters and operand.evaluate(weights).shape == value.shape:
                return operand._origins(weights, starts)
        return torch.full(value.shape, -1)

    def _moved(self, weights: Weights, starts: Mapping[str, int]) -> Tensor:
        """The operator done on origins; integers after the first argument say where, and stay."""
        import torch

        def origins(e: Expression) -> Tensor:
            # exact below 2^53, and every kernel knows floating point; 0 is what padding brings
            return e._origins(weights, starts).to(torch.float64) + 1

        def origins_or_places(e: Expression) -> Tensor:
            value = e.evaluate(weights)
            return origins(e) if value.is_floating_point() else value.cpu()

        args = (_fill(self.args[0], origins), *_fill(self.args[1:], origins_or_places))
        kwargs = _fill(self.kwargs, origins_or_places)
        named = {k: v for k, v in kwargs if k not in (*_PLACEMENT, "dtype")}
        moved = operator(self.op)(*args, **named)
        return _picked(moved, self.item).to(torch.int64) - 1

    def to_json(self) -> Any:
        """Nested lists and strings that `from_json` reads."""
        return _to_json(self)

    @staticmethod
    def from_json(data: Any) -> Expression:
        """The expression that `to_json` wrote; only pure operators are accepted."""
        found = _from_json(data)
        if not isinstance(found, Expression):
            raise InputRefused("an expression was expected in the network file")
        return found


@dataclass(frozen=True, eq=False)
class Call:
    """An operator waiting for values: an activation, or a join of several operands.

    An argument may be a call itself, on the same operands: ``add(mul(0, 1), mul(2, 3))``.
    """

    op: str
    args: tuple[Any, ...] = (Slot(0),)
    kwargs: tuple[tuple[str, Any], ...] = ()
    item: int | None = None

    def __call__(self, operands: list[Tensor], weights: Weights) -> Tensor:
        """The operator's result on the operands, each of the shape it was traced with."""
        dtype = next((x.dtype for x in operands if x.is_floating_point()), None)

        def value(part: Expression | Call) -> Tensor:
            if isinstance(part, Call):
                return part(operands, weights)
            return part.evaluate(weights, dtype)

        args, kwargs = _fill((self.args, self.kwargs), value, operands)
        return _picked(operator(self.op)(*args, **dict(kwargs)), self.item)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the tensors that take part beside the operands."""
        return tuple(dict.fromkeys(_leaves((self.args, self.kwargs))))

    @property
    def pointwise(self) -> bool:
        """True if every value is changed on its own, whatever the shape."""
        return short_name(self.op) in POINTWISE and not any(_expressions((self.args, self.kwargs)))

    def __str__(self) -> str:
        # an activation says what it adds to its one operand; a join names its operands
        alone = self.args[:1] == (Slot(0),) and _operands((self.args[1:], self.kwargs)) == 0
        shown = [_shown(a) for a in self.args[alone:]]
        shown += [f"{name}={_shown(value)}" for name, value in self.kwargs]
        return short_name(self.op) + (f"({', '.join(shown)})" if shown else "")

    def to_json(self) -> Any:
        """Nested lists and strings that `from_json` reads."""
        return _to_json(self)

    @staticmethod
    def from_json(data: Any) -> Call:
        """The call that `to_json` wrote; only pure operators are accepted."""
        found = _from_json(data)
        if not isinstance(found, Call):
            raise InputRefused("a call was expected in the network file")
        return found


def parameter(name: str) -> Expression:
    """The parameter of that name as it is."""
    return Expression("parameter", (name,))


def literal(value: Tensor | NDArray[Any]) -> Expression:
    """A tensor that belongs to the architecture, not to the weights."""
    return Expression("literal", (value,))


def _starts(sizes: Mapping[str, int]) -> dict[str, int]:
    """The origin of the first element of each parameter."""
    return dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))


_PLACEMENT = ("device", "layout", "pin_memory")  # results follow the weights, not the trace


def _operands(args: Any) -> int:
    """How often operands are named."""
    if isinstance(args, Call):
        args = (args.args, args.kwargs)
    if isinstance(args, (list, tuple)):
        return sum(_operands(a) for a in args)
    return int(isinstance(args, Slot))


def _shown(argument: Any) -> str:
    if isinstance(argument, Expression):
        return "+".join(argument.parameters) or "constant"
    if isinstance(argument, Slot):
        return f"#{argument.operand}"
    if isinstance(argument, (list, tuple)):
        return f"[{', '.join(_shown(a) for a in argument)}]"
    return str(argument).removesuffix(".0") if isinstance(argument, float) else str(argument)


def _as_tensor(value: Tensor | NDArray[Any]) -> Tensor:
    """What a literal holds, which is an array where a file was read."""
    if not isinstance(value, np.ndarray):
        return value
    import torch

    return torch.from_numpy(value)


def _picked(result: Any, item: int | None) -> Tensor:
    tensor: Tensor = result if item is None else result[item]
    return tensor


def _beside(value: Tensor, weights: Weights) -> Tensor:
    """A literal on the device of the weights."""
    home = next((w.device for w in weights.values() if not w.is_meta), value.device)
    return value.to(home)


def _cast(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(dtype) if dtype is not None and value.is_floating_point() else value


def _expressions(args: Any) -> Iterator[Expression]:
    if isinstance(args, Expression):
        yield args
    elif isinstance(args, Call):
        yield from _expressions((args.args, args.kwargs))
    elif isinstance(args, (list, tuple)):
        for a in args:
            yield from _expressions(a)


def _leaves(args: Any) -> Iterator[str]:
    for e in _expressions(args):
        if e.op == "parameter":
            yield e.args[0]
        else:
            yield from _leaves((e.args, e.kwargs))


def _fill(
    args: Any, evaluate: Callable[[Any], Tensor], operands: list[Tensor] | None = None
) -> Any:
    if isinstance(args, (Expression, Call)):
        return evaluate(args)
    if isinstance(args, Slot):
        assert operands is not None
        return operands[args.operand]
    if isinstance(args, _Type):
        return args()
    if isinstance(args, (list, tuple)):
        return type(args)(_fill(a, evaluate, operands) for a in args)
    return args


def _to_json(value: Any) -> Any:
    import torch

    if isinstance(value, Expression) and value.op == "parameter":
        return {"parameter": value.args[0]}
    if isinstance(value, Expression) and value.op == "literal":
        return {"literal": _tensor_to_json(value.args[0])}
    if isinstance(value, (Expression, Call)):
        kind = "expression" if isinstance(value, Expression) else "call"
        kwargs = {name: _to_json(v) for name, v in value.kwargs}
        return {kind: value.op, "args": _to_json(value.args), "kwargs": kwargs, "item": value.item}
    if isinstance(value, Slot):
        return {"slot": value.operand}
    if isinstance(value, _Type):
        return {"dtype": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, (torch.device, torch.layout, torch.memory_format)):
        return None
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(v) for v in value]
    if not isinstance(value, dict):
        return value
    if "parameter" in value:
        return parameter(value["parameter"])
    if "literal" in value:
        return literal(_tensor_from_json(value["literal"]))
    if "slot" in value:
        return Slot(value["slot"])
    if "float" in value:
        return float(value["float"])
    if "dtype" in value:
        return _Type(str(value["dtype"]))
    kind, op = ("call", value.get("call")) if "call" in value else ("", value.get("expression"))
    _named(str(op))  # what it is is judged when it is called, which takes PyTorch
    args = tuple(_from_json(a) for a in value["args"])
    kwargs = tuple((str(k), _from_json(v)) for k, v in value["kwargs"].items())
    return (Call if kind else Expression)(str(op), args, kwargs, value["item"])


def _tensor_to_json(value: Tensor | NDArray[Any]) -> dict[str, Any]:
    import torch

    if isinstance(value, np.ndarray):
        return json_of_array(value)
    data = value.detach().cpu().contiguous()
    raw = data.reshape(-1).view(torch.uint8).numpy().tobytes() if data.numel() else b""
    return {
        "dtype": str(value.dtype).removeprefix("torch."),
        "shape": list(value.shape),
        "base64": base64.b64encode(raw).decode(),
    }


def _tensor_from_json(data: dict[str, Any]) -> Tensor | NDArray[Any]:
    """An array where NumPy has its type, else a tensor."""
    known = array_of_json(data)
    if known is not None:
        return known
    raw = bytearray(base64.b64decode(data["base64"]))
    dtype = _Type(str(data["dtype"]))()
    import torch

    if not raw:
        return torch.empty(data["shape"], dtype=dtype)
    return torch.frombuffer(raw, dtype=dtype).reshape(data["shape"])
