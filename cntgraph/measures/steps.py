"""A block as a linear map of one sign, applied to vectors without listing a link.

A dense layer's weights are read where they lie, whatever the sign asked for; everything else is
the block itself with |w|, max(w, 0) or max(-w, 0) in place of w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.network import Block
from cntgraph.network.expressions import literal
from cntgraph.network.operators import Convolution, Dense

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
        if self._bare is not None and x.ndim == 1:
            from cntgraph.network.kernels import product

            arrived: Values = product(self._bare, self._heard(x), _MODES[self.sign])
            return arrived
        return self._applied(x, forward=True)

    def pull(self, y: Values) -> Values:
        """What arrives at every source from its links' targets: the adjoint of `push`."""
        if self._bare is not None and y.ndim == 1:
            from cntgraph.network.kernels import adjoint

            return self._returned(adjoint(self._bare, y, _MODES[self.sign]))
        return self._applied(y, forward=False)

    def _applied(self, x: Values, *, forward: bool) -> Values:
        import torch

        if self.block.kind == "opaque":
            matrix = self._matrix if forward else self._matrix.T
            return np.ascontiguousarray((matrix @ x.T).T)
        block = self._signed
        given = torch.from_numpy(np.ascontiguousarray(x)).to(block.tensor.device)
        batch = given if given.ndim == 2 else given[None]
        found = block.forward(batch) if forward else block.transpose(batch)
        result: Values = (found if given.ndim == 2 else found[0]).cpu().numpy()
        return result

    @cached_property
    def _bare(self) -> NDArray[Any] | None:
        """The weights of a dense layer where they lie, if they can be read as they are."""
        import torch

        operator = self.block.operator
        if not isinstance(operator, Dense) or operator.copies != 1:
            return None
        w = self.block.tensor.detach()
        if w.device.type != "cpu" or w.dtype not in (torch.float32, torch.float64):
            return None
        found: NDArray[Any] = w.contiguous().numpy()
        return found

    @cached_property
    def _signed(self) -> Block:
        import torch

        # not `map`: it folds batch norms in float64, and links are listed as precise as stored
        wide = self.block.tensor.detach().to(torch.float64)
        return replace(self.block, weight=literal(of_sign(wide, self.sign)))

    @cached_property
    def _matrix(self) -> Any:
        """What an opaque block carries, (target, source): its join is not linear, its links are."""
        from scipy.sparse import csr_array

        size = self.block.operator.size_out, self.block.source_size
        matrix = csr_array(size, dtype=np.float64)
        for links in self.block.links():
            ends = links.target - self.block.target_first, links.source - self.block.source_first
            matrix += csr_array((of_sign(links.weight, self.sign), ends), shape=size)
        return matrix

    def _heard(self, x: Values) -> Values:
        inputs = self.block.inputs
        if inputs is None:
            return np.ascontiguousarray(x)
        heard: Values = np.where(inputs >= 0, x[inputs], 0.0)
        return heard

    def _returned(self, z: Values) -> Values:
        inputs = self.block.inputs
        if inputs is None:
            return z
        kept = inputs >= 0
        size = self.block.source_size
        found: Values = np.bincount(inputs[kept], z[kept], size).astype(np.float64, copy=False)
        return found


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
