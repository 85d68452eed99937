"""The user's own model by its name on the command line, and the inputs that it is shown.

``package.module:callable`` or ``path/file.py:callable``; the callable gives the model, or is it.
What fails in the user's code is told with the user's line.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from cntgraph.errors import InputRefused, ModelRefused, did_you_mean

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Shape", "example", "load_model", "shapes"]

_TYPES = ("float", "int", "bool")
_FORM = "write it as package.module:callable or path/file.py:callable"


def load_model(name: str) -> nn.Module:
    """The model that ``name`` leads to.

    >>> load_model("nets.py:lenet")  # doctest: +SKIP
    LeNet(...)

    Raises `InputRefused` for a file, module or attribute that is not there or fails, and
    `ModelRefused` where what comes of it is not a `torch.nn.Module`.
    """
    from torch import nn

    place, colon, attribute = name.rpartition(":")
    if not (colon and place and attribute):
        raise InputRefused(f"MODEL {name!r} names no callable", fix=_FORM)
    with aside():
        module = _from_file(place) if place.endswith(".py") else _from_package(place)
        found = _attribute(module, attribute, place)
        if callable(found) and not isinstance(found, nn.Module):
            found = _told(found, f"{name} fails")
    if not isinstance(found, nn.Module):
        raise ModelRefused(
            f"{name} gives a value of type {type(found).__name__}, not a torch.nn.Module",
            fix="name a function without arguments that returns the model",
        )
    return found


class Shape(NamedTuple):
    """The axes of one input without its batch, and the type of its numbers."""

    axes: tuple[int, ...]
    type: str = "float"


def shapes(text: str) -> tuple[Shape, ...]:
    """``1,28,28;16:int`` as shapes of inputs without their batch; `ValueError` for anything else.

    >>> shapes("1,28,28; 16:int")
    (Shape(axes=(1, 28, 28), type='float'), Shape(axes=(16,), type='int'))
    """
    return tuple(map(_shape, text.split(";")))


def _shape(text: str) -> Shape:
    axes, colon, kind = text.partition(":")
    shape = Shape(tuple(map(int, axes.split(","))), kind.strip() if colon else "float")
    if min(shape.axes) < 1:
        raise ValueError(f"{text.strip()!r} has an axis without length")
    if shape.type not in _TYPES:
        raise ValueError(f"{shape.type!r} is no type: {did_you_mean(shape.type, _TYPES)}")
    return shape


def example(found: tuple[Shape, ...]) -> tuple[torch.Tensor, ...]:
    """Inputs of these shapes with a batch of one in front: zeros; masks let everything through."""
    import torch

    types = {"float": torch.float32, "int": torch.int64, "bool": torch.bool}
    return tuple(
        torch.full((1, *shape.axes), shape.type == "bool", dtype=types[shape.type])
        for shape in found
    )


@contextmanager
def aside() -> Iterator[None]:
    """Whatever the user's code prints goes to stderr: stdout holds answers alone.

    A refused shape is told as the command takes it.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except ModelRefused as refusal:
        if "batch of 1" in refusal.fix:
            refusal.fix = "give --input the shape that the model takes, without its batch"
        elif "integer tokens" in refusal.fix:
            refusal.fix = "say that they are integers: --input 16:int"
        elif "x.float()" in refusal.fix:
            refusal.fix = "give --input without a type: floats are what the model takes"
        raise


def _from_file(place: str) -> ModuleType:
    path = Path(place).expanduser().resolve()
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near) if near else f"no Python file is in {path.parent}"
        raise InputRefused(f"no file {place}", why=hint, fix=_FORM)
    _importable(Path.cwd(), path.parent)
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_the_model"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputRefused(f"{place} is not a Python file", fix=_FORM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    loader = spec.loader
    _told(lambda: loader.exec_module(module), f"{place} cannot be imported")
    return module


def _from_package(place: str) -> ModuleType:
    _importable(Path.cwd())
    try:
        present = importlib.util.find_spec(place) is not None
    except (ModuleNotFoundError, ValueError):
        present = False
    except Exception:  # a package's own __init__ failed: told below with its line
        present = True
    if not present:
        near = Path(*place.split(".")).with_suffix(".py")
        raise InputRefused(
            f"no module {place!r}",
            why=f"neither in {Path.cwd()} nor among the installed packages",
            fix=f"{near}:... names a file" if near.is_file() else _FORM,
        )
    module: ModuleType = _told(
        lambda: importlib.import_module(place), f"{place} cannot be imported"
    )
    return module


def _importable(*folders: Path) -> None:
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


def _attribute(module: ModuleType, attribute: str, place: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputRefused(
                f"{place} has no {attribute!r}",
                why=did_you_mean(part, _models(found)) if _models(found) else "it defines nothing",
                fix=_FORM,
            )
        found = getattr(found, part)
    return found


def _models(module: Any) -> list[str]:
    """What of a module could be meant: its own functions and classes, and models."""
    names = [name for name in vars(module) if not name.startswith("_")]
    own = [n for n in names if _is_own(getattr(module, n), getattr(module, "__name__", ""))]
    return own or names


def _is_own(value: Any, module: str) -> bool:
    if inspect.isfunction(value) or inspect.isclass(value):
        return value.__module__ == module
    return hasattr(value, "named_parameters")


def _told(call: Callable[[], Any], what: str) -> Any:
    """The call's result; what goes wrong in it is told with the user's own line."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            raise  # a signal that stops the command, not the user's code
        where = _users_line(error)
        raise InputRefused(
            what,
            why=f"{type(error).__name__}: {error}" + (f"\n       {where}" if where else ""),
            fix="name a callable that takes no arguments and returns the model",
        ) from error


def _users_line(error: BaseException) -> str:
    """The last line of the user's own that took part, as ``file:line: text``."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: {(error.text or '').strip()}"
    libraries = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "purelib", "platlib"))
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.endswith(".py")
        and not frame.filename.startswith((*libraries, str(Path(__file__).parent)))
    ]
    return f"{own[-1].filename}:{own[-1].lineno}: {own[-1].line}" if own else ""
