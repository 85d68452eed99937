"""The idea: layers of neurons joined by blocks; a block is an operator that can list its links."""

from cntgraph.network.blocks import LINK_KINDS, Block, LinkBatch
from cntgraph.network.layers import Layer
from cntgraph.network.network import Network, Output

__all__ = ["LINK_KINDS", "Block", "Layer", "LinkBatch", "Network", "Output"]
