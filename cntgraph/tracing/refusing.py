"""Why a model cannot be traced: the user's own line, what is wrong there, and what mends it.

The exporter's own texts are long and about the exporter. What failed is told in a few lines: if
the model itself fails on the input, by its own error; else by the kind of fault.
"""

from __future__ import annotations

import linecache
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.errors import CntError, ModelRefused

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cntgraph.tracing.examples import Example
    from cntgraph.tracing.standin import StandIn

__all__ = ["CHOICE", "NUMBER", "described", "refusal", "told_at", "traceable", "user_line"]

_SHAPE = "give the input shape the model takes, with its batch of 1: (1, 3, 32, 32)"
_TOKENS = "give integer tokens: torch.zeros(1, 16, dtype=torch.int64)"
_BRANCH = "compute both ways and select: torch.where(condition, a, b)"
NUMBER = "keep it a tensor: leave out .item(), int(), float() and .tolist()"
_LEAVES = "a value leaves the network as a Python number"
CHOICE = "keep every shape fixed: multiply by the mask, or torch.where(mask, x, 0)"
_NUMPY = "use PyTorch's own function in its place: torch.tanh for np.tanh"

# What the exporter or forward says, what that means, and what mends it; the first that fits.
_FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        r"specialized integer|u\d+ \(unhinted|unbacked.*size|nonzero|masked_select",
        "how many values there are depends on the values",
        CHOICE,
    ),
    (
        r"data-dependent|DataDependent|GuardOn|Dynamic control flow|bool\(\) on|is_nonzero",
        "the way through forward depends on the values of a tensor",
        _BRANCH,
    ),
    (
        r"\.numpy\(\)|__array__|numpy\.ndarray|numpy\(\)|Cannot convert FakeTensor to",
        "NumPy computes with the values, which cannot be followed",
        _NUMPY,
    ),
    (
        r"_local_scalar_dense|data_ptr|\.item\(\)|tolist",
        _LEAVES,
        NUMBER,
    ),
    (
        r"constant's list|autograd|does not require grad",
        "forward computes gradients, or keeps tensors outside of the model",
        "let forward return all that it computes, and differentiate outside of it",
    ),
    (
        r"fake impl|meta kernel|'Meta' backend|NotImplementedError: .*::",
        "an operator does not say the shape of its result",
        "register_fake it (torch.library), or use PyTorch's own operators",
    ),
)


def refusal(
    model: StandIn, example: Example, failure: Exception, alone: Callable[[], object]
) -> ModelRefused:
    """The error for what tracing raised; ``alone`` calls the model itself on the example."""
    if isinstance(failure, ModelRefused):
        return failure
    try:
        alone()
    except Exception as own:  # whatever the user's code raises is what is wrong with it
        if isinstance(own, CntError):
            return ModelRefused(own.what, why=own.why, fix=own.fix)
        name = type(model.module).__name__
        return ModelRefused(
            f"{name} cannot be traced on {described(example.tensors)}",
            why=f"forward fails by itself: {_said(own)}{_place(model, own)}",
            fix=_fix(own, example.tensors),
        )
    text = f"{type(failure).__name__}: {failure}"
    where = _place(model, failure)
    why, fix = _fault(text, where) or (_said(failure), "leave out of forward what is not PyTorch's")
    name = type(model.module).__name__
    return ModelRefused(f"{name} cannot be traced", why=f"{why}{where}", fix=fix)


def _fault(text: str, where: str) -> tuple[str, str] | None:
    """What an error of the exporter means, at the line it points to, and what mends it."""
    constant = re.search(r"Constant (?:model\.)?(\S+) is mutated", text)
    if constant:
        name = constant[1]
        why = f"forward changes self.{name} in place, which is neither parameter nor buffer"
        return why, f"register it: self.register_buffer({name.rpartition('.')[2]!r}, tensor)"
    for pattern, why, fix in _FAULTS:
        if re.search(pattern, text):
            if fix is _BRANCH and re.search(r": assert\b", where):
                return why, "leave the check of values out of forward"
            number = re.search(r"\b(?:int|float|round|range)\(|\.item\(|\.tolist\(", where)
            if fix is _BRANCH and number:
                return _LEAVES, NUMBER
            return why, fix
    return None


def described(tensors: tuple[Tensor, ...]) -> str:
    """``an input of shape (1, 3)``, with the type of what is not a float."""
    shapes = [f"{tuple(x.shape)}" for x in tensors]
    texts = [
        shape if x.is_floating_point() else f"{shape} of {str(x.dtype).removeprefix('torch.')}"
        for shape, x in zip(shapes, tensors, strict=True)
    ]
    return (
        f"an input of shape {texts[0]}"
        if len(texts) == 1
        else f"inputs of shape {', '.join(texts)}"
    )


