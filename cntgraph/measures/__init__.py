"""What is read off a network: strength and its layer statistics, on operators, never on links."""

from cntgraph.measures.layers import LAYER_COLUMNS, layers
from cntgraph.measures.strength import CONVENTIONS, STRENGTH_COLUMNS, strength

__all__ = ["CONVENTIONS", "LAYER_COLUMNS", "STRENGTH_COLUMNS", "layers", "strength"]
