"""One pass over a weight array that sums its positive and its negative parts both ways.

A strength needs four sums of every weight (in and out, positive and negative). Reading the
weights once for all four is what makes it as fast as the memory; float64 accumulators keep
half-precision weights exact.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["adjoint", "product", "signed_sums"]

Sums = NDArray[np.float64]


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _matrix(w: Any, rows: Any, columns: Any) -> None:
    height, width = w.shape
    for a in range(height):
        positive = 0.0
        negative = 0.0
        for b in range(width):
            value = np.float64(w[a, b])
            p = value if value > 0 else 0.0
            n = 0.0 if value > 0 else value  # NaN lands here and stays NaN
            positive += p
            negative += n
            columns[0, b] += p
            columns[1, b] += n
        rows[0, a] = positive
        rows[1, a] = negative


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _taps(w: Any, rows: Any, columns: Any) -> None:
    height, width, taps = w.shape
    for a in range(height):
        for b in range(width):
            for k in range(taps):
                value = np.float64(w[a, b, k])
                p = value if value > 0 else 0.0
                n = 0.0 if value > 0 else value
                rows[0, a, k] += p
                rows[1, a, k] += n
                columns[0, b, k] += p
                columns[1, b, k] += n


def signed_sums(w: NDArray[Any]) -> tuple[Sums, Sums]:
    """Sums of ``w`` (A, B, K) over B and over A: (2, A, K) and (2, B, K), positive part first."""
    height, width, taps = w.shape
    rows = np.zeros((2, height, taps))
    columns = np.zeros((2, width, taps))
    if taps == 1:
        _matrix(w.reshape(height, width), rows[:, :, 0], columns[:, :, 0])
    else:
        _taps(w, rows, columns)
    return rows, columns


@numba.njit(cache=True, nogil=True, inline="always")
def _of_sign(value: Any, mode: Any) -> Any:
    """0: w, 1: |w|, 2: max(w, 0), 3: max(-w, 0); NaN stays NaN."""
    if mode == 1:
        return abs(value)
    if mode == 2:
        return 0.0 if value <= 0 else value
    if mode == 3:
        return 0.0 if value >= 0 else -value
    return value


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def product(w: Any, x: Any, mode: Any) -> Any:
    """The matrix f(w) (A, B) times a vector, in float64; ``mode`` says which sign f keeps."""
    height, width = w.shape
    y = np.zeros(height)
    for a in range(height):
        total = 0.0
        for b in range(width):
            total += _of_sign(np.float64(w[a, b]), mode) * x[b]
        y[a] = total
    return y


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def adjoint(w: Any, y: Any, mode: Any) -> Any:
    """The transpose of f(w) (A, B) times a vector, in float64."""
    height, width = w.shape
    x = np.zeros(width)
    for a in range(height):
        for b in range(width):
            x[b] += _of_sign(np.float64(w[a, b]), mode) * y[a]
    return x
