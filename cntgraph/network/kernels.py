"""Loops over weights that a compiler turns into vector instructions: sums, products, pairs.

A strength needs four sums of every weight (in and out, positive and negative). Reading the
weights once for all four is what makes it as fast as the memory; float64 accumulators keep
half-precision weights exact.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["adjoint", "along_pairs", "product", "signed_sums"]

Sums = NDArray[np.float64]

NARROW = 32  # a side so short that four rows at a time are not worth the trouble
ONE_SIDED = 1e-3  # a smaller share than this of one sign is lost in the rounding of the difference


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


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _sums_and_sizes(w: Any, rows: Any, columns: Any, one: Any) -> None:
    """Sums of w and of |w|, four rows at a time.

    ``one`` is 1: what is multiplied by it is added by the multipliers, while the adders are busy
    with the columns.
    """
    height, width = w.shape
    total, size = columns[0], columns[1]
    whole = height // 4 * 4
    for a in range(0, whole, 4):
        w0, w1, w2, w3 = w[a], w[a + 1], w[a + 2], w[a + 3]
        t0 = t1 = t2 = t3 = s0 = s1 = s2 = s3 = 0.0
        for b in range(width):
            v0, v1, v2, v3 = (
                np.float64(w0[b]),
                np.float64(w1[b]),
                np.float64(w2[b]),
                np.float64(w3[b]),
            )
            z0, z1, z2, z3 = abs(v0), abs(v1), abs(v2), abs(v3)
            t0 += v0 * one
            t1 += v1 * one
            t2 += v2 * one
            t3 += v3 * one
            s0 += z0 * one
            s1 += z1 * one
            s2 += z2 * one
            s3 += z3 * one
            total[b] += (v0 + v1) + (v2 + v3)
            size[b] += (z0 + z1) + (z2 + z3)
        rows[0, a], rows[0, a + 1], rows[0, a + 2], rows[0, a + 3] = t0, t1, t2, t3
        rows[1, a], rows[1, a + 1], rows[1, a + 2], rows[1, a + 3] = s0, s1, s2, s3
    for a in range(whole, height):
        for b in range(width):
            v0 = np.float64(w[a, b])
            rows[0, a] += v0
            rows[1, a] += abs(v0)
            total[b] += v0
            size[b] += abs(v0)


@numba.njit(cache=True, nogil=True)
def _parted(sums: Any, least: Any) -> Any:
    """Turn sums of w and |w| into those of both signs; False where one of them lost its digits."""
    for k in range(sums.shape[1]):
        total, size = sums[0, k], sums[1, k]
        positive, negative = (size + total) / 2, (total - size) / 2
        if not min(positive, -negative) >= least * size:  # nor where a sum is no finite number
            return False
        sums[0, k], sums[1, k] = positive, negative
    return True


def signed_sums(w: NDArray[Any]) -> tuple[Sums, Sums]:
    """Sums of ``w`` (A, B, K) over B and over A: (2, A, K) and (2, B, K), positive part first.

    Sums of w and |w| are half as much work as those of either sign, and tell them to all digits
    wherever neither sign is rare; where one is, or a weight is not finite, both are summed.
    """
    height, width, taps = w.shape
    rows = np.zeros((2, height, taps))
    columns = np.zeros((2, width, taps))
    if taps > 1:
        _taps(w, rows, columns)
        return rows, columns
    matrix, by_row, by_column = w[:, :, 0], rows[:, :, 0], columns[:, :, 0]
    if min(height, width) >= NARROW:
        _sums_and_sizes(matrix, by_row, by_column, 1.0)
        if _parted(by_row, ONE_SIDED) and _parted(by_column, ONE_SIDED):
            return rows, columns
        by_column[:] = 0.0
    _matrix(matrix, by_row, by_column)
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


@numba.njit(cache=True, nogil=True)
def along_pairs(w: Any, source: Any, target: Any, x: Any, y: Any) -> None:
    """Add to each row of ``y`` what its row of ``x`` sends along pairs of weight ``w``."""
    for a in range(x.shape[0]):
        for k in range(source.shape[0]):
            y[a, target[k]] += w[k] * x[a, source[k]]
