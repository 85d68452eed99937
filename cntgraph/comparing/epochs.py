"""The strongest neurons over the epochs of a run: who stays, who comes, who changes most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.comparing.ranking import Ranked, Values, at_most, kendall, spearman
from cntgraph.comparing.values import (
    by_size,
    chosen_epochs,
    chosen_layers,
    known_names,
    require_top,
    tables,
)
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.runs import Run

__all__ = ["persistent", "risers", "stability"]


def stability(
    run: Run, measure: str = "strength", *, top: int = 20, layer: str | None = None
) -> pd.DataFrame:
    """How far each epoch has the strong neurons of the epoch before it: a row per epoch and layer.

    Columns: epoch, previous, layer, top (how many neurons count as the strongest of the layer:
    ``top``, at most half of them), shared (how many of them were among the strongest before),
    jaccard (those shared of all that were at either epoch), kendall (tau-b) and spearman of all
    the layer's neurons. Neurons are ranked as the queries of the database rank them: strengths by
    |value|, other measures by value; of equal ones the first comes first. A layer whose neurons all
    have one value has no strongest: missing.

    ``measure`` is any of neurons, used as the run has stored it and else computed.

    >>> cnt.stability(run).groupby("layer")["jaccard"].mean()             # doctest: +SKIP

    Raises `InputRefused` for a run of one epoch and for an unknown measure or layer.
    """
    import pandas as pd

    require_top(top)
    rows = []
    before: tuple[int, dict[str, Values]] | None = None
    for epoch, values in _sizes(run, measure, layer, least=2):
        if before is not None:
            stated = {"epoch": epoch, "previous": before[0]}
            rows += [
                {**stated, "layer": name, **_kept(before[1][name], values[name], top)}
                for name in values
            ]
        before = epoch, values
    columns = ("epoch", "previous", "layer", "top", "shared", "jaccard", "kendall", "spearman")
    return pd.DataFrame(rows, columns=list(columns)).astype({"shared": "Int64"})


def persistent(
    run: Run, measure: str = "strength", *, top: int = 20, layer: str | None = None
) -> pd.DataFrame:
    """The neurons that were ever among the strongest of their layer, the most lasting first.

    Columns: layer, index, neuron, epochs_in_top (at how many epochs), first and last (the first
    and the last of these epochs). The strongest are counted and ranked as `stability` does.

    >>> kept = cnt.persistent(run, layer="fc1")                           # doctest: +SKIP
    >>> kept[kept["epochs_in_top"] == len(run.epochs)]                    # doctest: +SKIP
    """
    import pandas as pd

    require_top(top)
    seen: dict[tuple[str, int], list[int]] = {}
    for epoch, values in _sizes(run, measure, layer):
        for name, sizes in values.items():
            for index in _strongest(sizes, top):
                seen.setdefault((name, index), []).append(epoch)
    first = {one.name: one.first for one in run.wiring.layers}
    rows = [
        {
            "layer": name,
            "index": index,
            "neuron": first[name] + index,
            "epochs_in_top": len(epochs),
            "first": epochs[0],
            "last": epochs[-1],
        }
        for (name, index), epochs in seen.items()
    ]
    columns = ["layer", "index", "neuron", "epochs_in_top", "first", "last"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values(
        ["epochs_in_top", "neuron"], ascending=[False, True], ignore_index=True
    )


def risers(
    run: Run,
    first: int | None = None,
    last: int | None = None,
    *,
    measure: str = "strength",
    top: int = 20,
) -> pd.DataFrame:
    """The neurons of the network whose value changed most between two epochs.

    Columns: layer, index, neuron, value_first, value_last, change, rank_first, rank_last; the
    largest |change| first, equal ones in the order of their ids. ``first`` and ``last`` are the
    first and the last epoch of the run unless said otherwise. A rank is 1 more than the number of
    neurons of the network with a larger |value| (value, where it is no strength). A neuron whose
    change is not a number is left out. The database answers the same question for strength:
    ``db.query("risers", ...)``.

    >>> cnt.risers(run, 0, 9, top=5)                                      # doctest: +SKIP
    """
    require_top(top)
    (name,) = known_names(run, [measure])
    held = chosen_epochs(run, None, least=2)
    ends = [held[0] if first is None else first, held[-1] if last is None else last]
    if ends[0] == ends[1]:
        raise InputRefused(f"nothing changes from epoch {ends[0]} to itself", fix="name two epochs")
    found = dict(tables(run, chosen_epochs(run, ends), [name]))
    begun, ended = (found[epoch][name].to_numpy(np.float64) for epoch in ends)
    with np.errstate(invalid="ignore"):  # of infinities the change is NaN
        change = ended - begun
    columns = {
        "value_first": begun,
        "value_last": ended,
        "change": change,
        "rank_first": _ranks(by_size(name, begun)),
        "rank_last": _ranks(by_size(name, ended)),
    }
    table = found[ends[0]][["layer", "index", "neuron"]].assign(**columns)
    table = table[np.isfinite(change)]
    order = np.argsort(-table["change"].abs().to_numpy(), kind="stable")[:top]
    ranks = ["rank_first", "rank_last"]
    chosen: pd.DataFrame = table.iloc[order].astype(dict.fromkeys(ranks, "int64"))
    return chosen.reset_index(drop=True)


def _sizes(
    run: Run, measure: str, layer: str | None, *, least: int = 1
) -> Iterator[tuple[int, dict[str, Values]]]:
    """Each epoch with what the neurons of every layer are ranked by."""
    (name,) = known_names(run, [measure])
    layers = chosen_layers(run, layer)
    for epoch, table in tables(run, chosen_epochs(run, None, least=least), [name]):
        parts = dict(iter(table.groupby("layer", sort=False)[name]))
        sizes = {n: by_size(name, parts[n].to_numpy(np.float64)) for n in layers if n in parts}
        yield epoch, sizes


def _ranks(sizes: Values) -> NDArray[Any]:
    from scipy.stats import rankdata

    found: NDArray[Any] = rankdata(-sizes, method="min", nan_policy="omit")
    return found


def _strongest(sizes: Values, top: int) -> set[int]:
    """The places of the strongest; none where no neuron is stronger than another."""
    finite = np.flatnonzero(np.isfinite(sizes))
    chosen = Ranked(sizes[finite]).strongest(at_most(top, len(finite)))
    return set(finite[sorted(chosen)].tolist())


def _kept(before: Values, now: Values, top: int) -> dict[str, Any]:
    both = np.isfinite(before) & np.isfinite(now)
    old, new = Ranked(before[both]), Ranked(now[both])
    count = at_most(top, int(both.sum()))
    found = {
        "top": count,
        "shared": None,
        "jaccard": float("nan"),
        "kendall": kendall(old, new),
        "spearman": spearman(old, new),
    }
    if count and not old.constant and not new.constant:
        shared = len(old.strongest(count) & new.strongest(count))
        found |= {"shared": shared, "jaccard": shared / (2 * count - shared)}
    return found
