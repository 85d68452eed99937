"""Null models: the same wiring with weights that chance has dealt out anew, block by block.

What a measure says of a trained network is worth what it says beyond such networks. The three
kinds keep more and more: the weights of every block, their sizes where they are, the strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.elements import Elements, Stored, matrices
from cntgraph.measures.rewiring import turned, whole_matrices
from cntgraph.network import Block, Network
from cntgraph.network.geometry import Index
from cntgraph.network.operators import Convolution, Dense

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["NULLS", "known_null", "null_model", "null_models"]

NULLS = ("weights", "signs", "strengths")
SWEEPS = 32  # after which the correlation with the weights that are free to move is below 1e-3


def null_model(
    network: Network, kind: str = "weights", *, seed: int = 0, sweeps: int = SWEEPS
) -> Network:
    """The same topology with other weights, drawn at random; the network itself is not changed.

    ``"weights"`` permutes the weights within every block. ``"signs"`` leaves every size where it
    is and permutes the signs of the weights that are not zero within the block. ``"strengths"``
    keeps every neuron's in- and out-strength within every block, and the sum of the squared
    weights: ``sweeps`` times it pairs the rows and the columns of each matrix at random, and of
    each 2 x 2 square (a, b; c, d) so made half are turned into (a + t, b - t; c - t, d + t) with
    t = -(a - b - c + d) / 2. Kernels are turned tap by tap, so that unrolled strengths stay too.

    A weight counts once, however many links it unrolls to. Weights that several blocks share move
    for all of them; where a filter left some links of a block, their weights change places with
    one another only. Biases, gains and scales stay. Drawn weights keep their type, save those of
    ``"strengths"`` and weights that are computed from several tensors (a folded batch norm), which
    are float64; the latter no longer follow the parameters. One ``seed``, one network, whatever
    the device.

    >>> import torch, cntgraph as cnt
    >>> network = cnt.trace(torch.nn.Linear(30, 20), (1, 30))
    >>> null = cnt.null_model(network, "strengths", seed=1)
    >>> found = [cnt.strength(n)["strength"] for n in (network, null)]
    >>> bool((found[0] - found[1]).abs().max() < 1e-12)
    True

    Raises `InputRefused` for an unknown kind, and where strengths cannot be kept: in filtered
    blocks, with weights that are not finite, or shared by blocks that see them in other shapes;
    `DegenerateMeasure` where strengths leave no weight free to move.

    Sources: weights and signs, after the null models of weighted networks in Rubinov and Sporns,
    2011; squares that keep the margins, after Diaconis and Sturmfels, 1998.
    """
    return next(null_models(network, kind, 1, seed=seed, sweeps=sweeps))


def null_models(
    network: Network, kind: str, count: int, *, seed: int = 0, sweeps: int = SWEEPS
) -> Iterator[Network]:
    """Draws of a null model, one after another; what they have in common is found out once."""
    import torch

    known_null(kind)
    if count < 0:
        raise InputRefused(f"shuffles={count}", fix="give 0 or more")
    if sweeps < 1:
        raise InputRefused(f"sweeps={sweeps}", fix="give 1 or more")
    if not count:
        return iter(())
    generator = torch.Generator().manual_seed(seed)
    elements = Elements(network)
    if kind == "strengths":
        parts = whole_matrices(elements)
        deal = partial(turned, generator=generator, sweeps=sweeps)
    else:
        parts = _pools(elements)
        deal = partial(_permuted if kind == "weights" else _signed, generator=generator)
    return (_drawn(elements, parts, deal) for _ in range(count))


def known_null(kind: str) -> None:
    """Refuse a kind of null model that there is not."""
    if kind not in NULLS:
        raise InputRefused(f"no null model {kind!r}", why=did_you_mean(str(kind), NULLS))


def _drawn(elements: Elements, parts: list[Stored], deal: Callable[[Tensor], Tensor]) -> Network:
    """The network in which these elements, part by part, are what ``deal`` makes of them."""
    import torch

    values: dict[str, Tensor] = {}
    for part in parts:
        stored = values.get(part.tensor)
        if stored is None:
            stored = elements.value(part.tensor)
        flat = stored.reshape(-1)
        if part.places is None:
            values[part.tensor] = deal(flat).reshape(stored.shape)
            continue
        places = torch.from_numpy(part.places).to(flat.device)
        dealt = deal(flat[places])
        # a tensor of another type takes in what does not fit into the stored one
        flat = flat.to(dealt.dtype, copy=True)
        flat[places] = dealt
        values[part.tensor] = flat.reshape(stored.shape)
    return elements.rebuilt(values)


def _permuted(w: Tensor, generator: torch.Generator) -> Tensor:
    import torch

    return w[torch.randperm(len(w), generator=generator).to(w.device)]


def _signed(w: Tensor, generator: torch.Generator) -> Tensor:
    import torch

    wide = w.to(torch.float64, copy=True)
    signed = torch.nonzero((wide != 0) & ~wide.isnan())[:, 0]
    values = wide[signed]
    order = torch.randperm(len(values), generator=generator).to(w.device)
    wide[signed] = values.abs().copysign(values[order])
    return wide.to(w.dtype)


def _pools(elements: Elements) -> list[Stored]:
    """The elements of every trained block's links; of blocks that share some, together."""
    found: dict[str, list[Index | None]] = {}
    for block in elements.network.blocks:
        if block.link_kind == "weight":
            stored = elements.find(block.weight)
            entries = _linked(block)
            places = stored.places
            if places is not None:
                places = places if entries is None else places[entries]
                places = np.unique(places[places >= 0])
            else:
                places = entries
            found.setdefault(stored.tensor, []).append(places)
    return [
        Stored(tensor, places)
        for tensor, sets in found.items()
        for places in _joined(sets, elements.value(tensor).numel())
    ]


def _linked(block: Block) -> Index | None:
    """The entries of a block's weight that are links; None for all."""
    if not isinstance(block.operator, (Dense, Convolution)):
        return None
    entries = [square.reshape(-1) for square in matrices(block)]
    count = sum(len(part) for part in entries)
    if count == block.tensor.numel():
        return None
    return np.concatenate([*entries, np.zeros(0, np.int64)])


def _joined(sets: list[Index | None], size: int) -> list[Index | None]:
    """Sets of elements, those with a common element as one."""
    if any(places is None for places in sets):
        return [None]
    masks: list[NDArray[np.bool_]] = []
    for places in sets:
        mask = np.zeros(size, dtype=bool)
        mask[places] = True
        apart = [m for m in masks if not (m & mask).any()]
        for other in masks:
            if (other & mask).any():
                mask |= other
        masks = [*apart, mask]
    return [np.flatnonzero(mask) for mask in masks]
