"""Any measure beside its null model: what the network has that chance would not give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import InputRefused
from cntgraph.measures.measure import measure
from cntgraph.measures.nulls import null_models
from cntgraph.network import Network

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["against_null"]

ROUNDING = 1e-12  # relative: a spread that is smaller is that of sums in another order


def against_null(
    network: Network,
    *names: str,
    kind: str = "weights",
    shuffles: int = 20,
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Measures by name beside what they are in a null model, row by row.

    The table of `cntgraph.measure` (which takes ``options``), and for each of its columns of
    numbers ``<name>_null``, its mean over ``shuffles`` draws of `cntgraph.null_model` of that
    ``kind``; ``<name>_excess``, the value / null; and ``<name>_z``, the value less the null in
    standard deviations of the null (ddof 0), NaN where the null has no spread. The same row of
    every draw is compared, so it is said of a neuron what its place in the wiring does not explain.

    >>> import torch, cntgraph as cnt
    >>> network = cnt.trace(torch.nn.Linear(8, 4), (1, 8))
    >>> list(cnt.against_null(network, "strength", shuffles=5).columns[3:])
    ['strength', 'strength_null', 'strength_excess', 'strength_z']

    Raises what `cntgraph.measure` and `cntgraph.null_model` raise, and `InputRefused` for fewer
    than two shuffles and for measures that give labels instead of numbers.
    """
    if shuffles < 2:
        raise InputRefused(f"shuffles={shuffles}", why="one draw has no spread", fix="give 20")
    table = measure(network, *names, **options)
    columns = [c for c in table.columns if c not in ("neuron", "layer", "index", *_ENDS)]
    found = _numbers(table, columns)
    mean, squares = np.zeros_like(found), np.zeros_like(found)
    for count, one in enumerate(null_models(network, kind, shuffles, seed=seed), start=1):
        drawn = _numbers(measure(one, *names, **options), columns)
        step = drawn - mean  # Welford: no draw is kept
        mean += step / count
        squares += step * (drawn - mean)
    spread = np.sqrt(squares / shuffles)
    spread[spread <= ROUNDING * np.abs(mean)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        beside = {"null": mean, "excess": found / mean, "z": (found - mean) / spread}
    for k, column in enumerate(columns):
        for name, values in beside.items():
            table[f"{column}_{name}"] = values[:, k]
    return table


_ENDS = ("source", "target")


def _numbers(table: pd.DataFrame, columns: list[str]) -> NDArray[np.float64]:
    for column in columns:
        if column == "community" or table[column].dtype.kind not in "fiu":
            raise InputRefused(
                f"{column} has no mean over a null model",
                why="its values are labels, not numbers",
                fix="ask for modularity, which says how good the labels are",
            )
    return table[columns].to_numpy(dtype=np.float64)
