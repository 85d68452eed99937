"""A block as a linear map of one sign, applied to vectors without listing a link.

A dense layer's weights are read where they lie, whatever the sign asked for; what is listed in
pairs is walked pair by pair; everything else is the block's own operator with |w|, max(w, 0) or
max(-w, 0) in place of w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cntgraph.network import Block
from cntgraph.network.geometry import Index, Pattern
from cntgraph.network.operators import Convolution, Dense, Diagonal, Fixed, Opaque, Operator

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Step", "Turned", "Values", "of_sign"]

Values = NDArray[np.float64]
_MODES = {"signed": 0, "absolute": 1, "positive": 2, "negative": 3}


@dataclass(frozen=True, eq=False)
class Step:
    """A block between vectors of its source's and of its target's neurons, on the CPU.

    ``push`` carries values along the links, ``pull`` against them; both take (neurons,) or
    (vectors, neurons), in float64.
    """

    block: Block
    sign: str

    @property
    def source(self) -> slice:
        """The ids of the neurons it leads from."""
        return slice(self.block.source_first, self.block.source_first + self.block.source_size)

    @property
    def target(self) -> slice:
        """The ids of the neurons it leads to."""
        first = self.block.target_first
        return slice(first, first + self.block.operator.size_out)

    @property
    def work(self) -> int:
        """Multiplications of one application."""
        operator = self.block.operator
        if isinstance(operator, Convolution):
            taps = math.prod(a.taps for a in operator.axes)
            return operator.size_out * operator.channels_in // operator.groups * taps
        return self.block.link_count

    def push(self, x: Values) -> Values:
        """What arrives at every target: the sum over its links of the weight times ``x``."""
        return self._map.forward(self._heard(x))

    def pull(self, y: Values) -> Values:
        """What arrives at every source from its links' targets: the adjoint of `push`."""
        return self._returned(self._map.adjoint(np.ascontiguousarray(y)))

    @cached_property
    def _map(self) -> _Map:
        """The operator bound to its weights, in the quickest way there is."""
        operator, w = self.block.operator, self.block.tensor.detach()
        if isinstance(operator, Opaque):  # its join is not linear, but its links are
            weight = float(of_sign(w.double().reshape(-1)[0], self.sign))
            if operator.pattern is None:
                return _Parts(operator.parts, operator.size_in, operator.size_out, weight)
            return _Pairs(operator.pattern, np.full(len(operator.pattern.source), weight))
        if w.device.type == "cpu":
            if isinstance(operator, Dense) and operator.copies == 1:
                return _Matrix(_as_stored(w), self.sign)
            if isinstance(operator, Fixed):
                return _Pairs(operator.pattern, of_sign(w.double().numpy(), self.sign))
            if isinstance(operator, Diagonal):
                return _Factors(of_sign(operator.entries(w).double().numpy(), self.sign))
        return _Tensors(operator, of_sign(w.double(), self.sign))

    @cached_property
    def _read(self) -> tuple[Index, Index]:
        """The places of the operator's input that read a neuron, and which neuron each reads."""
        inputs = self.block.inputs
        assert inputs is not None
        places = np.flatnonzero(inputs >= 0)
        return places, inputs[places]

    def _heard(self, x: Values) -> Values:
        if self.block.inputs is None:
            return np.ascontiguousarray(x)
        places, neurons = self._read
        if len(places) == len(self.block.inputs):
            return np.take(x, neurons, axis=-1)
        heard = np.zeros((*x.shape[:-1], len(self.block.inputs)))
        heard[..., places] = x[..., neurons]
        return heard

    def _returned(self, z: Values) -> Values:
        if self.block.inputs is None:
            return z
        places, neurons = self._read
        size, rows = self.block.source_size, z.reshape(-1, z.shape[-1])
        found = [np.bincount(neurons, row[places], size).astype(np.float64) for row in rows]
        return np.stack(found).reshape(*z.shape[:-1], size)


@dataclass(frozen=True, eq=False)
class Turned:
    """A step walked the other way: of the graph with every link turned round."""

    step: Step

    @property
    def source(self) -> slice:
        """The ids of the neurons it leads from, which is where the links lead to."""
        return self.step.target

    @property
    def target(self) -> slice:
        """The ids of the neurons it leads to."""
        return self.step.source

    def push(self, x: Values) -> Values:
        """What arrives against the links."""
        return self.step.pull(x)

    def pull(self, y: Values) -> Values:
        """The adjoint of `push`: what arrives along the links."""
        return self.step.push(y)


