"""Refuses to give numbers that the architecture alone decides.

On a full layered network many measures have one value per layer, whatever was trained. They are
looked for in the values themselves: after a filter, or with skip connections, the same measure may
say something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import DegenerateMeasure

if TYPE_CHECKING:
    from cntgraph.measures.weighted import Weighted
    from cntgraph.network import Layer

__all__ = ["refuse_constant", "refuse_without_links", "refuse_without_weight"]

ROUNDING = 1e-9  # relative: sums in another order are the same value


def refuse_constant(graph: Weighted, name: str, values: NDArray[Any], *, fix: str) -> None:
    """Raise `DegenerateMeasure` where every layer's neurons all have the same value.

    ``fix`` names the measure or the filter that says more. A value that is not a number is no
    constant: it tells of the weights.
    """
    layers = [layer for layer in graph.network.layers if layer.size]
    parts = [np.asarray(values[layer.first : layer.last], np.float64) for layer in layers]
    if not all(_constant(part) for part in parts):
        return
    if not np.any(values):
        raise DegenerateMeasure(
            f"{name} says nothing on this network", why=f"it is 0 at {_every(graph)}", fix=fix
        )
    raise DegenerateMeasure(
        f"{name} says nothing on this network",
        why=f"it has one value per layer ({_examples(layers, parts)}): "
        "it tells layers apart, which the architecture does already, and no neurons",
        fix=fix,
    )


def refuse_without_links(graph: Weighted, name: str) -> None:
    """Raise `DegenerateMeasure` where there is no link to follow."""
    if graph.link_count == 0:
        raise DegenerateMeasure(
            f"{name} says nothing on this network",
            why=f"it has no links of kind {' or '.join(graph.kinds)}",
            fix="filter less, or name other kinds of links: kinds=('weight', 'fixed')",
        )


def refuse_without_weight(graph: Weighted, name: str) -> None:
    """Raise `DegenerateMeasure` where there is no link, or none with a weight under the sign."""
    refuse_without_links(graph, name)
    if not np.any(graph.links.weight):
        raise DegenerateMeasure(
            f"{name} says nothing on this network",
            why=f"each of its {graph.link_count:,} links weighs 0 with sign={graph.sign!r}",
            fix="ask for another sign" if graph.sign != "absolute" else "train it first",
        )


def _constant(part: NDArray[np.float64]) -> bool:
    if np.isinf(part).any():  # a spread that is infinite is not small beside the largest
        return bool((part == part[0]).all())
    return bool(part.max() - part.min() <= ROUNDING * np.abs(part).max())


def _every(graph: Weighted) -> str:
    return f"each of the {graph.neuron_count:,} neurons"


def _examples(layers: list[Layer], parts: list[NDArray[np.float64]]) -> str:
    found = zip(layers, parts, strict=True)
    shown = [f"{layer.name}: {part[0]:.6g}" for layer, part in found]
    return ", ".join([*shown[:3], "..."] if len(shown) > 3 else shown)
