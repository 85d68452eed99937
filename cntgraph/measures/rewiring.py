"""Other weights with the same strengths: matrices whose squares are turned within their margins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cntgraph.errors import DegenerateMeasure, InputRefused
from cntgraph.measures.elements import Elements, Stored, matrices
from cntgraph.network import Block
from cntgraph.network.geometry import Index
from cntgraph.network.operators import Convolution, Dense

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["turned", "whole_matrices"]


def whole_matrices(elements: Elements) -> list[Stored]:
    """The elements of every trained block as matrices, each once."""
    found: dict[str, list[tuple[Block, list[Index]]]] = {}
    for block in elements.network.blocks:
        if block.link_kind == "weight":
            _refuse_unless_matrices(block)
            stored = elements.find(block.weight)
            squares = matrices(block)
            if stored.places is not None:
                squares = [stored.places[square] for square in squares]
            _add_matrices(found.setdefault(stored.tensor, []), block, squares)
    parts = [
        Stored(name, square)
        for name, users in found.items()
        for _, squares in users
        for square in squares
    ]
    for part in parts:
        _refuse_infinite(part, elements)
    shapes = [part.places.shape for part in parts if part.places is not None]
    if shapes and not any(min(shape[1:]) > 1 and shape[0] for shape in shapes):
        raise DegenerateMeasure(
            "no other weights have these strengths",
            why="no block has two neurons at either end of its kernels",
            fix='use kind="weights" or kind="signs"',
        )
    return parts


def _add_matrices(
    users: list[tuple[Block, list[Index]]], block: Block, squares: list[Index]
) -> None:
    """Keep a block's matrices unless they are there; refuse them if others cut across them."""
    flat = _flat(squares)
    if len(np.unique(flat)) < len(flat) or (flat < 0).any():
        raise InputRefused(
            f"strengths of {block.name} cannot be kept",
            why="some of its weights stand at several of its places, or are constants",
            fix='use kind="weights" or kind="signs"',
        )
    for other, known in users:
        if _alike(known, squares):
            return
        if np.isin(flat, _flat(known)).any():
            raise InputRefused(
                f"strengths of {other.name} and of {block.name} cannot both be kept",
                why="they share weights, and see them as other rows and columns",
                fix='use kind="weights" or kind="signs"',
            )
    users.append((block, squares))


def _alike(a: list[Index], b: list[Index]) -> bool:
    """True if matrices are the same, or all of them transposed."""
    turned = [square.swapaxes(1, 2) for square in b]
    return any(len(a) == len(c) and all(map(np.array_equal, a, c)) for c in (b, turned))


def _flat(squares: list[Index]) -> Index:
    return np.concatenate([np.zeros(0, np.int64), *(s.reshape(-1) for s in squares)])


def _refuse_unless_matrices(block: Block) -> None:
    if isinstance(block.operator, (Dense, Convolution)):
        return
    raise InputRefused(
        f"strengths of {block.name} cannot be kept",
        why="its links are a list (what a filter leaves, say), with no whole matrix to turn",
        fix="draw first: cnt.null_model(network, 'strengths').filtered('top:32'), "
        'or use kind="weights" or kind="signs"',
    )


def _refuse_infinite(part: Stored, elements: Elements) -> None:
    import torch

    value = elements.value(part.tensor).reshape(-1)
    if not bool(torch.isfinite(value.to(torch.float64)).all()):
        name = part.tensor if elements.is_parameter(part.tensor) else "a block"
        raise InputRefused(
            f"strengths cannot be kept: weights of {name} are NaN or infinite",
            fix='use kind="weights" or kind="signs", which only move them',
        )


def turned(m: Tensor, generator: torch.Generator, sweeps: int) -> Tensor:
    """Matrices (matrix, row, column) with other entries and the same margins, in float64."""
    import torch

    m = m.to(torch.float64)
    rows, columns = torch.arange(m.shape[1]), torch.arange(m.shape[2])
    for _ in range(sweeps):
        over, along = (torch.randperm(len(n), generator=generator) for n in (rows, columns))
        rows, columns = rows[over], columns[along]
        m = m.index_select(1, over.to(m.device)).index_select(2, along.to(m.device))
        _turn(m, generator)
    back = [torch.argsort(n).to(m.device) for n in (rows, columns)]
    return m.index_select(1, back[0]).index_select(2, back[1])


def _turn(m: Tensor, generator: torch.Generator) -> None:
    """Turn half of the squares that the two halves of rows and of columns make, in place."""
    import torch

    r, c = m.shape[1] // 2, m.shape[2] // 2
    top, low = m[:, :r], m[:, r : 2 * r]
    corners = top[..., :c], top[..., c : 2 * c], low[..., :c], low[..., c : 2 * c]
    t = corners[0] - corners[1] - corners[2] + corners[3]
    t *= torch.randint(0, 2, t.shape, generator=generator).to(m.device) * -0.5
    for corner, sign in zip(corners, (1, -1, -1, 1), strict=True):
        corner += sign * t
