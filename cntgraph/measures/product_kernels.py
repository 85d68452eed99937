"""The rows of a product of two sparse matrices, each forgotten as soon as it was looked at."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["reached", "row_norms", "spread"]


@numba.njit(cache=True, nogil=True)
def _add_paths(starts: Any, columns: Any, values: Any, right: Any, v: int, row: Any) -> int:
    starts_right, columns_right, values_right = right
    paths = 0
    for e in range(starts[v], starts[v + 1]):
        u, x = columns[e], values[e]
        paths += starts_right[u + 1] - starts_right[u]
        for f in range(starts_right[u], starts_right[u + 1]):
            row[columns_right[f]] += x * values_right[f]
    return paths


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _squares(row: Any) -> float:
    """The squared norm of a row, which is left zero."""
    squares = 0.0
    for w in range(len(row)):
        squares += np.float64(row[w]) * np.float64(row[w])
        row[w] = 0
    return squares


@numba.njit(cache=True, nogil=True)
def _squares_where_led(starts: Any, columns: Any, right: Any, v: int, row: Any) -> float:
    """The same, looking only where a path has led: for rows that are mostly zero."""
    starts_right, columns_right, _ = right
    squares = 0.0
    for e in range(starts[v], starts[v + 1]):
        for f in range(starts_right[columns[e]], starts_right[columns[e] + 1]):
            w = columns_right[f]
            squares += np.float64(row[w]) * np.float64(row[w])
            row[w] = 0
    return squares


@numba.njit(cache=True, nogil=True)
def row_norms(
    starts: Any, columns: Any, values: Any, right: Any, first: Any, last: Any, found: Any, row: Any
) -> None:
    """Of the rows ``first`` to ``last`` of a product: squared norm, and product with the left row.

    The left factor and the ``right`` one are in CSR form; ``row`` is room for one row, all zero.
    """
    for v in range(first, last):
        paths = _add_paths(starts, columns, values, right, v, row)
        along = 0.0
        for e in range(starts[v], starts[v + 1]):
            along += np.float64(values[e]) * np.float64(row[columns[e]])
        found[1, v] = along
        if 4 * paths < len(row):
            found[0, v] = _squares_where_led(starts, columns, right, v, row)
        else:
            found[0, v] = _squares(row)


@numba.njit(cache=True, nogil=True)
def reached(starts: Any, columns: Any, rows: Any, width: int) -> Any:
    """The columns that some rows of a CSR matrix have entries in, in ascending order."""
    there = np.zeros(width, np.bool_)
    for row in rows:
        for e in range(starts[row], starts[row + 1]):
            there[columns[e]] = True
    return np.flatnonzero(there)


@numba.njit(cache=True, nogil=True)
def spread(starts: Any, columns: Any, values: Any, rows: Any, kept: Any, dense: Any) -> None:
    """Some rows and columns of a CSR matrix written into a dense one, which is zero."""
    place = np.full(kept[-1] + 1 if len(kept) else 0, -1)
    for i in range(len(kept)):
        place[kept[i]] = i
    for i in range(len(rows)):
        for e in range(starts[rows[i]], starts[rows[i] + 1]):
            if columns[e] < len(place) and place[columns[e]] >= 0:
                dense[i, place[columns[e]]] = values[e]
