"""From contracted drafts to a `Network`: final ids, one block per layer read, and the coverage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.network import Block, Layer, Network, Output
from cntgraph.network.axes import with_axes
from cntgraph.network.geometry import Index
from cntgraph.tracing.drafts import Draft, Part, contract

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from cntgraph.tracing.interpreting import Interpreter

__all__ = ["assemble"]


def assemble(run: Interpreter, model: nn.Module, *, batch_norm: str) -> Network:
    """The network that an interpreted model amounts to, bound to copies of its weights."""
    outputs = [ids.reshape(-1).numpy() for ids in run.outputs]
    drafts, outputs, folded = contract(
        run.drafts, outputs, run.exported.state, batch_norm=batch_norm
    )
    # inputs first, then constants, then what is computed, each in the order of the model
    rank = {"input": 0, "constant": 1}
    drafts = sorted(drafts, key=lambda d: rank.get(d.kind, 2))
    final = _Renumbering(drafts)
    returned = {d.first for ids in outputs for d in final.read(ids)}
    layers = [_layer(d, final, d.first in returned) for d in drafts]
    weights = {name: t.detach().clone() for name, t in run.exported.state.items()}
    blocks = [b for d in drafts for p in d.parts for b in _blocks(d, p, final, weights)]
    layers = with_axes(layers, blocks)
    network = Network(
        layers,
        _named(blocks),
        [
            Output(tuple(ids.shape), final.ids(found))
            for ids, found in zip(run.outputs, outputs, strict=True)
        ],
        weights,
        coverage=list(_coverage(model, drafts, blocks, layers, folded, run.silent)),
        batch_norm=batch_norm,
    )
    used = set(network.tensor_names)
    return network.bound_to({n: t for n, t in weights.items() if n in used})


class _Renumbering:
    """Raw ids of the drafts that remained, to public ids that run from 0 in layer order."""

    def __init__(self, drafts: list[Draft]) -> None:
        sizes = np.asarray([d.size for d in drafts], dtype=np.int64)
        firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if len(sizes) else sizes
        self.first = {d.first: int(f) for d, f in zip(drafts, firsts, strict=True)}
        self.drafts = sorted((d for d in drafts if d.size), key=lambda d: d.first)
        self._starts = np.asarray([d.first for d in self.drafts], dtype=np.int64)

    def read(self, ids: Index) -> list[Draft]:
        """The drafts that some of these raw ids belong to."""
        found = np.unique(np.searchsorted(self._starts, ids[ids > 0], side="right") - 1)
        return [self.drafts[k] for k in found]

    def ids(self, raw: Index) -> Index:
        """Public ids of raw ones, -1 for the constant zero."""
        result = np.full(len(raw), -1, dtype=np.int64)
        for draft in self.read(raw):
            mine = (raw >= draft.first) & (raw < draft.first + draft.size)
            result[mine] = raw[mine] - draft.first + self.first[draft.first]
        return result


def _layer(draft: Draft, final: _Renumbering, returned: bool) -> Layer:
    kind = "output" if returned and draft.kind == "hidden" else draft.kind
    batch_of_one = len(draft.traced) > 1 and draft.traced[0] == 1
    return Layer(
        draft.name,
        kind,
        tuple(draft.traced[1:] if batch_of_one else draft.traced),
        final.first[draft.first],
        bias=draft.bias,
        gain=draft.gain,
        shift=draft.shift,
        value=draft.value,
        function=draft.function,
        portions=tuple(draft.portions),
        join=draft.join,
        operands=draft.operands,
        traced=tuple(draft.traced),
    )


def _blocks(
    draft: Draft, part: Part, final: _Renumbering, weights: Mapping[str, Tensor]
) -> Iterable[Block]:
    for source in final.read(part.ids):
        inside = (part.ids >= source.first) & (part.ids < source.first + source.size)
        inputs = np.where(inside, part.ids - source.first, -1)
        whole = len(inputs) == source.size and bool((inputs == np.arange(source.size)).all())
        yield Block(
            f"{source.name} -> {draft.name}",
            source.name,
            draft.name,
            part.link_kind,
            part.operator,
            part.weight,
            weights,
            final.first[source.first],
            final.first[draft.first],
            source.size,
            None if whole else inputs,
            part.operand,
        )


def _named(blocks: list[Block]) -> list[Block]:
    """Block names are unique: the second between the same layers is numbered."""
    seen: dict[str, int] = {}
    named = []
    for block in blocks:
        seen[block.name] = seen.get(block.name, 0) + 1
        count = seen[block.name]
        named.append(block if count == 1 else replace(block, name=f"{block.name}#{count}"))
    return named


def _coverage(
    model: nn.Module,
    drafts: list[Draft],
    blocks: list[Block],
    layers: list[Layer],
    folded: set[str],
    silent: set[str],
) -> Iterable[dict[str, Any]]:
    uses: dict[str, list[str]] = {}
    for block in blocks:
        for name in block.parameters:
            uses.setdefault(name, []).append(block.name)
    beside: dict[str, str] = {}
    opaque: dict[str, Draft] = {}
    for draft, layer in zip(drafts, layers, strict=True):
        for part in (layer.bias, layer.gain, layer.shift, layer.value, layer.function):
            beside |= dict.fromkeys(part.parameters if part is not None else (), layer.name)
        if layer.join is not None:
            opaque |= dict.fromkeys(layer.join.parameters, draft)
    first_of: dict[int, str] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        twin = first_of.setdefault(id(tensor), name)
        known = _alias(name, twin, tensor, model, uses, beside)
        yield {
            "parameter": name,
            "elements": tensor.numel(),
            **_status(known, uses, beside, opaque, folded, silent),
        }


def _alias(
    name: str,
    twin: str,
    tensor: torch.Tensor,
    model: nn.Module,
    uses: Mapping[str, Any],
    beside: Mapping[str, Any],
) -> str:
    """The name under which a shared parameter was traced."""
    if name in uses or name in beside:
        return name
    same = [n for n, t in model.named_parameters(remove_duplicate=False) if t is tensor]
    return next((n for n in same if n in uses or n in beside), twin)


def _status(
    name: str,
    uses: Mapping[str, list[str]],
    beside: Mapping[str, str],
    opaque: Mapping[str, Draft],
    folded: set[str],
    silent: set[str],
) -> dict[str, Any]:
    blocks = uses.get(name, [])
    if name in folded:
        layer = beside.get(name, "")
        return _row("folded", blocks, f"batch norm of layer {layer}" if layer else "batch norm")
    if blocks:
        return _row("used", blocks, "")
    if name in beside:
        return _row("used", [], f"added to or applied in layer {beside[name]}")
    if name in opaque:
        draft = opaque[name]
        where = f" at {draft.line}" if draft.line else ""
        assert draft.join is not None
        return _row(
            "unmapped", [], f"read by {draft.join.op}{where}, which has no weighted links here"
        )
    if name in silent:
        return _row("unmapped", [], "it multiplies zeros only: a state that starts from zero, say")
    return _row("unmapped", [], "no output depends on it: forward does not use it")


def _row(status: str, blocks: list[str], reason: str) -> dict[str, Any]:
    return {"status": status, "blocks": list(dict.fromkeys(blocks)), "reason": reason}
