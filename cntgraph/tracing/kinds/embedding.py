"""A token is one of many neurons: a look-up by activities is a dense layer of one-hot neurons.

The integers that look something up become a layer with a neuron for every word of the vocabulary
at every position, of which one is on; the embedding is a dense block from it, so that a link
names the word, the parameter and the element. All look-ups of the same integers in tables of the
same length read the same layer. Where nothing else reads them, the input itself is that layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cntgraph.network.expressions import Call, Expression, Slot, literal
from cntgraph.network.geometry import Pattern
from cntgraph.network.operators import Fixed, Opaque
from cntgraph.tracing.drafts import Part
from cntgraph.tracing.interpreting import ONE, flat
from cntgraph.tracing.kinds.contracting import Factor, contraction, labels
from cntgraph.tracing.kinds.registry import Bound, activity, constant, handles, opname, real

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from cntgraph.tracing.interpreting import Interpreter

__all__: list[str] = []

WORD = "w"  # the label of the axis that is looked up
SUM, MEAN, MAX = 0, 1, 2


@handles("embedding", makes="dense weight, dense fixed, opaque data")
def embedding(run: Interpreter, node: Node, bound: Bound) -> Any:
    """The rows of a matrix, by activities."""
    return _looked_up(run, node, bound["weight"], bound["indices"], 0)


@handles("one_hot", makes="opaque data")
def one_hot(run: Interpreter, node: Node, bound: Bound) -> Any:
    """The layer of one-hot neurons itself."""
    return _one_hot(run, node, bound["self"], node.meta["val"].shape[-1])


@handles(
    "index",
    "index_select",
    makes="dense weight, dense fixed, convolution weight, convolution fixed, opaque data",
)
def index(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A constant indexed along one axis by activities."""
    if opname(node) == "index_select":
        return _looked_up(run, node, bound["self"], bound["index"], bound["dim"])
    given = [k for k, i in enumerate(bound["indices"]) if i is not None]
    if len(given) != 1 or node.args[1][given[0]].meta["val"].dtype == torch.bool:  # type: ignore[index, union-attr]
        return None
    return _looked_up(run, node, bound["self"], bound["indices"][given[0]], given[0])


@handles(
    "take",
    "gather",
    "take_along_dim",
    makes="dense weight, dense fixed, convolution weight, convolution fixed, opaque data",
)
def gather(run: Interpreter, node: Node, bound: Bound) -> Any:
    """A constant of which each place takes one along an axis, by activities."""
    table, ids = bound["self"], bound["index"] if "index" in bound else bound["indices"]
    if opname(node) == "take" or bound.get("dim", 0) is None:
        flat_table = table.apply("aten.reshape.default", [-1]) if constant(table) else table
        return _looked_up(run, node, flat_table, ids, 0)
    if not _by_activity(run, node, table, ids):
        return None
    shape = list(table.evaluate(run.exported.state).shape)
    dim = bound["dim"] % len(shape)
    if opname(node) == "take_along_dim":
        ids = ids.expand(node.meta["val"].shape)
    for k, n in enumerate(ids.shape):
        if k != dim and shape[k] != 1 and shape[k] != n:
            table = table.apply("aten.slice.Tensor", k, 0, n)
    out = labels(ids.ndim)
    axes = out[:dim] + WORD + out[dim + 1 :]
    hot = _one_hot(run, node, ids, shape[dim])
    return contraction(run, node, Factor(hot, out + WORD), Factor(table, axes), out)


@handles(
    "embedding_bag",
    "_embedding_bag",
    "_embedding_bag_forward_only",
    makes="dense weight, dense fixed, fixed weight, fixed fixed, opaque select, opaque data",
)
def embedding_bag(run: Interpreter, node: Node, bound: Bound) -> Any:
    """Embeddings of which each bag takes the sum, the mean or the largest."""
    table, ids, offsets = bound["weight"], bound["indices"], bound["offsets"]
    mode, share = bound.get("mode", SUM), bound.get("per_sample_weights")
    if not constant(offsets, share) or not _by_activity(run, node, table, ids):
        return None
    skipped = bound.get("padding_idx", -1)
    if skipped is not None and skipped >= 0:
        if mode != SUM:  # how many are counted depends on the tokens
            return None
        words = torch.ones(len(table.evaluate(run.exported.state)), 1, dtype=torch.float64)
        words[skipped] = 0
        table = table.apply("aten.mul.Tensor", literal(words))
    rows = _looked_up(run, node, table, ids, 0)
    starts = offsets.evaluate(run.exported.state).cpu().numpy()
    starts = starts[:-1] if bound.get("include_last_offset") else starts
    counts = np.diff(starts, append=len(rows))
    bagged = _largest if mode == MAX else _summed
    return [bagged(run, node, rows, counts, mode == MEAN, share), None, None, None]


