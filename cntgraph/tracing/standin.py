"""A stand-in has a model's structure, its code and its very tensors, and belongs to nobody else.

Tracing runs the user's forward. What that code does to itself (counting calls, keeping
activations) and what the exporter needs of it (evaluation mode, names that can be written as
code) happens to the stand-in; the user's model is only read.
"""

from __future__ import annotations

import functools
import keyword
import unicodedata
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from cntgraph.tracing.wrappers import unwrapped

__all__ = ["StandIn", "sharing", "stand_in", "tensors_of"]


@dataclass(frozen=True, eq=False)
class StandIn:
    """The module, and the user's name for each of its modules and tensors."""

    module: nn.Module
    paths: dict[str, str]  # of modules
    names: dict[str, str]  # of parameters and buffers, tied ones under each of their names


def stand_in(model: nn.Module, tensor: Callable[[Tensor], Tensor]) -> StandIn:
    """Copy the structure of a model in evaluation mode; ``tensor`` gives what holds its numbers."""
    module: nn.Module = _Copying(tensor).copied(model)
    for part in module.modules():
        part.training = False  # not eval(): some models merge their weights there
    return StandIn(
        module,
        {n: own for (n, _), (own, _) in zip(_modules(module), _modules(model), strict=True)},
        {n: own for (n, _), (own, _) in zip(tensors_of(module), tensors_of(model), strict=True)},
    )


def sharing(tensor: Tensor) -> Tensor:
    """The tensor itself; a copy where it was made in inference mode, which nothing may record."""
    if not tensor.is_inference():
        return tensor
    plain = tensor.clone()
    return nn.Parameter(plain, requires_grad=False) if isinstance(tensor, nn.Parameter) else plain


