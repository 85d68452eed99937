"""Products of activities and constants, each spelled as a sum over labelled axes.

Where one side is constant the product is linear in the other, whatever its operator is called. A
product of two activities stays opaque.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cntgraph.network.expressions import Call, Expression, Slot
from cntgraph.network.operators import Diagonal, Opaque
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat
from cntgraph.tracing.kinds.contracting import Factor, contraction, distinct, labels, shape_of
from cntgraph.tracing.kinds.registry import (
    Bound,
    activity,
    as_expression,
    constant,
    handles,
    opname,
    real,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []

# what every product may make, whichever side is constant
PRODUCT = "dense weight, dense fixed, convolution weight, convolution fixed, opaque data"


def _pair(
    run: Interpreter,
    node: Node,
    a: Factor,
    b: Factor,
    out: str,
    *,
    bias: Any = None,
    alpha: float = 1,
) -> Any:
    """A product of which one side is constant, plus a bias; None if both sides are activities."""
    if not real(run, node, a.value, b.value, bias):
        return None
    if constant(a.value, b.value):
        return _constant_product(run, node, a, b, bias, alpha)
    if activity(a.value) and activity(b.value):
        return None
    x, w = (a, b) if activity(a.value) else (b, a)
    if not activity(bias):
        return contraction(run, node, x, w, out, bias=bias, alpha=alpha)
    ids = contraction(run, node, x, w, out, alpha=alpha)
    return run.combined(node, [(ids, ONE, "identity"), (bias, ONE, "identity")])


def _constant_product(
    run: Interpreter, node: Node, a: Factor, b: Factor, bias: Tensor, alpha: float
) -> Any:
    """An activity to which a product of two constants is added."""
    shape = node.meta["val"].shape
    if opname(node) not in ("addmm", "baddbmm", "linear"):
        return None
    turned = b.value.apply("aten.t.default") if opname(node) == "linear" else b.value
    shift = a.value.apply("aten.matmul.default", turned).apply("aten.mul.Scalar", alpha)
    return run.combined(node, [(bias.expand(shape), ONE, "identity")], shift)


def _as_matrices(run: Interpreter, a: Any, b: Any) -> tuple[Factor, Factor, str]:
    """`torch.matmul` of operands of any rank, whose leading axes broadcast from the right."""
    left, right = len(shape_of(run, a)), len(shape_of(run, b))
    rows, columns = "i" * (left > 1), "j" * (right > 1)
    leads = labels(max(0, left - 2)), labels(max(0, right - 2))
    out = max(leads, key=len) + rows + columns
    return Factor(a, leads[0] + rows + "k"), Factor(b, leads[1] + "k" + columns), out


@handles("linear", makes=f"{PRODUCT}, diagonal identity")
def linear(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``input @ weight.T + bias`` at every position."""
    x, w, b = bound["input"], bound["weight"], bound.get("bias")
    lead = labels(len(shape_of(run, x)) - 1)
    columns = "o" * (len(shape_of(run, w)) > 1)
    return _pair(run, node, Factor(x, lead + "i"), Factor(w, columns + "i"), lead + columns, bias=b)


