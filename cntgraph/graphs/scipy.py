"""The weight matrix: compact, and the way into anything that multiplies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cntgraph.graphs.listing import arrays, chosen
from cntgraph.graphs.memory import require_memory

if TYPE_CHECKING:
    import scipy.sparse

    from cntgraph.network import Network

__all__ = ["to_scipy"]

PER_LINK = 32  # bytes at the peak of building, measured: 28; 12 remain
PER_NEURON = 32


def to_scipy(network: Network, kinds: Sequence[str] = ("weight",)) -> scipy.sparse.csr_array:
    """The network as a CSR matrix of float64: the weight of i -> j in row i and column j.

    Rows and columns are neuron ids. Parallel links are added up, as a matrix must; a weight that
    is exactly zero is stored like any other.

    >>> import torch, cntgraph as cnt
    >>> cnt.trace(torch.nn.Linear(3, 2), (1, 3)).to_scipy().nnz
    6

    Raises `InputRefused` where it would not fit in memory, before anything is allocated.
    """
    import scipy.sparse

    blocks, links = chosen(network, kinds)
    count = network.neuron_count
    require_memory(links, PER_LINK, count, PER_NEURON, what="a SciPy matrix")
    source, target, weight = arrays(blocks, links)
    listed = scipy.sparse.coo_array((weight, (source, target)), shape=(count, count))
    return listed.tocsr()
