"""The manifest lists every file of a run with its hash; it is made from the epochs' receipts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cntgraph.errors import InputRefused, RunDamaged, did_you_mean
from cntgraph.runs.documents import listed, opened, sealed, sha256
from cntgraph.runs.folder import (
    MANIFEST,
    NETWORK,
    RECEIPT,
    epoch_name,
    epochs_on_disk,
    put_file,
    read_file,
)

__all__ = ["Manifest", "Receipt", "read_manifest", "read_receipt", "receipts"]

Listing = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Manifest:
    """Name and provenance of a run, and what each of its files must be."""

    name: str
    provenance: Mapping[str, Any]
    network: Mapping[str, Any]
    epochs: Mapping[int, Listing] = field(repr=False)

    @property
    def files(self) -> dict[str, Mapping[str, Any]]:
        """Bytes, hash and rows of every file, by its path within the run."""
        found: dict[str, Mapping[str, Any]] = {NETWORK: self.network["file"]}
        for epoch, listing in self.epochs.items():
            found |= {f"{epoch_name(epoch)}/{name}": facts for name, facts in listing.items()}
        return found

    def write(self, folder: Path) -> None:
        """Put the manifest into the folder, in the place of an older one."""
        content = {
            "name": self.name,
            "provenance": dict(self.provenance),
            "network": dict(self.network),
            "epochs": {str(epoch): dict(self.epochs[epoch]) for epoch in sorted(self.epochs)},
        }
        put_file(folder, MANIFEST, sealed("cntgraph run", content))


@dataclass(frozen=True)
class Receipt:
    """What an epoch's own folder says of its files, and the bytes that say so."""

    document: Mapping[str, Any] = field(repr=False)
    data: bytes = field(repr=False)

    @property
    def listing(self) -> Listing:
        """Bytes, hash and rows of every file of the epoch, itself included."""
        return {**self.document["files"], RECEIPT: listed(self.data)}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run folder; `RunDamaged` where there is none or it cannot be trusted."""
    path = folder / MANIFEST
    if not folder.is_dir():
        beside = [e.name for e in folder.parent.iterdir()] if folder.parent.is_dir() else []
        hint = did_you_mean(folder.name, beside) if 0 < len(beside) <= 1000 else ""
        raise InputRefused(f"there is no run {folder}", why=hint)
    if not path.is_symlink() and not path.exists():
        raise _unfinished(folder)
    document = opened("cntgraph run", read_file(folder, MANIFEST), path)
    try:
        epochs = {int(epoch): dict(listing) for epoch, listing in document["epochs"].items()}
        found = Manifest(
            str(document["name"]),
            dict(document["provenance"]),
            dict(document["network"]),
            dict(sorted(epochs.items())),
        )
        _ = [(facts["sha256"], facts["bytes"]) for facts in found.files.values()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDamaged(f"{path} is damaged", why=repr(error), fix=_AGAIN) from error
    return found


def read_receipt(folder: Path, epoch: int) -> Receipt:
    """The receipt that lies in an epoch's folder."""
    name = f"{epoch_name(epoch)}/{RECEIPT}"
    data = read_file(folder, name)
    return Receipt(opened("cntgraph epoch", data, folder / name), data)


def receipts(folder: Path, network_file: bytes) -> dict[int, Receipt]:
    """The receipts of the epochs that are on disk, all of which must be of this network."""
    found: dict[int, Receipt] = {}
    for epoch in epochs_on_disk(folder):
        place = folder / epoch_name(epoch)
        try:
            receipt = read_receipt(folder, epoch)
        except RunDamaged as damage:
            raise RunDamaged(damage.what, why=damage.why, fix=_remove(place)) from damage
        stated = receipt.document["epoch"], receipt.document["network"]
        if stated != (epoch, sha256(network_file)):
            why = "its receipt names another epoch or another network"
            raise RunDamaged(f"{place} belongs to another run", why=why, fix=_remove(place))
        found[epoch] = receipt
    return found


_AGAIN = "export the run again: what is there is not done twice"


def _remove(place: Path) -> str:
    return f"remove that epoch and run the same command again: rm -r {place}"


def _unfinished(folder: Path) -> InputRefused:
    if not (folder / NETWORK).exists():
        return InputRefused(f"{folder} is not a run", why=f"it holds no {MANIFEST}")
    return RunDamaged(
        f"{folder}: the export is not finished",
        why=f"there is no {MANIFEST}; {len(epochs_on_disk(folder))} epochs are done",
        fix=f"run the same cntgraph export ... --to {folder} again: it goes on where it stopped",
    )
