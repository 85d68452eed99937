"""What a load would write and how long it would take, said before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cntgraph.database.choosing import check_choice, check_weights, chosen_epochs, linked_part
from cntgraph.database.content import Content
from cntgraph.database.schema import COMPLETE

if TYPE_CHECKING:
    from cntgraph.database.connection import Connection
    from cntgraph.network import Network

__all__ = ["LoadPlan", "complete_epochs", "load_plan"]

# On two cores with the local server, as benchmarks/loading.py measures: several sessions and one.
_LINKS_PER_SECOND, _LINKS_PER_SECOND_ALONE = 150_000, 100_000
_NEURONS_PER_SECOND = 6_000
_BYTES_PER_LINK, _BYTES_PER_NEURON = 75, 600


@dataclass(frozen=True)
class LoadPlan:
    """What `load` would write: ``epochs``, all their neurons and links, bytes, seconds.

    ``links`` are trained weights, ``carrying_links`` the others. ``skipped`` epochs are in the
    database. Bytes and seconds are what such loads took on a machine of two cores.
    """

    run: str
    epochs: tuple[int, ...]
    skipped: tuple[int, ...]
    neurons: int
    links: int
    carrying_links: int
    bytes: int
    seconds: float


def load_plan(
    content: Content, epochs: Iterable[int] | None, links: str, *, there: Collection[int] = ()
) -> LoadPlan:
    """The plan for the epochs asked for, less those that are ``there``."""
    chosen = chosen_epochs(content, epochs)
    check_choice(links)
    check_weights(content, links)
    missing = [epoch for epoch in chosen if epoch not in there]
    counts = [_counts(content, epoch, links) for epoch in missing]
    neurons, trained, carried = (sum(each[k] for each in counts) for k in range(3))
    rate = _LINKS_PER_SECOND if len(missing) > 1 else _LINKS_PER_SECOND_ALONE
    return LoadPlan(
        content.name,
        tuple(missing),
        tuple(epoch for epoch in chosen if epoch in there),
        neurons,
        trained,
        carried,
        (trained + carried) * _BYTES_PER_LINK + neurons * _BYTES_PER_NEURON,
        (trained + carried) / rate + neurons / _NEURONS_PER_SECOND,
    )


def complete_epochs(connection: Connection, name: str) -> set[int]:
    """The epochs of a run that the database holds whole."""
    found = connection.rows(
        "MATCH (x:Snapshot {run: $run, status: $status}) RETURN x.epoch AS epoch",
        run=name,
        status=COMPLETE,
    )
    return {int(row["epoch"]) for row in found}


def _counts(content: Content, epoch: int, links: str) -> tuple[int, int, int]:
    """Neurons, trained links and carrying links of one epoch."""
    if links == "none":
        return content.run.wiring.neuron_count, 0, 0
    # how many links there are is known without weights, which of them are strong is not
    network = content.run.wiring if links == "all" else content.network(epoch)
    chosen: Network | None = linked_part(network, links)
    assert chosen is not None
    total = sum(block.link_count for block in chosen.blocks if block.certain)
    return network.neuron_count, chosen.link_count, total - chosen.link_count
