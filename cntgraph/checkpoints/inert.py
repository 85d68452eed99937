"""What lies beside the weights is mostly data: its class is named here, never imported or called.

A training script saves its options, paths, dates and random states with the model.  Each such
object becomes a stand-in that does nothing; numbers of NumPy become Python's own, since they are
written out in the file.  A class that is not on this list is foreign, and its file is refused.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any

__all__ = ["MAPPINGS", "NUMPY", "StandIn", "harmless"]


def _words(text: str, module: str) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for name in text.split())


# Subclasses of dict: what they hold is looked through like any dictionary.
MAPPINGS = (
    _words("OrderedDict Counter defaultdict", "collections")
    | _words("AttributeDict", "lightning.fabric.utilities.data")
    | _words("AttributeDict", "lightning_fabric.utilities.data")
    | _words("AttributeDict", "lightning.pytorch.utilities.parsing")
    | _words("AttributeDict", "pytorch_lightning.utilities.parsing")
)
_NODES = " ".join(
    f"{kind}Node" for kind in "Any Boolean Bytes Enum Float Integer Path String Union".split()
)
_DATES = "date datetime time timedelta timezone"
_PATHS = "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath"
_PLAIN = "bool bytearray bytes complex dict float frozenset int list object range set slice str"
_NAMES = (
    _words(f"{_PLAIN} tuple", "builtins")
    | _words("Namespace", "argparse")
    | _words("SimpleNamespace", "types")
    | _words("ChainMap UserDict UserList UserString deque", "collections")
    | _words(_DATES, "datetime")
    | _words("Decimal", "decimal")
    | _words("Fraction", "fractions")
    | _words("UUID SafeUUID", "uuid")
    | _words("Any", "typing")
    | _words(_PATHS, "pathlib")
    | _words(_PATHS, "pathlib._local")
    | _words("DictConfig", "omegaconf.dictconfig")
    | _words("ListConfig", "omegaconf.listconfig")
    | _words("ContainerMetadata Metadata", "omegaconf.base")
    | _words(_NODES, "omegaconf.nodes")
    | _words("device", "torch")
)
# Keys under which Lightning 1 kept the state of a callback were the classes themselves.
_CALLBACKS = ("pytorch_lightning.callbacks.", "lightning.pytorch.callbacks.")
_NUMPY_ARRAYS = frozenset(
    {
        "numpy.ndarray",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
        "numpy.core.numeric._frombuffer",
        "numpy._core.numeric._frombuffer",
        *_words("MT19937", "numpy.random._mt19937"),
        *_words("PCG64 PCG64DXSM", "numpy.random._pcg64"),
        *_words("Philox", "numpy.random._philox"),
        *_words("SFC64", "numpy.random._sfc64"),
        *_words("SeedSequence __pyx_unpickle_SeedSequence", "numpy.random.bit_generator"),
        *_words("__bit_generator_ctor __generator_ctor __randomstate_ctor", "numpy.random._pickle"),
    }
)
_NUMPY_TYPES = (
    "bool bool_ bytes_ complex64 complex128 datetime64 float16 float32 float64 int8 int16 int32 "
    "int64 longlong str_ timedelta64 uint8 uint16 uint32 uint64 ulonglong"
)
_NUMBERS = {
    **{"b1": "?", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I"},
    **{"i8": "q", "u8": "Q", "f2": "e", "f4": "f", "f8": "d"},
}


def harmless(path: str) -> bool:
    """Whether objects of this name only hold data, so that a stand-in may take their place.

    >>> harmless("argparse.Namespace"), harmless("os.system")
    (True, False)
    """
    if path in _NAMES or path in _NUMPY_ARRAYS or path.startswith(_CALLBACKS):
        return True
    module, _, name = path.rpartition(".")
    return (module == "numpy" and name in _NUMPY_TYPES.split()) or (
        module == "numpy.dtypes" and name.endswith("DType")
    )


class StandIn:
    """Stands where the pickle names a class or a function; does nothing."""

    path = ""
    callable = True

    def __new__(cls, *_: object, **__: object) -> Any:
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


class _NumpyType(StandIn):
    """The dtype of a NumPy number: its code, and the order of its bytes."""

    path = "numpy.dtype"
    code = ""
    order = "<"

    def __new__(cls, code: object = "", *_: object) -> Any:
        made = object.__new__(cls)
        made.code = code if isinstance(code, str) else ""
        return made

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class _NumpyScalar(StandIn):
    """A number of NumPy as Python's own, where its bytes are those of a plain number."""

    path = "numpy.generic"

    def __new__(cls, kind: object = None, raw: object = b"", *_: object) -> Any:
        code = _NUMBERS.get(kind.code) if isinstance(kind, _NumpyType) else None
        if isinstance(kind, _NumpyType) and code and isinstance(raw, bytes):
            form = struct.Struct(kind.order + code)
            if form.size == len(raw):
                return form.unpack(raw)[0]
        return object.__new__(cls)


NUMPY: dict[str, type[StandIn]] = {
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _NumpyScalar,
    "numpy._core.multiarray.scalar": _NumpyScalar,
}
