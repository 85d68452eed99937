"""From an `nn.Module` to a `Network`, and the proof that the two compute the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, ModelRefused, did_you_mean
from cntgraph.network import Block, Network

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["Verification", "trace", "verify"]

TOLERANCE = 1e-9  # relative to the largest output, in float64
LISTABLE = 50_000_000  # links that a verification lists; beyond that operators alone are checked


def trace(model: nn.Module, example_input: Any, *, batch_norm: str = "raw") -> Network:
    """Turn a model into layers of neurons joined by blocks.

    ``example_input`` is a tensor, a tuple of tensors, or the shape of one float tensor with its
    batch of 1. ``batch_norm="raw"`` keeps the trained weights and gives the layer a gain and a
    shift; ``"folded"`` scales the weights, so that they are those of the function. The model is
    left as it was found. Weights are copied.

    >>> import torch
    >>> trace(torch.nn.Linear(3, 2), (1, 3))
    <Network input(3) -> linear(2): 5 neurons, 6 links>

    Raises `ModelRefused` where the model cannot be traced, `InputRefused` for a bad example.
    """
    from cntgraph.tracing.assembling import assemble
    from cntgraph.tracing.exporting import example_tensors, export, unwrapped
    from cntgraph.tracing.interpreting import Interpreter
    from cntgraph.tracing.kinds import HANDLERS

    if batch_norm not in ("raw", "folded"):
        raise InputRefused(
            f"batch_norm={batch_norm!r}", why=did_you_mean(batch_norm, ("raw", "folded"))
        )
    if not hasattr(model, "named_parameters"):
        raise ModelRefused(
            f"{type(model).__name__} is not a torch.nn.Module",
            fix="give the model itself: the object you call on a batch",
        )
    model = unwrapped(model)
    run = Interpreter(export(model, example_tensors(model, example_input)), HANDLERS)
    run.run()
    return assemble(run, model, batch_norm=batch_norm)


@dataclass(frozen=True)
class Verification:
    """How far a network's own forward is from its module's, as largest absolute differences.

    ``error_links`` is None where the links were too many to list.
    """

    error_operators: float
    error_links: float | None
    largest_output: float
    samples: int
    link_count: int

    @property
    def passed(self) -> bool:
        """True if both errors are within 1e-9 of the largest output."""
        bound = TOLERANCE * max(1.0, self.largest_output)
        by_links = self.error_links is None or self.error_links <= bound
        return self.error_operators <= bound and by_links

    def __repr__(self) -> str:
        by_links = "not listed" if self.error_links is None else f"{self.error_links:.1e}"
        return (
            f"<Verification {'passed' if self.passed else 'FAILED'}: operators "
            f"{self.error_operators:.1e}, links {by_links}; {self.link_count:,} links, "
            f"{self.samples} samples, outputs up to {self.largest_output:.3g}>"
        )


def verify(
    model: nn.Module, example_input: Any, *, samples: int = 3, batch_norm: str = "folded"
) -> Verification:
    """Compare the network's own forward with the module's, in float64 on random inputs.

    Once by operators and once by summing every link that the network lists.

    >>> import torch
    >>> verify(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), (1, 3)).passed
    True
    """
    import torch

    from cntgraph.tracing.exporting import evaluating, example_tensors, unwrapped

    if samples < 1:
        raise InputRefused(f"samples={samples}", fix="give at least one sample")
    model = unwrapped(model)
    network = trace(model, example_input, batch_norm=batch_norm)
    state = _in_float64(model)
    traced = {n: state[n] if n in state else _wide(t) for n, t in network.weights.items()}
    network = network.bound_to(traced)
    listed = sum(b.link_count for b in network.blocks) <= LISTABLE
    errors: list[tuple[float, float, float]] = []
    example = example_tensors(model, example_input)
    with torch.no_grad(), evaluating(model):
        for seed in range(samples):
            inputs = _random_inputs(example, seed)
            expected = _leaves(torch.func.functional_call(model, state, inputs))
            found = network.forward(*inputs)
            by_links = forward_by_links(network)(*inputs) if listed else found
            errors.append(
                (
                    _distance(expected, found),
                    _distance(expected, by_links),
                    max((float(e.abs().max()) for e in expected if e.numel()), default=0.0),
                )
            )
    worst = [max(column) for column in zip(*errors, strict=True)]
    return Verification(
        worst[0], worst[1] if listed else None, worst[2], samples, network.link_count
    )


def _in_float64(model: nn.Module) -> dict[str, Tensor]:
    """Every named tensor of a model, tied ones under each of their names and still tied."""
    parameters = model.named_parameters(remove_duplicate=False)
    named = [*parameters, *model.named_buffers(remove_duplicate=False)]
    wide = {id(tensor): _wide(tensor) for _, tensor in named}
    return {name: wide[id(tensor)] for name, tensor in named}


def _wide(tensor: Tensor) -> Tensor:
    import torch

    return tensor.detach().to(torch.float64) if tensor.is_floating_point() else tensor


def forward_by_links(network: Network) -> Callable[..., tuple[Tensor, ...]]:
    """The network's forward where each linear block is the sum over its listed links."""
    blocks = [b if b.kind == "opaque" else _ByLinks(**_fields(b)) for b in network.blocks]
    return Network(network.layers, blocks, network.outputs, network.weights).forward


def _fields(block: Block) -> dict[str, Any]:
    """The fields of a block by name."""
    return {f.name: getattr(block, f.name) for f in fields(block)}


class _ByLinks(Block):
    """A block that knows nothing of its operator but the links."""

    def forward(self, x: Tensor) -> Tensor:
        """Sum weight times value over the links, one batch of links after another."""
        import torch

        total = torch.zeros(len(x), self.operator.size_out, dtype=torch.float64)
        for links in self.links():
            source = torch.from_numpy(links.source - self.source_first)
            target = torch.from_numpy(links.target - self.target_first)
            total.index_add_(1, target, x.cpu()[:, source] * torch.from_numpy(links.weight))
        return total.to(x.device)


def _random_inputs(like: tuple[Tensor, ...], seed: int) -> tuple[Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for x in like:
        if x.is_floating_point():
            noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            inputs.append(noise.to(x.device))
        else:
            inputs.append(x)
    return tuple(inputs)


def _leaves(value: Any) -> list[torch.Tensor]:
    import torch
    from torch.utils import _pytree

    return [x for x in _pytree.tree_leaves(value) if isinstance(x, torch.Tensor)]


def _distance(expected: list[Tensor], found: tuple[Tensor, ...]) -> float:
    import torch

    worst = 0.0
    for a, b in zip(expected, found, strict=True):
        difference = (a.to(torch.float64).cpu() - b.to(torch.float64).cpu().reshape(a.shape)).abs()
        agree = (a.cpu() == b.cpu().reshape(a.shape)) | (
            a.isnan().cpu() & b.isnan().cpu().reshape(a.shape)
        )
        difference = difference.masked_fill(agree, 0.0).nan_to_num(nan=float("inf"))
        worst = max(worst, float(difference.max()) if difference.numel() else 0.0)
    return worst
