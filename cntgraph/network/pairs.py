"""The trained links between two channels as one link: the kernel of the pair, reduced.

A kernel holds each trained weight that joins two channels once, however often it is applied. The
result is an expression over the same parameters, so other weights fit it as they fit the network.
Dense layers and convolutions are reduced as they lie: rows are output channels, columns are
(input channel, tap), and the columns that read one channel are next to each other or are brought
there. Only where a reshape tears channels apart are links listed, and grouped by what they join.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused
from cntgraph.network.blocks import Block
from cntgraph.network.expressions import Expression, literal
from cntgraph.network.geometry import Axis, Index, Pattern, product_of_axes
from cntgraph.network.operators import Convolution, Dense, Diagonal, Operator, Sparse

__all__ = ["REDUCTIONS", "Ends", "Made", "listed", "over_runs", "picked", "reduced"]

REDUCTIONS = ("sum", "mean", "l1", "l2")
MOST_LISTED = 200_000_000  # links that are looked at one by one where nothing better is known


@dataclass(frozen=True, eq=False)
class Ends:
    """The channels at the two ends of a block: read at each input (-1: none), fed at each output.

    ``sources`` and ``targets`` count the channels of the two layers.
    """

    read: Index
    fed: Index
    sources: int
    targets: int


Made = tuple[Operator, Expression, Index | None]  # and the source channel of each of its inputs


def reduced(block: Block, ends: Ends, reduce: str) -> Made:
    """The operator between channels, its weight, and what it reads (None: all, in order)."""
    op = block.operator
    if isinstance(op, (Dense, Convolution)) and not _repeats(block):
        block, ends = _one_copy(block, op, ends)
        made = _by_columns(block, ends, reduce)
        if made is not None:
            return made
    return _listed(block, ends, reduce)


def _repeats(block: Block) -> bool:
    """True if some trained weight stands at several places of the operator's weight."""
    if block.weight.op == "parameter":
        return False
    index = _identities(block)
    return bool(index.size) and int(np.bincount(index).max()) > 1


def _identities(block: Block) -> Index:
    """For each entry of the operator's weight a number that only the same trained weight has."""
    found: Index = block.operator.entries(block.weight.origins(block.weights)).numpy()
    own = np.arange(len(found)) + found.max(initial=0) + 1
    return np.where(found < 0, own, found)


def _one_copy(block: Block, op: Dense | Convolution, ends: Ends) -> tuple[Block, Ends]:
    """The block at one position only, if it joins the same channels at all."""
    read, fed = (a.reshape(op.copies, -1) for a in (ends.read, ends.fed))
    if op.copies < 2 or (read != read[:1]).any() or (fed != fed[:1]).any():
        return block, ends
    return replace(block, operator=replace(op, copies=1)), replace(ends, read=read[0], fed=fed[0])


# -- as the weights lie ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Kernels:
    """The columns (input channel of a group, tap) of a group's kernels, one kernel after another.

    ``sizes`` counts the columns of each; all groups are alike. ``sources`` are the channels that
    the kernels read, group after group.
    """

    columns: Index
    sizes: Index
    sources: Index


