"""The values of neurons epoch by epoch: as they are stored in the run, else computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cntgraph.comparing.ranking import Values
from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures import STRENGTH_COLUMNS, measure
from cntgraph.measures.catalogue import MEASURES

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.network import Network
    from cntgraph.runs import Run

__all__ = [
    "LABELS",
    "Convention",
    "by_size",
    "chosen_epochs",
    "chosen_layers",
    "known_names",
    "require_top",
    "tables",
]

Convention = tuple[str, str]  # what becomes of signs, and how long a link is
USUAL: Convention = ("absolute", "inverse")
LABELS = {"community": "participation"}  # names, not amounts: what says as much in numbers


def known_names(run: Run, names: Iterable[str]) -> tuple[str, ...]:
    """The names, if each of them gives every neuron an amount."""
    stored = {*STRENGTH_COLUMNS, *_stored(run)}
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in stored and name not in MEASURES:
            known = {*stored, *(m.name for m in MEASURES.values() if m.level == "neuron")}
            raise InputRefused(
                f"no measure {name!r}", why=did_you_mean(str(name), known - LABELS.keys())
            )
        if name in LABELS:
            raise InputRefused(
                f"{name} cannot be ranked",
                why="it names the group of a neuron, which is no amount",
                fix=f"compare {LABELS[name]}, or look at cnt.measure(run, {name!r})",
            )
        if name not in stored and MEASURES[name].level != "neuron":
            raise InputRefused(
                f"{name} cannot be compared with strength",
                why=f"it is per {MEASURES[name].level}, strength is per neuron",
                fix=f"cnt.measure(run, {name!r}) gives its values at every epoch",
            )
    return found


def by_size(name: str, values: Values) -> Values:
    """What neurons are ranked by, in the database as well: the size of a strength, or the value."""
    return np.abs(values) if name in STRENGTH_COLUMNS else values


def require_top(top: int) -> None:
    """Refuse a number of strongest neurons that is none."""
    if top < 1:
        raise InputRefused(
            f"top={top}", fix="give the number of neurons that count as the strongest"
        )


def chosen_epochs(run: Run, epochs: Iterable[int] | None, *, least: int = 1) -> list[int]:
    """The epochs that are meant, in order; all of the run where none is named."""
    held = [int(epoch) for epoch in run.epochs["epoch"]]
    found = held if epochs is None else sorted(set(epochs))
    known = ", ".join(map(str, held)) or "none yet"
    if missing := [epoch for epoch in found if epoch not in held]:
        raise InputRefused(f"run {run.name!r} has no epoch {missing[0]}", why=f"it holds {known}")
    if len(found) < least:
        what = "an epoch" if least == 1 else f"{least} epochs"
        raise InputRefused(f"run {run.name!r} needs {what} for this", why=f"it holds {known}")
    return found


def chosen_layers(run: Run, layer: str | None) -> list[str]:
    """The layers that are meant, in order; all of them where none is named."""
    held = [one.name for one in run.wiring.layers]
    if layer is None:
        return held
    if layer not in held:
        raise InputRefused(f"no layer {layer!r} in run {run.name!r}", why=did_you_mean(layer, held))
    return [layer]


def tables(
    run: Run,
    epochs: Sequence[int],
    names: Sequence[str],
    convention: Convention = USUAL,
    refused: dict[str, str] | None = None,
) -> Iterator[tuple[int, pd.DataFrame]]:
    """Each epoch with its table: neuron, layer, index, the strengths and the measures named.

    A measure that is refused is left out from there on and noted in ``refused``; without such a
    dictionary the refusal is raised.
    """
    stored = {*STRENGTH_COLUMNS, *_stored(run)} if convention == USUAL else set()
    others = [name for name in names if name not in stored]
    whole = None
    if others and convention[1] == "log":  # its unit is the largest weight of all epochs
        whole = _computed(run, others, convention, refused).groupby("epoch")
    for epoch in epochs:
        table = run.neurons(epoch).drop(columns="epoch")
        missing = [name for name in others if name not in (refused or {})]
        if missing and whole is not None:
            found = whole.get_group(epoch).reset_index(drop=True)
        elif missing:
            found = _computed(run.network(epoch), missing, convention, refused)
        else:
            found = table
        kept = [name for name in missing if name in found]
        yield epoch, table.assign(**{name: found[name] for name in kept})


def _computed(
    of: Run | Network, names: Sequence[str], convention: Convention, refused: dict[str, str] | None
) -> pd.DataFrame:
    """The measures in one call, for what several need is computed once; else those that can be."""
    sign, length = convention
    try:
        return measure(of, *names, sign=sign, length=length)
    except InputRefused:
        if refused is None:
            raise
    found = None
    for name in names:
        try:
            table = measure(of, name, sign=sign, length=length)
        except InputRefused as refusal:
            refused[name] = refusal.why or refusal.what
        else:
            found = table if found is None else found.assign(**{name: table[name]})
    if found is None:
        raise InputRefused("no measure is left to compare", why="; ".join(refused.values()))
    return found


def _stored(run: Run) -> list[str]:
    return list(run.provenance["options"]["measures"])
