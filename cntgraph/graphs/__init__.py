"""The network with its links listed, as another library knows it: igraph, NetworkX, SciPy."""

from cntgraph.graphs.igraph import to_igraph
from cntgraph.graphs.networkx import to_networkx
from cntgraph.graphs.scipy import to_scipy

__all__ = ["to_igraph", "to_networkx", "to_scipy"]
