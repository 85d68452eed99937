"""Recurrent networks unrolled over time: a step is layers of its own, all steps share weights.

What `torch.nn` documents as equations becomes neurons. A sum over trained weights is a layer with
its activation (the gates of an LSTM: a sigmoid for i, f and o, a tanh for g); where activity is
multiplied by activity (``f * c + i * g``) there is a join that has no weights. A state that is
zero has neither neurons nor links. Every step of a direction reads the same `Expression`, so the
links of all steps name the same elements of the same parameter.

Layers are named after the parameters and the position in the sequence: ``lstm.l0.t3.gates``,
``lstm.l0_reverse.t3.hidden``; those of a cell after the cell: ``cell.gates``, ``cell.gates#2``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from cntgraph.errors import InputRefused
from cntgraph.network.expressions import Call, Expression, Slot, literal
from cntgraph.network.geometry import Pattern
from cntgraph.network.layers import Portion
from cntgraph.network.operators import Dense, Diagonal, Opaque
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat
from cntgraph.tracing.kinds.registry import Bound, constant, handles, opname

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []

SIGMOID, TANH, RELU = (Call(f"aten.{name}.default") for name in ("sigmoid", "tanh", "relu"))


class State(NamedTuple):
    """What one step hands to the next, as ids (samples, units); only an LSTM has a cell."""

    hidden: Tensor
    cell: Tensor | None = None


class Weights(NamedTuple):
    """The parameters of one direction of one layer, as `torch.nn` orders them."""

    input: Expression
    hidden: Expression
    input_bias: Expression | None = None
    hidden_bias: Expression | None = None
    projection: Expression | None = None

    def rows(self, start: int, stop: int) -> Weights:
        """The weights and biases of some gates alone."""

        def cut(part: Expression | None) -> Any:
            return None if part is None else part.apply("aten.slice.Tensor", 0, start, stop)

        return Weights(*(cut(part) for part in self[:4]))

    @property
    def bias(self) -> Expression | None:
        """The two biases, which act as one."""
        if self.input_bias is None or self.hidden_bias is None:
            return self.input_bias or self.hidden_bias
        return self.input_bias.apply("aten.add.Tensor", self.hidden_bias)


class Range(NamedTuple):
    """Some of a layer's units, and their activation."""

    start: int
    stop: int
    function: Call


@dataclass(frozen=True, eq=False)
class Place:
    """Where layers are made: the interpreter, the user's line and the number of samples."""

    run: Interpreter
    line: str
    samples: int

    def shape(self, weight: Expression) -> tuple[int, ...]:
        """The shape of a weight."""
        return tuple(weight.evaluate(self.run.exported.state).shape)


@dataclass(frozen=True, eq=False)
class Sums:
    """Makes at every step a layer of sums over trained weights, one weight for each thing read."""

    place: Place
    weights: tuple[Expression, ...]
    bias: Expression | None
    ranges: tuple[Range, ...] = ()

    def __call__(self, name: str, *read: Tensor, carried: Sequence[Part] = ()) -> Tensor:
        """The layer; one of constants where nothing but zeros is read."""
        parts = list(carried)
        for ids, weight, operator in zip(read, self.weights, self._operators, strict=True):
            if bool(ids.any()):
                parts.append(Part(flat(ids), operator, weight, "weight"))
            else:
                self.place.run.silent.update(weight.parameters)
        run, line = self.place.run, self.place.line
        if not parts:
            return run.draft(name, self._shape, kind="constant", line=line, value=self._resting)
        one = len(self.ranges) == 1
        return run.draft(
            name,
            self._shape,
            line=line,
            parts=parts,
            bias=self.bias,
            function=self.ranges[0].function if one else None,
            portions=[] if one else list(self._portions),
        )

    @cached_property
    def _operators(self) -> list[Dense]:
        shapes = [self.place.shape(weight) for weight in self.weights]
        return [Dense(inputs, units, self.place.samples) for units, inputs in shapes]

    @property
    def _shape(self) -> tuple[int, int]:
        return self.place.samples, self._operators[0].channels_out

    @cached_property
    def _portions(self) -> list[Portion]:
        places = np.arange(np.prod(self._shape)).reshape(self._shape)
        return [Portion(places[:, r.start : r.stop].reshape(-1), r.function) for r in self.ranges]

    @cached_property
    def _resting(self) -> Expression:
        """The activations where every sum is its bias."""
        zeros = literal(torch.zeros(self._shape[1], dtype=torch.float64))
        value = zeros if self.bias is None else self.bias
        if self.ranges:
            cuts = [value.apply("aten.slice.Tensor", 0, r.start, r.stop) for r in self.ranges]
            active = [e.apply(r.function.op) for e, r in zip(cuts, self.ranges, strict=True)]
            value = Expression("aten.cat.default", (active, -1))
        return value.apply("aten.expand.default", list(self._shape))


