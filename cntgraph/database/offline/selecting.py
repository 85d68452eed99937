"""What of which runs goes into a database that is made in one go: every run once, all checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cntgraph.database.choosing import check_choice, check_weights, chosen_epochs, linked_part
from cntgraph.database.content import Content
from cntgraph.errors import InputRefused
from cntgraph.network import Network
from cntgraph.runs import Run

__all__ = ["Selection", "bytes_of_files", "selections"]

_BYTES_PER_LINK, _BYTES_PER_NEURON, _BYTES_PER_RUN = 6, 60, 50_000  # in Parquet, at most


@dataclass(frozen=True)
class Selection:
    """Some epochs of a run under the name it will have, and the choice of their links."""

    content: Content
    epochs: tuple[int, ...]
    links: str

    def linked(self, network: Network) -> Network | None:
        """The network of the links that are to be written, None for none."""
        return linked_part(network, self.links)


def selections(
    runs: Sequence[tuple[Run, Iterable[int] | None]], links: str, *, name: str | None = None
) -> list[Selection]:
    """Every run with its epochs (None for all of them), checked before anything is written.

    Raises `InputRefused` where two runs would have one name, and where there is no epoch at all.
    """
    check_choice(links)
    found = [_selected(run, epochs, links, name) for run, epochs in runs]
    _refuse_equal_names(found)
    if not any(each.epochs for each in found):
        raise InputRefused(
            "there is no epoch to write",
            why="a database without epochs answers no question",
            fix="give at least one run that has an epoch",
        )
    return [each for each in found if each.epochs]


def bytes_of_files(selected: Sequence[Selection]) -> int:
    """About how many bytes the files of the graph take, if no link is left out."""
    total = 0
    for each in selected:
        wiring = each.content.run.wiring
        links = sum(block.link_count for block in wiring.blocks if block.certain)
        an_epoch = wiring.neuron_count * _BYTES_PER_NEURON
        an_epoch += links * _BYTES_PER_LINK * (each.links != "none")
        total += an_epoch * len(each.epochs) + _BYTES_PER_RUN
    return total


def _selected(run: Run, epochs: Iterable[int] | None, links: str, name: str | None) -> Selection:
    content = Content(run, run.name if name is None else name)
    if not content.name:
        raise InputRefused(
            f"the run in {run.path} has an empty name",
            why="Neo4j's importer takes an empty text for a missing one",
            fix="give it one: name=... (--name)",
        )
    check_weights(content, links)
    _ = content.measures  # refuses a bad name
    return Selection(content, tuple(chosen_epochs(content, epochs)), links)


def _refuse_equal_names(found: Sequence[Selection]) -> None:
    paths: dict[str, object] = {}
    for each in found:
        name, path = each.content.name, each.content.run.path
        if name in paths:
            raise InputRefused(
                f"two runs have the name {name!r}",
                why=f"they are in {paths[name]} and {path}, and a database holds a name once",
                fix="leave one of them out, or load it afterwards under another name: "
                "cntgraph load RUN --name NAME",
            )
        paths[name] = path
