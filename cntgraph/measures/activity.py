"""What neurons do on a probe batch: the expectation of what arrives at each, and of its answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused
from cntgraph.network import Network

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = ["ACTIVITY_COLUMNS", "activity"]

ACTIVITY_COLUMNS = ("neurons_strength", "neurons_activation", "active_share")


def activity(network: Network, inputs: Any, *, batch: int = 256) -> pd.DataFrame:
    """Neurons Strength and Neurons Activation over a probe batch: a row per neuron, in id order.

    Columns: neuron, layer, index; ``neurons_strength``, the expectation over the inputs of what
    the activation is applied to, sum_i w_ik a_i + b_k (with the batch norm and the skip
    connections that belong to it); ``neurons_activation``, the expectation of the activation; and
    ``active_share``, the share of the inputs on which the activation is not zero: 0 is a dead
    neuron. At inputs, constants and joins (max pooling, attention), which have no sum of their
    own, both expectations are of the value.

    ``inputs`` is a tensor or an array of samples, of the shape that was traced with any number on
    the first axis; a tuple of them for a network of several inputs. ``batch`` of them at a time go
    through the network, in its own type and where its weights are; expectations are float64. A NaN
    counts as active and makes the expectations it enters NaN.

    >>> import torch, cntgraph as cnt
    >>> network = cnt.trace(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU()), (1, 2))
    >>> found = cnt.activity(network, torch.randn(100, 2))
    >>> list(found.columns[3:]), len(found)
    (['neurons_strength', 'neurons_activation', 'active_share'], 3)

    Raises `InputRefused` for no inputs, another shape or number of them, and for a network of
    channels, which computes nothing.

    Source: La Malfa, La Malfa, Nicosia and Latora, 2022, arXiv 2209.05488.
    """
    import torch

    if batch < 1:
        raise InputRefused(f"batch={batch}", fix="give 1 or more")
    samples = _samples(network, inputs)
    total = np.zeros((len(ACTIVITY_COLUMNS), network.neuron_count))
    with torch.no_grad():
        for count, part in _batches(samples, batch):
            for layer, z, value in network.propagate(*part):
                means = np.stack([_mean(z), _mean(value), _mean(value != 0)])
                total[:, layer.first : layer.last] += count * means
    table = network.identities()
    return table.assign(**dict(zip(ACTIVITY_COLUMNS, total / _count(samples), strict=True)))


def _samples(network: Network, inputs: Any) -> list[Tensor]:
    import torch

    given = inputs if isinstance(inputs, tuple) else (inputs,)
    like = next((w for w in network.weights.values() if w.is_floating_point()), None)
    tensors = []
    for one in given:
        tensor = torch.as_tensor(one).detach()
        if like is not None:
            floating = tensor.is_floating_point()
            tensor = tensor.to(like.device, like.dtype if floating else None)
        tensors.append(tensor)
    samples = network.samples(*tensors)
    counts = {name: len(x) for name, x in samples.items()}
    if not counts or 0 in counts.values():
        raise InputRefused("no inputs to take an expectation over", fix="give a batch of samples")
    if len(set(counts.values()) - {1}) > 1:
        said = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputRefused(f"as many samples of one input as of another are needed, not {said}")
    return list(samples.values())


def _batches(samples: list[Tensor], batch: int) -> Iterator[tuple[int, list[Tensor]]]:
    """So many samples at a time; a single sample of an input goes with all of the others."""
    count = _count(samples)
    for first in range(0, count, batch):
        part = [x if len(x) == 1 else x[first : first + batch] for x in samples]
        yield min(batch, count - first), part


def _count(samples: list[Tensor]) -> int:
    return max(len(x) for x in samples)


def _mean(values: Tensor) -> NDArray[np.float64]:
    import torch

    found: NDArray[np.float64] = values.mean(dim=0, dtype=torch.float64).cpu().numpy()
    return found
