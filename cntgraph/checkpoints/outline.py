"""A pickle is read with an inert stand-in for every class, so its plan is known and nothing ran.

The outline of a checkpoint tells which names it would import, how many bytes each storage claims,
where its tensors lie on them, and which plain values (an epoch, a loss) lie beside the weights.
"""

from __future__ import annotations

import _compat_pickle
import functools
import pickle
import warnings
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from cntgraph.checkpoints.inert import MAPPINGS, NUMPY, StandIn, harmless
from cntgraph.checkpoints.tensors import REBUILT, Described, Storage

if TYPE_CHECKING:
    import torch

__all__ = ["Outline", "draw"]

_MENTIONED = frozenset({"torch.Tensor", "torch.nn.parameter.Parameter"})
_STORAGE_MODULES = frozenset({"torch", "torch.cuda", "torch.storage"})
_LAYOUTS = ("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "strided")


@dataclass
class Outline:
    """What a pickle would build: its plain values, its storages in bytes, its foreign names.

    Tensors in `root` are `Described`; `widths` are the bytes of one element of each storage.
    """

    root: object = None
    storages: dict[str, int] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    untyped: bool = False
    damage: str = ""


class _Mapping(dict[Any, Any]):
    """A subclass of dict: a plain one, without its default or the attributes pickled with it."""

    def __init__(self, *given: Any, **_: object) -> None:
        super().__init__(given[0] if given and isinstance(given[0], dict | list) else ())

    def __setstate__(self, state: object) -> None: ...


class _Tensor(StandIn):
    """A function of torch that rebuilds a tensor: its call is written down."""

    def __new__(cls, *given: Any, **_: object) -> Any:
        return Described(cls.path.rpartition(".")[2], given)


class _Shape(StandIn):
    def __new__(cls, given: Any = (), *_: object) -> Any:
        return tuple(given)


class _Layout(StandIn):
    def __new__(cls, name: Any = "", *_: object) -> Any:
        import torch

        word = str(name).removeprefix("torch.")
        if word not in _LAYOUTS:
            raise pickle.UnpicklingError(f"it names the layout {name!r}")
        return getattr(torch, word)


class _Bytes(StandIn):
    """How protocol 2 spells bytes: as the text whose Latin-1 they are."""

    def __new__(cls, text: Any = "", codec: Any = "latin1", *_: object) -> Any:
        if not isinstance(text, str) or codec != "latin1":
            raise pickle.UnpicklingError(f"it encodes text by {codec!r}")
        return text.encode("latin1")


_SPELLED: dict[str, type[Any]] = {
    "torch.Size": _Shape,
    "torch.serialization._get_layout": _Layout,
    "_codecs.encode": _Bytes,
    **dict.fromkeys(MAPPINGS, _Mapping),
    **NUMPY,
}
_REBUILDING = {
    **{f"torch._utils.{name}": name for name in REBUILT if name != "_rebuild_from_type_v2"},
    "torch._tensor._rebuild_from_type_v2": "_rebuild_from_type_v2",
}


# The unpickler written in Python keeps its memo in a dict; the one in C lets a few bytes of the
# file ask for an array of 2^33 pointers.
class _Reader(pickle._Unpickler):
    def __init__(self, file: IO[bytes], outline: Outline) -> None:
        super().__init__(file, encoding="utf-8")
        self.outline = outline

    def find_class(self, module: str, name: str) -> Any:
        path = _today(module, name)
        if path in _SPELLED:
            return _SPELLED[path]
        if path in _REBUILDING:
            return type(name, (_Tensor,), {"path": path})
        kind, dtype = _of_torch(*path.rpartition(".")[::2])
        if kind == "value":
            return dtype
        known = kind == "storage" or path in _MENTIONED
        if not known and not harmless(path):
            path = f"{module}.{name}"
            if path not in self.outline.foreign:
                self.outline.foreign.append(path)
        return type(name, (StandIn,), {"path": path, "callable": not known, "dtype": dtype})

    def persistent_load(self, pid: Any) -> object:
        match pid:
            case ("storage" | b"storage", kind, str() | int() as key, _, int() as count, *more):
                dtype = getattr(kind, "dtype", None)
                if dtype is None or count < 0 or isinstance(count, bool):
                    raise pickle.UnpicklingError("a storage of no known type or size")
                outline, key = self.outline, str(key)
                outline.untyped |= kind.path.endswith(".UntypedStorage")
                claimed = outline.storages.get(key, 0)
                outline.storages[key] = max(claimed, count * dtype.itemsize)
                outline.widths.setdefault(key, dtype.itemsize)
                if any(part is not None for part in more):
                    raise pickle.UnpicklingError("a view of a storage, as PyTorch 0.3 wrote them")
                return Storage(key, dtype, count)
            case _:
                raise pickle.UnpicklingError("it refers to something that is not a storage")


def draw(file: IO[bytes]) -> Outline:
    """Read one pickle from where `file` stands, executing nothing.

    >>> import io, os, pickle
    >>> draw(io.BytesIO(pickle.dumps({"epoch": 3}, protocol=2))).root
    {'epoch': 3}

    What cannot be read is told in `damage`; what neither is part of a state dict nor only holds
    data in `foreign`.
    """
    outline = Outline()
    try:
        outline.root = _Reader(file, outline).load()
    # Bytes that are not a pickle drive the unpickler to errors of any class.
    except Exception as error:
        outline.damage = f"{type(error).__name__}: {error}".rstrip(": ")
    return outline


def _today(module: str, name: str) -> str:
    """The name as Python 3 has it: torch.save writes the names of Python 2."""
    if (module, name) in _compat_pickle.NAME_MAPPING:
        module, name = _compat_pickle.NAME_MAPPING[module, name]
    else:
        module = _compat_pickle.IMPORT_MAPPING.get(module, module)
    return f"{module}.{name}"


@functools.lru_cache(maxsize=256)
def _of_torch(module: str, name: str) -> tuple[str, torch.dtype | torch.qscheme | None]:
    """A value of torch (a dtype, a quantisation scheme), or a storage and its dtype, or neither."""
    import torch

    if module not in _STORAGE_MODULES:
        return "", None
    if name == "UntypedStorage":
        return "storage", torch.uint8
    known = getattr(torch, name, None)
    if isinstance(known, torch.dtype | torch.qscheme):
        return "value", known
    if isinstance(known, type) and name.endswith("Storage"):
        with warnings.catch_warnings():  # torch deprecates the classes its own files still name
            warnings.simplefilter("ignore")
            dtype = getattr(known, "dtype", None)
        return ("storage", dtype) if isinstance(dtype, torch.dtype) else ("", None)
    return "", None
