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
    id of the first neuron. ``axis`` is the axis of ``shape`` that counts channels: the first of an
    image (channels, height, width), the last of tokens (positions, features); None means that
    every neuron is a channel of its own. An input layer with a ``join`` encodes what it is given:
    tokens as one-hot neurons.
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
    axis: int | None = field(default=None, repr=False)

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

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.size if self.axis is None else self.shape[self.axis]

    def channel_of_each(self) -> NDArray[np.int64]:
        """The channel of every neuron; its own index where there is no channel axis."""
        import numpy as np

        if self.axis is None:
            return np.arange(self.size, dtype=np.int64)
        count = self.shape[self.axis]
        along = [count if k == self.axis else 1 for k in range(len(self.shape))]
        return np.broadcast_to(np.arange(count).reshape(along), self.shape).reshape(-1)

    def coordinates(self) -> dict[str, NDArray[np.int64]]:
        """Position of every neuron by name; a coordinate that means nothing is left out.

        ``channel`` runs along the channel axis; ``y, x`` (or ``x`` alone) along the others.
        """
        import numpy as np

        if self.axis is None:
            return {}
        others = [k for k in range(len(self.shape)) if k != self.axis]
        names: dict[int, tuple[str, ...]] = {1: ("x",), 2: ("y", "x")}
        along = dict(zip(names.get(len(others), ()), others, strict=False))
        grid = np.indices(self.shape, dtype=np.int64).reshape(len(self.shape), -1)
        return {name: grid[k] for name, k in {"channel": self.axis, **along}.items()}

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
            "axis": self.axis,
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
            axis=data["axis"] if "axis" in data else _axis_before_it_was_kept(data["shape"]),
        )


def _axis_before_it_was_kept(shape: list[int]) -> int | None:
    """What older files meant: channels first in images and sequences, none elsewhere."""
    return 0 if len(shape) in (2, 3) else None


def _portion_to_json(portion: Portion) -> dict[str, Any]:
    return {"places": encode(portion.places), "function": portion.function.to_json()}


def _portion_from_json(data: dict[str, Any]) -> Portion:
    return Portion(decode(data["places"]), Call.from_json(data["function"]))
