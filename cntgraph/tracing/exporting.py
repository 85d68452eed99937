"""The model as PyTorch's own exporter sees it: a functional graph of ``aten`` operators.

The model comes back as it was found: training flags, device, parameters, buffers and hooks.
"""

from __future__ import annotations

import inspect
import logging
import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, ModelRefused

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Exported", "evaluating", "example_tensors", "export", "unwrapped"]

_INNER = "model"  # the name of the user's model inside the wrapper


@dataclass(frozen=True, eq=False)
class Exported:
    """A graph in topological order, with the user's names for what enters it."""

    graph: torch.fx.Graph
    parameters: dict[str, str]  # placeholder -> name in the model's state dict
    constants: dict[str, Tensor]  # placeholder -> tensor that no state dict holds
    inputs: dict[str, str]  # placeholder -> argument of forward
    outputs: tuple[str, ...]
    state: dict[str, Tensor]  # every named tensor of the model
    leaves: frozenset[str]  # paths of the modules without children


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module, out of `torch.compile` and `DataParallel`."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = model.module
        if inner is None:
            return model
        model = inner


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; every training flag is put back afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


def example_tensors(model: nn.Module, example_input: Any) -> tuple[Tensor, ...]:
    """The example as tensors of a batch of one, on the model's device."""
    import torch

    first: Tensor | None = next(iter((*model.parameters(), *model.buffers())), None)
    device = first.device if first is not None else torch.device("cpu")
    if isinstance(example_input, torch.Tensor):
        example_input = (example_input,)
    if isinstance(example_input, (list, tuple, torch.Size)) and example_input:
        if all(isinstance(n, int) and not isinstance(n, bool) for n in example_input):
            if min(example_input) < 1:
                raise InputRefused(
                    f"the input shape {tuple(example_input)} has an empty axis",
                    fix="give the length of every axis, with a batch of 1: (1, 3, 32, 32)",
                )
            dtype = first.dtype if first is not None and first.is_floating_point() else None
            return (torch.zeros(tuple(example_input), dtype=dtype, device=device),)
        if all(isinstance(x, torch.Tensor) for x in example_input):
            given = tuple(torch.as_tensor(x).detach().to(device) for x in example_input)
            return _one_sample(model, given)
    raise InputRefused(
        f"example_input is {_described(example_input)}",
        fix="give a tensor, a tuple of tensors, or a shape with its batch of 1: (1, 3, 32, 32)",
    )