def _by_columns(block: Block, ends: Ends, reduce: str) -> Made | None:
    """None if an output channel feeds several channels, or the groups are unlike one another."""
    op = block.operator
    assert isinstance(op, (Dense, Convolution))
    by_output = ends.fed.reshape(op.copies, op.channels_out, -1)
    if op.channels_out != ends.targets or not by_output.size:
        return None
    if (by_output != np.arange(op.channels_out)[:, None]).any():
        return None
    kernels = _kernels(op, ends)
    if kernels is None:
        return None
    weight = _merged(block, op, kernels, reduce)
    inputs = None if np.array_equal(kernels.sources, np.arange(ends.sources)) else kernels.sources
    count = len(kernels.sources)
    if op.groups == 1:
        shaped = weight.apply("aten.reshape.default", [op.channels_out, count])
        return Dense(count, op.channels_out), shaped, inputs
    if count == op.groups:  # each output channel hears one channel
        heard = np.repeat(kernels.sources, op.channels_out // op.groups)
        inputs = None if np.array_equal(heard, np.arange(ends.sources)) else heard
        flat = weight.apply("aten.reshape.default", [-1])
        return Diagonal((op.channels_out,)), flat, inputs
    grouped = Convolution(count, op.channels_out, op.groups, (Axis(1, 1),))
    shape = [op.channels_out, count // op.groups, 1]
    return grouped, weight.apply("aten.reshape.default", shape), inputs


def _kernels(op: Dense | Convolution, ends: Ends) -> _Kernels | None:
    """The kernels of every group, by the order of their first columns; None if groups differ."""
    i, tap, source = _incidence(op, ends)
    wide = op.channels_in // op.groups
    group, column = i // wide, i % wide * op.taps + tap
    order = np.lexsort((column, source, group))
    group, column, source = group[order], column[order], source[order]
    new = (np.diff(group, prepend=-1) != 0) | (np.diff(source, prepend=-1) != 0)
    starts = np.flatnonzero(new)
    sizes = np.diff(starts, append=len(column))
    # kernels in the order of the weights, so that what is whole need not be moved at all
    by_first = np.lexsort((source[starts], column[starts], group[starts]))
    rank = np.empty_like(by_first)
    rank[by_first] = np.arange(len(by_first))
    columns = column[np.lexsort((column, rank[np.cumsum(new) - 1]))]
    return _alike(op, group[starts][by_first], sizes[by_first], source[starts][by_first], columns)


def _alike(
    op: Dense | Convolution, group: Index, sizes: Index, sources: Index, columns: Index
) -> _Kernels | None:
    """The kernels of one group and what all groups read, if the groups are alike.

    A group that reads nothing from this layer, since it reads another, has kernels without links.
    """
    present = np.unique(group)
    if not len(present) or len(group) % len(present) or len(columns) % len(present):
        return None
    if (group.reshape(len(present), -1) != present[:, None]).any():
        return None
    sizes, columns = sizes.reshape(len(present), -1), columns.reshape(len(present), -1)
    if (sizes != sizes[:1]).any() or (columns != columns[:1]).any():
        return None
    if len(present) < op.groups and columns.shape[1] != op.channels_in // op.groups * op.taps:
        return None
    read = np.full((op.groups, sizes.shape[1]), -1, dtype=np.int64)
    read[present] = sources.reshape(len(present), -1)
    return _Kernels(columns[0], sizes[0], read.reshape(-1))


def _incidence(op: Dense | Convolution, ends: Ends) -> tuple[Index, Index, Index]:
    """Which tap of which input channel ever reads which source channel: distinct triples."""
    read = ends.read.reshape(op.copies, op.channels_in, -1)
    channel = read.max(axis=(0, 2), initial=-1)
    present = read >= 0
    if not ((read == channel[:, None]) | ~present).all():
        return _torn_incidence(op, read, ends.sources)
    if present.all():
        taps = np.ones(1, dtype=bool)
        for axis in op.axes:
            applied = np.bincount(axis.triples[1], minlength=axis.taps) > 0
            taps = (taps[:, None] & applied).reshape(-1)
        used = np.broadcast_to(taps, (op.channels_in, op.taps))
    else:
        at = present.any(axis=0).astype(np.float32)
        used = at @ _reached(op).T.astype(np.float32) > 0
    i, tap = np.nonzero(used)
    return i, tap, channel[i]


def _torn_incidence(
    op: Dense | Convolution, read: Index, sources: int
) -> tuple[Index, Index, Index]:
    """The same where one input channel reads several source channels, after a pixel shuffle say."""
    found = []
    for tap, reached in enumerate(_reached(op)):
        part = read[:, :, reached]
        key = np.arange(op.channels_in)[:, None] * sources + part
        i, source = np.divmod(np.unique(key[part >= 0]), sources)
        found.append((i, np.full_like(i, tap), source))
    i, taps, source = (np.concatenate(column) for column in zip(*found, strict=True))
    return i, taps, source


def _reached(op: Dense | Convolution) -> NDArray[np.bool_]:
    """Whether a tap is ever applied at a position: (taps, positions)."""
    _, tap, source = product_of_axes(op.axes)
    reached = np.zeros((op.taps, int(np.prod([a.size for a in op.axes]))), dtype=bool)
    reached[tap, source] = True
    return reached


def _merged(block: Block, op: Dense | Convolution, kernels: _Kernels, reduce: str) -> Expression:
    """The weight with one entry per kernel: (groups, outputs of a group, kernels of a group)."""
    high = op.channels_out // op.groups
    rows = _rows(block, op)
    columns, sizes = kernels.columns, kernels.sizes
    if not np.array_equal(columns, np.arange(op.channels_in // op.groups * op.taps)):
        rows = picked(rows, 2, columns)
    if (sizes == sizes[0]).all():
        shape = [op.groups, high, len(sizes), int(sizes[0])]
        return _over_axis(rows.apply("aten.reshape.default", shape), 3, int(sizes[0]), reduce)
    turned = rows.apply("aten.permute.default", [2, 0, 1])
    merged = over_runs(block, turned, sizes, reduce, [op.groups, high])
    return merged.apply("aten.permute.default", [1, 2, 0])


def _rows(block: Block, op: Dense | Convolution) -> Expression:
    """The weight as (groups, outputs of a group, columns)."""
    wide, high = op.channels_in // op.groups, op.channels_out // op.groups
    if not op.transposed:
        return block.weight.apply("aten.reshape.default", [op.groups, high, wide * op.taps])
    split = block.weight.apply("aten.reshape.default", [op.groups, wide, high, op.taps])
    turned = split.apply("aten.permute.default", [0, 2, 1, 3])
    return turned.apply("aten.reshape.default", [op.groups, high, wide * op.taps])


# -- where a reshape has torn channels apart ------------------------------------------------------


def listed(block: Block, read: Index) -> Iterator[tuple[Index, Index, Index]]:
    """Every link of a block as (source channel, output, entry of the weight), batch by batch."""
    if block.operator.counts()[0].sum() > MOST_LISTED:
        raise InputRefused(
            f"block {block.name} joins its channels link by link, and has too many links for that",
            why=f"its operator has more than {MOST_LISTED:,} links, and between {block.source} and "
            f"{block.target} a reshape mixes channels and positions",
            fix="trace the model with a smaller input",
        )
    for source, target, element in block.operator.links(1_000_000):
        channel = read[source]
        kept = channel >= 0
        yield channel[kept], target[kept], element[kept]


def _listed(block: Block, ends: Ends, reduce: str) -> Made:
    keys, places = _distinct(block, ends)
    pair, sizes = np.unique(keys, return_counts=True)
    source, target = np.divmod(pair, ends.targets)
    flat = picked(block.operator.flat_weight(block.weight), 0, places)
    if not len(pair):
        weight = flat
    elif (sizes == sizes[0]).all():
        split = flat.apply("aten.reshape.default", [len(pair), int(sizes[0])])
        weight = _over_axis(split, 1, int(sizes[0]), reduce)
    else:
        weight = over_runs(block, flat, sizes, reduce)
    return Sparse(Pattern(1, ends.sources, ends.targets, source, target)), weight, None


def _distinct(block: Block, ends: Ends) -> tuple[Index, Index]:
    """The pair of each trained weight that joins two channels, and an entry that holds it.

    Sorted by pair (source * targets + target), then by the weight's place in its parameter.
    """
    identities = _identities(block)
    found = np.zeros((2, 0), dtype=np.int64)
    waiting: list[Index] = []
    for source, output, entry in listed(block, ends.read):
        batch = np.stack([source * ends.targets + ends.fed[output], entry])
        waiting.append(_each_once(batch, identities))
        if sum(part.shape[1] for part in waiting) > max(4_000_000, found.shape[1]):
            found, waiting = _each_once(np.hstack([found, *waiting]), identities), []
    pairs, entries = _each_once(np.hstack([found, *waiting]), identities)
    return pairs, entries


def _each_once(links: Index, identities: Index) -> Index:
    """Of links (pair, entry) with the same pair and the same trained weight one, in order."""
    pair, entry = links
    weight = identities[entry]
    order = np.lexsort((entry, weight, pair))
    pair, weight = pair[order], weight[order]
    new = (np.diff(pair, prepend=-1) != 0) | (np.diff(weight, prepend=-1) != 0)
    return links[:, order[new]]


# -- reductions as expressions --------------------------------------------------------------------


def picked(weight: Expression, axis: int, places: Index) -> Expression:
    """The entries at these places along an axis."""
    import torch

    index = literal(torch.from_numpy(np.ascontiguousarray(places)))
    return weight.apply("aten.index_select.default", axis, index)


def _over_axis(kernels: Expression, axis: int, size: int, reduce: str) -> Expression:
    """One axis of that size reduced, in float64 whatever the weights are stored as."""
    import torch

    first = kernels.apply("aten.select.int", axis, 0)
    if size == 1:
        return first if reduce in ("sum", "mean") else first.apply("aten.abs.default")
    norm = [] if reduce in ("sum", "mean") else [int(reduce[1])]
    op = {"sum": "sum.dim_IntList", "mean": "mean.dim"}.get(reduce, "linalg_vector_norm.default")
    value = kernels.apply(f"aten.{op}", *norm, [axis], False, dtype=torch.float64)
    return _named_by(first, value)


def over_runs(
    block: Block, weights: Expression, sizes: Index, reduce: str, rest: Sequence[int] = ()
) -> Expression:
    """Runs of these sizes along the first axis reduced, in float64; ``rest`` are the other axes."""
    import torch

    wide = weights.apply("aten._to_copy.default", dtype=torch.float64)
    if reduce in ("l1", "l2"):
        wide = wide.apply("aten.abs.default" if reduce == "l1" else "aten.square.default")
    shape = [len(sizes), *rest]
    zeros = block.weight.apply("aten.new_zeros.default", shape, dtype=torch.float64)
    run = literal(torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)))
    found = zeros.apply("aten.index_add.default", 0, run, wide)
    if reduce == "mean":
        counts = torch.from_numpy(sizes.astype(np.float64)).reshape(-1, *[1] * len(rest))
        found = found.apply("aten.div.Tensor", literal(counts))
    if reduce == "l2":
        found = found.apply("aten.sqrt.default")
    return _named_by(picked(weights, 0, np.cumsum(sizes) - sizes), found)


def _named_by(first: Expression, value: Expression) -> Expression:
    """The value, whose elements are traced to their parameter as those of ``first`` are."""
    import torch

    return Expression("aten.where.self", (literal(torch.tensor(False)), first, value))