def _said(error: BaseException) -> str:
    """The error's name and first line, cut where it grows long."""
    lines = (line.strip() for line in str(error).splitlines())
    first = next((line for line in lines if line), "")
    text = f"{type(error).__name__}: {first}" if first else type(error).__name__
    return text if len(text) <= 240 else text[:237] + "..."


def _fix(error: Exception, tensors: tuple[Tensor, ...]) -> str:
    """What mends an input that the model itself does not take."""
    text = str(error).lower()
    floats = any(x.is_floating_point() for x in tensors)
    if floats and re.search(
        r"scalar types: long|argument #1 'indices'|indices must be|as indices", text
    ):
        return _TOKENS
    if re.search(r"index out of range", text):
        return "give tokens that the embedding has: from 0 to num_embeddings - 1"
    if re.search(r"dtype|data type|scalar type|not implemented for", text):
        return "give the input in the type of the weights: x.float() for integers"
    if re.search(r"shape|size|dimension|dim\b|expected|unpack|channels|divisible|broadcast", text):
        return _SHAPE
    return "see that model(*example_input) works; its own error says what is wrong"


# -- places ---------------------------------------------------------------------------------------


def user_line(stack: str) -> str:
    """The innermost ``file:line`` of a stack that is the user's own, else of no part of PyTorch."""
    frames = [(f, int(n)) for f, n in re.findall(r'File "([^"]+)", line (\d+)', stack)]
    found = _users(frames)
    return f"{found[0]}:{found[1]}" if found else ""


def told_at(stack: str) -> str:
    """A line of its own with `user_line` and the source text there; empty if there is none."""
    line = user_line(stack)
    if not line:
        return ""
    file, _, number = line.rpartition(":")
    source = linecache.getline(file, int(number)).strip()
    return f"\n       {line}: {source}" if source else f"\n       {line}"


def _users(frames: list[tuple[str, int]]) -> tuple[str, int] | None:
    """The innermost frame outside of every library, else outside of PyTorch and of this package."""
    own = [frame for frame in frames if not frame[0].startswith(_foreign())]
    installed = tuple(f"{sysconfig.get_paths()[key]}/" for key in ("purelib", "platlib"))
    python = f"{sysconfig.get_paths()['stdlib']}/"
    own = [(f, n) for f, n in own if f.startswith(installed) or not f.startswith(python)]
    written = [frame for frame in own if not frame[0].startswith(installed)]
    return (written or own)[-1] if own else None


def _foreign() -> tuple[str, ...]:
    import torch

    here = Path(__file__).parent
    return (f"{Path(torch.__file__).parent}/", f"{here}/", "<frozen", "<string", "<eval", "<attrs")


def _place(model: StandIn, error: BaseException) -> str:
    """Where the error came from: the user's line, else the module it was raised in."""
    for cause in _chain(error):
        where = told_at("".join(traceback.format_tb(cause.__traceback__)) + str(cause))
        if where:
            return where
    paths = {id(module): path for path, module in model.module.named_modules()}
    for cause in _chain(error):
        for frame, _ in reversed(list(traceback.walk_tb(cause.__traceback__))):
            module: Any = frame.f_locals.get("self")
            if paths.get(id(module)):
                shown = repr(module).partition("\n")[0]
                return f"\n       in module {model.paths[paths[id(module)]]}: {shown}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those it came from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


# -- before anything runs -------------------------------------------------------------------------


def traceable(model: Any) -> None:
    """Refuse what is no module, holds TorchScript, or has tensors without numbers in them."""
    import torch
    from torch.nn.parameter import is_lazy

    _is_module(model)
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ModelRefused(
                f"module {path} is TorchScript"
                if path
                else "a TorchScript module cannot be traced",
                why="its code is no longer Python",
                fix="give the nn.Module that it was made from",
            )
    parameters = (("parameter", *named) for named in model.named_parameters())
    for what, name, tensor in (*parameters, *(("buffer", *b) for b in model.named_buffers())):
        if is_lazy(tensor):
            raise ModelRefused(
                f"{what} {name} is not initialised yet",
                why=f"{type(model).__name__} has lazy modules",
                fix="run one batch through the model before tracing it",
            )
        if tensor.is_meta:
            raise ModelRefused(
                f"{what} {name} has a shape and no data",
                why="it is on the meta device",
                fix="load the weights first: model.load_state_dict(state_dict, assign=True)",
            )


def _is_module(model: nn.Module | type) -> None:
    from torch import nn

    if isinstance(model, type):
        raise ModelRefused(
            f"{model.__name__} is a class, not a model",
            fix=f"give an object of it: {model.__name__}(...)",
        )
    if not isinstance(model, nn.Module):
        raise ModelRefused(
            f"{type(model).__name__} is not a torch.nn.Module",
            fix="give the model itself: the object you call on a batch",
        )
