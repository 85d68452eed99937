"""The model as PyTorch's own exporter sees it: a functional graph of ``aten`` operators.

The exporter runs a stand-in of the model on tensors without numbers, so that no weight is copied
and the model is not touched. What the graph cannot mean as a network is refused with the user's
own line.
"""

from __future__ import annotations

import io
import logging
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cntgraph.errors import ModelRefused
from cntgraph.tracing.refusing import refusal

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from cntgraph.tracing.examples import Example
    from cntgraph.tracing.standin import StandIn

    Program = torch.export.ExportedProgram

__all__ = ["Exported", "export"]


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


def export(model: nn.Module, example: Example) -> Exported:
    """Trace the model in evaluation mode; what cannot be traced raises `ModelRefused`."""
    import torch

    from cntgraph.tracing.calling import inside
    from cntgraph.tracing.faults import refuse_faults
    from cntgraph.tracing.standin import sharing, stand_in, tensors_of

    standing = stand_in(model, sharing)
    program = _program(model, standing, example)
    _under_the_users_paths(program.graph, standing)
    refuse_faults(program.graph, type(model).__name__)
    _without_rounding(program.graph)
    state = {standing.names[n]: t for n, t in tensors_of(standing.module)}
    first = {id(tensor): name for name, tensor in reversed(state.items())}
    signature = program.graph_signature
    parameters: dict[str, str] = {}
    constants: dict[str, Tensor] = {}
    for spec in signature.input_specs:
        placeholder, target = spec.arg.name, str(spec.target)
        name = standing.names.get(inside(target))
        held = program.constants.get(target)
        if name is not None:
            parameters[placeholder] = first[id(state[name])]
        elif isinstance(held, torch.Tensor):
            constants[placeholder] = held.detach().clone()
    inputs = dict(zip(signature.user_inputs, example.names, strict=False))
    outputs = tuple(str(name) for name in signature.user_outputs)
    modules = model.named_modules()
    leaves = frozenset(path for path, m in modules if next(m.children(), None) is None)
    return Exported(program.graph, parameters, constants, inputs, outputs, state, leaves)


def _program(model: nn.Module, standing: StandIn, example: Example) -> Program:
    """The exporter's program; twice, and the same, where forward draws from a random state."""
    from cntgraph.tracing.examples import working
    from cntgraph.tracing.faults import DRAWN
    from cntgraph.tracing.standin import stand_in

    def alone() -> object:
        return example.calling(stand_in(model, working))(*(x.clone() for x in example.tensors))

    try:
        before = _chance()
        program = _decomposed(standing, example)
        if _chance() != before:
            again = _decomposed(standing, example)
            if str(again.graph) != str(program.graph):
                raise ModelRefused(
                    f"{type(model).__name__} cannot be traced",
                    why="forward draws from random or numpy.random: each call is another function",
                    fix=DRAWN,
                )
    except Exception as failure:  # the exporter raises whatever the model's own code raises
        raise refusal(standing, example, failure, alone) from failure
    return program


def _chance() -> str:
    """The random states that the exporter does not follow."""
    numpy = sys.modules.get("numpy")
    drawn = numpy.random.get_state() if numpy else ()
    return f"{random.getstate()} {[getattr(x, 'tobytes', lambda x=x: x)() for x in drawn]}"


def _decomposed(standing: StandIn, example: Example) -> Program:
    import torch

    with _quiet():
        program = torch.export.export(example.calling(standing), example.tensors)
        decomposed: Program = program.run_decompositions({})
    # what no output reads, an assertion say, has no place in a network
    decomposed.graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    return decomposed


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own warnings concern deployment; what fails it also prints."""
    names = [n for n in logging.root.manager.loggerDict if n.startswith("torch.")]
    loggers = [logging.getLogger(name) for name in (*names, "torch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _without_rounding(graph: torch.fx.Graph) -> None:
    """Casts between floating types, of autocast say, round and mean nothing for a network."""
    import torch

    def floating(node: Any) -> bool:
        value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
        return isinstance(value, torch.Tensor) and value.is_floating_point()

    def kept(argument: Any) -> Any:
        narrows = isinstance(argument, torch.dtype) and argument.is_floating_point
        return None if narrows else argument

    for node in list(graph.nodes):
        if not floating(node) or not any(map(floating, node.all_input_nodes)):
            continue
        returned = any(user.op == "output" for user in node.users)
        if getattr(node.target, "_opname", "") != "_to_copy":
            node.args = tuple(map(kept, node.args))
            node.kwargs = {name: kept(value) for name, value in node.kwargs.items()}
        elif not returned:  # an output is known by its node's name
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _under_the_users_paths(graph: torch.fx.Graph, standing: StandIn) -> None:
    """Modules that were renamed for the exporter's sake get their names back."""
    from cntgraph.tracing.calling import inside

    renamed = {safe: own for safe, own in standing.paths.items() if safe != own}
    for node in graph.nodes if renamed else ():
        stack = node.meta.get("nn_module_stack", {})
        for key, (path, kind) in stack.items():
            part, at, call = path.partition("@")  # the calls of a module used twice are numbered
            own = renamed.get(inside(part))
            if own is not None:
                stack[key] = (part.removesuffix(inside(part)) + own + at + call, kind)
