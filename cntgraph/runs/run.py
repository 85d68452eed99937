"""A run is read as it is asked for, and every byte is compared with its hash before it is used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, RunDamaged
from cntgraph.network import Network
from cntgraph.runs.documents import opened, read_metrics, sha256
from cntgraph.runs.folder import NETWORK, RECEIPT, epoch_name, epochs_on_disk, read_file
from cntgraph.runs.manifest import Manifest, read_manifest, read_receipt
from cntgraph.runs.snapshots import (
    COORDINATES,
    WEIGHTS,
    empty_table,
    keeps_weights,
    read_table,
)
from cntgraph.runs.weights import read_weights

if TYPE_CHECKING:
    import igraph
    import networkx
    import pandas as pd
    from torch import Tensor, nn

__all__ = ["Check", "Run", "open_run"]


def open_run(path: str | os.PathLike[str]) -> Run:
    """The run in a folder; nothing but its manifest is read yet, and no model code is needed.

    >>> run = open_run("runs/lenet")                     # doctest: +SKIP
    >>> run.neurons(9).nlargest(3, "strength")           # doctest: +SKIP

    Raises `RunDamaged` where the export is not finished or the manifest was altered, and
    `InputRefused` where there is no run.
    """
    folder = Path(path).expanduser()
    return Run(folder, read_manifest(folder))


@dataclass(frozen=True)
class Check:
    """What was compared with its hash and found whole; ``unlisted``: epochs not in the run yet."""

    epochs: int
    files: int
    bytes: int
    rows: int
    unlisted: tuple[int, ...] = ()

    def __repr__(self) -> str:
        more = f"; not listed yet: epochs {_some(self.unlisted)}" if self.unlisted else ""
        return (
            f"<Check passed: {self.epochs} epochs, {self.files} files, {self.rows:,} rows, "
            f"{self.bytes:,} bytes{more}>"
        )


class Run:
    """A network and its epochs, as a folder holds them; made by `open_run`, `export`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    def __repr__(self) -> str:
        facts = self.manifest.network
        return (
            f"<Run {self.name}: epochs {_some(tuple(self.manifest.epochs)) or 'none'}; "
            f"{facts.get('neurons', 0):,} neurons, {facts.get('links', 0):,} links>"
        )

    @property
    def name(self) -> str:
        """The name by which a database knows it."""
        return self.manifest.name

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Model, versions and options that the run was exported with."""
        return self.manifest.provenance

    @property
    def keeps_weights(self) -> bool:
        """False if it was recorded with ``keep_weights=False``: tables only, and no graphs."""
        return keeps_weights(self.provenance["options"])

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row per epoch in numeric order: epoch and what was recorded, missing where not."""
        import pandas as pd

        rows = [{"epoch": e, **self.metrics(e)} for e in self.manifest.epochs]
        names = dict.fromkeys(name for row in rows for name in row)
        return pd.DataFrame(rows, columns=list(names or ["epoch"])).astype({"epoch": "int64"})

    def metrics(self, epoch: int) -> dict[str, Any]:
        """What was recorded of an epoch."""
        name = self._file(epoch, "metrics.json")
        data = self._read(name)
        try:
            return read_metrics(data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged(name, error) from error

    def fingerprint(self, epoch: int) -> str:
        """A hash of all there is of an epoch: weights, tables, metrics and options."""
        return str(self.manifest.epochs[self._known(epoch)][RECEIPT]["sha256"])

    def network(self, epoch: int) -> Network:
        """The network of an epoch, on the CPU and in the precision of its checkpoint.

        Raises `InputRefused` where the run was recorded without weights.
        """
        if not self.keeps_weights:
            raise self._without_weights(self._known(epoch))
        name = self._file(epoch, WEIGHTS)
        weights = read_weights(self._read(name), str(self.path / name))
        wiring = self.wiring
        missing = [n for n in wiring.tensor_names if n not in weights]
        if missing:
            raise self._damaged(name, f"it lacks {missing[0]}")
        return wiring.bound_to(weights)

    @cached_property
    def wiring(self) -> Network:
        """The network without weights, parsed once: what epochs share is found out once."""
        document = opened("cntgraph network", self._read(NETWORK), self.path / NETWORK, indent=None)
        empty: dict[str, Tensor] = {}
        try:
            network = Network.from_json(document, empty)
            for block, described in zip(network.blocks, document["blocks"], strict=True):
                block.__dict__["link_count"] = int(described["link_count"])  # may need the weights
            return network
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise self._damaged(NETWORK, error) from error

    def neurons(self, epoch: int | None = None) -> pd.DataFrame:
        """A row per neuron and epoch: epoch, the columns of `strength`, the stored measures."""
        return self._table("neurons.parquet", epoch).drop(columns=list(COORDINATES))

    def layers(self, epoch: int | None = None) -> pd.DataFrame:
        """A row per layer and epoch: epoch and the columns of `cntgraph.layers`."""
        return self._table("layers.parquet", epoch)

    def to_igraph(self, epoch: int) -> igraph.Graph:
        """The weighted digraph of an epoch; vertices have strengths and measures as attributes."""
        graph = self.network(epoch).to_igraph()
        for name, values in self._attributes(epoch).items():
            graph.vs[name] = values
        return graph

    def to_networkx(self, epoch: int) -> networkx.DiGraph[int]:
        """The weighted digraph of an epoch; nodes have strengths and measures as attributes."""
        graph = self.network(epoch).to_networkx()
        for name, values in self._attributes(epoch).items():
            for neuron, value in enumerate(values):
                graph.nodes[neuron][name] = value
        return graph

    def check(self) -> Check:
        """Compare every file with its hash and counts; `RunDamaged` names one that differs."""
        rows = 0
        for name in self._files:
            data = self._read(name)
            if name.endswith(".parquet"):
                rows += self._counted(name, read_table(data, str(self.path / name)))
        for epoch, listing in self.manifest.epochs.items():
            if read_receipt(self.path, epoch).listing != listing:
                raise self._damaged(f"{epoch_name(epoch)}/{RECEIPT}", "it lists other files")
            self.metrics(epoch)
            if self.keeps_weights:
                self.network(epoch)
        listed = self._files.values()
        unlisted = sorted(set(epochs_on_disk(self.path)) - set(self.manifest.epochs))
        total = sum(int(facts["bytes"]) for facts in listed)
        return Check(len(self.manifest.epochs), len(listed) + 1, total, rows, tuple(unlisted))

    def verify(
        self,
        model: nn.Module,
        example_input: Any,
        *,
        epochs: Iterable[int] | None = None,
        samples: int = 3,
    ) -> pd.DataFrame:
        """Prove that the networks of the run compute what the model does with their weights.

        A row per epoch: epoch, passed, error_operators, error_links (None where the links are too
        many to list), largest_output, links; the errors are those of `cntgraph.verify`, between
        the network as the folder holds it and the model with that epoch's weights.

        >>> run.verify(LeNet(), (1, 1, 28, 28), epochs=[0, 5])          # doctest: +SKIP

        Raises `InputRefused` for another model than the run's, and for a run without weights.
        """
        from cntgraph.runs.verifying import verify_run

        return verify_run(self, model, example_input, epochs, samples)

    @cached_property
    def _files(self) -> dict[str, Mapping[str, Any]]:
        return self.manifest.files

    # -- files --------------------------------------------------------------------------------

    def _known(self, epoch: int) -> int:
        if isinstance(epoch, bool) or epoch not in self.manifest.epochs:
            raise InputRefused(
                f"epoch {epoch!r} is not in the run {self.name}",
                why=f"it holds {_some(tuple(self.manifest.epochs)) or 'none'}",
            )
        return int(epoch)

    def _without_weights(self, epoch: int) -> InputRefused:
        return InputRefused(
            f"epoch {epoch} of the run {self.name} holds no weights",
            why="it was recorded with keep_weights=False: strengths, layers and measures only",
            fix="record with keep_weights=True, or export its checkpoints: cntgraph export ...",
        )

    def _file(self, epoch: int, name: str) -> str:
        listing = self.manifest.epochs[self._known(epoch)]
        if name not in listing:
            raise RunDamaged(f"the manifest of {self.path} lists no {name} of epoch {epoch}")
        return f"{epoch_name(epoch)}/{name}"

    def _read(self, name: str) -> bytes:
        data = read_file(self.path, name)
        facts = self._files[name]
        if len(data) != facts["bytes"] or sha256(data) != facts["sha256"]:
            short = f"{len(data):,} bytes instead of {facts['bytes']:,}"
            raise RunDamaged(
                f"{self.path / name} was altered after its export",
                why="its hash is another" if len(data) == facts["bytes"] else f"it has {short}",
                fix="bring the file back from a copy, or export the run into a new folder",
            )
        return data

    def _table(self, name: str, epoch: int | None) -> pd.DataFrame:
        import pandas as pd

        parts = []
        for number in self.manifest.epochs if epoch is None else [self._known(epoch)]:
            path = self._file(number, name)
            table = read_table(self._read(path), str(self.path / path))
            table.insert(0, "epoch", number)
            parts.append(table)
        if parts:
            return pd.concat(parts, ignore_index=True)
        return empty_table(name, self.provenance["options"])

    def _attributes(self, epoch: int) -> dict[str, list[Any]]:
        table = self.neurons(epoch).drop(columns=["epoch", "neuron", "layer", "index"])
        return {str(name): table[name].tolist() for name in table}

    def _counted(self, name: str, table: pd.DataFrame) -> int:
        wiring = self.wiring
        expected = wiring.neuron_count if "neurons" in name else len(wiring.layers)
        if not len(table) == expected == self._files[name].get("rows"):
            raise self._damaged(name, f"it has {len(table):,} rows, the network {expected:,}")
        return len(table)

    def _damaged(self, name: str, reason: object) -> RunDamaged:
        return RunDamaged(f"{self.path / name} is damaged", why=str(reason))


def _some(epochs: tuple[int, ...]) -> str:
    """The epochs, the middle of a long list left out."""
    if len(epochs) <= 8:
        return ", ".join(map(str, epochs))
    first = ", ".join(map(str, epochs[:3]))
    return f"{first} ... {epochs[-1]} ({len(epochs)} epochs)"
