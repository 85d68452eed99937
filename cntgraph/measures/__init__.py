"""What is read off a network, on operators, never on links: strength, layers, named measures."""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from cntgraph.measures.activity import ACTIVITY_COLUMNS, activity
from cntgraph.measures.against import against_null
from cntgraph.measures.catalogue import measures, neuron_measures
from cntgraph.measures.divergences import Divergence, divergence
from cntgraph.measures.gauge import balanced
from cntgraph.measures.layers import LAYER_COLUMNS, NULL_COLUMNS, layers
from cntgraph.measures.measure import measure, measured, plan
from cntgraph.measures.nulls import NULLS, null_model
from cntgraph.measures.strength import CONVENTIONS, STRENGTH_COLUMNS, strength

__all__ = [
    "ACTIVITY_COLUMNS",
    "CONVENTIONS",
    "LAYER_COLUMNS",
    "NULLS",
    "NULL_COLUMNS",
    "STRENGTH_COLUMNS",
    "Divergence",
    "activity",
    "against_null",
    "balanced",
    "divergence",
    "layers",
    "measure",
    "measured",
    "measures",
    "neuron_measures",
    "null_model",
    "plan",
    "strength",
]

if TYPE_CHECKING:
    import pandas as pd


class _Measures(ModuleType):
    """This package, which is also the function `cntgraph.measures`: both go by one name."""

    def __call__(self) -> "pd.DataFrame":
        """All measures by name; see `catalogue.measures`."""
        return measures()


sys.modules[__name__].__class__ = _Measures
