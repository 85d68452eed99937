"""The weights of a stored epoch: arrays of NumPy as they lie in the file, tensors when asked for.

PyTorch takes seconds to import and some hundred megabytes to hold. Whoever only copies weights,
as the loader of a database does, reads ``arrays`` and never needs it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cntgraph.errors import RunDamaged

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StoredWeights", "read_weights"]


class StoredWeights(Mapping[str, "Tensor"]):
    """Tensors by name, each made from its array when first asked for.

    Both share their memory, but for the ``halves``: those are bfloat16, which NumPy does not have,
    and their arrays the same numbers in float32.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], halves: Collection[str] = ()) -> None:
        self.arrays = arrays
        self._halves = frozenset(halves)
        self._tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            import torch

            found = torch.from_numpy(self.arrays[name])
            self._tensors[name] = found.bfloat16() if name in self._halves else found
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __contains__(self, name: object) -> bool:
        return name in self.arrays


def read_weights(data: bytes, path: str) -> Mapping[str, Tensor]:
    """The tensors in the bytes of a safetensors file; `RunDamaged` where it is none."""
    from safetensors import SafetensorError, deserialize

    try:
        found = deserialize(data)  # type: ignore[no-untyped-call]
        if all(entry["dtype"] in _KNOWN for _, entry in found):
            halves = {name for name, entry in found if entry["dtype"] == _HALF}
            return StoredWeights({name: _array(entry) for name, entry in found}, halves)
        del found
        return _tensors(data)
    except (SafetensorError, KeyError) as error:
        raise RunDamaged(
            f"{path} is damaged", why=str(error), fix="export the run again"
        ) from error


_HALF = "BF16"

# What NumPy has too; the floating types of eight bits only PyTorch does.
_KNOWN = {
    _HALF: "uint16",
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def _array(entry: Mapping[str, Any]) -> NDArray[Any]:
    import numpy as np

    raw = entry["data"] if isinstance(entry["data"], bytearray) else bytearray(entry["data"])
    found = np.frombuffer(raw, dtype=_KNOWN[entry["dtype"]]).reshape(entry["shape"])
    if entry["dtype"] == _HALF:  # a float32 without its second half
        return np.asarray(found.astype(np.uint32) << 16).view(np.float32)
    return found


def _tensors(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    found: dict[str, Tensor] = load(data)
    return found
