"""A tensor of a file is described first and built later, so only what is wanted is read.

The description says which bytes it lies on and with what shape; building lays a tensor of that
shape on those bytes once they are known to hold it.  Nothing that a file names is called.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints.dense import packed
from cntgraph.checkpoints.refusal import AGAIN, cut_short, refused, resave

if TYPE_CHECKING:
    from io import BufferedReader

    import torch

__all__ = ["REBUILT", "Described", "Storage", "Store", "take"]

# The functions by which torch.save spells a tensor, and where each of them says its shape.
REBUILT = {
    "_rebuild_tensor": 2,
    "_rebuild_tensor_v2": 2,
    "_rebuild_tensor_v3": 2,
    "_rebuild_qtensor": 2,
    "_rebuild_meta_tensor_no_storage": 1,
    "_rebuild_sparse_tensor": None,
    "_rebuild_parameter": None,
    "_rebuild_parameter_with_state": None,
    "_rebuild_from_type_v2": None,
}
_CHUNK = 1 << 20
# What torch says of arguments that fit each other as little as they fit the bytes.
_MISFIT = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    OverflowError,
)
_NESTED = 8  # a parameter of a subclass with attributes is three deep


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of numbers in a file: its key there, their dtype and count."""

    key: str
    dtype: torch.dtype
    count: int

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a storage after it was made")


@dataclass(frozen=True, eq=False)
class Described:
    """A tensor as the file spells it: the function that would rebuild it, and its arguments."""

    rebuild: str
    arguments: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """What the file says of its shape; no dimensions where it says nothing that is one."""
        try:
            base = self.base()
            place = REBUILT[base.rebuild]
            if place is not None:
                found = base.arguments[place]
            else:
                found = next(n for n in reversed(base.arguments[1]) if isinstance(n, tuple))
        except (ValueError, TypeError, LookupError, StopIteration):
            return ()
        return found if isinstance(found, tuple) else ()

    @property
    def ndim(self) -> int:
        """The number of its dimensions."""
        return len(self.shape)

    def base(self) -> Described:
        """The tensor under a parameter, a subclass or attributes, which are all left out."""
        found: Any = self
        for _ in range(_NESTED):
            if found.rebuild in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
                found = found.arguments[0]
            elif found.rebuild == "_rebuild_from_type_v2":
                function, _, arguments, *_ = found.arguments
                name = str(getattr(function, "path", "")).rpartition(".")[2]
                found = Described(name, arguments)
            else:
                return found  # type: ignore[no-any-return]
            if not isinstance(found, Described) or found.rebuild not in REBUILT:
                break
        raise ValueError("it is rebuilt by no known function")

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes a tensor after it was made")


