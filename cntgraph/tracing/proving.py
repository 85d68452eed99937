"""The model's own answers to random inputs, in float64: what a network is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from cntgraph.errors import ModelRefused
from cntgraph.tracing.examples import Example, random_like, shuffled, working
from cntgraph.tracing.refusing import refusal
from cntgraph.tracing.standin import StandIn, sharing, stand_in, tensors_of

__all__ = ["Proof"]


class Proof:
    """Random inputs with what the model makes of them; every call starts from the model's state.

    With ``shaken`` its weights and running statistics are moved away from their values at random,
    so that no zero and no one among them hides where a value comes from.
    """

    def __init__(self, model: nn.Module, example: Example, *, shaken: int | None = None) -> None:
        self._model, self._example, self._shaken = model, example, shaken
        self._wide: dict[int, tuple[Tensor, Tensor]] = {}  # the first is held, so that its id is

    def weights(self, traced: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a traced network in float64, sharing the parameters of the model's."""
        own = dict(tensors_of(self._model))
        return {n: self._widened(own.get(n, t)).detach() for n, t in traced.items()}

    def sample(self, seed: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Inputs and outputs: random inputs, or the example's values where forward fails on them.

        A position or a length is an integer that cannot be drawn like a token.
        """
        given = self._example.tensors
        for inputs in (random_like(given, self._model, seed), shuffled(given, seed)):
            try:
                return inputs, self._called(self._widened, inputs)
            except Exception:  # the user's code may raise anything
                continue
        inputs = tuple(_in_float64(x) for x in given)
        try:
            return inputs, self._called(self._widened, inputs)
        except Exception as failure:
            raise self._refused(failure) from failure

    def _called(
        self, tensor: Callable[[Tensor], Tensor], inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        calling = self._example.calling(stand_in(self._model, tensor))
        with _Wide():  # type: ignore[no-untyped-call]
            found: tuple[Tensor, ...] = calling(*(x.clone() for x in inputs))
        return found

    def _widened(self, tensor: Tensor) -> Tensor:
        """The tensor in float64: made once of a parameter, anew of what forward may write to."""
        if not isinstance(tensor, nn.Parameter):
            return self._statistics.get(id(tensor), _in_float64)(tensor)
        if id(tensor) not in self._wide:
            value = _in_float64(sharing(tensor))
            if self._shaken is not None and id(tensor) in self._named:
                value = _shaken(value, self._shaken + len(self._wide))
            wide = nn.Parameter(value, requires_grad=False)
            self._wide[id(tensor)] = (tensor, wide)
        return self._wide[id(tensor)][1]

    @cached_property
    def _named(self) -> set[int]:
        """The tensors that have a name; one in a list of the user's is a constant to a network."""
        return {id(tensor) for _, tensor in tensors_of(self._model)}

    @cached_property
    def _statistics(self) -> dict[int, Callable[[Tensor], Tensor]]:
        """What becomes of the running statistics where weights are shaken, by the tensor's id."""
        made: dict[int, Callable[[Tensor], Tensor]] = {}
        for place, (name, tensor) in enumerate(tensors_of(self._model)):
            word = name.rpartition(".")[2]
            if self._shaken is not None and word in ("running_mean", "running_var"):
                made[id(tensor)] = partial(_statistic, word, self._shaken + place)
        return made

    def _refused(self, failure: Exception) -> ModelRefused:
        standing: StandIn = stand_in(self._model, working)
        told = refusal(
            standing, self._example, failure, lambda: self._called(working, self._example.tensors)
        )
        if "fails by itself" in told.why:
            return told
        return ModelRefused(
            f"{type(self._model).__name__} cannot be compared in float64",
            why=told.why,
            fix="let forward follow the type of its input: torch.zeros(n, dtype=x.dtype)",
        )


class _Wide(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """What forward casts to floating point or makes of nothing (zeros to start from) is wide."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        wanted = named.get("dtype")
        if func is torch.ops.aten._to_copy.default and wanted is not None:
            named["dtype"] = torch.float64 if wanted.is_floating_point else wanted
        found = func(*args, **named)
        made = isinstance(found, Tensor) and not any(map(_is_tensor, _pytree.tree_leaves(args)))
        return found.to(torch.float64) if made and found.is_floating_point() else found


def _shaken(value: Tensor, seed: int) -> Tensor:
    """A tensor moved by noise of a tenth of its size, and by no less than a hundredth of one."""
    if not value.is_floating_point() or not value.numel():
        return value
    size = value.abs().mean().nan_to_num(posinf=0.0).clamp(min=0.1)
    return value + 0.1 * size * _noise(value, seed)


def _statistic(word: str, seed: int, tensor: Tensor) -> Tensor:
    """A mean moved like a weight; a variance scaled, so that it stays positive."""
    value = _in_float64(tensor)
    return _shaken(value, seed) if word == "running_mean" else value * _noise(value, seed).exp()


def _noise(like: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.device)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _in_float64(tensor: Tensor) -> Tensor:
    """A copy; what is neither float nor complex keeps its type."""
    kept = tensor.detach()
    if kept.is_floating_point():
        return kept.to(torch.float64, copy=True)
    return kept.to(torch.complex128, copy=True) if kept.is_complex() else kept.clone()
