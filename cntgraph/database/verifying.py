"""The deepest check of a load: the database computes what the run's own network computes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.database.choosing import chosen_epochs
from cntgraph.database.content import Content, layer_rows
from cntgraph.database.evaluating import evaluate, uncomputable
from cntgraph.errors import DatabaseError, InputRefused

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database.connection import Connection
    from cntgraph.network import Network

__all__ = ["refuse_failures", "refuse_unverifiable", "verify"]

_TOLERANCE = 1e-9  # both compute in float64, and add up in another order

COLUMNS = ("epoch", "passed", "error", "largest_output", "samples")


def verify(
    connection: Connection, content: Content, epochs: Iterable[int] | None, samples: int, seed: int
) -> pd.DataFrame:
    """A row per epoch; see `Database.verify`."""
    import pandas as pd

    rows = []
    for epoch in chosen_epochs(content, epochs):
        network = content.run.network(epoch)
        inputs = _inputs(network, samples, seed)
        given = tuple(inputs) if len(inputs) > 1 else inputs[0]
        found = evaluate(connection, content.name, epoch, given).to_numpy()
        wanted = _outputs(network, inputs)
        error = float(np.abs(found - wanted).max(initial=0.0))
        largest = float(np.abs(wanted).max(initial=0.0))
        passed = error <= _TOLERANCE * (1 + largest)
        rows.append((epoch, passed, error, largest, samples))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def refuse_unverifiable(content: Content) -> None:
    """Raise `InputRefused`, before anything is loaded, where the outputs could not be compared."""
    if not content.run.keeps_weights:
        raise InputRefused(
            f"{content.name!r} cannot be verified in the database",
            why="the run was recorded with keep_weights=False, and outputs come from weights",
            fix="load it without --verify",
        )
    found = uncomputable(layer_rows(content, content.run.wiring, 0))
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        shown = list(found.items())[:3]
        raise InputRefused(
            f"{content.name!r} cannot be verified in the database: it has no formula for "
            f"{', '.join(repr(name) for name, _ in shown)}{more}",
            why="; ".join(f"{name}: {why}" for name, why in shown),
            fix="load it without --verify; cntgraph verify MODEL --run RUN compares the run itself",
        )


def refuse_failures(found: pd.DataFrame, name: str) -> None:
    """Raise `DatabaseError` where an epoch in the database computes something else."""
    failed = found[~found["passed"].astype(bool)]
    if not failed.empty:
        first = failed.iloc[0]
        raise DatabaseError(
            f"epoch {int(first['epoch'])} of {name!r} computes something else in the database",
            why=f"its outputs differ from those of the run's network by {first['error']:.3g}",
            fix=f"load it again with replace=True (--epochs {int(first['epoch'])} --replace)",
        )


def _inputs(network: Network, samples: int, seed: int) -> list[NDArray[np.float64]]:
    """Samples from the normal distribution for every input, flat."""
    random = np.random.default_rng(seed)
    layers = [layer for layer in network.layers if layer.kind == "input"]
    return [random.standard_normal((samples, layer.size)) for layer in layers]


def _outputs(network: Network, inputs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """What the run's network makes of them, in float64: outputs in the order of layers."""
    import torch

    weights: dict[str, Any] = {
        name: tensor.to(torch.float64) if tensor.is_floating_point() else tensor
        for name, tensor in network.weights.items()
    }
    given = [torch.from_numpy(values) for values in inputs]
    with torch.no_grad():
        values = [
            value.reshape(len(value), -1).numpy()
            for layer, _, value in network.bound_to(weights).propagate(*given)
            if layer.kind == "output"
        ]
    return np.concatenate(values, axis=1)
