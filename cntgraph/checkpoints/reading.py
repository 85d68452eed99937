"""A checkpoint is read from one open file that passed the gate and stayed the same meanwhile."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints.files import digest, existing, steady
from cntgraph.checkpoints.gate import Admitted, admit
from cntgraph.checkpoints.header import Header, read_tensors
from cntgraph.checkpoints.hugging import (
    folder_refused,
    is_index,
    progress_of,
    shards_of,
    weights_in_folder,
)
from cntgraph.checkpoints.names import epoch_in_name
from cntgraph.checkpoints.refusal import AGAIN, refused, resave
from cntgraph.checkpoints.tensors import Described
from cntgraph.checkpoints.training import beside, epoch_inside, find_weights, metrics_inside
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from io import BufferedReader

    import torch

__all__ = ["Checkpoint", "epoch_of", "read"]

_PLAIN = "a torch.export program, read by its plain records: nothing in it was executed"
_RAN = "a torch.export program, read by torch.export.load on trust: pickles in it were executed"


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file under the file's own names, and what it says about them.

    `epoch` is the one stated inside, else the one in the name; `notes` tell what was chosen;
    `sha256` and `size` (bytes) are those of the file, or of all shards in the order of their names;
    `beside` says in words what else the file holds.
    """

    path: Path
    format: str
    tensors: dict[str, torch.Tensor]
    epoch: int | None
    metrics: dict[str, float]
    notes: tuple[str, ...]
    sha256: str
    size: int
    beside: dict[str, str] = field(default_factory=dict)


def read(path: str | os.PathLike[str], *, trust: bool = False) -> Checkpoint:
    """Read the weights of a checkpoint; nothing in the file is executed.

    ::

        checkpoint = read("runs/epoch=0003.ckpt")
        checkpoint.tensors["fc.weight"].shape, checkpoint.epoch, checkpoint.metrics

    Takes safetensors, torch's zip and legacy formats, a Hugging Face folder and an index of shards,
    whatever their names end in.  Tensors are on the CPU, under the file's own names (`match` gives
    them the model's).  Options, paths, dates and random states beside the weights are left unread;
    objects of any other class are refused.  `trust=True` also takes a `.pt2`: by its plain records,
    or, where its weights are pickled, by `torch.export.load`, which runs those pickles.  Raises
    `InputRefused` for a file that is missing, damaged, changing, no checkpoint, or holds code.
    """
    place = existing(path)
    if place.is_dir():
        inner = weights_in_folder(place)
        if inner is None:
            raise folder_refused(place)
        checkpoint = _with_progress(_read_any(inner, trust), place)
    else:
        checkpoint = _read_any(place, trust)
    named = epoch_in_name(place)
    if checkpoint.epoch is None:
        return dataclasses.replace(checkpoint, epoch=named)
    if named not in (None, checkpoint.epoch, checkpoint.metrics.get("step")):
        said = f"epoch {checkpoint.epoch} as stated inside; the name says {named}"
        return dataclasses.replace(checkpoint, notes=(*checkpoint.notes, said))
    return checkpoint


def epoch_of(path: Path, *, trust: bool = False) -> int | None:
    """The epoch that `read` will find, without reading the tensors' bytes."""
    place = existing(path)
    inside = None
    if place.is_dir():
        progress = progress_of(place)
        inside = progress.when if progress else None
    elif not is_index(place):
        with steady(place) as held:
            admitted = admit(held.file, place, held.size, every_record=False, trust=trust)
            if admitted.header:
                inside = epoch_inside(_stated(admitted.header), _as_read)
            elif admitted.outline and admitted.store:
                inside = epoch_inside(admitted.outline.root, admitted.store.build)
    return epoch_in_name(place) if inside is None else inside


