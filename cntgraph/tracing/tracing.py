"""From an `nn.Module` to a `Network`, and the proof that the two compute the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.network import Block, Network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cntgraph.tracing.proving import Proof

__all__ = ["Verification", "compare", "trace", "verify"]

TOLERANCE = 1e-9  # relative to the largest output, in float64
LISTABLE = 100_000_000  # links that a verification lists; beyond that operators alone are checked


def trace(
    model: nn.Module,
    example_input: Any,
    *,
    batch_norm: str = "raw",
    recurrent: str = "unrolled",
) -> Network:
    """Turn a model into layers of neurons joined by blocks.

    ``example_input`` is a tensor, a tuple of tensors, or the shape of one float tensor with its
    batch of 1. ``batch_norm="raw"`` keeps the trained weights and gives the layer a gain and a
    shift; ``"folded"`` scales the weights, so that they are those of the function. The model is
    left as it was found. Weights are copied.

    >>> import torch
    >>> trace(torch.nn.Linear(3, 2), (1, 3))
    <Network input(3) -> linear(2): 5 neurons, 6 links>

    LSTM, GRU and RNN are unrolled over the time steps of the example: layers ``lstm.l0.t3.gates``
    and so on, whose links name the same parameters at every step. ``recurrent="step"`` is the
    view of one step, for an example with one: states that the model starts from zero become
    inputs after the model's own (``lstm.l0.hidden``, ``lstm.l0.cell``; ``cell.previous.hidden``
    for a cell), and the states after the step become outputs after the model's own, in the same
    order: ``y, hidden, cell = network.forward(x, hidden, cell)``.

    Raises `ModelRefused` where the model cannot be traced, `InputRefused` for a bad example.
    """
    from cntgraph.tracing.assembling import assemble
    from cntgraph.tracing.calling import home_of, undisturbed
    from cntgraph.tracing.examples import example_of
    from cntgraph.tracing.exporting import export
    from cntgraph.tracing.interpreting import Interpreter
    from cntgraph.tracing.kinds import HANDLERS
    from cntgraph.tracing.refusing import traceable
    from cntgraph.tracing.wrappers import unwrapped

    if batch_norm not in ("raw", "folded"):
        raise InputRefused(
            f"batch_norm={batch_norm!r}", why=did_you_mean(batch_norm, ("raw", "folded"))
        )
    if recurrent not in ("unrolled", "step"):
        raise InputRefused(
            f"recurrent={recurrent!r}", why=did_you_mean(recurrent, ("unrolled", "step"))
        )
    traceable(model)
    model = unwrapped(model)
    with undisturbed(home_of(model)):
        exported = export(model, example_of(model, example_input))
        run = Interpreter(exported, HANDLERS, recurrent=recurrent)
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

    Once by operators and once by summing every link that the network lists. The first sample has
    the model's own weights; for the others weights and running statistics are moved at random, in
    copies, so that no zero and no one among them hides a wrong link.

    >>> import torch
    >>> verify(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), (1, 3)).passed
    True
    """
    from cntgraph.tracing.calling import home_of, undisturbed
    from cntgraph.tracing.examples import example_of
    from cntgraph.tracing.proving import Proof
    from cntgraph.tracing.wrappers import unwrapped

    if samples < 1:
        raise InputRefused(f"samples={samples}", fix="give at least one sample")
    network = trace(model, example_input, batch_norm=batch_norm)
    model = unwrapped(model)
    with undisturbed(home_of(model)):
        example = example_of(model, example_input)
        proofs = (Proof(model, example, shaken=seed or None) for seed in range(samples))
        return _compared(network, proofs)


def compare(
    network: Network, model: nn.Module, example_input: Any, *, samples: int = 3
) -> Verification:
    """Compare a network with a module that is given the network's weights, as `verify` does.

    The module's other tensors stay its own; names and shapes must be those of the network.
    """
    import torch
    from torch import nn

    from cntgraph.tracing.calling import home_of, undisturbed
    from cntgraph.tracing.examples import example_of
    from cntgraph.tracing.proving import Proof
    from cntgraph.tracing.standin import stand_in, tensors_of
    from cntgraph.tracing.wrappers import unwrapped

    if samples < 1:
        raise InputRefused(f"samples={samples}", fix="give at least one sample")
    model = unwrapped(model)
    home, held = home_of(model), {}
    weights = {
        name: tensor.to(home, torch.float64 if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in network.weights.items()
    }
    for name, tensor in tensors_of(model):
        if name in weights:
            given = weights[name].clone()
            kept = isinstance(tensor, nn.Parameter)
            held[id(tensor)] = nn.Parameter(given, requires_grad=False) if kept else given
    with undisturbed(home):
        example = example_of(model, example_input)
        loaded = stand_in(model, lambda tensor: held.get(id(tensor), tensor)).module
        proof = Proof(loaded, example)
        return _compared(network, (proof for _ in range(samples)))


def _compared(network: Network, proofs: Iterable[Proof]) -> Verification:
    """A network in float64 against the model's own answers, a sample for each proof."""
    listed = sum(b.link_count for b in network.blocks if b.kind != "opaque") <= LISTABLE
    errors: list[tuple[float, float, float]] = []
    for seed, proof in enumerate(proofs):
        wide = network.bound_to(proof.weights(network.weights))
        inputs, expected = proof.sample(seed)
        found = wide.forward(*inputs)
        by_links = forward_by_links(wide)(*inputs) if listed else found
        errors.append(
            (
                _distance(expected, found),
                _distance(expected, by_links),
                max((float(e.abs().max()) for e in expected if e.numel()), default=0.0),
            )
        )
    worst = [max(column) for column in zip(*errors, strict=True)]
    return Verification(
        worst[0], worst[1] if listed else None, worst[2], len(errors), network.link_count
    )


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


def _distance(expected: tuple[Tensor, ...], found: tuple[Tensor, ...]) -> float:
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