@dataclass
class Store:
    """The bytes of a file's storages: where each begins, how long it is, and what was read."""

    file: BufferedReader
    path: Path
    places: Mapping[str, int]
    sizes: Mapping[str, int]
    swapped: bool = False
    read: dict[str, torch.UntypedStorage] = field(default_factory=dict)

    def build(self, wanted: Described | torch.Tensor, name: str) -> torch.Tensor:
        """The tensor that is described, on the CPU; `name` is what a refusal calls it.

        Raises `InputRefused` where it claims more numbers than are stored, or ones elsewhere.
        """
        if not isinstance(wanted, Described):
            return wanted.detach()
        try:
            return self._built(wanted, name)
        except MemoryError:
            why = "its tensors together need more memory than is free"
            raise refused(self.path, "the file does not fit into memory", why=why) from None
        except _MISFIT as error:
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            what = f"the tensor {name!r} is damaged"
            raise refused(self.path, what, why=why, fix=AGAIN) from error

    def _built(self, wanted: Described, name: str) -> torch.Tensor:
        import torch

        base = wanted.base()
        given = base.arguments
        match base.rebuild:
            case "_rebuild_tensor_v3":
                storage, offset, shape, stride, _, _, dtype, *more = given
                laid = self._laid(storage, dtype, (offset, shape, stride), name)
                return _marked(laid, more[0] if more else None)
            case "_rebuild_qtensor":
                return self._quantised(given, name)
            case "_rebuild_sparse_tensor":
                return self._sparse(given[0], given[1], name)
            case "_rebuild_meta_tensor_no_storage":
                return torch.empty_strided(given[1], given[2], dtype=given[0], device="meta")
        storage, offset, shape, stride, *more = given
        if storage.dtype in _quantised_dtypes():
            raise ValueError("its numbers are quantised and their scale is not there")
        laid = self._laid(storage, storage.dtype, (offset, shape, stride), name)
        return _marked(laid, more[2] if len(more) > 2 else None)

    def _laid(
        self,
        storage: Storage,
        dtype: torch.dtype,
        layout: tuple[int, tuple[int, ...], tuple[int, ...]],
        name: str,
    ) -> torch.Tensor:
        """A dense tensor on its bytes, which must hold all of it: torch would get new ones."""
        import torch

        offset, shape, stride = layout
        room = self.sizes[storage.key] // dtype.itemsize
        _refuse_misplaced(layout, room, dtype.itemsize, name, self.path)
        if not math.prod(shape):
            return torch.empty(shape, dtype=dtype)
        whole = self._numbers(storage.key, dtype)
        return torch.empty(0, dtype=dtype).set_(whole, offset, shape, stride)

    def _numbers(self, key: str, dtype: torch.dtype) -> torch.UntypedStorage:
        if key not in self.read:
            raw = take(self.file, self.path, self.places[key], self.sizes[key])
            self.read[key] = raw.untyped_storage()
            if self.swapped and dtype.itemsize > 1:
                self.read[key].byteswap(dtype)  # type: ignore[no-untyped-call]
        return self.read[key]

    def _quantised(self, given: tuple[Any, ...], name: str) -> torch.Tensor:
        import torch

        storage, offset, shape, stride, (scheme, *numbers), *_ = given
        if packed(storage.dtype):
            raise ValueError(f"it is packed ({storage.dtype}): save the weights dequantised")
        whole = torch.int8 if storage.dtype.itemsize == 1 else torch.int32
        raw = self._laid(storage, whole, (offset, shape, stride), name)
        if scheme == torch.per_tensor_affine:
            scale, zero = numbers
            made = torch._empty_affine_quantized(
                shape, scale=scale, zero_point=zero, dtype=storage.dtype
            )
        else:
            scales, zeros, axis = numbers
            if not 0 <= axis < len(shape):
                raise ValueError(f"axis {axis} of a tensor of shape {shape}")
            scales, zeros = (_listed(part, self, name) for part in (scales, zeros))
            if not len(scales) == len(zeros) == shape[axis]:
                raise ValueError(f"{len(scales)} scales for {shape[axis]} channels")
            made = torch._empty_per_channel_affine_quantized(
                shape, scales=scales, zero_points=zeros, axis=axis, dtype=storage.dtype
            )
        held = raw.untyped_storage()
        return made.set_(held, raw.storage_offset(), shape, stride) if raw.numel() else made

    def _sparse(self, layout: torch.layout, data: tuple[Any, ...], name: str) -> torch.Tensor:
        import torch

        if layout is torch.sparse_coo:
            indices, values, shape, *known = data
            return torch.sparse_coo_tensor(
                self._built(indices, name),
                self._built(values, name),
                shape,
                check_invariants=True,
                is_coalesced=known[0] if known else None,
            )
        compressed, plain, values, shape = data
        return torch.sparse_compressed_tensor(
            self._built(compressed, name),
            self._built(plain, name),
            self._built(values, name),
            shape,
            layout=layout,
            check_invariants=True,
        )


def take(file: BufferedReader, path: Path, place: int, count: int) -> torch.Tensor:
    """So many bytes of an open file from a place on, in memory of their own."""
    import torch

    raw = torch.empty(count, dtype=torch.uint8)
    file.seek(place)
    rest = memoryview(raw.numpy().data)
    while rest.nbytes:
        read = file.readinto(rest[:_CHUNK])
        if not read:
            raise cut_short(path, file.tell(), "the numbers of a tensor are not all there")
        rest = rest[read:]
    return raw


def _refuse_misplaced(
    layout: tuple[int, tuple[int, ...], tuple[int, ...]],
    room: int,
    itemsize: int,
    name: str,
    path: Path,
) -> None:
    """Refuse a tensor that claims more numbers than its storage has, or numbers beyond it."""
    offset, shape, stride = layout
    if len(shape) != len(stride) or not all(
        type(n) is int and n >= 0 for n in (offset, *shape, *stride)
    ):
        raise ValueError("its shape and strides are not counts")
    count = math.prod(shape)
    if count > room:
        what = f"the tensor {name!r} claims {count * itemsize:,} bytes and "
        what += f"{room * itemsize:,} are stored"
        why = "it repeats the same numbers by its strides (expand)"
        raise refused(path, what, why=why, fix=f"{resave(path)} after .contiguous()")
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if count and last >= room:
        raise ValueError(f"its last number would be number {last + 1:,} of {room:,}")


def _quantised_dtypes() -> tuple[torch.dtype, ...]:
    import torch

    return torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4


def _marked(tensor: torch.Tensor, marks: object) -> torch.Tensor:
    """What a lazy conjugation or negation left undone in the stored bytes."""
    import torch

    if isinstance(marks, Mapping) and marks.get("conj"):
        tensor = tensor.conj()
    if isinstance(marks, Mapping) and marks.get("neg"):
        tensor = torch._neg_view(tensor)
    return tensor


def _listed(numbers: Any, store: Store, name: str) -> torch.Tensor:
    import torch

    if isinstance(numbers, Described):
        return store._built(numbers, name)
    return torch.tensor(numbers, dtype=torch.float64 if _any_float(numbers) else torch.int64)


def _any_float(numbers: list[Any]) -> bool:
    return any(isinstance(number, float) for number in numbers)
