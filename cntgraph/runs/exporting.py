"""Checkpoints become a run: the model is traced once, and each epoch binds its weights to it."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints import find, match, read
from cntgraph.errors import CntWarning, InputRefused
from cntgraph.network import Network
from cntgraph.runs.folder import epochs_on_disk
from cntgraph.runs.run import Run, open_run
from cntgraph.runs.snapshots import epoch_files
from cntgraph.runs.writing import holds_a_run, origin, run_name, writing
from cntgraph.tracing import trace
from cntgraph.tracing.wrappers import unwrapped

if TYPE_CHECKING:
    import torch
    from torch import nn

    Source = Path | Mapping[str, torch.Tensor]

__all__ = ["ExportPlan", "export", "export_plan"]


def export(  # noqa: PLR0913 - what is done, where it goes, and what is let in
    model: nn.Module,
    checkpoints: Any,
    example_input: Any,
    *,
    to: str | os.PathLike[str],
    name: str | None = None,
    device: torch.device | str | None = None,
    measures: Sequence[str] = (),
    shuffles: int = 0,
    replace: bool = False,
    trust: bool = False,
    strict: bool = False,
) -> Run:
    """Write a run folder: for each checkpoint its weights, strengths, layers and metrics.

    ``checkpoints`` is a folder, a glob, a list of files, or a dict epoch -> state dict. The model
    gives the architecture and is not changed. ``measures`` are stored beside the strengths of
    every neuron, and where ``shuffles`` > 0 the fluctuation of every layer beside that of networks
    whose weights were shuffled so often (see `layers`); ``device`` is where they are computed. A
    measure that says nothing is refused at the first epoch of a run, before anything is written,
    and is NaN at a later one, with a `CntWarning`. An epoch that is in the folder with the same
    weights is not done again; other weights are refused unless ``replace``. ``trust`` lets a
    ``.pt2`` of your own in, whose pickles may be run; ``strict`` refuses weights that are NaN or
    infinite, which are else kept and warned of.

    >>> run = export(model, "checkpoints/", (1, 1, 28, 28), to="runs/lenet")    # doctest: +SKIP
    >>> run.neurons(9).nlargest(3, "strength")                                  # doctest: +SKIP

    Raises `InputRefused` for a checkpoint that cannot be read or does not fit, and for a folder
    that holds anything else; `ModelRefused` for a model that cannot be traced; `DegenerateMeasure`.
    """
    folder = Path(to).expanduser()
    holds_a_run(folder)
    sources = find(checkpoints, trust=trust)
    model = unwrapped(model)
    place = _place(device)
    network = trace(model, example_input)
    source = origin(network, model, measures, shuffles=shuffles)
    with writing(folder, source, name=name, replace=replace) as writer:
        for epoch, checkpoint in _shown(sources):
            weights, metrics, facts = _weights(epoch, checkpoint, model, network, trust=trust)
            if strict:
                _refuse_not_finite(epoch, weights)
            writer.write(epoch, network.bound_to(weights).to(place), metrics, facts)
        writer.finish()
    return open_run(folder)


@dataclass(frozen=True)
class ExportPlan:
    """What an export would write: epochs to do, neurons and links of each, bytes in all."""

    path: Path
    name: str
    epochs: tuple[int, ...]
    finished: tuple[int, ...]
    neurons: int
    links: int
    bytes: int
    seconds: float

    def __repr__(self) -> str:
        return (
            f"<ExportPlan {self.path}: {len(self.epochs)} epochs to do, {len(self.finished)} done; "
            f"{self.neurons:,} neurons and {self.links:,} links each, {self.bytes:,} bytes, "
            f"about {self.seconds:.0f} s>"
        )


def export_plan(
    model: nn.Module,
    checkpoints: Any,
    example_input: Any,
    *,
    to: str | os.PathLike[str],
    name: str | None = None,
    measures: Sequence[str] = (),
    shuffles: int = 0,
    trust: bool = False,
) -> ExportPlan:
    """What `export` would write with the same arguments; nothing is written.

    Bytes and seconds are those of one epoch, made in memory from the model as it is, times the
    number of epochs to do. Raises what `export` raises before it writes.
    """
    folder = Path(to).expanduser()
    there = holds_a_run(folder)
    epochs = [epoch for epoch, _ in find(checkpoints, trust=trust)]
    model = unwrapped(model)
    network = trace(model, example_input)
    source = origin(network, model, measures, shuffles=shuffles)
    done = set(epochs_on_disk(folder)) if there else set()
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CntWarning)  # of weights that will not be the run's
        files = epoch_files(0, network, {}, source.options, {}, first=not done)
    seconds = time.perf_counter() - began
    todo = tuple(epoch for epoch in epochs if epoch not in done)
    size = len(todo) * sum(map(len, files.values())) + (0 if there else len(source.file))
    return ExportPlan(
        path=folder,
        name=run_name(folder, name),
        epochs=todo,
        finished=tuple(epoch for epoch in epochs if epoch in done),
        neurons=network.neuron_count,
        links=network.link_count,
        bytes=size,
        seconds=seconds * len(todo),
    )


def _weights(
    epoch: int, checkpoint: Source, model: nn.Module, network: Network, *, trust: bool
) -> tuple[dict[str, torch.Tensor], Mapping[str, Any], dict[str, Any] | None]:
    """The tensors the network needs, under the model's names, what was recorded, and whence."""
    expected = model.state_dict()
    try:
        if isinstance(checkpoint, Mapping):
            fitted, _ = match(checkpoint, expected)
            metrics, facts = {}, None
        else:
            found = read(checkpoint, trust=trust)
            fitted, notes = match(found.tensors, expected, source=str(checkpoint))
            metrics = found.metrics
            said = [*found.notes, *notes]
            facts = {"file": checkpoint.name, "sha256": found.sha256, "notes": said}
    except InputRefused as refusal:
        raise InputRefused(
            f"epoch {epoch}: {refusal.what}", why=refusal.why, fix=refusal.fix
        ) from refusal
    # what no state dict holds belongs to the architecture: the trace has it
    weights = {n: fitted[n] if n in fitted else network.weights[n] for n in network.tensor_names}
    return weights, metrics, facts


def _refuse_not_finite(epoch: int, weights: Mapping[str, torch.Tensor]) -> None:
    bad = {
        name: int((~tensor.double().isfinite()).sum())
        for name, tensor in weights.items()
        if tensor.is_floating_point()
    }
    said = ", ".join(f"{count:,} of {name}" for name, count in bad.items() if count)
    if said:
        raise InputRefused(
            f"epoch {epoch}: values that are NaN or infinite: {said}",
            why="strict takes finite weights only",
            fix="leave this checkpoint out, or strict to keep them as they are",
        )


def _place(device: torch.device | str | None) -> torch.device:
    """Where to compute; the CPU, with a warning, where a GPU was asked for and there is none."""
    import torch

    try:
        place = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise InputRefused(f"device={device!r}", why=first, fix="give cpu or cuda") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        warnings.warn(
            f"no GPU for device={device!r}: computed on the CPU", CntWarning, stacklevel=3
        )
        return torch.device("cpu")
    return place


def _shown(sources: Sequence[tuple[int, Source]]) -> Iterable[tuple[int, Source]]:
    """The epochs one after another, with a bar on standard error where that is a terminal."""
    return _with_bar(sources) if sys.stderr.isatty() else sources


def _with_bar(sources: Sequence[tuple[int, Source]]) -> Iterator[tuple[int, Source]]:
    from rich.console import Console
    from rich.progress import track

    yield from track(sources, "epochs", console=Console(stderr=True), transient=True)