def of_sign(w: Any, sign: str) -> Any:
    """The weights that a sign stands for: w, |w|, max(w, 0) or max(-w, 0); NaN stays NaN."""
    if sign == "signed":
        return w
    if sign == "absolute":
        return abs(w)
    return (w if sign == "positive" else -w).clip(min=0)


class _Map(Protocol):
    """An operator with its weights, between its flat inputs and its flat outputs."""

    def forward(self, x: Values) -> Values:
        """From (inputs,) or (vectors, inputs), contiguous, to the outputs."""

    def adjoint(self, y: Values) -> Values:
        """From (outputs,) or (vectors, outputs), contiguous, to the inputs."""


@dataclass(frozen=True, eq=False)
class _Matrix:
    """A dense layer: (outputs, inputs), of float32 or float64, all signs in it."""

    w: NDArray[Any]
    sign: str

    def forward(self, x: Values) -> Values:
        from cntgraph.network.kernels import product

        if x.ndim == 2:
            return x @ self._wide.T
        arrived: Values = product(self.w, x, _MODES[self.sign])
        return arrived

    def adjoint(self, y: Values) -> Values:
        from cntgraph.network.kernels import adjoint

        if y.ndim == 2:
            return y @ self._wide
        returned: Values = adjoint(self.w, y, _MODES[self.sign])
        return returned

    @cached_property
    def _wide(self) -> Values:
        wide: Values = of_sign(self.w.astype(np.float64), self.sign)
        return wide


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Links listed in pairs with their weights under the sign: pooling, what a filter leaves."""

    pattern: Pattern
    w: Values

    def forward(self, x: Values) -> Values:
        p = self.pattern
        return self._carried(x, p.source, p.target, p.size_in, p.size_out)

    def adjoint(self, y: Values) -> Values:
        p = self.pattern
        return self._carried(y, p.target, p.source, p.size_out, p.size_in)

    def _carried(self, x: Values, source: Index, target: Index, given: int, made: int) -> Values:
        from cntgraph.network.kernels import along_pairs

        maps = math.prod(x.shape[:-1]) * self.pattern.lead
        arrived = np.zeros((maps, made))
        along_pairs(self.w, source, target, x.reshape(maps, given), arrived)
        return arrived.reshape(*x.shape[:-1], self.pattern.lead * made)


@dataclass(frozen=True, eq=False)
class _Parts:
    """A join that nothing is known of: every value may reach every neuron of its own part."""

    parts: int
    size_in: int
    size_out: int
    weight: float

    def forward(self, x: Values) -> Values:
        return self._spread(x, self.size_out)

    def adjoint(self, y: Values) -> Values:
        return self._spread(y, self.size_in)

    def _spread(self, x: Values, size: int) -> Values:
        each = x.reshape(*x.shape[:-1], self.parts, x.shape[-1] // self.parts).sum(-1)
        return np.repeat(self.weight * each, size // self.parts, axis=-1)


@dataclass(frozen=True, eq=False)
class _Factors:
    """A link from each neuron to its own target: identity, scale."""

    w: Values

    def forward(self, x: Values) -> Values:
        return x * self.w

    def adjoint(self, y: Values) -> Values:
        return y * self.w


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Any linear operator, by PyTorch and where its weights are."""

    operator: Operator
    w: Tensor

    def forward(self, x: Values) -> Values:
        return self._applied(self.operator.forward, x)

    def adjoint(self, y: Values) -> Values:
        return self._applied(self.operator.transpose, y)

    def _applied(self, f: Any, x: Values) -> Values:
        import torch

        batch = torch.from_numpy(x if x.ndim == 2 else x[None]).to(self.w.device)
        found: Values = f(self.w, batch).cpu().numpy()
        return found if x.ndim == 2 else found[0]


def _as_stored(w: Tensor) -> NDArray[Any]:
    """The weights where they lie if a kernel can read them, else exact in a wider type."""
    import torch

    if w.dtype not in (torch.float32, torch.float64):
        exact = w.dtype.is_floating_point or w.dtype.itemsize < 3
        w = w.to(torch.float32 if exact else torch.float64)
    stored: NDArray[Any] = w.contiguous().numpy()
    return stored
