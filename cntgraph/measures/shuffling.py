"""Networks with the same wiring and the same weights, dealt out anew within each block."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from cntgraph.errors import InputRefused
from cntgraph.network import Block, Network

if TYPE_CHECKING:
    import torch

    from cntgraph.network.expressions import Expression

__all__ = ["shuffled_networks"]


def shuffled_networks(network: Network, shuffles: int, seed: int) -> Iterator[Network]:
    """So many networks whose trained weights are permuted within each block, by a seed.

    A kernel's weights change places within the kernel, and a filtered block keeps the links and
    the weights that the filter left it. Blocks that read one matrix stay parts of one matrix.
    Links that carry values are left alone.
    """
    import torch

    if shuffles < 0:
        raise InputRefused(f"shuffles={shuffles}", fix="give 0 or more")
    generator = torch.Generator().manual_seed(seed)
    return (_shuffled(network, generator) for _ in range(shuffles))


def _shuffled(network: Network, generator: torch.Generator) -> Network:
    dealt: dict[str, Expression] = {}
    blocks = [
        _dealt_out(block, dealt, generator) if block.link_kind == "weight" else block
        for block in network.blocks
    ]
    made = Network(
        network.layers,
        blocks,
        network.outputs,
        network.weights,
        batch_norm=network.batch_norm,
        kept=network.kept,
        resolution=network.resolution,
    )
    made.topology = network.topology
    return made


def _dealt_out(block: Block, dealt: dict[str, Expression], generator: torch.Generator) -> Block:
    import torch

    from cntgraph.network.expressions import literal

    key = json.dumps(block.weight.to_json())
    if key not in dealt:
        weight = block.tensor.detach()
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        dealt[key] = literal(weight.reshape(-1)[order].reshape(weight.shape))
    made = replace(block, weight=dealt[key])
    if "link_count" in block.__dict__:
        made.__dict__["link_count"] = block.link_count
    return made
