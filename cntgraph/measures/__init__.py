"""What is read off a network, on operators, never on links: strength, layers, named measures."""

from cntgraph.measures.catalogue import measures, neuron_measures
from cntgraph.measures.layers import LAYER_COLUMNS, layers
from cntgraph.measures.measure import measure, plan
from cntgraph.measures.strength import CONVENTIONS, STRENGTH_COLUMNS, strength

__all__ = [
    "CONVENTIONS",
    "LAYER_COLUMNS",
    "STRENGTH_COLUMNS",
    "layers",
    "measure",
    "measures",
    "neuron_measures",
    "plan",
    "strength",
]
