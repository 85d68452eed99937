"""Which epochs of a run, and which of its links, go into a database: asked for, checked, taken."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cntgraph.database.content import Content
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from cntgraph.network import Network

__all__ = ["check_choice", "check_weights", "chosen_epochs", "linked_part"]

_NUMBER = r"(\d+\.?\d*|\.\d+)(e-?\d+)?"
_CHOICE = re.compile(rf"all|none|nonzero|top:[1-9]\d*|(backbone|above):{_NUMBER}")


def chosen_epochs(content: Content, epochs: Iterable[int] | None) -> list[int]:
    """The epochs in numeric order, each once and each in the run."""
    if epochs is None:
        return content.epochs
    for epoch in (chosen := list(epochs)):
        if isinstance(epoch, bool) or epoch not in content.epochs:
            known = ", ".join(map(str, content.epochs)) or "none"
            raise InputRefused(f"epoch {epoch!r} is not in {content.name!r}", why=f"it has {known}")
    return sorted({int(epoch) for epoch in chosen})


def check_choice(links: str) -> None:
    """Refuse what is no choice of links."""
    if not _CHOICE.fullmatch(links):
        raise InputRefused(
            f"links={links!r} is no choice of links",
            why="it is all, none, nonzero, top:K (per neuron), backbone:ALPHA or above:X",
            fix='links="top:32"',
        )


def check_weights(content: Content, links: str) -> None:
    """Refuse to take links from a run that has no weights."""
    if links != "none" and not content.run.keeps_weights:
        raise InputRefused(
            f"links={links!r} of {content.name!r} cannot be loaded",
            why="the run was recorded with keep_weights=False, and links are its weights",
            fix='load its strengths alone: links="none" (--links none)',
        )


def linked_part(network: Network, links: str) -> Network | None:
    """The network of the links that are to be loaded."""
    if links in ("all", "none"):
        return network if links == "all" else None
    return network.filtered(links)
