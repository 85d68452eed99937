"""A network in the making: layers whose wiring is still raw, and the rules that join them.

While a model is interpreted every operator that computes makes a `Draft`, even an addition or an
activation. Afterwards drafts are contracted, because a neuron is one pre-activation sum: an
activation joins the layer it reads, a sum lands in the layer that nobody else reads, and a batch
norm becomes the gain and shift of the layer before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.network.expressions import Call, Expression
from cntgraph.network.geometry import Index
from cntgraph.network.layers import Portion
from cntgraph.network.operators import Convolution, Dense, Operator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Draft", "Part", "contract"]


@dataclass(eq=False)
class Part:
    """One operator into a draft, reading raw neuron ids (0: nothing)."""

    ids: Index
    operator: Operator
    weight: Expression
    link_kind: str
    operand: int = 0


@dataclass(eq=False)
class Draft:
    """A layer in the making; ``first`` is the raw id of its first neuron."""

    name: str
    kind: str
    traced: tuple[int, ...]
    first: int
    parts: list[Part] = field(default_factory=list)
    bias: Expression | None = None
    gain: Expression | None = None
    shift: Expression | None = None
    value: Expression | None = None
    function: Call | None = None
    portions: list[Portion] = field(default_factory=list)
    join: Call | None = None
    operands: tuple[tuple[int, ...], ...] = ()
    norm: tuple[Expression, Expression] | None = None  # scale and shift of a batch norm
    axis: int = 1  # of the channels in a batch norm
    encoding: bool = False  # one-hot neurons of the integers that its one part reads
    line: str = ""

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.traced)


class Wiring:
    """Who reads whom, and where each raw neuron has gone."""

    def __init__(
        self, drafts: list[Draft], outputs: list[Index], state: Mapping[str, Tensor]
    ) -> None:
        self.drafts = drafts
        self.state = state
        self.outputs = outputs
        self.starts = np.asarray([d.first for d in drafts], dtype=np.int64)
        # first id of a draft -> the draft its neurons moved to, and their places there
        self.home: dict[int, tuple[Draft, Index | None]] = {}
        self.readers: dict[int, list[Part]] = {}
        self.returned: set[int] = set()
        for draft in drafts:
            for part in draft.parts:
                for first in self.owners(part.ids):
                    self.readers.setdefault(first, []).append(part)
        for ids in outputs:
            self.returned |= set(self.owners(ids))

    def owners(self, ids: Index) -> list[int]:
        """First ids of the drafts these neurons belonged to when they were made."""
        return _owners(self.starts, ids)

    def settled(self, draft: Draft) -> Draft | None:
        """The draft that a draft's neurons live in now, as its whole and in order; else None."""
        while draft.first in self.home:
            draft, places = self.home[draft.first]
            if places is not None:
                return None
        return draft

    def draft_of(self, neuron: int) -> Draft:
        """The draft that made a neuron."""
        return self.drafts[int(np.searchsorted(self.starts, neuron, side="right")) - 1]

    def resolve(self, ids: Index) -> Index:
        """The same neurons under the ids of the drafts they live in now."""
        while moved := [first for first in self.owners(ids) if first in self.home]:
            result = ids.copy()
            for first in moved:
                host, places = self.home[first]
                mine = (ids >= first) & (ids < first + self.draft_of(first).size)
                at = ids[mine] - first
                result[mine] = host.first + (at if places is None else places[at])
            ids = result
        return ids

    def host(self, part: Part) -> Draft | None:
        """Where a part's neurons live, if it reads one hidden draft whole, in order and alone."""
        read = self._whole(part)
        return None if read is None else self.settled(read)

    def input_of(self, part: Part) -> Draft | None:
        """The input that a part reads whole, in order and alone."""
        return self._whole(part, "input")

    def _whole(self, part: Part, kind: str = "hidden") -> Draft | None:
        """The draft that a part reads whole, in order and alone; None otherwise."""
        ids = part.ids
        if not len(ids) or ids[0] == 0 or ids[-1] - ids[0] != len(ids) - 1:
            return None
        draft = self.draft_of(int(ids[0]))
        if draft.first != ids[0] or draft.size != len(ids) or not (np.diff(ids) == 1).all():
            return None
        alone = len(self.readers[draft.first]) == 1 and draft.first not in self.returned
        return draft if alone and draft.kind == kind else None

    def host_of_some(self, part: Part) -> tuple[Draft, Index] | None:
        """Where a part's neurons live and their places there, if they are some neurons of one
        hidden draft, each once, that no other part and no output reads."""
        owners = self.owners(part.ids)
        if len(owners) != 1 or (part.ids == 0).any():
            return None
        draft = self.draft_of(owners[0])
        taken = np.zeros(draft.size, dtype=np.int64)
        readers = [p.ids for p in self.readers[draft.first]]
        for ids in [*readers, *(self.outputs if draft.first in self.returned else [])]:
            inside = ids[(ids >= draft.first) & (ids < draft.first + draft.size)]
            np.add.at(taken, inside - draft.first, 1)
        places = part.ids - draft.first
        host = self.settled(draft)
        if host is None or draft.kind != "hidden" or (taken[places] != 1).any():
            return None
        return host, places