def _with_progress(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """The checkpoint of a folder, with what the Trainer said of that moment."""
    progress = progress_of(folder)
    if progress is None:
        return dataclasses.replace(checkpoint, path=folder)
    return dataclasses.replace(
        checkpoint,
        path=folder,
        epoch=checkpoint.epoch if progress.when is None else progress.when,
        metrics=checkpoint.metrics | progress.metrics,
    )


def _read_any(path: Path, trust: bool) -> Checkpoint:
    return _read_shards(path) if is_index(path) else _read_file(path, trust)


def _read_file(path: Path, trust: bool) -> Checkpoint:
    with steady(path) as held:
        admitted = admit(held.file, path, held.size, trust=trust)
        held.sha256 = digest(held.file)
        if admitted.header:
            stated = _stated(admitted.header)
            tensors = read_tensors(held.file, admitted.header, path)
            facts = _facts(stated, (), _as_read)
        else:
            tensors, facts = _unfolded(admitted, held.file, path)
    if not tensors:
        raise _no_weights({}, path)
    return Checkpoint(
        path=path,
        format=admitted.format,
        tensors=tensors,
        sha256=held.sha256,
        size=held.size,
        **facts,
    )


def _unfolded(
    admitted: Admitted, file: BufferedReader, path: Path
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state dict of a file that passed the gate, its tensors built, and the facts beside it."""
    if admitted.outline is None or admitted.store is None:
        weights = _trusted(file, path)
        return weights, _facts({}, (), _as_read) | {"notes": (_RAN,)}
    root, build = admitted.outline.root, admitted.store.build
    wanted, place, notes = find_weights(root)
    if not wanted:
        raise _no_weights(root, path)
    tensors = {name: build(tensor, name) for name, tensor in wanted.items()}
    notes = (_PLAIN, *notes) if admitted.format == "torch.export" else notes
    return tensors, _facts(root, place, build) | {"notes": notes}


def _facts(root: object, place: tuple[str, ...], build: Any) -> dict[str, Any]:
    return {
        "epoch": epoch_inside(root, build),
        "metrics": metrics_inside(root, place, build),
        "notes": (),
        "beside": beside(root, place),
    }


def _as_read(tensor: Any, _: str) -> torch.Tensor:
    found: torch.Tensor = tensor
    return found


def _trusted(file: BufferedReader, path: Path) -> dict[str, torch.Tensor]:
    """The weights of a program that its owner vouches for; torch runs the pickles within."""
    import torch

    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.export.load(file).state_dict
    # torch.export meets damage, and versions it does not know, with errors of any class; the
    # chain is cut because their texts advise to load without protection.
    except Exception as error:
        why = f"torch.export.load fails: {type(error).__name__}"
        raise refused(path, "the program cannot be read", why=why, fix=resave(path)) from None
    return {name: tensor.detach() for name, tensor in found.items()}


def _no_weights(root: object, path: Path) -> InputRefused:
    if isinstance(root, Described):
        why = f"it holds a single tensor of shape {root.shape}"
    elif isinstance(root, Mapping) and root:
        why = f"it holds {', '.join(str(name) for name in list(root)[:6])}"
    else:
        why = f"it holds an empty {type(root).__name__}" if not root else f"a {type(root).__name__}"
    return refused(path, "the file holds no state dict", why=why, fix=resave(path))


def _read_shards(index: Path) -> Checkpoint:
    """Read the shards that an index names; each tensor is in the one shard it says."""
    table, files = shards_of(index)
    shards = {shard: _read_file(path, trust=False) for shard, path in files.items()}
    for name, shard in table.items():
        if name not in shards[shard].tensors:
            what = f"the index says that {name!r} is in {shard}, where it is not"
            raise refused(index, what, fix=AGAIN)
    for shard, part in shards.items():
        extra = [name for name in part.tensors if name not in table]
        twice = [name for name in part.tensors if table.get(name, shard) != shard]
        if extra:
            what = f"its shards hold {extra[0]!r}, which the index does not name"
            raise refused(index, what, why=f"{len(extra)} such tensors", fix=AGAIN)
        if twice:
            what = f"{twice[0]!r} is in two shards: {table[twice[0]]} and {shard}"
            raise refused(index, what, why="the two may not be the same numbers", fix=AGAIN)
    digests = "".join(part.sha256 for part in shards.values())
    kinds = {part.format for part in shards.values()}
    return Checkpoint(
        path=index,
        format=f"{' and '.join(sorted(kinds))} in {len(shards)} shards",
        tensors={name: shards[shard].tensors[name] for name, shard in table.items()},
        epoch=None,
        metrics={},
        notes=tuple(note for part in shards.values() for note in part.notes),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        size=sum(part.size for part in shards.values()),
    )


def _stated(header: Header) -> dict[str, object]:
    """A safetensors file's metadata, which holds texts only: the numbers among them as such."""
    stated: dict[str, object] = {}
    for name, text in header.metadata.items():
        try:
            stated[name] = float(text)
        except ValueError:
            stated[name] = text
    return stated
