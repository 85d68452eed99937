"""One row per layer: the fluctuation of its strengths beside the statistics of its weights.

The baselines stand next to the measure on purpose: on fully connected networks the plain standard
deviation of the weights separates accurate from under-trained networks at least as well as the
fluctuation does. What weights alone cannot give is the excess over networks whose weights were
shuffled within each block.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cntgraph.errors import DegenerateMeasure, InputRefused
from cntgraph.measures.nulls import known_null, null_models
from cntgraph.measures.strength import strengths_by_layer
from cntgraph.network import Layer, Network

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["LAYER_COLUMNS", "NULL_COLUMNS", "layers"]

NULL_COLUMNS = ("fluctuation_null", "fluctuation_excess", "fluctuation_z")  # with shuffles
LAYER_COLUMNS = (
    "layer",
    "kind",
    "size",
    "fluctuation",
    "strength_mean",
    "weight_count",
    "weight_mean",
    "weight_std",
    "weight_skewness",
    "weight_kurtosis",
    "weight_min",
    "weight_max",
)


def layers(
    network: Network,
    *,
    convention: str = "plain",
    shuffles: int = 0,
    null: str = "weights",
    seed: int = 0,
) -> pd.DataFrame:
    """Layers Fluctuation and Link-Weights: a row per layer.

    ``fluctuation`` is the population standard deviation (ddof 0) of the strengths of the layer's
    neurons, Y_l = sqrt(mean((s - mean(s))^2)). The ``weight_`` columns describe the trained weights
    of the links into the layer, each counted once (a kernel, not its unrolled copies), in
    convention ``paper`` with each bias once: population deviation, biased skewness and excess
    kurtosis as SciPy's defaults; NaN where a layer has no weights.

    With ``shuffles`` > 0 the weights of every block are shuffled that often, or with
    ``null="signs"`` the signs alone (see `cntgraph.null_model`): ``fluctuation_null`` is the mean
    of Y over the shuffles, ``fluctuation_excess`` = Y / null and ``fluctuation_z`` =
    (Y - null) / deviation of the null.

    Source: La Malfa, La Malfa, Nicosia and Latora, 2021, arXiv 2110.02628.
    """
    import numpy as np
    import pandas as pd

    if shuffles < 0:
        raise InputRefused(f"shuffles={shuffles}", fix="give 0 or more")
    known_null(null)
    if null == "strengths":
        raise DegenerateMeasure(
            "fluctuation against null='strengths' says nothing",
            why="this null model keeps every strength, so it keeps every fluctuation",
            fix="use null='weights' or null='signs'",
        )
    found = strengths_by_layer(network, convention)
    rows = [_row(network, layer, found[layer.name], convention) for layer in network.layers]
    table = pd.DataFrame(rows, columns=list(LAYER_COLUMNS))
    if shuffles:
        drawn = null_models(network, null, shuffles, seed=seed)
        of_null = np.array([_fluctuations(one, convention) for one in drawn])
        mean, value = of_null.mean(axis=0), table["fluctuation"].to_numpy()
        deviation = of_null.std(axis=0)
        beside = (mean, _ratio(value, mean), _ratio(value - mean, deviation))
        table = table.assign(**dict(zip(NULL_COLUMNS, beside, strict=True)))
    return table


def fluctuation(strengths: NDArray[np.float64]) -> float:
    """The population standard deviation of a layer's strengths; NaN for an empty layer."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # infinite weights have no deviation, and NaN says so
        return float(strengths.std()) if len(strengths) else float("nan")


def _row(
    network: Network, layer: Layer, strengths: NDArray[np.float64], convention: str
) -> dict[str, Any]:
    import numpy as np

    weights = link_weights(network, layer, biases=convention == "paper")
    with np.errstate(invalid="ignore"):
        mean = float(strengths.mean()) if len(strengths) else float("nan")
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "size": layer.size,
        "fluctuation": fluctuation(strengths),
        "strength_mean": mean,
        **_statistics(weights),
    }


def link_weights(network: Network, layer: Layer, *, biases: bool = False) -> Tensor:
    """The trained weights of the links into a layer, each once, flat in float64."""
    import torch

    parts: dict[str, Tensor] = {}
    for block in network.blocks:
        if block.target == layer.name and block.link_kind == "weight":
            # a layer that reads two others by one matrix has two blocks and one set of weights
            key = json.dumps(block.weight.to_json())
            if key not in parts:
                parts[key] = block.tensor.detach().reshape(-1).to(torch.float64)
    if biases and layer.bias is not None:
        bias = layer.bias.evaluate(network.weights).detach()
        parts["bias"] = bias.reshape(-1).to(torch.float64)
    if len(parts) == 1:
        return next(iter(parts.values()))
    return torch.cat(list(parts.values())) if parts else torch.empty(0, dtype=torch.float64)


def _statistics(w: Tensor) -> dict[str, Any]:
    count = w.numel()
    if not count:
        missing = float("nan")
        return {"weight_count": 0, **dict.fromkeys(LAYER_COLUMNS[6:], missing)}
    mean = w.mean()
    centred = w - mean
    squares = centred * centred
    variance = squares.mean()
    third, fourth = squares.dot(centred) / count, squares.dot(squares) / count
    values = (
        mean,
        variance.sqrt(),
        third / variance**1.5,
        fourth / variance**2 - 3.0,
        w.min(),
        w.max(),
    )
    return {
        "weight_count": count,
        **dict(zip(LAYER_COLUMNS[6:], map(float, values), strict=True)),
    }


def _fluctuations(network: Network, convention: str) -> list[float]:
    found = strengths_by_layer(network, convention)
    return [fluctuation(found[layer.name]) for layer in network.layers]


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        return a / b
