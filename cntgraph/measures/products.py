"""Paths of two links, counted by products of matrices of which only the norms are kept.

Where a layer's part of a product is dense, BLAS multiplies it; where it is sparse, its rows are
added up one by one. Both are exact for counts and signs: whole numbers, below 2^24 in the single
precision that BLAS is given, below 2^53 in their sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.graphs.memory import available_memory

if TYPE_CHECKING:
    import scipy.sparse

    from cntgraph.measures.steps import Values
    from cntgraph.measures.weighted import Weighted

__all__ = ["gram_norm", "seconds_of_squares", "squared_norms"]

ADDITION = 1.2e-9  # seconds per path of two links, added up one by one
MULTIPLICATION = 2.7e-11  # seconds per multiplication of a dense product, in single precision
SCATTER = 2e-9  # seconds per entry of a dense matrix that is made, or looked at
LISTING = 1.5e-7  # seconds per link that is listed and becomes an entry of a matrix, or two
CHUNK = 1 << 23  # entries of a dense product at a time
Flat = NDArray[Any]


def squared_norms(
    left: scipy.sparse.csr_array,
    right: scipy.sparse.csr_array,
    parts: Sequence[slice],
    *,
    closing: bool = False,
) -> NDArray[np.float64]:
    """The squared norm of each row of ``left @ right``, in the first of two rows.

    With ``closing`` (of square matrices) the second holds its product with the row of ``left``:
    the paths of two links that a third link closes. ``parts`` are rows of ``left`` that are linked
    alike: the layers. A part is multiplied the way that is faster for it.
    """
    found = np.zeros((2, left.shape[0]))
    lengths = np.diff(right.indptr)
    for part in parts:
        paths = int(lengths[_columns(left, part)].sum())
        factors = _dense_factors(left, right, part, paths, closing=closing)
        if factors is None:
            _add_rows(left, right, part, found)
        else:
            found[:, part] = _multiplied(*factors)
    return found


def gram_norm(matrix: scipy.sparse.csr_array | Flat) -> float:
    """The sum of the squares of all entries of ``matrix @ matrix.T``, which are those of
    ``matrix.T @ matrix`` too: the one with less work is used."""
    if isinstance(matrix, np.ndarray):
        rows = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        return sum(float(_row_squares(c).sum()) for _, c in _chunks(rows, rows.T))
    turned = matrix.T.tocsr()
    if _paths(turned) < _paths(matrix):  # those through the rows, which `turned @ matrix` follows
        matrix, turned = turned, matrix
    return float(squared_norms(turned, matrix, [slice(0, turned.shape[0])])[0].sum())


def _paths(matrix: scipy.sparse.csr_array) -> float:
    return float((np.diff(matrix.indptr).astype(np.float64) ** 2).sum())


def _columns(matrix: scipy.sparse.csr_array, rows: slice) -> Flat:
    found: Flat = matrix.indices[matrix.indptr[rows.start] : matrix.indptr[rows.stop]]
    return found


def _add_rows(
    left: scipy.sparse.csr_array,
    right: scipy.sparse.csr_array,
    part: slice,
    found: NDArray[np.float64],
) -> None:
    from cntgraph.measures.product_kernels import row_norms

    kind = np.float64 if right.data.dtype.kind == "f" else np.int32
    first, second = (m.data.astype(kind, copy=False) for m in (left, right))
    row = np.zeros(max(left.shape[1], right.shape[1]), kind)
    other = right.indptr, right.indices, second
    row_norms(left.indptr, left.indices, first, other, part.start, part.stop, found, row)


# -- dense parts ------------------------------------------------------------------------------


def _dense_factors(
    left: scipy.sparse.csr_array,
    right: scipy.sparse.csr_array,
    part: slice,
    paths: int,
    *,
    closing: bool,
) -> tuple[Flat, Flat, Flat | None] | None:
    """Rows of ``left``, what they are multiplied with, and the rows over the product's columns.

    None where it is faster to add up the paths one by one, or where a dense matrix does not fit;
    the last is None where it would be zero.
    """
    from cntgraph.measures.product_kernels import reached

    rows, lengths = np.arange(part.start, part.stop), np.diff(right.indptr)
    inner = reached(left.indptr, left.indices, rows, left.shape[1])
    least = len(rows) * len(inner) * int(lengths[inner].max(initial=0))
    if paths * ADDITION <= least * MULTIPLICATION:
        return None
    ends = reached(right.indptr, right.indices, inner, right.shape[1])
    entries = len(inner) * len(ends) + len(rows) * (len(inner) + 2 * len(ends))
    work = len(rows) * len(inner) * len(ends) * MULTIPLICATION + entries * SCATTER
    if paths * ADDITION <= work or not _fits(8 * entries):
        return None
    kind = _precision(left, right, len(inner))
    again = closing and len(np.intersect1d(inner, ends, assume_unique=True)) > 0
    return (
        _spread(left, rows, inner, kind),
        _spread(right, inner, ends, kind),
        _spread(left, rows, ends, kind) if again else None,
    )


def _fits(needed: int) -> bool:
    there = available_memory()
    return there is None or needed <= there // 2


def _precision(left: Any, right: Any, inner: int) -> Any:
    """Single precision where every entry of the product is a whole number that it holds."""
    if left.data.dtype.kind == "f" or right.data.dtype.kind == "f":
        return np.float64
    largest = [int(np.abs(m.data).max(initial=0)) for m in (left, right)]
    return np.float32 if inner * largest[0] * largest[1] < 1 << 24 else np.float64


def _spread(matrix: scipy.sparse.csr_array, rows: Flat, columns: Flat, kind: Any) -> Flat:
    from cntgraph.measures.product_kernels import spread

    dense = np.zeros((len(rows), len(columns)), kind)
    spread(matrix.indptr, matrix.indices, matrix.data, rows, columns, dense)
    return dense


def _multiplied(left: Flat, right: Flat, again: Flat | None) -> NDArray[np.float64]:
    found = np.zeros((2, len(left)))
    for rows, product in _chunks(left, right):
        found[0, rows] = _row_squares(product)
        if again is not None:
            found[1, rows] = np.einsum("ij,ij->i", product, again[rows], dtype=np.float64)
    return found


def _chunks(left: Flat, right: Flat) -> Iterator[tuple[slice, Flat]]:
    """The product of dense matrices, some rows at a time."""
    at_once = max(1, CHUNK // max(1, right.shape[1]))
    for first in range(0, len(left), at_once):
        rows = slice(first, min(first + at_once, len(left)))
        yield rows, left[rows] @ right


def _row_squares(product: Flat) -> Values:
    found: Values = np.einsum("ij,ij->i", product, product, dtype=np.float64)
    return found


# -- what it will cost ------------------------------------------------------------------------


def seconds_of_squares(graph: Weighted) -> float:
    """An estimate for the square of the adjacency matrix, from the links and neurons of layers.

    Every neuron of a layer is taken to have as many partners as its layer has on average.
    """
    size = {layer.name: max(1, layer.size) for layer in graph.network.layers}
    joined: dict[str, dict[str, int]] = {name: {} for name in size}
    for block in graph.blocks:
        for one, other in ((block.source, block.target), (block.target, block.source)):
            joined[one][other] = joined[one].get(other, 0) + block.link_count
    partners = {name: sum(links.values()) / size[name] for name, links in joined.items()}
    reached = {name: sum(size[other] for other in links) for name, links in joined.items()}
    seconds = LISTING * graph.link_count
    for name, links in joined.items():
        paths = sum(count * partners[other] for other, count in links.items())
        ends = sum(reached[other] for other in links)
        inner = reached[name]
        dense = MULTIPLICATION * size[name] * inner * ends
        made = SCATTER * (inner * ends + size[name] * (inner + 2 * ends))
        seconds += min(ADDITION * paths, dense + made)
    return seconds
