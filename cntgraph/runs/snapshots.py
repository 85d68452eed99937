"""An epoch is files made from a network: its weights, two tables and what was recorded.

A run that keeps no weights has the other three; the receipt still holds the hash of the weights
that were measured, so that the same epoch is known again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cntgraph.errors import CntWarning, InputRefused, RunDamaged, did_you_mean
from cntgraph.measures import (
    LAYER_COLUMNS,
    NULL_COLUMNS,
    STRENGTH_COLUMNS,
    layers,
    measured,
    neuron_measures,
    strength,
)
from cntgraph.network import Network
from cntgraph.runs.documents import listed, sealed, write_metrics
from cntgraph.runs.folder import RECEIPT

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

__all__ = [
    "COORDINATES",
    "UNSAID",
    "WEIGHTS",
    "digest",
    "empty_table",
    "epoch_files",
    "keeps_weights",
    "known_measures",
    "known_shuffles",
    "read_table",
]

COORDINATES = ("channel", "y", "x")
WEIGHTS = "weights.safetensors"
UNSAID = {"keep_weights": True, "shuffles": 0}  # options that a run which names them not has so
MILLION = 1_000_000


def epoch_files(
    epoch: int,
    network: Network,
    metrics: Mapping[str, Any],
    options: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    first: bool,
) -> dict[str, bytes]:
    """The files of an epoch by name, the receipt that lists the others last.

    ``options`` are the run's: what is measured, and by which convention. ``facts`` go into the
    receipt. A measure that says nothing is refused at the ``first`` epoch of a run; at a later one
    it is missing, with a warning.
    """
    neurons = _neurons(epoch, network, options, first=first)
    by_layer = _layers(network, options)
    weights = {name: network.weights[name].detach() for name in network.tensor_names}
    kept: dict[str, bytes] = {}
    if keeps_weights(options):
        weights = {name: tensor.cpu() for name, tensor in weights.items()}
        kept[WEIGHTS] = _weights_file(weights)
    files = {
        **kept,
        "neurons.parquet": _parquet(neurons),
        "layers.parquet": _parquet(by_layer),
        "metrics.json": write_metrics({n: v for n, v in metrics.items() if n != "epoch"}),
    }
    rows = {"neurons.parquet": neurons.num_rows, "layers.parquet": by_layer.num_rows}
    receipt = {
        "epoch": epoch,
        "weights": digest(weights),
        "not_finite": _not_finite(epoch, weights),
        **facts,
        "options": dict(options),
        "files": {name: listed(data, rows.get(name)) for name, data in files.items()},
    }
    return {**files, RECEIPT: sealed("cntgraph epoch", receipt)}


def keeps_weights(options: Mapping[str, Any]) -> bool:
    """True if the epochs of a run hold their weights, as they do unless its options deny it."""
    return bool({**UNSAID, **options}["keep_weights"])


def digest(weights: Mapping[str, Tensor]) -> str:
    """A hash of names, types, shapes and bits: equal for equal weights, wherever they came from."""
    import torch

    total = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        total.update(head.encode() + b"\n")
        if tensor.numel():
            total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def known_measures(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if each is a measure with a value for every neuron."""
    if isinstance(names, str):
        raise InputRefused(f"measures={names!r} is one word", fix=f"give a tuple: ({names!r},)")
    known = neuron_measures()
    for name in names:
        if name not in known:
            raise InputRefused(
                f"no measure {name!r} of neurons", why=did_you_mean(str(name), known)
            )
    stored_anyway = STRENGTH_COLUMNS
    return tuple(name for name in dict.fromkeys(names) if name not in stored_anyway)


def known_shuffles(count: int) -> int:
    """The number, if weights can be shuffled that often."""
    if isinstance(count, bool) or not hasattr(count, "__index__") or count < 0:
        raise InputRefused(f"shuffles={count!r}", fix="give a whole number from 0 on")
    return count


