"""All measures, in the order in which the documentation tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cntgraph.measures.declaring import MEASURES, Measure

# Each of these modules declares its measures as it is imported.
from cntgraph.measures.families import (
    communities,
    cores,
    correlations,
    cuts,
    distances,
    distribution,
    flows,
    motifs,
    persistence,
    spectra,
    strengths,
    triangles,
    wiring,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEASURES", "in_order", "measures", "neuron_measures"]

FAMILIES = (
    strengths,
    distribution,
    correlations,
    flows,
    spectra,
    distances,
    motifs,
    persistence,
    communities,
    cuts,
    cores,
    triangles,
    wiring,
)


def measures() -> pd.DataFrame:
    """All measures by name: their level, conventions, cost and source; a row each.

    Columns: name; level (neuron, block or network); sign and length (what ``sign=`` and
    ``length=`` may be, the default first); kinds of links that are followed; igraph, the call that
    gives the same numbers on ``network.to_igraph()``, where there is one; cost; reference; and
    degenerate, the networks on which it says nothing and is refused.

    >>> import cntgraph as cnt
    >>> cnt.measures().set_index("name").loc["pagerank", "level"]
    'neuron'
    """
    import pandas as pd

    rows = [
        {
            "name": m.name,
            "level": m.level,
            "sign": ", ".join(m.signs),
            "length": ", ".join(m.lengths),
            "kinds": ", ".join(m.kinds),
            "igraph": m.igraph,
            "cost": m.cost.text,
            "reference": m.reference,
            "degenerate": m.degenerate,
        }
        for m in in_order()
    ]
    return pd.DataFrame(rows)


def in_order() -> tuple[Measure, ...]:
    """All measures, family by family."""
    places = {module.__name__: place for place, module in enumerate(FAMILIES)}
    return tuple(sorted(MEASURES.values(), key=lambda m: places[m.compute.__module__]))


def neuron_measures() -> tuple[str, ...]:
    """The names of the measures that give every neuron a value."""
    return tuple(m.name for m in in_order() if m.level == "neuron")
