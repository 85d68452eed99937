"""A safetensors file is eight bytes of length, a JSON table of tensors, and their bytes in a row.

The table is checked whole before a byte of a tensor is read, and tensors are read into memory of
their own: a mapped file would change, or end the process, when someone else cuts it.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints.refusal import AGAIN, cut_short, refused
from cntgraph.checkpoints.tensors import take
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from io import BufferedReader

    import torch

__all__ = ["Header", "once", "read_header", "read_tensors"]

_LIMIT = 100_000_000  # the format's own bound on its header
_DTYPES = {
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "U16": ("uint16", 2),
    "I16": ("int16", 2),
    "U32": ("uint32", 4),
    "I32": ("int32", 4),
    "U64": ("uint64", 8),
    "I64": ("int64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "C64": ("complex64", 8),
}


@dataclass(frozen=True)
class Entry:
    """One tensor of the table: its dtype in torch's words, shape and place after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """The checked table of a safetensors file; `data` is where the tensors' bytes begin."""

    entries: tuple[Entry, ...]
    metadata: dict[str, str]
    data: int


def read_header(file: BufferedReader, path: Path, size: int) -> Header:
    """The table of a safetensors file, once all of it agrees with the file's size.

    Raises `InputRefused` where it is cut, is not JSON, overlaps, leaves holes or lies about sizes.
    """
    file.seek(0)
    start = file.read(8)
    if len(start) < 8:
        raise cut_short(path, size, "the length of a safetensors header alone takes 8 bytes")
    (length,) = struct.unpack("<Q", start)
    if length > _LIMIT:
        raise _damaged(path, f"it claims {length:,} bytes; the format allows {_LIMIT:,}")
    if 8 + length > size:
        raise cut_short(path, size, f"its header ends at byte {8 + length:,}")
    try:
        table = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=once)
        metadata, entries = _checked(table)
    # A JSON text nested thousands deep ends in RecursionError; ValueError covers JSON and UTF-8.
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    end = 8 + length + max((entry.end for entry in entries), default=0)
    if end > size:
        raise cut_short(path, size, f"its header says that the tensors end at byte {end:,}")
    if end < size:
        raise _damaged(path, f"the tensors end at byte {end:,} and the file has {size:,}")
    return Header(entries, metadata, 8 + length)


def _damaged(path: Path, why: str) -> InputRefused:
    return refused(path, "the safetensors header is not valid", why=why, fix=AGAIN)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON table as a dict; `ValueError` for a name that is there twice."""
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} is there twice")
    return table


def _checked(table: object) -> tuple[dict[str, str], tuple[Entry, ...]]:
    if not isinstance(table, dict):
        raise ValueError("it is not a table of tensors")
    metadata = table.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("__metadata__ is not a table of texts")
    entries = tuple(_entry(name, facts) for name, facts in table.items())
    place = 0
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
        if entry.start != place:
            fault = "overlaps the one before" if entry.start < place else "leaves a hole before it"
            raise ValueError(f"{entry.name!r} {fault}, at byte {entry.start:,} of the data")
        place = entry.end
    return metadata, entries


def _entry(name: str, facts: object) -> Entry:
    name.encode("utf-8")  # JSON can spell half a surrogate pair, which no file or database takes
    match facts:
        case {"dtype": str() as code, "shape": [*shape], "data_offsets": [start, end]}:
            pass
        case _:
            raise ValueError(f"{name!r} lacks a dtype, a shape or data_offsets")
    if code not in _DTYPES:
        raise ValueError(f"{name!r} is of the unknown dtype {code!r}")
    dtype, itemsize = _DTYPES[code]
    if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, start, end)):
        raise ValueError(f"{name!r} has a shape {shape} or place {[start, end]} that is no count")
    wanted = math.prod(shape) * itemsize
    if wanted != end - start or math.prod(max(n, 1) for n in shape) >= 2**60:
        raise ValueError(f"{name!r} of shape {shape} takes {wanted:,} bytes, not {end - start:,}")
    return Entry(name, dtype, tuple(shape), start, end)


def read_tensors(file: BufferedReader, header: Header, path: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a checked file into memory of its own, in the header's order."""
    import torch

    tensors: dict[str, torch.Tensor] = {}
    for entry in header.entries:
        raw = take(file, path, header.data + entry.start, entry.end - entry.start)
        dtype = getattr(torch, entry.dtype)
        tensors[entry.name] = raw.view(dtype).reshape(entry.shape)
    return tensors
