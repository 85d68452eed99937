"""An example input: what a model's forward is called with, and which tensors among it are inputs.

Tensors and arrays are inputs, named as the arguments of forward; whatever else is given (None,
numbers) stays as it is in every call.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.tracing.calling import Calling, home_of
from cntgraph.tracing.standin import StandIn, sharing, stand_in

__all__ = ["Example", "example_of", "random_like"]

_FIX = "give a tensor, a tuple of tensors, or a shape with its batch of 1: (1, 3, 32, 32)"


@dataclass(frozen=True, eq=False)
class Example:
    """The leaves of ``(args, kwargs)``, where they belong, and the names of the tensors."""

    values: tuple[Any, ...]
    places: _pytree.TreeSpec
    names: tuple[str, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The inputs, in the order of forward's arguments."""
        return tuple(x for x in self.values if isinstance(x, Tensor))

    def calling(self, model: StandIn) -> Calling:
        """The stand-in as a function of the inputs alone."""
        return Calling(model.module, self.values, self.places)


def example_of(model: nn.Module, example_input: Any) -> Example:
    """The example as tensors of a batch of one, on the model's device and of its type."""
    args, kwargs = _arguments(model, example_input)
    _fits_forward(model, args, kwargs)
    paths, places = _pytree.tree_flatten_with_path((args, kwargs))
    values = tuple(_on_model(model, value) for _, value in paths)
    named = _argument_names(model, len(args))
    names = tuple(_name(p, named) for (p, _), v in zip(paths, values, strict=True) if _is_input(v))
    for name, value in zip(names, filter(_is_input, values), strict=True):
        if not value.numel():
            raise InputRefused(
                f"the input {name} of shape {tuple(value.shape)} has an empty axis",
                fix="give the length of every axis, with a batch of 1: (1, 3, 32, 32)",
            )
    return _one_sample(model, Example(values, places, names))


def _is_input(value: Any) -> bool:
    return isinstance(value, Tensor)