# -- one step of each kind ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Step:
    """Makes the layers of one step of one direction; holds what its steps share."""

    place: Place
    weights: Weights
    units: int

    def __call__(self, name: str, x: Tensor, state: State) -> State:
        """The state after the step, from what is read and the state before."""
        raise NotImplementedError

    def _join(self, name: str, call: Call, *operands: Tensor) -> Tensor:
        """A layer that joins others element by element, without weights."""
        shape = tuple(operands[0].shape)
        parts = [Part(flat(x), self._elementwise, ONE, "data", k) for k, x in enumerate(operands)]
        shapes = (shape,) * len(operands)
        line = self.place.line
        return self.place.run.draft(name, shape, line=line, parts=parts, join=call, operands=shapes)

    @cached_property
    def _elementwise(self) -> Opaque:
        size, one = self.place.samples * self.units, np.zeros(1, dtype=np.int64)
        return Opaque(size, size, Pattern(size, 1, 1, one, one))


def _call(op: str, *args: Any) -> Call:
    return Call(f"aten.{op}", args)


_PRODUCT = _call("mul.Tensor", Slot(0), Slot(1))
_TIMES_TANH = _call("mul.Tensor", Slot(0), _call("tanh.default", Slot(1)))
_SUM_OF_PRODUCTS = _call("add.Tensor", _PRODUCT, _call("mul.Tensor", Slot(2), Slot(3)))
_REMAINDER = _call("mul.Tensor", Slot(0), _call("rsub.Scalar", Slot(1), 1.0))
_MIXTURE = _call("add.Tensor", _REMAINDER, _call("mul.Tensor", Slot(1), Slot(2)))


class Plain(Step):
    """``h' = tanh(W x + b + U h + c)``: one layer a step."""

    function = TANH

    @cached_property
    def _sums(self) -> Sums:
        w = self.weights
        whole = (Range(0, self.units, self.function),)
        return Sums(self.place, (w.input, w.hidden), w.bias, whole)

    def __call__(self, name: str, x: Tensor, state: State) -> State:
        return State(self._sums(f"{name}.hidden", x, state.hidden))


class Rectified(Plain):
    """The same with relu."""

    function = RELU


class LongShortTerm(Step):
    """Gates i, f, g, o; ``c' = i * g + f * c``; ``h' = o * tanh(c')``, which may be projected."""

    @cached_property
    def _gates(self) -> Sums:
        n, w = self.units, self.weights
        sigmoids = Range(0, 2 * n, SIGMOID), Range(3 * n, 4 * n, SIGMOID)
        ranges = (sigmoids[0], Range(2 * n, 3 * n, TANH), sigmoids[1])
        return Sums(self.place, (w.input, w.hidden), w.bias, ranges)

    @cached_property
    def _projection(self) -> Sums | None:
        weight = self.weights.projection
        return None if weight is None else Sums(self.place, (weight,), None)

    def __call__(self, name: str, x: Tensor, state: State) -> State:
        gates = self._gates(f"{name}.gates", x, state.hidden)
        i, f, g, o = gates.chunk(4, 1)
        assert state.cell is not None
        if bool(state.cell.any()):
            cell = self._join(f"{name}.cell", _SUM_OF_PRODUCTS, i, g, f, state.cell)
        else:
            cell = self._join(f"{name}.cell", _PRODUCT, i, g)
        hidden = self._join(f"{name}.hidden", _TIMES_TANH, o, cell)
        if self._projection is not None:
            hidden = self._projection(f"{name}.projected", hidden)
        return State(hidden, cell)