def contract(
    drafts: list[Draft], outputs: list[Index], state: Mapping[str, Tensor], *, batch_norm: str
) -> tuple[list[Draft], list[Index], set[str]]:
    """The drafts that remain as layers, the outputs over them, and the parameters folded away."""
    drafts = _living(drafts, outputs)
    wiring = Wiring(drafts, outputs, state)
    folded: set[str] = set()
    seats: dict[int, int] = {}
    for draft in drafts:
        if _encode_input(draft, wiring, seats):
            continue
        host = _join_activation(draft, wiring) or _fold_norm(draft, wiring, batch_norm, folded)
        if host is not None:
            wiring.home[draft.first] = host, None  # its neurons and its readers are the host's
        elif not _join_portion(draft, wiring):
            _land_sum(draft, wiring)
    kept = [d for d in drafts if d.first not in wiring.home]
    kept.sort(key=lambda d: seats.get(d.first, d.first))
    for draft in kept:
        for part in draft.parts:
            part.ids = wiring.resolve(part.ids)
    return kept, [wiring.resolve(ids) for ids in outputs], folded


def _living(drafts: list[Draft], outputs: list[Index]) -> list[Draft]:
    """The inputs, and what some output depends on."""
    starts = np.asarray([d.first for d in drafts], dtype=np.int64)
    needed = {first for ids in outputs for first in _owners(starts, ids)}
    living = []
    for draft in reversed(drafts):
        if draft.kind == "input" or draft.first in needed or not draft.size:
            living.append(draft)
            needed |= {first for part in draft.parts for first in _owners(starts, part.ids)}
    return living[::-1]


def _owners(starts: Index, ids: Index) -> list[int]:
    """First ids of the drafts these neurons belonged to when they were made."""
    found = np.unique(np.searchsorted(starts, ids[ids > 0], side="right") - 1)
    return [int(starts[k]) for k in found]


def _encode_input(draft: Draft, wiring: Wiring, seats: dict[int, int]) -> bool:
    """An input of integers that is read by its one-hot neurons alone is them, in its own place."""
    host = wiring.input_of(draft.parts[0]) if draft.encoding else None
    if host is None:
        return False
    draft.kind, draft.name, draft.line, draft.parts = "input", host.name, "", []
    draft.operands = (host.traced,)
    wiring.home[host.first] = draft, None
    seats[draft.first] = host.first
    return True


def _join_activation(draft: Draft, wiring: Wiring) -> Draft | None:
    """An activation becomes an attribute of the layer whose sums it alone reads."""
    part, function = _activated(draft), draft.function
    host = None if part is None else wiring.host(part)
    if host is None or function is None or host.function is not None or host.portions:
        return None
    if host.traced != draft.traced and not function.pointwise:
        return None
    host.function = function
    return host


def _activated(draft: Draft) -> Part | None:
    """What a draft applies its activation to, if it does nothing else."""
    plain = draft.function is not None and len(draft.parts) == 1
    if not plain or draft.bias or draft.shift or draft.parts[0].link_kind != "identity":
        return None
    return draft.parts[0]


def _join_portion(draft: Draft, wiring: Wiring) -> bool:
    """An activation of some of a layer's neurons, the gates of an LSTM say, becomes theirs."""
    part, function = _activated(draft), draft.function
    if part is None or function is None or not function.pointwise:
        return False
    found = wiring.host_of_some(part)
    if found is None or found[0].function is not None:
        return False
    host, places = found
    host.portions.append(Portion(places, function))
    wiring.home[draft.first] = host, places
    return True


