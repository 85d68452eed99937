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
from cntgraph.network.geometry import Index, decode, encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Layer", "Portion"]


@dataclass(frozen=True, eq=False)
class Portion:
    """Some neurons of a layer with an activation of their own: the gates of an LSTM, say."""

    places: Index  # their indices within the layer
    function: Call

    def __str__(self) -> str:
        first, last = int(self.places.min()), int(self.places.max())
        run = last - first + 1 == len(self.places)
        where = f"{first}:{last + 1}" if run else f"{len(self.places)} between {first} and {last}"
        return f"{self.function}[{where}]"


@dataclass(frozen=True, eq=False)
class Layer:
    """A row of neurons with consecutive ids, named by the module that computes it.

    ``kind`` is input, hidden, output or constant; ``shape`` leaves the batch out; ``first`` is the
    id of the first neuron. An input layer with a ``join`` encodes what it is given: tokens as
    one-hot neurons.
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
    portions: tuple[Portion, ...] = field(default=(), repr=False)
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
        """The activation with its arguments: ``leaky_relu(0.1)``, ``sigmoid[0:8], tanh[8:12]``."""
        if self.portions:
            return ", ".join(str(portion) for portion in self.portions)
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
            **({"portions": [_portion_to_json(p) for p in self.portions]} if self.portions else {}),
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
            portions=tuple(_portion_from_json(p) for p in data.get("portions", ())),
            join=call("join"),
            operands=tuple(tuple(shape) for shape in data["operands"]),
            traced=tuple(data["traced"]),
        )


def _portion_to_json(portion: Portion) -> dict[str, Any]:
    return {"places": encode(portion.places), "function": portion.function.to_json()}


def _portion_from_json(data: dict[str, Any]) -> Portion:
    return Portion(decode(data["places"]), Call.from_json(data["function"]))