class Gated(Step):
    """Gates r, z; ``n = tanh(W x + b + r * (U h + c))``; ``h' = (1 - z) * n + z * h``."""

    @cached_property
    def _gates(self) -> Sums:
        w = self.weights.rows(0, 2 * self.units)
        whole = (Range(0, 2 * self.units, SIGMOID),)
        return Sums(self.place, (w.input, w.hidden), w.bias, whole)

    @cached_property
    def _last(self) -> Weights:
        return self.weights.rows(2 * self.units, 3 * self.units)

    @cached_property
    def _recurrent(self) -> Sums:
        return Sums(self.place, (self._last.hidden,), self._last.hidden_bias)

    @cached_property
    def _new(self) -> Sums:
        whole = (Range(0, self.units, TANH),)
        return Sums(self.place, (self._last.input,), self._last.input_bias, whole)

    def __call__(self, name: str, x: Tensor, state: State) -> State:
        gates = self._gates(f"{name}.gates", x, state.hidden)
        r, z = gates.chunk(2, 1)
        new = self._new(f"{name}.new", x, carried=self._carried(name, r, state.hidden))
        if bool(state.hidden.any()):
            return State(self._join(f"{name}.hidden", _MIXTURE, new, z, state.hidden))
        return State(self._join(f"{name}.hidden", _REMAINDER, new, z))

    def _carried(self, name: str, r: Tensor, hidden: Tensor) -> list[Part]:
        """``r * (U h + c)``; of the zero state the bias is left, by which r is scaled."""
        diagonal = Diagonal(tuple(r.shape))
        if bool(hidden.any()):
            recurrent = self._recurrent(f"{name}.recurrent", hidden)
            reset = self._join(f"{name}.reset", _PRODUCT, r, recurrent)
            return [Part(flat(reset), diagonal, ONE, "identity")]
        bias = self._last.hidden_bias
        return [] if bias is None else [Part(flat(r), diagonal, bias, "scale")]


# -- the operators --------------------------------------------------------------------------------

# the kind of step, and the rows of its weights per unit
KINDS: dict[str, tuple[type[Step], int]] = {
    "lstm": (LongShortTerm, 4),
    "gru": (Gated, 3),
    "rnn_tanh": (Plain, 1),
    "rnn_relu": (Rectified, 1),
}


@handles(
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    makes="dense weight, diagonal identity, diagonal scale, opaque data",
)
def unrolled(run: Interpreter, node: Node, bound: Bound) -> Any:
    """All steps of all layers and directions; the outputs, then the last state of each."""
    weights = _grouped(bound)
    if weights is None or "input" not in bound:  # packed sequences carry their lengths as data
        return None
    name = run.name(node, weights[0].input)
    x, starts = _read(run, name, bound["input"], bound["hx"])
    x = x.transpose(0, 1) if bound["batch_first"] else x
    place = Place(run, run.line(node), x.shape[1])
    directions = 2 if bound["bidirectional"] else 1
    last: list[State] = []
    for layer in range(bound["num_layers"]):
        columns = []
        for reverse in range(directions):
            here = f"{name}.l{layer}{'_reverse' if reverse else ''}"
            step = _step(place, opname(node), weights[len(last)])
            start = State(*(start[len(last)] for start in starts))
            steps = _over_time(step, here, x, start, bool(reverse))
            columns.append(torch.stack([state.hidden for state in steps]))
            last.append(steps[0 if reverse else -1])
        x = torch.cat(columns, -1)
    finals = [torch.stack(list(parts)) for parts in zip(*map(_present, last), strict=True)]
    return [x.transpose(0, 1) if bound["batch_first"] else x, *finals]


