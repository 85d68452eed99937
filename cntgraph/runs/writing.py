"""The one writer of a run folder: what is done is not done twice, what differs is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cntgraph
from cntgraph.errors import CntWarning, InputRefused
from cntgraph.network import Network
from cntgraph.runs.documents import listed, opened, sealed, sha256, write_metrics
from cntgraph.runs.folder import (
    MANIFEST,
    NETWORK,
    claimed,
    discard_epoch,
    epoch_name,
    epochs_on_disk,
    locked,
    put_epoch,
    put_file,
    read_file,
)
from cntgraph.runs.manifest import Manifest, Receipt, read_manifest, read_receipt, receipts
from cntgraph.runs.snapshots import UNSAID, digest, epoch_files, known_measures, known_shuffles

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Origin", "Writer", "holds_a_run", "origin", "run_name", "writing"]


@dataclass(frozen=True)
class Origin:
    """What all epochs of a run have in common: the network, how it is measured, the model."""

    network: Network
    provenance: Mapping[str, Any]

    @property
    def options(self) -> Mapping[str, Any]:
        """What is measured and by which convention: the same for every epoch of a run."""
        found: Mapping[str, Any] = self.provenance["options"]
        return found

    @property
    def file(self) -> bytes:
        """The file that describes the network."""
        return sealed("cntgraph network", self.network.to_json(), indent=None)


def origin(
    network: Network,
    model: nn.Module,
    measures: Sequence[str],
    *,
    shuffles: int = 0,
    keep_weights: bool = True,
) -> Origin:
    """The network with what a reader must know to get the same numbers again."""
    import torch

    options: dict[str, Any] = {
        "batch_norm": network.batch_norm,
        "convention": "plain",
        "measures": list(known_measures(measures)),
        "seed": 0,
    }
    # named only where they say something: older runs hold no word of them
    if known_shuffles(shuffles):
        options["shuffles"] = int(shuffles)
    if not keep_weights:
        options["keep_weights"] = False
    kind = type(model)
    provenance = {
        "model": f"{kind.__module__}.{kind.__qualname__}",
        "cntgraph": cntgraph.__version__,
        "torch": str(torch.__version__),
        "options": options,
    }
    return Origin(network, provenance)


@dataclass(frozen=True)
class Writer:
    """A run folder under its lock, with the receipts of the epochs that are done."""

    folder: Path
    name: str
    origin: Origin
    network_file: bytes
    done: dict[int, Receipt]
    replace: bool

    def write(
        self, epoch: int, network: Network, metrics: Mapping[str, Any], source: Any = None
    ) -> None:
        """Write an epoch, unless it is there with the same weights."""
        if epoch in self.done:
            if self._same(epoch, network):
                self._compare(epoch, metrics)
                return
            if not self.replace:
                raise InputRefused(
                    f"epoch {epoch} is in {self.folder} already, with other weights",
                    why="a run has one state for each epoch",
                    fix="give another folder, or replace what is there: --replace (replace=True)",
                )
        facts = {"network": sha256(self.network_file), "source": source}
        first = not self.done.keys() - {epoch}
        files = epoch_files(epoch, network, metrics, self.origin.options, facts, first=first)
        self._begin()  # not before: a measure that says nothing here leaves the folder as it was
        if epoch in self.done:
            discard_epoch(self.folder, epoch)
        put_epoch(self.folder, epoch, files)
        self.done[epoch] = read_receipt(self.folder, epoch)

    def finish(self) -> None:
        """List everything that is there: from now on the folder is a run."""
        self._begin()
        network = self.origin.network
        facts = {
            "neurons": network.neuron_count,
            "links": network.link_count,
            "file": listed(self.network_file),
        }
        epochs = {epoch: receipt.listing for epoch, receipt in self.done.items()}
        Manifest(self.name, self.origin.provenance, facts, epochs).write(self.folder)

    def _begin(self) -> None:
        if not (self.folder / NETWORK).exists():
            put_file(self.folder, NETWORK, self.network_file)

    def _same(self, epoch: int, network: Network) -> bool:
        weights = {name: network.weights[name] for name in network.tensor_names}
        return bool(self.done[epoch].document["weights"] == digest(weights))

    def _compare(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        recorded = read_file(self.folder, f"{epoch_name(epoch)}/metrics.json")
        if metrics and recorded != write_metrics(metrics):
            warnings.warn(
                f"epoch {epoch} is in {self.folder} already with the same weights and other "
                "metrics: those recorded first are kept",
                CntWarning,
                stacklevel=4,
            )


def holds_a_run(folder: Path) -> bool:
    """True if a run is there, False if nothing is; what is foreign is refused."""
    return claimed(folder, '"format":"cntgraph network"')


@contextmanager
def writing(folder: Path, origin: Origin, *, name: str | None, replace: bool) -> Iterator[Writer]:
    """Be the writer of a run folder, going on with what an earlier one left there."""
    holds_a_run(folder)
    with locked(folder):
        ours = origin.file
        called = run_name(folder, name)
        if holds_a_run(folder):
            if replace:
                _discard_others(folder, origin, ours)
            else:
                _refuse_others(folder, origin, ours)
        done = receipts(folder, ours)
        yield Writer(folder, called, origin, ours, done, replace)


def run_name(folder: Path, name: str | None) -> str:
    """The name given, else the one the run has already, else the folder's."""
    if name is not None:
        return name
    try:
        return read_manifest(folder).name
    except InputRefused:  # none yet, or to be written anew
        return folder.resolve().name


def _refuse_others(folder: Path, origin: Origin, ours: bytes) -> None:
    """Refuse a folder whose run is of another network, or was measured otherwise."""
    other = "give another folder, or replace what is there: --replace (replace=True)"
    there = read_file(folder, NETWORK)
    opened("cntgraph network", there, folder / NETWORK, indent=None)
    if there != ours:
        raise InputRefused(
            f"{folder} holds the run of another network",
            why=f"all epochs of a run have one architecture; this one is {origin.network!r}",
            fix=other,
        )
    for epoch, receipt in receipts(folder, ours).items():
        if receipt.document["options"] != origin.options:
            was = {**UNSAID, **receipt.document["options"]}
            now = {**UNSAID, **origin.options}
            differ = [f"{k}={was.get(k)!r}" for k, v in now.items() if was.get(k) != v]
            raise InputRefused(
                f"epoch {epoch} in {folder} was exported with {', '.join(differ)}",
                why="all epochs of a run are measured alike",
                fix=other,
            )


def _discard_others(folder: Path, origin: Origin, ours: bytes) -> None:
    """Clear the folder of a run that this one cannot go on with."""
    try:
        _refuse_others(folder, origin, ours)
    except InputRefused:
        (folder / MANIFEST).unlink(missing_ok=True)
        for epoch in epochs_on_disk(folder):
            discard_epoch(folder, epoch)
        put_file(folder, NETWORK, ours)
