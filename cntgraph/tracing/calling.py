"""A model as a function from tensors to tensors, and a call that leaves no trace.

The user's forward may take names, lists and dicts and return objects of any class; the exporter
and the proof both call it through here, so that both mean the same inputs and outputs.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from cntgraph.errors import ModelRefused

__all__ = ["Calling", "home_of", "inside", "undisturbed"]


class Calling(nn.Module):
    """``model(*args, **kwargs)`` as a function of the tensors among them; gives a flat tuple.

    Also children named `code`, `graph` or `meta` break the exporter at the top level only.
    """

    def __init__(self, model: nn.Module, values: tuple[Any, ...], places: _pytree.TreeSpec) -> None:
        super().__init__()
        self.training = False
        self.model = model
        self._values, self._places = values, places

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Every tensor of what the model returns, in its order."""
        given = iter(tensors)
        values = [next(given) if isinstance(v, Tensor) else v for v in self._values]
        args, kwargs = _pytree.tree_unflatten(values, self._places)
        result = self.model(*args, **kwargs)
        found = tuple(_tensors_in(result, set()))
        if not found:
            raise ModelRefused(
                f"{type(self.model).__name__}.forward returns no tensor",
                why=f"it returns a value of type {type(result).__name__}",
                fix="return the tensors that the model computes",
            )
        return found


def inside(path: str) -> str:
    """A path in the user's model for one that starts at `Calling`."""
    return path.removeprefix("model").removeprefix(".")


def _tensors_in(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that a returned value holds, in its order, whatever classes hold it."""
    if isinstance(value, Tensor):
        yield value
        return
    if value is None or isinstance(value, (str, bytes, int, float, type, nn.Module)):
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for part in _parts(value):
        yield from _tensors_in(part, seen)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, (list, tuple)):
        return list(value)
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if not _pytree.tree_is_leaf(value):
        return _pytree.tree_leaves(value)
    return list(vars(value).values()) if hasattr(value, "__dict__") else []


def home_of(model: nn.Module) -> torch.device:
    """The device of a model's first tensor."""
    first = next(iter((*model.parameters(), *model.buffers())), None)
    return first.device if first is not None else torch.device("cpu")


@contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """The plain state of PyTorch, whatever the caller's; every random state as it was found."""
    devices = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    numpy = sys.modules.get("numpy")
    drawn = random.getstate(), numpy.random.get_state() if numpy else None
    with ExitStack() as held:
        held.enter_context(torch.random.fork_rng(devices))
        held.enter_context(torch.inference_mode(mode=False))
        held.enter_context(torch.no_grad())
        for kind in {"cpu", device.type} - {"meta"}:
            held.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type not in ("cpu", device.type):
            held.enter_context(torch.device(device))
        held.enter_context(warnings.catch_warnings())
        try:
            yield
        finally:
            random.setstate(drawn[0])
            if numpy:
                numpy.random.set_state(drawn[1])
