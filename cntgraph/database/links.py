"""Links as batches that one transaction writes: dense blocks as rows of weights, others as columns.

A dense batch names no link: its sources are listed once, its targets are consecutive, and the
weights into a target are one row. Any other block sends, for its batch, the neurons that occur,
once each, and for every link two places among them. Either way the server looks up each neuron
once a transaction, not once a link, and makes the links from the nodes it found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cntgraph.network import Block, Network
    from cntgraph.network.blocks import LinkBatch as Listed

__all__ = ["BATCH", "LinkBatch", "LinkColumns", "link_batches", "link_columns"]

Index = NDArray[np.int64]
Weights = NDArray[np.float64]

BATCH = 12_500  # larger ones keep the garbage collector busy, smaller ones the disk

_DENSE = """
UNWIND $sources AS id
MATCH (n:NeuronState {id: id})
WITH collect(n) AS sources
UNWIND range(0, size($rows) - 1) AS j
MATCH (t:NeuronState {id: $first + j})
WITH sources, t, $rows[j] AS row
UNWIND range(0, size(sources) - 1) AS i
WITH sources[i] AS s, t, row[i] AS w
CREATE (s)-[:%s]->(t)
"""

# FOREACH writes link by link; after UNWIND all of them would be kept until the last is known.
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
      FOREACH (w IN [$weights[k]] |
        CREATE (s)-[:%s]->(t)))))
"""

# All the text there is; whatever comes from a run is a parameter.
_LINK, _CARRIES = "LINK {weight: w}", "CARRIES {kind: $kind, weight: w}"


@dataclass(frozen=True)
class LinkBatch:
    """The Cypher that writes some links, its parameters, and how many links they are."""

    text: str
    parameters: dict[str, Any] = field(repr=False)
    trained: int
    carried: int

    @property
    def links(self) -> int:
        """Number of relationships."""
        return self.trained + self.carried


def link_batches(network: Network, first: int) -> Iterator[LinkBatch]:
    """All links of a network, block after block; ``first`` is the database's id of neuron 0.

    Data that merely may reach a neuron, through attention say, makes no relationship.
    """
    for block in (b for b in network.blocks if b.certain):
        text, batches = _DENSE, _dense
        if not _is_dense(block):
            text, batches = _COLUMNS, _columns
        trained = block.link_kind == "weight"
        text %= _LINK if trained else _CARRIES
        for parameters, count in batches(block, first):
            if not trained:
                parameters["kind"] = block.link_kind
            yield LinkBatch(text, parameters, count * trained, count * (not trained))


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


Parts = Iterator[tuple[dict[str, Any], int]]


def _is_dense(block: Block) -> bool:
    return block.kind == "dense" and getattr(block.operator, "copies", 0) == 1


def _dense(block: Block, first: int) -> Parts:
    for sources, target, rows in _dense_rows(block, first):
        parameters = {"sources": sources.tolist(), "first": target, "rows": rows.tolist()}
        yield parameters, rows.size


def _dense_rows(block: Block, first: int) -> Iterator[tuple[Index, int, Weights]]:
    """The ids of some sources, that of the first target, and a row of weights per target."""
    import torch

    weights = block.tensor.detach().cpu().to(torch.float64).numpy()
    places = np.arange(weights.shape[1]) if block.inputs is None else block.inputs
    if (places < 0).any():
        weights, places = weights[:, places >= 0], places[places >= 0]
    sources = places + block.source_first + first
    for cut in range(0, len(sources), BATCH):
        part = slice(cut, cut + BATCH)
        at_once = BATCH // len(sources[part])
        for row in range(0, len(weights), at_once):
            rows = weights[row : row + at_once, part]
            yield sources[part], block.target_first + first + row, rows


def _columns(block: Block, first: int) -> Parts:
    for links in _listed(block):
        sources, start = np.unique(links.source, return_inverse=True)
        targets, end = np.unique(links.target, return_inverse=True)
        yield (
            {
                "sources": (sources + first).tolist(),
                "targets": (targets + first).tolist(),
                "from": start.tolist(),
                "to": end.tolist(),
                "weights": links.weight.tolist(),
            },
            len(links.source),
        )


def _listed(block: Block) -> Iterator[Listed]:
    """The links of a block, batch by batch; a batch of places that read nothing has none."""
    return (links for links in block.links(BATCH) if len(links.source))
