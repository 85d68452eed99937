"""Every measure beside strength: how far they agree, layer by layer and epoch by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.comparing.ranking import Ranked, Values, at_most, kendall, pearson, spearman
from cntgraph.comparing.values import (
    LABELS,
    Convention,
    by_size,
    chosen_epochs,
    known_names,
    require_top,
    tables,
)
from cntgraph.errors import CntWarning, InputRefused
from cntgraph.measures import STRENGTH_COLUMNS, neuron_measures, plan

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.runs import Run

__all__ = ["compare"]

COLUMNS = (
    "epoch",
    "layer",
    "size",
    "measure",
    "against",
    "pearson",
    "spearman",
    "kendall",
    "top_shared",
)
AGAINST = ("strength", "strength_absolute")
CHEAP = 1.0  # seconds an epoch that a measure nobody named may take


def compare(
    run: Run,
    *names: str,
    epochs: Iterable[int] | None = None,
    sign: str = "absolute",
    length: str = "inverse",
    top: int = 20,
) -> pd.DataFrame:
    """Correlation of measures with strength, by layer and epoch.

    Columns: epoch, layer, size (neurons compared: those whose two values are finite), measure,
    against (``strength``, the signed sum of weights, or ``strength_absolute``, that of their
    sizes), pearson, spearman, kendall (tau-b), and top_shared: which share of the ``top`` neurons
    of the layer by one, at most half of them, is also among those by the other. The top are those
    of largest value, of a strength largest |value|, and of equal ones the first. Where there is
    one neuron, or one value but for rounding, there is nothing to correlate: NaN.

    Without names those that the run has stored are compared, or if it has none all measures of
    neurons that take about a second; a `CntWarning` names what was left out and why. Stored
    values are used as they are, others are computed under ``sign`` and ``length``, with the
    maximum for ``length="log"`` over all epochs of the run.

    A measure of |w| follows strength_absolute closely on most networks: see whether it picks
    other neurons before it is told as another finding.

    >>> cnt.compare(run, "pagerank", epochs=[0, 9])                    # doctest: +SKIP

    Raises `InputRefused` for a measure that has no value for each neuron and `DegenerateMeasure`
    for a named one that says nothing on this network.
    """
    import pandas as pd

    require_top(top)
    chosen = chosen_epochs(run, epochs)
    named = known_names(run, names)
    refused: dict[str, str] = {}
    wanted = named or _by_default(run, chosen[0], (sign, length), refused)
    rows: list[dict[str, Any]] = []
    given = None if named else refused
    for epoch, table in tables(run, chosen, wanted, (sign, length), given):
        measures = [name for name in wanted if name in table]
        rows += _rows(epoch, table, measures, top)
    if refused:
        said = "; ".join(f"{name}: {why}" for name, why in refused.items())
        warnings.warn(f"not compared: {said}", CntWarning, stacklevel=2)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _by_default(
    run: Run, epoch: int, convention: Convention, refused: dict[str, str]
) -> tuple[str, ...]:
    """What the run has stored, else the measures that take little time."""
    stored = [name for name in run.provenance["options"]["measures"] if name not in LABELS]
    if stored:
        return tuple(stored)
    network = run.network(epoch)
    sign, length = convention
    found = []
    for name in neuron_measures():
        if name in STRENGTH_COLUMNS or name in LABELS:
            continue
        try:
            planned = plan(network, name, sign=sign, length=length)
        except InputRefused:
            continue  # it has not the convention that was asked for
        seconds = float(planned["seconds"].iloc[0])
        if seconds <= CHEAP:
            found.append(name)
        else:
            refused[name] = f"about {seconds:,.0f} s an epoch, name it to have it"
    return tuple(found)


def _rows(
    epoch: int, table: pd.DataFrame, measures: Sequence[str], top: int
) -> Iterator[dict[str, Any]]:
    for layer, neurons in table.groupby("layer", sort=False):
        columns = {n: _Column(n, neurons[n].to_numpy(np.float64)) for n in (*AGAINST, *measures)}
        for name in measures:
            for other in AGAINST:
                stated = {"epoch": epoch, "layer": layer, "measure": name, "against": other}
                yield {**stated, **_agreement(columns[name], columns[other], top)}


class _Column:
    """A measure of a layer's neurons, by value and by what it is ranked by."""

    def __init__(self, name: str, values: Values) -> None:
        self.name, self.finite = name, np.isfinite(values)
        self.values = Ranked(values)
        self.sizes = Ranked(by_size(name, values))

    def of(self, chosen: NDArray[np.bool_]) -> _Column:
        return self if chosen.all() else _Column(self.name, self.values.values[chosen])


def _agreement(a: _Column, b: _Column, top: int) -> dict[str, Any]:
    both = a.finite & b.finite
    a, b = a.of(both), b.of(both)
    constant = a.values.constant or b.values.constant
    count = 0 if constant else at_most(top, int(both.sum()))
    shared = len(a.sizes.strongest(count) & b.sizes.strongest(count))
    return {
        "size": int(both.sum()),
        "pearson": pearson(a.values, b.values),
        "spearman": spearman(a.values, b.values),
        "kendall": kendall(a.values, b.values),
        "top_shared": shared / count if count else float("nan"),
    }