@handles("mm", "bmm", "matmul", "linalg_matmul", "mv", "dot", "vdot", makes=PRODUCT)
def matmul(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A product with a matrix or a vector of weights on either side."""
    a, b = list(bound.values())[:2]
    return _pair(run, node, *_as_matrices(run, a, b))


@handles(
    "addmm",
    "addmv",
    "baddbmm",
    "addbmm",
    "addr",
    makes=f"{PRODUCT}, diagonal identity, diagonal scale",
)
def added_product(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``beta * self + alpha * (a @ b)``; `addbmm` sums over its matrices as well."""
    bias, a, b = list(bound.values())[:3]
    factors = {
        "addbmm": (Factor(a, "bik"), Factor(b, "bkj"), "ij"),
        "addr": (Factor(a, "i"), Factor(b, "j"), "ij"),
    }.get(opname(node)) or _as_matrices(run, a, b)
    beta = bound.get("beta", 1)
    if activity(bias) and beta != 1:
        shape = tuple(node.meta["val"].shape)
        ids, factor = bias.expand(shape), as_expression(beta)
        bias = run.linear(node, ids, Diagonal(shape), factor, link_kind="scale")
    elif isinstance(bias, Expression) and beta != 1:
        bias = bias.apply("aten.mul.Scalar", beta) if beta else None
    return _pair(run, node, *factors, bias=bias, alpha=bound.get("alpha", 1))


@handles("outer", "ger", "inner", "tensordot", "kron", makes=f"{PRODUCT}, diagonal scale")
def spelled(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Products whose axes follow from the ranks of their operands."""
    a, b = list(bound.values())[:2]
    m, n = len(shape_of(run, a)), len(shape_of(run, b))
    first, second = labels(m), labels(n, m)
    match opname(node):
        case "inner":
            second = second[:-1] + first[-1:] if m and n else second
            out = first[:-1] + second[:-1] if m and n else first + second
        case "tensordot":
            pairs = list(zip(bound["dims_self"], bound["dims_other"], strict=True))
            named = {q % n: first[p % m] for p, q in pairs}
            second = "".join(named.get(k, c) for k, c in enumerate(second))
            out = "".join(c for c in first + second if c not in named.values())
        case "kron":
            long = max(m, n)
            rows, columns = [None] * (long - m) + list(first), [None] * (long - n) + list(second)
            out = "".join(c for pair in zip(rows, columns, strict=True) for c in pair if c)
        case _:
            out = first + second
    ids = _pair(run, node, Factor(a, first), Factor(b, second), out)
    return None if ids is None else ids.reshape(node.meta["val"].shape)


@handles("bilinear", makes=PRODUCT)
def bilinear(run: Interpreter, node: Node, bound: Bound) -> Any:
    """``x1' W x2``: linear in one side where the other is constant."""
    sides = {"i": bound["input1"], "j": bound["input2"]}
    weight, bias = bound["weight"], bound.get("bias")
    given = [a for a, value in sides.items() if activity(value)]
    if len(given) != 1 or not constant(weight, bias) or not real(run, node, *sides.values()):
        return None
    (axis,) = given
    other = next(value for a, value in sides.items() if a != axis)
    lead = labels(sides[axis].ndim - 1)
    # the weight comes first, so that the link keeps its element; every pair (i, j) is a link
    over = other.apply("aten.unsqueeze.default", -2)
    over = over if axis == "i" else over.apply("aten.transpose.int", -2, -1)
    over = over.apply("aten.unsqueeze.default", -3)
    over = (
        over
        if math.prod(shape_of(run, other)[:-1]) > 1
        else over.apply("aten.reshape.default", list(shape_of(run, over))[-3:])
    )
    product = Factor(weight.apply("aten.mul.Tensor", over), "")
    axes = labels(len(shape_of(run, product.value)) - 3) + "oij"
    x = Factor(sides[axis], lead + axis)
    return contraction(run, node, x, Factor(product.value, axes), lead + "o", bias=bias)


@handles("linalg_multi_dot", "chain_matmul", makes=PRODUCT)
def chain(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A chain of matrices around one activity: a layer for each."""
    matrices = bound["tensors"] if "tensors" in bound else bound["matrices"]
    places = [k for k, m in enumerate(matrices) if activity(m)]
    if len(places) != 1 or not real(run, node, *matrices):
        return None
    ids = matrices[places[0]]
    for w in matrices[places[0] + 1 :]:
        ids = _pair(run, node, *_as_matrices(run, ids, w))
    for w in reversed(matrices[: places[0]]):
        ids = _pair(run, node, *_as_matrices(run, w, ids))
    return ids


# -- einsum ---------------------------------------------------------------------------------------


@handles("einsum", makes=f"{PRODUCT}, diagonal scale")
def einsum(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Any number of constants around one activity: a layer for each, those that it meets first.

    Several activities are joined first, where that makes no more neurons than they have.
    """
    operands = bound["tensors"] if "tensors" in bound else bound["operands"]
    if not real(run, node, *operands):
        return None
    factors, out = _parsed(run, bound["equation"], operands)
    rest = [f for f in factors if not activity(f.value)]
    x = _joined(run, node, [f for f in factors if activity(f.value)], rest, out)
    if x is None:
        return None
    if not rest:
        return _alone(run, node, x, out)
    while rest:
        w = next((f for f in rest if set(f.axes) & set(x.axes)), rest[0])
        rest.remove(w)
        axes = _remaining([x, w], rest, out)
        x = Factor(contraction(run, node, x, w, axes), axes)
    return x.value


def _remaining(met: list[Factor], rest: list[Factor], out: str) -> str:
    """The axes of a product that are still read; in their last order if nothing else is met."""
    wanted = set(out).union(*(f.axes for f in rest))
    order = dict.fromkeys("".join(f.axes for f in met))
    return "".join(a for a in order if a in wanted) if rest else out


def _joined(
    run: Interpreter, node: Node, given: list[Factor], rest: list[Factor], out: str
) -> Factor | None:
    """The product of the activities alone, as a join without weights; None if it is large."""
    if len(given) == 1:
        return given[0]
    axes = _remaining(given, rest, out)
    size: dict[str, int] = {}
    for f in given:
        for a, n in zip(f.axes, f.value.shape, strict=True):
            size[a] = max(size.get(a, 1), n)
    shape = tuple(size[a] for a in axes)
    if not rest or math.prod(shape) > max(f.value.numel() for f in given):
        return None
    letters = dict(zip(size, string.ascii_letters, strict=False))
    spelled = ["".join(letters[a] for a in part) for part in (*(f.axes for f in given), axes)]
    slots = [Slot(k) for k in range(len(given))]
    call = Call("aten.einsum.default", (f"{','.join(spelled[:-1])}->{spelled[-1]}", slots))
    sizes = [(f.value.numel(), math.prod(shape)) for f in given]
    parts = [Part(flat(f.value), Opaque(*sizes[k]), ONE, "data", k) for k, f in enumerate(given)]
    operands = tuple(tuple(f.value.shape) for f in given)
    ids = run.draft(
        run.name(node), shape, parts=parts, join=call, operands=operands, line=run.line(node)
    )
    return Factor(ids, axes)


def _alone(run: Interpreter, node: Node, x: Factor, out: str) -> Any:
    """One operand: its axes are turned, its diagonals taken, the others summed."""
    x, _ = distinct(x, Factor(ONE, ""))
    if set(x.axes) == set(out):
        return x.value.permute([x.axes.index(a) for a in out])
    return contraction(run, node, x, Factor(ONE, ""), out)


def _parsed(run: Interpreter, equation: str, operands: Sequence[Any]) -> tuple[list[Factor], str]:
    """The labelled operands and the labels of the result; an ellipsis gets labels of its own."""
    left, arrow, out = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    named = [len(term.replace("...", "")) for term in terms]
    hidden = [len(shape_of(run, v)) - n for v, n in zip(operands, named, strict=True)]
    terms = [t.replace("...", labels(n)) for t, n in zip(terms, hidden, strict=True)]
    if not arrow:
        every = "".join(terms)
        out = "..." + "".join(sorted(a for a in set(every) if every.count(a) == 1 and a.isascii()))
    factors = [Factor(v, t) for v, t in zip(operands, terms, strict=True)]
    return factors, out.replace("...", labels(max(hidden)))
