"""A .pt2 keeps its weights as plain records beside a JSON table, readable without its pickles.

Only tensors of subclasses are pickled in it; and programs saved before PyTorch 2.8 keep all of
their weights in one pickle.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints.outline import Outline
from cntgraph.checkpoints.tensors import Described, Storage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TABLE", "weights_of"]

TABLE = "_weights_config.json"  # how the name of the record ends that lists the weights
# The numbers of dtypes in the schema of torch.export, which says that they are never changed.
_DTYPES = {
    **{1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32"},
    **{8: "float64", 9: "complex32", 10: "complex64", 11: "complex128", 12: "bool"},
    **{13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2"},
    **{31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu"},
    **{34: "uint32", 35: "uint64"},
}
_STRIDED = 7


def weights_of(table: bytes, sizes: Mapping[str, int]) -> Outline | None:
    """The weights that a table lists, by the records that hold them; none if some are pickled.

    `sizes` are the bytes of the records, by their names beside the table.  Raises `ValueError`
    (or a `KeyError`, `TypeError` of the same meaning) for a table that is not one.
    """
    import torch

    outline = Outline(root={})
    for name, facts in json.loads(table)["config"].items():
        meta = facts["tensor_meta"]
        if facts["use_pickle"] or meta["layout"] != _STRIDED or meta["dtype"] not in _DTYPES:
            return None
        dtype = getattr(torch, _DTYPES[meta["dtype"]])
        key = str(facts["path_name"])
        outline.storages[key] = sizes[key]
        outline.widths[key] = dtype.itemsize
        storage = Storage(key, dtype, sizes[key] // dtype.itemsize)
        shape, stride = (tuple(map(_whole, meta[word])) for word in ("sizes", "strides"))
        offset = _whole(meta["storage_offset"])
        given = (storage, offset, shape, stride, False, None, dtype)
        outline.root[name] = Described("_rebuild_tensor_v3", given)  # type: ignore[index]
    return outline


def _whole(number: dict[str, Any]) -> int:
    found = number["as_int"]
    if type(found) is not int:
        raise ValueError(f"{number} is no whole number")
    return found