def tensors_of(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Every named tensor of a model, tied ones under each of their names."""
    parameters = model.named_parameters(remove_duplicate=False)
    return [*parameters, *model.named_buffers(remove_duplicate=False)]


def _modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return list(model.named_modules(remove_duplicate=False))


class _Passing(nn.Module):
    """In place of a wrapper inside the model, which would compile or scatter what it is given."""

    def __init__(self, name: str, inner: nn.Module) -> None:
        super().__init__()
        self._inner = name
        self._modules[name] = inner

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._modules[self._inner](*args, **kwargs)  # type: ignore[misc]

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules[self.__dict__["_inner"]], name)


class _Aliased(dict[str, Any]):
    """Children under names that can be written as code; the user's names find them too."""

    def __init__(self, kind: str, given: dict[str, Any]) -> None:
        taken = {name for name in given if _writable(name)}
        self.safe: dict[str, str] = {}
        for k, name in enumerate(given):
            if not _writable(name):
                safe = f"renamed{kind}_{k}"
                while safe in taken:
                    safe += "_"
                taken.add(safe)
                self.safe[name] = safe
        super().__init__({self.safe.get(name, name): value for name, value in given.items()})

    def __contains__(self, name: object) -> bool:
        return super().__contains__(self.safe.get(name, name))  # type: ignore[call-overload]

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(self.safe.get(name, name))

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(self.safe.get(name, name), value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(self.safe.get(name, name))

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(self.safe.get(name, name), default)


def _writable(name: str) -> bool:
    """True for a name that the exporter's generated code can hold: ``getattr(self, "name")``."""
    plain = name.isascii() or unicodedata.normalize("NFKC", name) == name
    quotable = not set(name) & {'"', "\\"} and not any(
        unicodedata.category(c)[0] == "C" for c in name
    )
    return plain and quotable and not keyword.iskeyword(name)


class _Copying:
    """One copy of everything that leads to a module or a tensor; the rest is shared."""

    def __init__(self, tensor: Callable[[Tensor], Tensor]) -> None:
        self.tensor = tensor
        self.done: dict[int, tuple[Any, Any]] = {}  # the original is held, so that its id is

    def copied(self, value: Any) -> Any:
        """The copy of a value, made once."""
        if id(value) in self.done:
            return self.done[id(value)][1]
        if isinstance(value, Tensor):
            return self._keep(value, self.tensor(value))
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, (list, tuple, set, dict, deque)):
            return self._container(value)
        return self._callable(value)

    def _keep(self, value: Any, made: Any) -> Any:
        self.done[id(value)] = (value, made)
        return made

    def _module(self, module: nn.Module) -> nn.Module:
        wrapped = unwrapped(module)
        if wrapped is not module:
            (name, inner), *_ = module.named_children()
            return self._keep(module, _Passing(name, self.copied(inner)))  # type: ignore[no-any-return]
        made: nn.Module = self._keep(module, object.__new__(type(module)))
        for name, value in vars(module).items():
            made.__dict__[name] = self._attribute(name, value)
        for kind in type(module).__mro__:
            for name in _slots(kind):
                if hasattr(module, name):
                    object.__setattr__(made, name, self.copied(getattr(module, name)))
        return made

    def _attribute(self, name: str, value: Any) -> Any:
        if name == "_compiled_call_impl":
            return None  # of model.compile()
        if name in ("_backward_hooks", "_backward_pre_hooks"):
            return OrderedDict()
        if name in ("_modules", "_parameters", "_buffers"):
            held = {child: self.copied(part) for child, part in value.items()}
            return held if all(map(_writable, held)) else _Aliased(name, held)
        return self.copied(value)

    def _container(self, value: Any) -> Any:
        """Lists and dicts are copied, since code may add to them; those of other kinds shared."""
        kind = type(value)
        if kind is tuple:
            items = tuple(map(self.copied, value))
            same = all(a is b for a, b in zip(items, value, strict=True))
            return self._keep(value, value if same else items)
        if kind in (dict, OrderedDict, defaultdict):
            made = self._keep(value, value.copy())
            for key, item in value.items():
                made[key] = self.copied(item)
            return made
        if kind is list:
            listed: list[Any] = self._keep(value, [])
            listed.extend(map(self.copied, value))
            return listed
        if kind in (set, deque):
            return self._keep(value, value.copy())
        return value

    def _callable(self, value: Any) -> Any:
        """Methods and closures that hold a module, over the copy of that module."""
        if isinstance(value, MethodType):
            owner = self.copied(value.__self__)
            same = owner is value.__self__
            return self._keep(value, value if same else MethodType(value.__func__, owner))
        if type(value) is functools.partial:
            args, named = self.copied(value.args), self.copied(value.keywords)
            return self._keep(value, functools.partial(self.copied(value.func), *args, **named))
        if isinstance(value, FunctionType):
            return self._closure(value) if _holds(value) else value
        return self._object(value) if _keeps(value) else value

    def _object(self, value: Any) -> Any:
        """A plain object that keeps modules or tensors of the model."""
        held = self._keep(value, copy(value))
        for name, part in vars(value).items():
            vars(held)[name] = self.copied(part)
        return held

    def _closure(self, function: FunctionType) -> FunctionType:
        cells = tuple(CellType() for _ in function.__closure__ or ())
        made = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            cells,
        )
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        self._keep(function, made)
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            if _filled(old):
                cell.cell_contents = self.copied(old.cell_contents)
        return made


def _holds(function: FunctionType) -> bool:
    """True for a closure over something that is copied; PyTorch's own are left alone."""
    if str(function.__module__).startswith("torch."):
        return False
    kinds = (nn.Module, Tensor, MethodType, FunctionType, list, dict, set, functools.partial)
    return any(isinstance(c.cell_contents, kinds) for c in function.__closure__ or () if _filled(c))


def _keeps(value: Any) -> bool:
    """True for an object of the user's that has a module or a tensor as its attribute."""
    if isinstance(value, (type, ModuleType)) or not hasattr(value, "__dict__"):
        return False
    if type(value).__module__.startswith("torch."):
        return False
    return any(isinstance(part, (nn.Module, Tensor)) for part in vars(value).values())


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _slots(kind: type) -> tuple[str, ...]:
    names = vars(kind).get("__slots__", ())
    return tuple(n for n in ((names,) if isinstance(names, str) else names) if n[:2] != "__")
