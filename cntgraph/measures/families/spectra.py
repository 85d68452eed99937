"""Hubs and authorities: the leading singular vectors of the links out of a layer and into it.

The links are applied to vectors, never listed; only where one side is a few neurons are they
written down as a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.measures.declaring import TRAINED, declared
from cntgraph.measures.refusing import refuse_constant, refuse_without_links

if TYPE_CHECKING:
    from cntgraph.measures.steps import Step, Values
    from cntgraph.measures.weighted import Weighted

__all__: list[str] = []

FEW, DENSE = 32, 2**24  # neurons on one side, entries in all: what is decomposed as a matrix
EQUAL = 1e-8  # relative: singular values closer than this count as one that is there twice
MOST, ROOM = 300, 2**25  # vectors of an iteration that are kept at once, entries of them
PATIENCE = 3000  # applications; it takes so many where the two largest agree in 6 digits
RESIDUAL = 1e-15  # of the largest eigenvalue: what is left when a vector has all its digits
ROUNDING = 1e-13  # of the largest eigenvalue: the most that an application leaves of nothing

Map = Callable[["Values"], "Values"]
Pair = tuple["Values", "Values"]


def _declared(side: str, score: str, matrix: str) -> Callable[..., Callable[..., Any]]:
    return declared(
        level="neuron",
        signs=("absolute", "signed"),
        kinds=TRAINED,
        cost="iteration",
        formula=rf"the entry of the leading {side} singular vector of the weights of {matrix}, "
        "of Euclidean length 1 in every layer, its largest entry positive",
        sees="neurons on the strongest common pattern of links between two layers; with "
        "`sign='signed'` its opposite ends have opposite signs",
        leave="it is one pattern of many: where the second singular value is nearly as large, as "
        "for signed weights that were hardly trained, noise decides",
        degenerate="no links, none with a weight, layers of one neuron (always 1). HITS of a whole "
        "layered network is 0 but at the one block with the largest singular value, so it is done "
        "layer by layer",
        igraph=f'{score}(weights="weight") of a network of one block, divided by its length: the '
        "largest of igraph's is 1",
        reference="Kleinberg 1999",
    )


@_declared("left", "hub_score", "all links out of the neuron's layer")
def hub(graph: Weighted) -> Values:
    """How much a neuron takes part in the strongest pattern of links out of its layer.

    The squares of a layer's values sum to 1, so compare neurons within a layer. A layer without
    links out, or with none but zeros, has 0; one with a weight that is not finite is NaN.

    The closer the two largest singular values, the fewer digits a vector has: some 15 less those
    in which the two agree. Where the largest is there several times (positions that share one
    matrix, as in transformers and 1x1 convolutions) the vectors are what Kleinberg's iteration
    ends in, started from equal scores on the side of fewer neurons; NaN where it would miss them.

    Source: Kleinberg, 1999, doi:10.1145/324133.324140.
    """
    return _by_layer(graph, "hub")


@_declared("right", "authority_score", "all links into the neuron's layer")
def authority(graph: Weighted) -> Values:
    """How much a neuron takes part in the strongest pattern of links into its layer.

    The counterpart of `hub`, with the same rules.

    Source: Kleinberg, 1999, doi:10.1145/324133.324140.
    """
    return _by_layer(graph, "authority")


def _by_layer(graph: Weighted, name: str) -> Values:
    refuse_without_links(graph, name)
    found = np.zeros(graph.neuron_count)
    ends = [s.block.source if name == "hub" else s.block.target for s in graph.steps]
    for layer in graph.network.layers:
        if places := tuple(k for k, end in enumerate(ends) if end == layer.name):
            left, right = _leading(graph, places)
            found[layer.first : layer.last] = left if name == "hub" else right
    refuse_constant(graph, name, found, fix="ask for path_score, or filter less")
    return found


def _leading(graph: Weighted, places: tuple[int, ...]) -> Pair:
    """The vectors of the links of some steps: those out of one layer are often those into one."""
    known = graph.shared.setdefault("leading vectors", {})
    if places not in known:
        links = _Joined(tuple(graph.steps[k] for k in places))
        known[places] = _decomposed(links, signed=graph.sign == "signed")
    found: Pair = known[places]
    return found


def _decomposed(links: _Joined, *, signed: bool) -> Pair:
    """The leading left and right singular vectors: all 0 where there is no weight."""
    high, wide = links.shape
    reached = links.push(_arbitrary(high))  # of ones, weights of both signs could cancel to 0
    if not reached.any():
        return np.zeros(high), np.zeros(wide)
    if not np.isfinite(reached).all():
        return np.full(high, np.nan), np.full(wide, np.nan)
    there, back = (links.push, links.pull) if high <= wide else (links.pull, links.push)
    few = min(high, wide)
    vector = np.full(few, np.nan)
    if few > FEW or high * wide > DENSE:
        vector = _by_lanczos(lambda x: back(there(x)), few, signed=signed)
    if np.isnan(vector[0]) and (few == 1 or high * wide <= DENSE):
        vector = _by_matrix(there(np.eye(few)))
    other = there(vector)
    pair = _oriented(vector), _oriented(other / np.linalg.norm(other))
    return pair if high <= wide else pair[::-1]


def _by_matrix(matrix: Values) -> Values:
    """The leading left singular vector; of several, their part of equal scores."""
    left, sizes, _ = np.linalg.svd(matrix, full_matrices=False)
    leading = left[:, sizes >= (1 - EQUAL) * sizes[0]]
    if leading.shape[1] == 1:
        return leading[:, 0]
    equal = leading @ leading.sum(0)
    length = np.linalg.norm(equal)
    return equal / length if length > EQUAL else np.full(len(matrix), np.nan)


def _by_lanczos(square: Map, size: int, *, signed: bool) -> Values:
    """The leading eigenvector; of several, what equal scores lead to.

    Weights that are not negative have a leading vector that is not either, so equal scores find
    it. Signed ones may have it at right angles to them: then another start finds it.
    """
    if not signed:
        return _iterated(square, np.ones(size))[0]
    other, leading = _iterated(square, _arbitrary(size))
    equal, largest = _iterated(square, np.ones(size), leading)
    if largest >= (1 - 2 * EQUAL) * leading:  # eigenvalues are squares: twice the difference
        return equal
    _, second = _iterated(lambda x: _beside(other, square(_beside(other, x))), _arbitrary(size, 1))
    return np.full(size, np.nan) if second >= (1 - 2 * EQUAL) * leading else other


def _iterated(square: Map, start: Values, largest: float = 0.0) -> tuple[Values, float]:
    """Lanczos' iteration with full orthogonalisation: the leading vector and its eigenvalue.

    It never leaves the space that its start spans, which ARPACK does where that space is small.
    ``largest`` is the largest eigenvalue, if known, so that rounding is told from what is there.
    NaN where it does not converge.
    """
    size = len(start)
    basis = np.empty((min(size, MOST, max(20, ROOM // size)), size))
    for _ in range(PATIENCE // len(basis)):
        start, value, left = _round(square, start, basis, ROUNDING * largest)
        if left <= RESIDUAL * value:
            return start, value
    return np.full(size, np.nan), value


def _round(
    square: Map, start: Values, basis: Values, nothing: float
) -> tuple[Values, float, float]:
    """The leading vector in a Krylov space, its eigenvalue and the length of its residual.

    What is not longer than ``nothing`` is rounding: the space ends there.
    """
    along, across = np.zeros(len(basis)), np.zeros(len(basis))
    basis[0] = start / np.linalg.norm(start)
    for k in range(len(basis)):
        y = square(basis[k])
        along[k] = y @ basis[k]
        for _ in range(2):  # once would leave rounding behind, and that grows
            y -= (basis[: k + 1] @ y) @ basis[: k + 1]
        across[k] = np.linalg.norm(y)
        if across[k] <= max(nothing, RESIDUAL * along.max()):
            across[k] = 0.0
        ends = across[k] == 0 or k + 1 == len(basis)
        if ends or k % 4 == 3:
            value, part = _leading_of_band(along[: k + 1], across[:k])
            left = float(across[k] * abs(part[-1]))
            if ends or left <= RESIDUAL * value:
                break
        basis[k + 1] = y / across[k]
    return part @ basis[: k + 1], value, left


def _leading_of_band(along: Values, across: Values) -> tuple[float, Values]:
    """The leading eigenvector of a symmetric matrix of three diagonals, and its eigenvalue."""
    from scipy.linalg import eigh_tridiagonal

    if len(along) == 1:
        return float(along[0]), np.ones(1)
    last = len(along) - 1
    values, vectors = eigh_tridiagonal(along, across, select="i", select_range=(last, last))
    return float(values[0]), vectors[:, 0]


def _beside(vector: Values, x: Values) -> Values:
    """What is at right angles to a unit vector."""
    return x - vector * (vector @ x)


def _arbitrary(size: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal(size)


def _oriented(vector: Values) -> Values:
    """With its largest entry positive: among equals, to 9 digits, the first."""
    sizes = np.abs(vector)
    first = int(np.argmax(sizes >= (1 - 1e-9) * sizes.max()))
    return vector if vector[first] > 0 else -vector


@dataclass(frozen=True, eq=False)
class _Joined:
    """All links of some steps as one map, from its source layers' neurons to its target layers'."""

    steps: tuple[Step, ...]

    @cached_property
    def _rows(self) -> dict[int, slice]:
        return _laid_out([step.source for step in self.steps])

    @cached_property
    def _columns(self) -> dict[int, slice]:
        return _laid_out([step.target for step in self.steps])

    @property
    def shape(self) -> tuple[int, int]:
        """Number of sources and of targets."""
        rows, columns = [*self._rows.values()][-1], [*self._columns.values()][-1]
        return rows.stop, columns.stop

    def push(self, x: Values) -> Values:
        arrived = np.zeros((*x.shape[:-1], self.shape[1]))
        for step in self.steps:
            part = x[..., self._rows[step.source.start]]
            arrived[..., self._columns[step.target.start]] += step.push(part)
        return arrived

    def pull(self, y: Values) -> Values:
        returned = np.zeros((*y.shape[:-1], self.shape[0]))
        for step in self.steps:
            part = y[..., self._columns[step.target.start]]
            returned[..., self._rows[step.source.start]] += step.pull(part)
        return returned


def _laid_out(layers: list[slice]) -> dict[int, slice]:
    """The places of different layers' neurons one after another, by the first neuron's id."""
    found: dict[int, slice] = {}
    at = 0
    for layer in layers:
        if layer.start not in found:
            found[layer.start] = slice(at, at + layer.stop - layer.start)
            at = found[layer.start].stop
    return found