@handles(
    "lstm_cell",
    "gru_cell",
    "rnn_tanh_cell",
    "rnn_relu_cell",
    makes="dense weight, diagonal identity, diagonal scale, opaque data",
)
def cell(run: Interpreter, node: Node, bound: Bound) -> Any:
    """One step of a loop that the user wrote."""
    weights = Weights(bound["w_ih"], bound["w_hh"], bound.get("b_ih"), bound.get("b_hh"))
    if not constant(*weights):
        return None
    name = run.name(node, weights.input)
    x, starts = _read(run, name, bound["input"], bound["hx"])
    place = Place(run, run.line(node), len(x))
    step = _step(place, opname(node).removesuffix("_cell"), weights)
    start = State(*starts)
    before = _opened(step, f"{name}.previous", name, start)
    after = step(name, x, before)
    _close(step, start, before, after)
    return list(_present(after)) if len(starts) > 1 else after.hidden


def _grouped(bound: Bound) -> list[Weights] | None:
    """The parameters by layer and direction; None where activity takes part in them."""
    params = bound["params"]
    if not constant(*params) or (bound["train"] and bound["dropout"]):
        return None
    groups = bound["num_layers"] * (2 if bound["bidirectional"] else 1)
    each = len(params) // groups
    rows = [params[first : first + each] for first in range(0, len(params), each)]
    if bound["has_biases"]:
        return [Weights(*row) for row in rows]
    return [Weights(row[0], row[1], projection=row[2] if each > 2 else None) for row in rows]


def _read(run: Interpreter, name: str, x: Any, hx: Any) -> tuple[Tensor, list[Tensor]]:
    """The ids of what is read, and of the states that are started from."""
    given = list(hx) if isinstance(hx, (list, tuple)) else [hx]
    parts = ("hidden", "cell")
    starts = [run.neurons(h, f"{name}.initial_{p}") for h, p in zip(given, parts, strict=False)]
    return run.neurons(x, f"{name}.constant"), starts


def _step(place: Place, kind: str, weights: Weights) -> Step:
    make, gates = KINDS[kind]
    return make(place, weights, place.shape(weights.hidden)[0] // gates)


def _present(state: State) -> tuple[Tensor, ...]:
    return tuple(ids for ids in state if ids is not None)


def _over_time(step: Step, name: str, x: Tensor, start: State, reverse: bool) -> list[State]:
    """The state after every step, in the order of the sequence."""
    if len(x) > 1:
        _one_step_only(step, name, f"reads {len(x)} time steps")
    before = _opened(step, name, f"{name}.t0", start)
    state, found = before, []
    positions = range(len(x))
    for t in reversed(positions) if reverse else positions:
        state = step(f"{name}.t{t}", x[t], state)
        found.append(state)
    _close(step, start, before, state)
    return found[::-1] if reverse else found


# -- the view of one step -------------------------------------------------------------------------


def _opened(step: Step, name: str, made: str, start: State) -> State:
    """The state to start from; in the view of one step a zero one becomes inputs of the network.

    ``made`` is the name that the layers of the step will have.
    """
    run = step.place.run
    if run.recurrent != "step":
        return start
    given = {part: ids for part, ids in start._asdict().items() if ids is not None}
    zero = {part: tuple(ids.shape) for part, ids in given.items() if not bool(ids.any())}
    if not zero and f"{made}.hidden" in {draft.name for draft in run.drafts}:
        _one_step_only(step, name, "is applied to its own state again")
    return start._replace(
        **{part: run.draft(f"{name}.{part}", zero[part], kind="input") for part in zero}
    )


def _close(step: Step, start: State, before: State, after: State) -> None:
    """The states that became inputs are outputs as well, after the step."""
    run = step.place.run
    triples = zip(start, before, after, strict=True)
    run.states += [new for old, read, new in triples if new is not None and old is not read]


def _one_step_only(step: Step, name: str, found: str) -> None:
    if step.place.run.recurrent == "step":
        raise InputRefused(
            f"{name} {found}, and recurrent='step' is the view of one",
            why="in that view the state before the step is an input and the state after an output",
            fix="give an example with one time step, or leave recurrent at 'unrolled'",
        )
