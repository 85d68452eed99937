"""What is read off a network, on operators, never on links: strength, layers, named measures."""

from cntgraph.measures.layers import LAYER_COLUMNS, layers
from cntgraph.measures.measure import NEURON_MEASURES, measure
from cntgraph.measures.strength import CONVENTIONS, STRENGTH_COLUMNS, strength

__all__ = [
    "CONVENTIONS",
    "LAYER_COLUMNS",
    "NEURON_MEASURES",
    "STRENGTH_COLUMNS",
    "layers",
    "measure",
    "strength",
]
