"""A pickle is read with an inert stand-in for every class, so its plan is known and nothing ran.

The outline of a checkpoint tells which names it would import, how many bytes each storage claims
and which plain values (an epoch, a loss) lie beside the weights, before torch sees the file.
"""

from __future__ import annotations

import functools
import pickle
import warnings
from dataclasses import dataclass, field
from typing import IO, Any

__all__ = ["Outline", "StandIn", "draw"]

# All that the pickle of a state dict calls.  Shorter than torch's own list: the constructors of
# tensors and of bytearrays are left out, because with a number as argument they allocate it.
_CALLED = frozenset(
    {
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_sparse_tensor",
        "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._tensor._rebuild_from_type_v2",
        "torch.serialization._get_layout",
        "torch.Size",
        "torch.device",
        "collections.OrderedDict",
        "collections.Counter",
        "_codecs.encode",
        "builtins.set",
        "builtins.complex",
        "__builtin__.set",
        "__builtin__.complex",
    }
)
_MENTIONED = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})
_STORAGE_MODULES = frozenset({"torch", "torch.cuda", "torch.storage"})


@dataclass
class Outline:
    """What a pickle would build: its plain values, its storages in bytes, its foreign names."""

    root: object = None
    storages: dict[str, int] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    untyped: bool = False
    damage: str = ""


class StandIn:
    """Stands where the pickle names a class or a function; does nothing."""

    path = ""
    callable = True

    def __new__(cls, *_: object, **__: object) -> StandIn:
        """Drop the arguments; refuse where only the name is harmless, not the call."""
        if not cls.callable:
            raise pickle.UnpicklingError(f"it calls {cls.path}")
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None: ...
    def __setitem__(self, key: object, value: object) -> None: ...
    def append(self, item: object) -> None:
        """Drop it: a list-like class is read as nothing."""

    def extend(self, items: object) -> None:
        """Drop them."""

    def add(self, item: object) -> None:
        """Drop it."""


class _Mapping(dict[Any, Any]):
    """An OrderedDict or a Counter: a plain dict that ignores the attributes pickled with it."""

    def __setstate__(self, state: object) -> None: ...


# The unpickler written in Python keeps its memo in a dict; the one in C lets a few bytes of the
# file ask for an array of 2^33 pointers.
class _Reader(pickle._Unpickler):
    def __init__(self, file: IO[bytes], outline: Outline) -> None:
        super().__init__(file)
        self.outline = outline

    def find_class(self, module: str, name: str) -> Any:
        path = f"{module}.{name}"
        if path in ("collections.OrderedDict", "collections.Counter"):
            return _Mapping
        itemsize = _itemsize(module, name)
        if path not in _CALLED and path not in _MENTIONED and itemsize is None:
            if path not in self.outline.foreign:
                self.outline.foreign.append(path)
            return type(name, (StandIn,), {"path": path})
        facts = {"path": path, "callable": path in _CALLED, "itemsize": itemsize}
        return type(name, (StandIn,), facts)

    def persistent_load(self, pid: Any) -> object:
        match pid:
            case ("storage" | b"storage", kind, str() | int() as key, _, int() as count, *_):
                itemsize = getattr(kind, "itemsize", None)
                if itemsize is None or count < 0 or isinstance(count, bool):
                    raise pickle.UnpicklingError("a storage of no known type or size")
                self.outline.untyped |= kind.path.endswith(".UntypedStorage")
                claimed = self.outline.storages.get(str(key), 0)
                self.outline.storages[str(key)] = max(claimed, count * itemsize)
                return StandIn()
            case _:
                raise pickle.UnpicklingError("it refers to something that is not a storage")


def draw(file: IO[bytes]) -> Outline:
    """Read one pickle from where `file` stands, executing nothing.

    >>> import io, os, pickle
    >>> draw(io.BytesIO(pickle.dumps({"epoch": 3}, protocol=2))).root
    {'epoch': 3}

    What cannot be read is told in `damage`; what is not part of a state dict in `foreign`.
    """
    outline = Outline()
    try:
        outline.root = _Reader(file, outline).load()
    # Bytes that are not a pickle drive the unpickler to errors of any class.
    except Exception as error:
        outline.damage = f"{type(error).__name__}: {error}".rstrip(": ")
    return outline


@functools.lru_cache(maxsize=256)
def _itemsize(module: str, name: str) -> int | None:
    """Bytes of an element, where the name is a dtype, a quantisation scheme or a storage."""
    import torch

    if module not in _STORAGE_MODULES:
        return None
    if name == "UntypedStorage":
        return 1
    known = getattr(torch, name, None)
    if isinstance(known, torch.qscheme):
        return 0
    if isinstance(known, type) and name.endswith("Storage"):
        with warnings.catch_warnings():  # torch deprecates the classes its own files still name
            warnings.simplefilter("ignore")
            known = getattr(known, "dtype", None)
    return known.itemsize if isinstance(known, torch.dtype) else None