def _described(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"


def _one_sample(model: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The first sample alone, where axis 0 turns out to be a batch of independent samples."""
    import torch
    from torch.utils import _pytree

    sizes = {len(x) if x.ndim else 1 for x in given}
    if len(sizes) != 1 or sizes == {1} or any(x.ndim < 2 for x in given):
        return given
    alone = tuple(x[:1] for x in given)
    with evaluating(model), torch.no_grad():
        try:
            whole, single = (_pytree.tree_leaves(model(*x)) for x in (given, alone))
            same = all(
                torch.allclose(a[:1], b, rtol=1e-3, atol=1e-4)
                for a, b in zip(whole, single, strict=True)
                if isinstance(a, torch.Tensor)
            )
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
            return given
    return alone if same else given


def export(model: nn.Module, tensors: tuple[Tensor, ...]) -> Exported:
    """Trace the model in evaluation mode; what cannot be traced raises `ModelRefused`."""
    import torch

    program = _program(model, tensors)
    signature = program.graph_signature
    parameters: dict[str, str] = {}
    constants: dict[str, Tensor] = {}
    for spec in signature.input_specs:
        placeholder, target = spec.arg.name, spec.target
        if target is None:
            continue
        name = _first_name(model, target.removeprefix(f"{_INNER}."))
        if target in program.state_dict:
            parameters[placeholder] = name
        elif isinstance(program.constants.get(target), torch.Tensor):
            constants[placeholder] = program.constants[target].detach().clone()
    state = {n.removeprefix(f"{_INNER}."): t for n, t in program.state_dict.items()}
    state |= {name: state[name] for name in parameters.values() if name in state}
    inputs = dict(zip(signature.user_inputs, _argument_names(model, tensors), strict=False))
    outputs = tuple(str(name) for name in signature.user_outputs)
    leaves = frozenset(path for path, m in model.named_modules() if not any(m.children()))
    return Exported(program.graph, parameters, constants, inputs, outputs, state, leaves)


def _first_name(model: nn.Module, name: str) -> str:
    """The first of the names that a tied tensor has."""
    named = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    tensor = dict(named).get(name)
    return next((n for n, t in named if t is tensor), name) if tensor is not None else name


def _program(model: nn.Module, tensors: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    import torch

    class Wrapped(torch.nn.Module):
        # children named `code`, `graph` or `meta` break the exporter at the top level only
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *args: Any) -> Any:
            return self.model(*args)

    _traceable(model)
    with evaluating(model), _quiet():
        wrapped = Wrapped().eval()
        try:
            with torch.no_grad():
                program: torch.export.ExportedProgram = torch.export.export(wrapped, tensors)
                decomposed: torch.export.ExportedProgram = program.run_decompositions({})
                return decomposed
        except Exception as failure:  # the exporter raises whatever the model's own code raises
            raise _refusal(model, tensors, failure) from failure


def _traceable(model: nn.Module) -> None:
    import torch
    from torch.nn.parameter import is_lazy

    if isinstance(model, torch.jit.ScriptModule):
        raise ModelRefused(
            "a TorchScript module cannot be traced",
            why="its code is no longer Python",
            fix="give the nn.Module that it was made from",
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ModelRefused(
                f"parameter {name} is not initialised yet",
                why=f"{type(model).__name__} has lazy modules",
                fix="run one batch through the model before tracing it",
            )
        if tensor.is_meta:
            raise ModelRefused(
                f"parameter {name} has a shape and no data",
                why="it is on the meta device",
                fix="load the weights first: model.load_state_dict(state_dict, assign=True)",
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own warnings concern deployment, not measurement."""
    names = ("torch.export", "torch._export", "torch.fx", "torch._subclasses.fake_tensor")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _refusal(model: nn.Module, tensors: tuple[Tensor, ...], failure: Exception) -> ModelRefused:
    shapes = ", ".join(str(tuple(x.shape)) for x in tensors)
    text = str(failure).strip()
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    frames = "".join(traceback.format_tb(failure.__traceback__))
    line = user_line(text) or user_line(frames)
    if "Guard" in type(failure).__name__ or "data-dependent" in text.lower():
        fix = "the way through forward must not depend on values: compute both and select"
    elif any(word in text.lower() for word in ("shape", "size", "expected", " dim")):
        fix = "give the input shape the model takes, with its batch of 1: (1, 3, 32, 32)"
    else:
        fix = "see that torch.export.export(model.eval(), args) works on this model"
    where = f"; at {line}" if line else ""
    name = type(model).__name__
    return ModelRefused(
        f"{name} cannot be traced on an input of shape {shapes}",
        why=f"{type(failure).__name__}: {first[:300]}{where}",
        fix=fix,
    )


def user_line(stack: str) -> str:
    """The innermost ``file:line`` of a stack that is not PyTorch's own."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack)
    foreign = ("/torch/", "/cntgraph/tracing/", "<")
    own = [(f, n) for f, n in frames if not any(part in f for part in foreign)]
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""


def _argument_names(model: nn.Module, tensors: tuple[Tensor, ...]) -> list[str]:
    names: list[str] = []
    for p in inspect.signature(model.forward).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}_{i}" for i in range(len(tensors) - len(names))]
        elif p.kind is not p.VAR_KEYWORD:
            names.append(p.name)
    return names[: len(tensors)] + [f"input_{i}" for i in range(len(names), len(tensors))]
