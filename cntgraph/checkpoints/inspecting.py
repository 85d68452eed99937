"""What a checkpoint holds, a row for each tensor, counted in pieces so that no copy is made."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cntgraph.checkpoints.dense import packed, parts
from cntgraph.checkpoints.matching import wrapper_words
from cntgraph.checkpoints.reading import read

if TYPE_CHECKING:
    import pandas as pd
    import torch

__all__ = ["inspect"]

_PIECE = 1 << 22
_COUNTS = ("elements", "bytes", "finite", "nan", "inf")


def inspect(path: str | os.PathLike[str], *, trust: bool = False) -> pd.DataFrame:
    """What is in a checkpoint, a row per tensor in the file's order; nothing in it is executed.

    ::

        inspect("epoch=3.ckpt")[["name", "dtype", "shape", "nan"]]

    Columns: `name`, `dtype`, `shape` (tuple), `elements`, `bytes` (as stored), `finite`, `nan`,
    `inf` (counts), `minimum`, `maximum` (of the finite numbers, as floats).  Numbers of quantised
    tensors are the ones they stand for; those of meta and packed tensors are missing, and complex
    ones have no minimum.  `.attrs` holds `format`, `epoch`, `metrics`, `notes`, `beside` (what else
    is in the file, in words) and `prefixes` (words that `match` takes off the names if the model
    does not have them).  `trust` is that of `read`.  Raises `InputRefused` as `read` does.
    """
    import pandas as pd

    checkpoint = read(path, trust=trust)
    frame = pd.DataFrame([_row(name, tensor) for name, tensor in checkpoint.tensors.items()])
    frame = frame.astype(dict.fromkeys(_COUNTS, "Int64") | {"minimum": float, "maximum": float})
    frame.attrs = {
        "format": checkpoint.format,
        "epoch": checkpoint.epoch,
        "metrics": checkpoint.metrics,
        "notes": checkpoint.notes,
        "beside": checkpoint.beside,
        "prefixes": wrapper_words(checkpoint.tensors),
    }
    return frame


def _row(name: str, tensor: torch.Tensor) -> dict[str, object]:
    row: dict[str, object] = {
        "name": name,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": tuple(tensor.shape),
        "elements": tensor.numel(),
        "bytes": sum(part.numel() * part.element_size() for part in parts(tensor)),
    }
    if tensor.is_meta or packed(tensor.dtype):
        unknown = dict.fromkeys(("finite", "nan", "inf"), None)
        return row | unknown | {"minimum": math.nan, "maximum": math.nan}
    values = parts(tensor)[-1]
    nan = inf = 0
    low, high = math.inf, -math.inf
    if values.numel() < tensor.numel():  # the zeros that a sparse tensor does not write down
        low = high = 0.0
    for piece in _pieces(values):
        bad = piece.isnan()
        endless = piece.isinf()
        nan, inf = nan + int(bad.sum()), inf + int(endless.sum())
        good = piece[~(bad | endless)] if bool((bad | endless).any()) else piece
        if good.numel() and not good.is_complex():
            least, most = good.aminmax()
            low, high = min(low, float(least)), max(high, float(most))
    counts = {"finite": tensor.numel() - nan - inf, "nan": nan, "inf": inf}
    bounds = (low, high) if low <= high else (math.nan, math.nan)
    return row | counts | {"minimum": bounds[0], "maximum": bounds[1]}


def _pieces(values: torch.Tensor) -> Iterator[torch.Tensor]:
    """The numbers a few million at a time, in a type that can be compared."""
    import torch

    flat = (values.dequantize() if values.is_quantized else values).reshape(-1)
    for start in range(0, flat.numel(), _PIECE):
        piece = flat[start : start + _PIECE]
        if piece.is_floating_point() and piece.dtype not in (torch.float32, torch.float64):
            piece = piece.float()
        if piece.dtype in (torch.uint16, torch.uint32, torch.uint64):
            piece = piece.double()  # torch compares none of these
        yield piece
