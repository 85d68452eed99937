"""Links as batches that one transaction writes: dense blocks as rows of weights, others as columns.

A dense batch names no link: its sources are listed once, its targets are consecutive, and the
weights into a target are one row. Any other block sends, for its batch, the neurons that occur,
once each, and for every link two places among them. Either way the server looks up each neuron
once a transaction, not once a link, and makes the links from the nodes it found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.database.part import Part, Stretch

if TYPE_CHECKING:
    from cntgraph.network import Block, Network
    from cntgraph.network.blocks import LinkBatch as Listed

__all__ = ["BATCH", "LinkColumns", "link_columns", "link_parts", "rectangles"]

Index = NDArray[np.int64]
Weights = NDArray[np.float64]

BATCH = 12_500  # larger ones keep the garbage collector busy, smaller ones the disk
_ACROSS = 500  # sources at most of a dense batch: what touches fewer nodes is committed faster

# FOREACH writes link by link; after UNWIND all of them would be kept until the last is known.
_DENSE = """
UNWIND $sources AS id
MATCH (n:NeuronState {id: id})
WITH collect(n) AS sources
UNWIND range(0, size($rows) - 1) AS j
MATCH (t:NeuronState {id: $first + j})
WITH sources, t, $rows[j] AS row
FOREACH (i IN range(0, size(sources) - 1) |
  FOREACH (s IN [sources[i]] |
    CREATE (s)-[:%s {%sweight: row[i]}]->(t)))
"""

_COLUMNS = """
UNWIND $sources AS id
MATCH (n:NeuronState {id: id})
WITH collect(n) AS sources
UNWIND $targets AS id
MATCH (n:NeuronState {id: id})
WITH sources, collect(n) AS targets
FOREACH (k IN range(0, size($weights) - 1) |
  FOREACH (s IN [sources[$from[k]]] |
    FOREACH (t IN [targets[$to[k]]] |
      CREATE (s)-[:%s {%sweight: $weights[k]}]->(t))))
"""

# All the text there is; whatever comes from a run is a parameter.
_LINK, _CARRIES = ("LINK", ""), ("CARRIES", "kind: $kind, ")


def link_parts(network: Network, first: int) -> Iterator[Part]:
    """All links of a network, block after block; ``first`` is the database's id of neuron 0.

    Data that merely may reach a neuron, through attention say, makes no relationship.
    """
    for block in (b for b in network.blocks if b.certain):
        text, stretches = (_DENSE, _dense) if _is_dense(block) else (_COLUMNS, _columns)
        trained = block.link_kind == "weight"
        text %= _LINK if trained else _CARRIES
        kind = None if trained else block.link_kind
        for stretch, size in stretches(block, first, kind):
            yield Part(text, "links" if trained else "carried", size, stretch)


@dataclass(frozen=True)
class LinkColumns:
    """The links of one batch as columns: their kind, the ids of their ends, their weights."""

    kind: str
    source: Index
    target: Index
    weight: Weights


def link_columns(network: Network, first: int) -> Iterator[LinkColumns]:
    """The same links in the same batches as columns, for those who write no Cypher."""
    for block in (b for b in network.blocks if b.certain):
        if not _is_dense(block):
            for links in _listed(block):
                ends = links.source + first, links.target + first
                yield LinkColumns(block.link_kind, *ends, links.weight)
            continue
        for sources, target, rows in _dense_rows(block, first):
            targets = np.arange(target, target + len(rows)).repeat(len(sources))
            ends = np.tile(sources, len(rows)), targets
            yield LinkColumns(block.link_kind, *ends, rows.ravel())


def rectangles(block: Block) -> Iterator[tuple[Index, Index, Weights]] | None:
    """Sources, targets and the weights (target, source) of a dense block, piece by piece.

    Neurons have the network's own ids. None where the block is not dense.
    """
    if not _is_dense(block):
        return None
    return (
        (sources, np.arange(target, target + len(rows)), rows)
        for sources, target, rows in _dense_rows(block, 0)
    )


def _is_dense(block: Block) -> bool:
    return block.kind == "dense" and getattr(block.operator, "copies", 0) == 1


def _dense(block: Block, first: int, kind: str | None) -> Iterator[tuple[Stretch, int]]:
    for sources, target, rows in _dense_rows(block, first):
        yield _rectangle(sources, target, rows, kind), rows.size


def _rectangle(sources: Index, target: int, rows: Weights, kind: str | None) -> Stretch:
    """Weights by target and source, row after row: whole rows, or a piece of one."""
    width = len(sources)

    def stretch(first: int, most: int) -> tuple[dict[str, Any], int]:
        row, column = divmod(first, width)
        across = slice(column, min(width, column + most))
        down = slice(row, row + (1 if column else max(1, most // width)))
        weights = rows[down, across]
        parameters = {
            "sources": sources[across].tolist(),
            "first": target + row,
            "rows": weights.tolist(),
            "kind": kind,
        }
        return parameters, weights.size

    return stretch


def _dense_rows(block: Block, first: int) -> Iterator[tuple[Index, int, Weights]]:
    """The ids of some sources, that of the first target, and a row of weights per target."""
    stored = block.array
    weights: Any = block.tensor.detach().cpu() if stored is None else stored
    places = np.arange(weights.shape[1]) if block.inputs is None else block.inputs
    if (places < 0).any():
        weights, places = weights[:, places >= 0], places[places >= 0]
    sources = places + block.source_first + first
    for cut in range(0, len(sources), _ACROSS):
        part = slice(cut, cut + _ACROSS)
        at_once = BATCH // len(sources[part])
        for row in range(0, len(weights), at_once):
            rows = _wide(weights[row : row + at_once, part])
            yield sources[part], block.target_first + first + row, rows


def _wide(weights: Any) -> Weights:
    """An array or a tensor in float64, as an array."""
    if isinstance(weights, np.ndarray):
        return weights.astype(np.float64)
    import torch

    return weights.to(torch.float64).numpy()  # type: ignore[no-any-return]


def _columns(block: Block, first: int, kind: str | None) -> Iterator[tuple[Stretch, int]]:
    for links in _listed(block):
        yield _listing(links, first, kind), len(links.source)


def _listing(links: Listed, first_id: int, kind: str | None) -> Stretch:
    """Links one by one, with the neurons that occur among them."""

    def stretch(first: int, most: int) -> tuple[dict[str, Any], int]:
        here = slice(first, first + most)
        sources, start = np.unique(links.source[here], return_inverse=True)
        targets, end = np.unique(links.target[here], return_inverse=True)
        parameters = {
            "sources": (sources + first_id).tolist(),
            "targets": (targets + first_id).tolist(),
            "from": start.tolist(),
            "to": end.tolist(),
            "weights": links.weight[here].tolist(),
            "kind": kind,
        }
        return parameters, len(start)

    return stretch


def _listed(block: Block) -> Iterator[Listed]:
    """The links of a block, batch by batch; a batch of places that read nothing has none."""
    return (links for links in block.links(BATCH) if len(links.source))
