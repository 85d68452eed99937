"""Puts links in order: out of each source, and into each target by ascending length."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["fill"]

FEW = 24  # so many numbers are sorted fastest by insertion
TINY = 1e-300


@numba.njit(cache=True, nogil=True)
def _starts(index: Any, start: Any, at: Any) -> None:
    """Where the links of each neuron start, from ``at`` on; ``start`` ends with where all end."""
    for i in range(len(start)):
        start[i] = 0
    for i in index:
        start[i + 1] += 1
    start[0] = at
    for i in range(1, len(start)):
        start[i] += start[i - 1]


@numba.njit(cache=True, nogil=True)
def _insert(ids: Any, lengths: Any, first: Any, last: Any, gap: Any) -> None:
    """Sort the links that are ``gap`` apart by insertion: linear where few are out of order."""
    for k in range(first + gap, last):
        length, name = lengths[k], ids[k]
        j = k
        while j >= first + gap and lengths[j - gap] > length:
            lengths[j], ids[j] = lengths[j - gap], ids[j - gap]
            j -= gap
        lengths[j], ids[j] = length, name


@numba.njit(cache=True, nogil=True)
def _middle(lengths: Any, first: Any, last: Any, spare: Any) -> Any:
    """About the median of some lengths, from nine of them."""
    _, _, old_ids, old = spare
    step = (last - first) // 9
    for i in range(9):
        old[i] = lengths[first + i * step]
    _insert(old_ids, old, 0, 9, 1)
    return max(old[4], TINY)


@numba.njit(cache=True, nogil=True)
def _sort(ids: Any, lengths: Any, first: Any, last: Any, spare: Any) -> None:
    """Sort the links into one target: by buckets of about one link each, then by insertion.

    The bucket of a length x is its place in x / (x + median), which spreads lengths of any scale,
    with heavy tails or without. Where some still hold many, insertion begins far apart (as Shell's
    sort does).
    """
    count = last - first
    crowded = False
    if count > FEW:
        bucket, end, old_ids, old = spare
        middle = _middle(lengths, first, last, spare)
        for i in range(count + 1):
            end[i] = 0
        for k in range(count):
            x = lengths[first + k]
            old[k], old_ids[k] = x, ids[first + k]
            bucket[k] = min(count - 1, int(count * (x / (x + middle))))
            end[bucket[k] + 1] += 1
        for i in range(count):
            crowded = crowded or end[i + 1] > FEW
            end[i + 1] += end[i]
        for k in range(count):  # a bucket's end is where its links so far end
            place = first + end[bucket[k]]
            end[bucket[k]] += 1
            lengths[place], ids[place] = old[k], old_ids[k]
    if crowded:
        gap = 701
        while gap > 1:
            _insert(ids, lengths, first, last, gap)
            gap = int(gap / 2.25)
    _insert(ids, lengths, first, last, 1)


@numba.njit(cache=True, nogil=True)
def _scatter(index: Any, other: Any, length: Any, first: Any, rows: Any) -> None:
    """Put links into the rows of their ``index``, by the id of their other end."""
    start, ids, lengths = rows
    ends = start.copy()
    row, place = -1, 0
    for k in range(len(length)):
        if index[k] != row:  # a run of links into one row writes its end once
            if row >= 0:
                ends[row] = place
            row = index[k]
            place = ends[row]
        ids[place], lengths[place] = first + other[k], length[k]
        place += 1


@numba.njit(cache=True, nogil=True)
def fill(links: Any, first: Any, at: Any, into: Any, out: Any, in_order: Any) -> None:
    """Put the links of a block from place ``at`` on, by the ids of neurons.

    ``links`` are the indices of sources and targets, and lengths; ``first`` the ids of the first
    source and target. ``into`` and ``out`` are where the links of each neuron start, their other
    ends and lengths; those into a target are sorted by length if they are to be ``in_order``.
    """
    source, target, length = links
    _starts(target, into[0], at)
    _starts(source, out[0], at)
    _scatter(target, source, length, first[0], into)
    _scatter(source, target, length, first[1], out)
    if not in_order:
        return
    in_start, in_source, in_length = into
    most = FEW
    for j in range(len(in_start) - 1):
        most = max(most, in_start[j + 1] - in_start[j])
    spare = (
        np.empty(most, np.int64),
        np.empty(most + 1, np.int64),
        np.empty(most, np.uint32),
        np.empty(most),
    )
    for j in range(len(in_start) - 1):
        _sort(in_source, in_length, in_start[j], in_start[j + 1], spare)