def _summed(
    run: Interpreter, node: Node, rows: Tensor, counts: Any, mean: bool, share: Any
) -> Tensor:
    """Fixed links from every row of a bag."""
    count, width = rows.shape
    bag = np.repeat(np.arange(len(counts)), counts)
    across = np.arange(width)
    source = (np.arange(count)[:, None] * width + across).reshape(-1)
    target = (bag[:, None] * width + across).reshape(-1)
    pattern = Pattern(1, count * width, len(counts) * width, source, target)
    each = 1.0 / counts[bag] if mean else np.ones(count)
    weight = literal(torch.from_numpy(each.repeat(width)))
    kind = "fixed"
    if share is not None:
        kind = "weight" if share.parameters else kind
        weight = share.apply("aten.unsqueeze.default", -1)
        weight = weight.apply("aten.expand.default", [count, width])
        weight = weight.apply("aten.reshape.default", [-1])
    shape = (len(counts), width)
    name = run.name(node)
    return run.linear(node, rows, Fixed(pattern), weight, link_kind=kind, name=name, traced=shape)


def _largest(
    run: Interpreter, node: Node, rows: Tensor, counts: Any, _mean: bool, _share: Any
) -> Tensor:
    """A join a bag that selects; an empty bag is zero."""
    bags = []
    for ids in torch.split(rows, counts.tolist()):
        count, width = ids.shape
        if not count:
            bags.append(torch.zeros(width, dtype=torch.int64))
            continue
        across = np.tile(np.arange(width), count)
        pattern = Pattern(1, count * width, width, np.arange(count * width), across)
        part = Part(flat(ids), Opaque(count * width, width, pattern), ONE, "select")
        call = Call("aten.amax.default", (Slot(0), [0]))
        shapes = (tuple(ids.shape),)
        name, line = run.name(node), run.line(node)
        bags.append(run.draft(name, (width,), parts=[part], join=call, operands=shapes, line=line))
    return torch.stack(bags)


def _looked_up(run: Interpreter, node: Node, table: Any, ids: Any, dim: int) -> Any:
    """A constant indexed along ``dim`` by activities of any shape."""
    if not _by_activity(run, node, table, ids):
        return None
    shape = table.evaluate(run.exported.state).shape
    dim %= len(shape)
    axes = labels(len(shape))
    places = labels(ids.ndim, len(shape))
    w = Factor(table, axes[:dim] + WORD + axes[dim + 1 :])
    hot = _one_hot(run, node, ids, shape[dim])
    out = axes[:dim] + places + axes[dim + 1 :]
    return contraction(run, node, Factor(hot, places + WORD), w, out)


def _by_activity(run: Interpreter, node: Node, table: Any, ids: Any) -> bool:
    """True where a constant of real numbers is looked up by activities."""
    return isinstance(table, Expression) and activity(ids) and real(run, node, table)


def _one_hot(run: Interpreter, node: Node, ids: Tensor, words: int) -> Tensor:
    """One-hot neurons of these integers; the same ones for the same integers and vocabulary."""
    read, place = torch.unique(ids, return_inverse=True)
    key = (words, flat(read).tobytes())
    if key not in run.encodings:
        whole = torch.equal(read, ids.reshape(-1))
        run.encodings[key] = _encoding(run, node, ids if whole else read[None], words)
    return run.encodings[key].reshape(-1, words)[place]


def _encoding(run: Interpreter, node: Node, ids: Tensor, words: int) -> Tensor:
    size, shape = ids.numel(), tuple(ids.shape)
    pattern = Pattern(size, 1, words, np.zeros(words, dtype=np.int64), np.arange(words))
    integers = Call("aten._to_copy.default", (Slot(0),), (("dtype", torch.int64),))
    return run.draft(
        f"{run.maker(ids) or run.name(node)}.one_hot",
        (*shape, words),
        parts=[Part(flat(ids), Opaque(size, size * words, pattern), ONE, "data")],
        join=Call("aten.one_hot.default", (integers, words)),
        operands=(shape,),
        encoding=True,
        line=run.line(node),
    )
