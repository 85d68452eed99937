"""The weights of a stored epoch: arrays of NumPy as they lie in the file, tensors when asked for.

PyTorch takes seconds to import and some hundred megabytes to hold. Whoever only copies weights,
as the loader of a database does, reads ``arrays`` and never needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cntgraph.errors import RunDamaged

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StoredWeights", "read_weights"]


class StoredWeights(Mapping[str, "Tensor"]):
    """Tensors by name, each made from its array when first asked for; both share their memory."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays
        self._tensors: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._tensors:
            import torch

            self._tensors[name] = torch.from_numpy(self.arrays[name])
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
            return StoredWeights({name: _array(entry) for name, entry in found})
        del found
        return _tensors(data)
    except (SafetensorError, KeyError) as error:
        raise RunDamaged(
            f"{path} is damaged", why=str(error), fix="export the run again"
        ) from error


# What NumPy and PyTorch both know; bfloat16 and the types of eight bits only PyTorch does.
_KNOWN = {
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
    return np.frombuffer(raw, dtype=_KNOWN[entry["dtype"]]).reshape(entry["shape"])


def _tensors(data: bytes) -> dict[str, Tensor]:
    from safetensors.torch import load

    found: dict[str, Tensor] = load(data)
    return found