def _arguments(model: nn.Module, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What was given as positional and named arguments of forward; tensors for arrays."""
    if isinstance(given, Mapping) and given:
        wrong = next((key for key in given if not isinstance(key, str)), None)
        if wrong is not None:
            raise _refused(given, f"{wrong!r} names no argument of forward")
        named = {name: _as_tensors(value) for name, value in given.items()}
        order = [*_parameters(model), *named]
        return (), {name: named[name] for name in dict.fromkeys(order) if name in named}
    if isinstance(given, (Tensor, np.ndarray)):
        return (_as_tensors(given),), {}
    if isinstance(given, (list, tuple)) and given:
        if all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in given):
            return (_zeros(model, tuple(int(n) for n in given)),), {}
        args = tuple(map(_as_tensors, given))
        if any(map(_is_input, _pytree.tree_leaves(args))):
            return args, {}
    raise _refused(given)


def _refused(given: Any, why: str = "") -> InputRefused:
    text = repr(given)
    text = text if len(text) < 60 else text[:57] + "..."
    return InputRefused(f"example_input is {type(given).__name__} {text}", why=why, fix=_FIX)


def _zeros(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    if min(shape) < 1:
        raise InputRefused(
            f"the input shape {shape} has an empty axis",
            fix="give the length of every axis, with a batch of 1: (1, 3, 32, 32)",
        )
    return torch.zeros(shape, dtype=_floating(model), device=home_of(model))


def _as_tensors(value: Any) -> Any:
    """Arrays as tensors, at any depth of lists, tuples and dicts."""

    def tensor(leaf: Any) -> Any:
        if not isinstance(leaf, (np.ndarray, np.generic)):
            return leaf
        try:
            return torch.tensor(leaf, device="cpu")
        except TypeError as error:
            raise _refused(leaf, f"an array of {leaf.dtype} holds no numbers") from error

    return _pytree.tree_map(tensor, value)


def _on_model(model: nn.Module, value: Any) -> Any:
    """A copy where the model is; floats as the model's own, since only their place matters."""
    if not isinstance(value, Tensor):
        return value
    kept = value.detach().to(home_of(model), copy=True)
    dtype = _floating(model)
    return kept.to(dtype) if dtype is not None and kept.is_floating_point() else kept


def _floating(model: nn.Module) -> torch.dtype | None:
    """The floating type of a model's tensors if they have one, else of the first of them."""
    types = [p.dtype for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()]
    return types[0] if types else None


# -- forward's arguments ------------------------------------------------------------------------


def _signature(model: nn.Module) -> inspect.Signature | None:
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None


def _parameters(model: nn.Module) -> list[str]:
    signature = _signature(model)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = signature.parameters.values() if signature else ()
    return [p.name for p in found if p.kind in kinds]


def _fits_forward(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    signature = _signature(model)
    if signature is None or model._forward_pre_hooks:  # hooks may change the arguments
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        known = _parameters(model)
        unknown = [name for name in kwargs if name not in known]
        why = f"{error}" if not unknown else did_you_mean(unknown[0], known)
        name = type(model).__name__
        raise InputRefused(
            f"{name}.forward{_short(signature)} does not take {_counted(args, unknown)}",
            why=why,
            fix="give one tensor for each argument, as a tuple or by name; "
            "a dict that is one argument goes into a tuple",
        ) from error


def _short(signature: inspect.Signature) -> str:
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    text = str(inspect.Signature(plain))
    return text if len(text) < 120 else text[:117] + "...)"


def _counted(args: tuple[Any, ...], unknown: Iterable[str]) -> str:
    for name in unknown:
        return f"an argument {name!r}"
    return f"{len(args)} input{'s' * (len(args) != 1)}"


def _argument_names(model: nn.Module, count: int) -> list[str]:
    """Names for so many positional arguments."""
    names: list[str] = []
    signature = _signature(model)
    for p in signature.parameters.values() if signature else ():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}_{i}" for i in range(count - len(names))]
        elif p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
    return names[:count] + [f"input_{i}" for i in range(len(names), count)]


def _name(path: tuple[Any, ...], named: list[str]) -> str:
    """``mask`` of the argument mask, ``batch.image`` of what is deeper in one."""
    keys = [str(re.sub(r"^[\['.]+|['\]]+$", "", str(key))) for key in path[1:]]
    if path[0].idx == 0:
        keys[0] = named[int(keys[0])]
    return ".".join(keys)


# -- other inputs than the example --------------------------------------------------------------


def _one_sample(model: nn.Module, example: Example) -> Example:
    """The first sample alone, where axis 0 turns out to be a batch of independent samples.

    The last one must be itself alone as well: the first step of a sequence is, too.
    """
    given = example.tensors
    sizes = {len(x) if x.ndim else 1 for x in given}
    if len(sizes) != 1 or sizes == {1} or any(x.ndim < 2 for x in given):
        return example
    alone = tuple(x[:1] for x in given)
    probes = [_uneven(x) for x in given]
    try:
        whole, first, last = (
            example.calling(stand_in(model, working))(*(x[part].clone() for x in probes))
            for part in (slice(None), slice(1), slice(-1, None))
        )
        same = len(whole) == len(first) == len(last) and all(
            torch.allclose(a, b, rtol=1e-3, atol=1e-4)
            for every, one, other in zip(whole, first, last, strict=True)
            for a, b in ((every[:1], one), (every[-1:], other))
        )
    except Exception:  # forward is the user's code: the exporter tells what is wrong with it
        return example
    if not same:
        return example
    taken = iter(alone)
    values = tuple(next(taken) if _is_input(v) else v for v in example.values)
    return replace(example, values=values)


def _uneven(x: Tensor) -> Tensor:
    """Other floats in place of zeros, on which a step of a sequence may look like a sample."""
    if not x.is_floating_point() or bool(x.any()):
        return x
    return torch.linspace(-1, 1, x.numel(), dtype=x.dtype, device=x.device).reshape(x.shape)


def working(tensor: Tensor) -> Tensor:
    """A tensor to compute with: weights are shared, what forward may write to is copied."""
    return sharing(tensor) if isinstance(tensor, nn.Parameter) else tensor.detach().clone()


def random_like(example: tuple[Tensor, ...], model: nn.Module, seed: int) -> tuple[Tensor, ...]:
    """Random inputs of the same kind: normal floats in float64, tokens that the model knows.

    An integer is drawn from the values that occur in the example and those below the smallest
    ``num_embeddings`` of the model's embeddings; of booleans at least one is true.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = (nn.Embedding, nn.EmbeddingBag)
    sizes = [int(m.num_embeddings) for m in model.modules() if isinstance(m, kinds)]
    drawn = (_drawn(x, range(min(sizes, default=0)), generator) for x in example)
    return tuple(d.to(x.device) for d, x in zip(drawn, example, strict=True))


def shuffled(example: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    """The values of the example in another order, floats random."""
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for x in example:
        order = torch.randperm(x.numel(), generator=generator)
        moved = x.cpu().reshape(-1)[order].reshape(x.shape)
        inputs.append(_drawn(x, range(0), generator) if x.is_floating_point() else moved)
    return tuple(d.to(x.device) for d, x in zip(inputs, example, strict=True))


def _drawn(x: Tensor, vocabulary: range, generator: torch.Generator) -> Tensor:
    if x.is_floating_point():
        return torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu")
    if x.is_complex():
        return torch.randn(x.shape, generator=generator, dtype=torch.complex128, device="cpu")
    if x.dtype == torch.bool:
        drawn = torch.rand(x.shape, generator=generator, device="cpu") < 0.5
        drawn.view(-1)[int(torch.randint(drawn.numel(), (), generator=generator))] = True
        return drawn
    values = sorted({*x.reshape(-1).tolist(), *vocabulary})
    chosen = torch.randint(len(values), x.shape, generator=generator, device="cpu")
    return torch.tensor(values, dtype=x.dtype, device="cpu")[chosen]
