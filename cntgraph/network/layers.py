"""A layer is a row of neurons, and what happens to the sum that arrives at each of them.

A neuron is one pre-activation sum; its activation is an attribute of the layer, not another
node. What a layer computes, over everything that arrives::

    activation( gain * (sum of trained links + bias) + shift + sum of carried links )

``gain`` and ``shift`` are there only where a batch norm is kept beside the raw weights or where a
constant is added. A layer of kind ``constant`` holds a value; one with a ``join`` is computed by
an operator that has no weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cntgraph.network.expressions import Call, Expression

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Layer"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A row of neurons with consecutive ids, named by the module that computes it.

    ``kind`` is input, hidden, output or constant; ``shape`` leaves the batch out; ``first`` is the
    id of the first neuron.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    first: int
    bias: Expression | None = field(default=None, repr=False)
    gain: Expression | None = field(default=None, repr=False)
    shift: Expression | None = field(default=None, repr=False)
    value: Expression | None = field(default=None, repr=False)
    function: Call | None = field(default=None, repr=False)
    join: Call | None = field(default=None, repr=False)
    operands: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    traced: tuple[int, ...] = field(default=(), repr=False)  # the shape with its batch of one

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)

    @property
    def last(self) -> int:
        """One past the id of the last neuron."""
        return self.first + self.size

    @property
    def activation(self) -> str | None:
        """The activation with its arguments, ``leaky_relu(0.1)`` say."""
        return None if self.function is None else str(self.function)

    def coordinates(self) -> dict[str, NDArray[np.int64]]:
        """Position of every neuron: ``channel, y, x`` for images, ``channel, x`` for sequences."""
        import numpy as np

        names = {2: ("channel", "x"), 3: ("channel", "y", "x")}.get(len(self.shape), ())
        grid = np.indices(self.shape, dtype=np.int64).reshape(len(self.shape), -1)
        return dict(zip(names, grid, strict=False))

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        optional = {
            name: getattr(self, name).to_json()
            for name in ("bias", "gain", "shift", "value", "function", "join")
            if getattr(self, name) is not None
        }
        return {
            "name": self.name,
            "kind": self.kind,
            "shape": list(self.shape),
            "size": self.size,
            "first": self.first,
            "activation": self.activation,
            **optional,
            "operands": [list(shape) for shape in self.operands],
            "traced": list(self.traced),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Layer:
        """The layer that `to_json` described."""

        def expression(name: str) -> Expression | None:
            return Expression.from_json(data[name]) if name in data else None

        def call(name: str) -> Call | None:
            return Call.from_json(data[name]) if name in data else None

        return Layer(
            data["name"],
            data["kind"],
            tuple(data["shape"]),
            data["first"],
            bias=expression("bias"),
            gain=expression("gain"),
            shift=expression("shift"),
            value=expression("value"),
            function=call("function"),
            join=call("join"),
            operands=tuple(tuple(shape) for shape in data["operands"]),
            traced=tuple(data["traced"]),
        )