def _fold_norm(draft: Draft, wiring: Wiring, batch_norm: str, folded: set[str]) -> Draft | None:
    """A batch norm becomes gain and shift of the trained layer before it, or scales its weights."""
    if draft.norm is None:
        return None
    host = wiring.host(draft.parts[0])
    if host is None or host.function or host.portions or host.gain or host.shift or host.join:
        return None
    if any(part.link_kind != "weight" for part in host.parts) or host.traced != draft.traced:
        return None
    scale, shift = draft.norm
    names = scale.parameters + shift.parameters
    shape = [1] * len(draft.traced)
    shape[draft.axis] = -1
    if batch_norm == "raw":
        host.gain = scale.apply("aten.view.default", shape)
        host.shift = shift.apply("aten.view.default", shape)
    elif not _scale_weights(host, scale, shift, shape, draft.axis):
        return None
    folded.update(names)
    return host


def _scale_weights(
    host: Draft, scale: Expression, shift: Expression, shape: list[int], axis: int
) -> bool:
    for part in host.parts:
        op = part.operator
        channels_first = isinstance(op, Convolution) and not op.transposed and axis == 1
        if isinstance(op, Convolution):  # a product with groups may end in several axes
            places = math.prod(a.outputs for a in op.axes)
            whole = op.channels_out, places
            channels_first &= whole == (host.traced[1], math.prod(host.traced[2:]))
        if not channels_first and not (isinstance(op, Dense) and axis == len(host.traced) - 1):
            return False
    for part in host.parts:
        op = part.operator
        assert isinstance(op, (Dense, Convolution))
        over = scale.apply("aten.view.default", [-1, 1] + [1] * len(op.axes))
        part.weight = part.weight.apply("aten.mul.Tensor", over)
    placed = [e.apply("aten.view.default", shape) for e in (scale, shift)]
    if host.bias is None:
        host.bias = placed[1]
    else:
        scaled = host.bias.apply("aten.mul.Tensor", placed[0])
        host.bias = scaled.apply("aten.add.Tensor", placed[1])
    return True


def _land_sum(draft: Draft, wiring: Wiring) -> None:
    """A sum lands in the layer of the first operand that nobody else reads, a trained one first.

    That layer moves to the place of the sum, since the other operands may come later.
    """
    if draft.join is not None or draft.norm is not None or draft.value is not None:
        return
    hosts = [(part, _landing(draft, part, wiring)) for part in draft.parts]
    found = [(part, host) for part, host in hosts if host is not None]
    trained = [(p, h) for p, h in found if any(q.link_kind == "weight" for q in h.parts)]
    for part, host in (trained or found)[:1]:
        _absorb(draft, part, host, wiring.state)
        wiring.home[host.first] = draft, None


def _landing(draft: Draft, part: Part, wiring: Wiring) -> Draft | None:
    host = wiring.host(part) if part.link_kind == "identity" else None
    if host is None or host.function is not None or host.join is not None or not host.parts:
        return None
    if host.portions:
        return None
    return host


def _absorb(draft: Draft, part: Part, host: Draft, state: Mapping[str, Tensor]) -> None:
    """The host's sums, bias and gain become the draft's; the two may be views of one another."""
    draft.parts = host.parts + [p for p in draft.parts if p is not part]
    affine = [e for e in (host.bias, host.gain, host.shift) if e is not None]
    if not all(_spreads_alike(e.evaluate(state), host.traced, draft.traced) for e in affine):
        if draft.shift is not None:
            spread = draft.shift.apply("aten.expand.default", list(draft.traced))
            draft.shift = spread.apply("aten.reshape.default", list(host.traced))
        draft.traced = host.traced
    draft.name, draft.bias, draft.gain = host.name, host.bias, host.gain
    draft.line = draft.line or host.line
    if host.shift is not None:
        added = draft.shift
        draft.shift = host.shift if added is None else added.apply("aten.add.Tensor", host.shift)


def _spreads_alike(value: Tensor, first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """True if a value broadcast to either shape has the same entries in the same order."""
    own = list(value.shape)
    while own[:1] == [1]:
        own.pop(0)
    return first == second or first[len(first) - len(own) :] == second[len(second) - len(own) :]
