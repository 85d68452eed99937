"""A few of PyTorch's operators done by NumPy, in float64: what a network needs to be copied.

PyTorch takes seconds to import and some hundred megabytes to hold. Folding batch norms, averaging
and transposing are all that most networks compute on the way from stored tensors to their links.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["array_of_json", "as_array", "computed", "json_of_array", "widened"]

Array = NDArray[Any]

# The types that both have, which have the same names in both.
_TYPES = frozenset("float64 float32 float16 int64 int32 int16 int8 uint8 bool".split())


def _full(shape: Sequence[int], value: float, *, dtype: str = "") -> Array | None:
    # without a type it would be one that PyTorch may be told at any time
    return np.full(shape, value, dtype=dtype) if dtype in _TYPES else None


def _expand(value: Array, shape: Sequence[int]) -> Array:
    missing = len(shape) - value.ndim  # -1 leaves a length as it is
    own = (1,) * missing + value.shape
    return np.broadcast_to(value, [b if a == -1 else a for a, b in zip(shape, own, strict=True)])


def _inverse_root(value: Array) -> Array:
    return np.asarray(1.0 / np.sqrt(value))


_OPERATORS: dict[str, Callable[..., Array | None]] = {
    "aten.add.Scalar": np.add,
    "aten.add.Tensor": np.add,
    "aten.div.Tensor": np.divide,
    "aten.expand.default": _expand,
    "aten.full.default": _full,
    "aten.index_select.default": lambda value, axis, places: np.take(value, places, axis),
    "aten.mul.Scalar": np.multiply,
    "aten.mul.Tensor": np.multiply,
    "aten.neg.default": np.negative,
    "aten.permute.default": np.transpose,
    "aten.reciprocal.default": lambda value: 1.0 / value,
    "aten.reshape.default": np.reshape,
    "aten.rsqrt.default": _inverse_root,
    "aten.sqrt.default": np.sqrt,
    "aten.sub.Tensor": np.subtract,
    "aten.t.default": np.transpose,
    "aten.transpose.int": np.swapaxes,
    "aten.unsqueeze.default": np.expand_dims,
    "aten.view.default": np.reshape,
}


def computed(operator: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Array | None:
    """The operator's result on arrays, or None where it, or an option of it, is not among these."""
    call = _OPERATORS.get(operator)
    if call is None or (kwargs and call is not _full):
        return None
    with np.errstate(all="ignore"):  # infinities and NaN come and go as they do in PyTorch
        found = call(*args, **kwargs)
    return None if found is None else np.asarray(found)


def widened(value: Array) -> Array:
    """In float64 if it is of a floating type."""
    return value.astype(np.float64) if value.dtype.kind == "f" else value


def as_array(value: Tensor | Array) -> Array | None:
    """The array that a tensor holds; None for a type that NumPy does not have."""
    if isinstance(value, np.ndarray):
        return value
    known = str(value.dtype).removeprefix("torch.") in _TYPES
    return value.detach().cpu().numpy() if known else None


def array_of_json(data: Mapping[str, Any]) -> Array | None:
    """The array that `json_of_array` wrote; None for a type that NumPy does not have."""
    if data["dtype"] not in _TYPES:
        return None
    raw = bytearray(base64.b64decode(data["base64"]))
    return np.frombuffer(raw, dtype=data["dtype"]).reshape(data["shape"])


def json_of_array(value: Array) -> dict[str, Any]:
    """Type, shape and bytes."""
    raw = np.ascontiguousarray(value).tobytes()
    return {
        "dtype": str(value.dtype),
        "shape": list(value.shape),
        "base64": base64.b64encode(raw).decode(),
    }