def _neurons(epoch: int, network: Network, options: Mapping[str, Any], *, first: bool) -> pa.Table:
    """A row per neuron; what all epochs share is made once, for it costs more than the sums do."""
    import pyarrow as pa

    identity: pa.Table | None = network.topology.get("identity of neurons")
    if identity is None:
        identity = _arrow(network.neurons())
        if network.neuron_count <= MILLION:  # beyond that memory is dearer than time
            network.topology["identity of neurons"] = identity
    columns = {name: identity[name] for name in identity.column_names}
    found = strength(network, convention=options["convention"])
    columns |= {name: _column(found[name]) for name in STRENGTH_COLUMNS}
    if options["measures"]:
        found = _measured(epoch, network, options["measures"], first=first)
        columns |= {name: _column(found[name]) for name in options["measures"]}
    return pa.table(columns)


def _measured(epoch: int, network: Network, names: Sequence[str], *, first: bool) -> pd.DataFrame:
    found, silent = measured(network, *names)
    for name, reason in silent.items():
        if first:
            raise reason
        warnings.warn(f"{name} is missing at epoch {epoch}: {reason.why}", CntWarning, stacklevel=2)
    return found


def _column(values: pd.Series[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values.to_numpy(), from_pandas=True)


def _layers(network: Network, options: Mapping[str, Any]) -> pa.Table:
    given = {**UNSAID, **options}
    found = layers(
        network,
        convention=given["convention"],
        shuffles=given["shuffles"],
        seed=given["seed"],
    )
    return _arrow(found)


def _arrow(table: pd.DataFrame) -> pa.Table:
    """The table without pandas' own metadata, so that the bytes do not depend on its version."""
    import pyarrow as pa

    found = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    texts = [
        pa.field(f.name, pa.string()) if pa.types.is_large_string(f.type) else f
        for f in found.schema
    ]
    return found.cast(pa.schema(texts))


def _weights_file(weights: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    # Tied and sliced tensors share memory, which the format does not know.
    owned = {name: t.detach().cpu().contiguous().clone() for name, t in weights.items()}
    return bytes(save(owned))


def _parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = pa.BufferOutputStream()
    # A dictionary of numbers that hardly repeat makes them larger and three times slower; ids and
    # counts are nearly free as differences.
    whole = [f.name for f in table.schema if pa.types.is_integer(f.type)]
    parquet.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=False,
        column_encoding=dict.fromkeys(whole, "DELTA_BINARY_PACKED"),
    )
    return bytes(sink.getvalue().to_pybytes())


def read_table(data: bytes, path: str) -> pd.DataFrame:
    """The table in the bytes of a Parquet file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table: pd.DataFrame = parquet.read_table(pa.BufferReader(data)).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise RunDamaged(
            f"{path} is damaged", why=str(error), fix="export the run again"
        ) from error
    return table


def empty_table(name: str, options: Mapping[str, Any]) -> pd.DataFrame:
    """The table of a run without epochs: its columns and no row."""
    import pandas as pd

    given = {**UNSAID, **options}
    neurons = ("neuron", "layer", "index", *COORDINATES, *STRENGTH_COLUMNS, *given["measures"])
    layers = (*LAYER_COLUMNS, *(NULL_COLUMNS if given["shuffles"] else ()))
    return pd.DataFrame(columns=["epoch", *(neurons if "neurons" in name else layers)])


def _not_finite(epoch: int, weights: Mapping[str, Tensor]) -> dict[str, int]:
    """How many values of each tensor are NaN or infinite, which a user should hear of once."""
    counts = {name: _count_not_finite(t) for name, t in weights.items() if t.is_floating_point()}
    bad = {name: count for name, count in counts.items() if count}
    if bad:
        said = ", ".join(f"{count:,} of {name}" for name, count in bad.items())
        warnings.warn(
            f"epoch {epoch}: values that are NaN or infinite: {said}; "
            "they are kept, and so are the strengths they enter",
            CntWarning,
            stacklevel=2,
        )
    return bad


def _count_not_finite(values: Tensor) -> int:
    import torch

    wide = values if values.dtype in (torch.float32, torch.float64) else values.to(torch.float32)
    if bool(wide.sum().isfinite()):  # one read of the weights, and what is not finite stays in it
        return 0
    return int((~wide.isfinite()).sum())
