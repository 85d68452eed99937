"""A load ends by asking the server what it holds: counts, sum of weights, every strength anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cntgraph.database.links import rectangles
from cntgraph.errors import DatabaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cntgraph.database.connection import Connection
    from cntgraph.network import Block, Network

__all__ = ["Expected", "Mismatch", "SelfCheck", "compare", "expected", "found_there"]

_TOLERANCE = (
    1e-9  # sums in another order differ by a few units in the last place of what was summed
)

# Degrees come from the store without a look at the links; the two sums are what takes time.
_FOUND = """
MATCH (n:NeuronState) WHERE n.id >= $first AND n.id < $first + $neurons
CALL (n) { OPTIONAL MATCH (n)-[k:LINK]->() RETURN sum(k.weight) AS outgoing }
CALL (n) { OPTIONAL MATCH (n)<-[k:LINK]-() RETURN sum(k.weight) AS incoming }
RETURN count(n) AS neurons,
       sum(COUNT { (n)-[:LINK]->() }) AS links,
       sum(COUNT { (n)-[:CARRIES]->() }) AS carried,
       sum(outgoing) AS weight,
       max(abs(n.strength - (incoming + outgoing)) / (1.0 + n.strength_absolute)) AS difference
"""


class Mismatch(DatabaseError):
    """The server holds something else than was sent."""


@dataclass(frozen=True)
class Expected:
    """What a snapshot's part of the database must hold."""

    neurons: int
    links: int
    carried: int
    weight: float
    absolute: float
    strengths: bool


@dataclass(frozen=True)
class SelfCheck:
    """What the server counted and summed over an epoch, and how little that differs from the run.

    ``weight`` is the sum of all weights on the server, ``weight_difference`` from the sum of those
    that were sent, as a share of the total |weight|. ``strength_difference`` is the largest one
    between a stored strength and the sum of its links there, as a share of the |weight| at the
    neuron; None where only some links are loaded, which strengths are not the sums of.
    """

    epoch: int
    neurons: int
    links: int
    carried: int
    weight: float | None
    weight_difference: float | None
    strength_difference: float | None


def expected(network: Network | None, neurons: int, *, strengths: bool) -> Expected:
    """What follows from the network whose links are loaded, None where none are."""
    if network is None:
        return Expected(neurons, 0, 0, 0.0, 0.0, strengths=False)
    trained = [block for block in network.blocks if block.link_kind == "weight"]
    carried = sum(b.link_count for b in network.blocks if b.link_kind != "weight" and b.certain)
    parts = [part for block in trained for part in _signed_sums(block)]
    positive, negative = (math.fsum(part[sign] for part in parts) for sign in (0, 1))
    return Expected(
        neurons,
        sum(block.link_count for block in trained),
        carried,
        positive + negative,
        positive - negative,
        strengths,
    )


def _signed_sums(block: Block) -> Iterator[tuple[float, float]]:
    """The sums of its positive and of its negative weights, in some parts."""
    if block.array is None:
        positive, negative = block.sums()[0].sum(dim=1).tolist()
        yield positive, negative
    elif (dense := rectangles(block)) is not None:
        yield from (_signed(weights) for _, _, weights in dense)
    else:
        yield from (_signed(links.weight) for links in block.links(100_000))


def _signed(weights: NDArray[np.float64]) -> tuple[float, float]:
    return float(weights.clip(min=0).sum()), float(weights.clip(max=0).sum())


def found_there(connection: Connection, first: int, neurons: int) -> dict[str, Any]:
    """What the server counts and sums over the states with ids from ``first``."""
    (found,) = connection.rows(_FOUND, first=first, neurons=neurons)
    return found


def compare(found: dict[str, Any], wanted: Expected, epoch: int, name: str) -> SelfCheck:
    """What was found; `Mismatch` where the server holds anything else than was sent."""
    what = f"epoch {epoch} of {name!r}"
    for count in ("neurons", "links", "carried"):
        if found[count] != getattr(wanted, count):
            raise _wrong(what, f"{found[count]:,} {count} instead of {getattr(wanted, count):,}")
    counts = found["neurons"], found["links"], found["carried"]
    if not math.isfinite(wanted.absolute):  # a weight that is not a number: nothing to compare
        return SelfCheck(epoch, *counts, None, None, None)
    off = abs(found["weight"] - wanted.weight) / (1 + wanted.absolute)
    if not off <= _TOLERANCE:
        raise _wrong(what, f"the weights sum to {found['weight']!r} instead of {wanted.weight!r}")
    difference = found["difference"] if wanted.strengths else None
    if difference is not None and not difference <= _TOLERANCE:
        raise _wrong(what, f"a strength differs from the sum of its links by {difference:.3g}")
    return SelfCheck(epoch, *counts, found["weight"], off, difference)


def _wrong(what: str, why: str) -> Mismatch:
    return Mismatch(
        f"{what} did not arrive as it was sent",
        why=f"the database holds {why}; somebody may have written there meanwhile",
        fix="load it again: what is there of that epoch is removed first",
    )
