"""A run is proved epoch by epoch: what its folder holds against the model that it came from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused
from cntgraph.tracing.tracing import Verification, compare

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from cntgraph.network import Network
    from cntgraph.runs.run import Run

__all__ = ["verify_run"]

COLUMNS = ("epoch", "passed", "error_operators", "error_links", "largest_output", "links")


def verify_run(
    run: Run, model: nn.Module, example_input: Any, epochs: Iterable[int] | None, samples: int
) -> pd.DataFrame:
    """A row per epoch; see `Run.verify`."""
    import pandas as pd

    wanted = run.manifest.epochs if epochs is None else dict.fromkeys(epochs)
    rows = []
    for epoch in wanted:
        network = run.network(epoch)
        _refuse_others(run, network, model)
        _refuse_inputs(run, network, model, example_input)
        found = _compared(run, network, model, example_input, samples)
        rows.append(
            (
                int(epoch),
                found.passed,
                found.error_operators,
                found.error_links,
                found.largest_output,
                found.link_count,
            )
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _compared(
    run: Run, network: Network, model: nn.Module, example_input: Any, samples: int
) -> Verification:
    try:
        return compare(network, model, example_input, samples=samples)
    except (RuntimeError, ValueError) as failure:
        # one of the two does not take what the other takes, or gives tensors of other shapes
        given = [f"{la.name} {la.shape}" for la in network.layers if la.kind == "input"]
        raise InputRefused(
            f"the model and the network of the run {run.name} cannot be compared",
            why=f"{failure}; the run was traced with inputs {', '.join(given)}",
            fix="give the model, and the shape of its input, that the run was exported with",
        ) from failure


def _refuse_inputs(run: Run, network: Network, model: nn.Module, example_input: Any) -> None:
    """Refuse an example that the run's network does not take."""
    from cntgraph.tracing.examples import example_of
    from cntgraph.tracing.wrappers import unwrapped

    layers = [layer for layer in network.layers if layer.kind == "input"]
    given = example_of(unwrapped(model), example_input).tensors
    # a layer with a join encodes what it is given: its size is not the input's
    fits = len(layers) == len(given) and all(
        layer.join is not None or layer.size == tensor.numel()
        for layer, tensor in zip(layers, given, strict=True)
    )
    if not fits:
        known = ", ".join(f"{layer.name} {layer.shape}" for layer in layers)
        raise InputRefused(
            f"the run {run.name} was traced with other inputs",
            why=f"its network takes {known}; the example is of "
            + ", ".join(str(tuple(tensor.shape[1:])) for tensor in given),
            fix="give the input shape that the run was exported with",
        )


def _refuse_others(run: Run, network: Network, model: nn.Module) -> None:
    """Refuse a model whose parameters are not those of the run's."""
    from cntgraph.tracing.standin import tensors_of
    from cntgraph.tracing.wrappers import unwrapped

    model = unwrapped(model)
    own = dict(tensors_of(model))
    listed = set(network.coverage["parameter"])
    lacking = [name for name in listed if name not in own]
    more = [name for name, _ in model.named_parameters() if name not in listed]
    other = [
        f"{name} is {tuple(own[name].shape)} there and {tuple(network.weights[name].shape)} here"
        for name in network.tensor_names  # in their order: files keep none
        if name in own and own[name].shape != network.weights[name].shape
    ]
    why = (
        f"the model has no {sorted(lacking)[0]}"
        if lacking
        else f"the run knows no {more[0]}"
        if more
        else other[0]
        if other
        else ""
    )
    if why:
        raise InputRefused(
            f"the run {run.name} is of another model",
            why=why,
            fix=f"give the model that it was exported from: {run.provenance['model']}",
        )
