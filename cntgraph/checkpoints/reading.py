"""A checkpoint is read from one open file that passed the gate and stayed the same meanwhile."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cntgraph.checkpoints.dense import parts
from cntgraph.checkpoints.files import digest, existing, steady
from cntgraph.checkpoints.gate import admit
from cntgraph.checkpoints.header import Header, read_tensors
from cntgraph.checkpoints.names import epoch_in_name
from cntgraph.checkpoints.refusal import AGAIN, refused, resave
from cntgraph.checkpoints.training import epoch_inside, find_weights, metrics_inside
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from io import BufferedReader

    import torch

__all__ = ["Checkpoint", "epoch_of", "read", "weights_in_folder"]

_IN_FOLDER = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one file under the file's own names, and what it says about them.

    `epoch` is the one stated inside, else the one in the name; `notes` tell what was chosen;
    `sha256` and `size` (bytes) are those of the file, or of all shards in the order of their names.
    """

    path: Path
    format: str
    tensors: dict[str, torch.Tensor]
    epoch: int | None
    metrics: dict[str, float]
    notes: tuple[str, ...]
    sha256: str
    size: int


def read(path: str | os.PathLike[str], *, trust: bool = False) -> Checkpoint:
    """Read the weights of a checkpoint; nothing in the file is executed.

    ::

        checkpoint = read("runs/epoch=0003.ckpt")
        checkpoint.tensors["fc.weight"].shape, checkpoint.epoch, checkpoint.metrics

    Takes safetensors, torch's zip and legacy formats, a Hugging Face folder and an index of shards,
    whatever their names end in.  Tensors are on the CPU, under the file's own names (`match` gives
    them the model's).  `trust=True` also takes a `.pt2`, whose reading runs pickles.  Raises
    `InputRefused` for a file that is missing, damaged, changing, no checkpoint, or holds code.
    """
    place = existing(path)
    if place.is_dir():
        inner = weights_in_folder(place)
        if inner is None:
            raise _folder_refused(place)
        checkpoint = dataclasses.replace(_read_any(inner, trust), path=place)
    else:
        checkpoint = _read_any(place, trust)
    named = epoch_in_name(place)
    if checkpoint.epoch is None:
        return dataclasses.replace(checkpoint, epoch=named)
    if named is not None and named != checkpoint.epoch:
        said = f"epoch {checkpoint.epoch} as stated inside; the name says {named}"
        return dataclasses.replace(checkpoint, notes=(*checkpoint.notes, said))
    return checkpoint


def epoch_of(path: Path) -> int | None:
    """The epoch that `read` will find, without reading the tensors' bytes."""
    place = existing(path)
    inside = None
    if not place.is_dir() and not place.name.endswith(".index.json"):
        with steady(place) as held:
            admitted = admit(held.file, place, held.size, every_record=False)
            if admitted.header:
                inside = epoch_inside(_stated(admitted.header))
            elif admitted.outline:
                inside = epoch_inside(admitted.outline.root)
    return epoch_in_name(place) if inside is None else inside


def weights_in_folder(folder: Path) -> Path | None:
    """The file by which a Hugging Face folder is read."""
    return next((folder / name for name in _IN_FOLDER if (folder / name).is_file()), None)


def _folder_refused(folder: Path) -> InputRefused:
    return refused(
        folder,
        "this is a folder, not a checkpoint",
        why=f"it holds none of {', '.join(_IN_FOLDER)}",
        fix="name one of its files, or give the folder to cntgraph export for all its epochs",
    )


def _read_any(path: Path, trust: bool) -> Checkpoint:
    return _read_shards(path) if path.name.endswith(".index.json") else _read_file(path, trust)


def _read_file(path: Path, trust: bool) -> Checkpoint:
    with steady(path) as held:
        admitted = admit(held.file, path, held.size, trust=trust)
        held.sha256 = digest(held.file)
        place: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
        if admitted.header:
            root: object = _stated(admitted.header)
            tensors = read_tensors(held.file, admitted.header, path)
        else:
            root = _load(held.file, path, admitted.format)
            tensors, place, notes = find_weights(root)
        if not tensors:
            raise _no_weights(root, path)
        _refuse_phantoms(tensors, path)
    return Checkpoint(
        path=path,
        format=admitted.format,
        tensors=tensors,
        epoch=epoch_inside(root),
        metrics=metrics_inside(root, place),
        notes=notes,
        sha256=held.sha256,
        size=held.size,
    )


def _load(file: BufferedReader, path: Path, kind: str) -> object:
    import torch

    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if kind == "torch.export":
                return dict(torch.export.load(file).state_dict)
            return torch.load(file, weights_only=True, map_location="cpu")
    except MemoryError:
        why = "its tensors together need more memory than is free"
        raise refused(path, "the file does not fit into memory", why=why) from None
    # What is left of damage after the gate reaches torch's C++ and may raise anything.  The chain
    # is cut because its message advises to load the file without protection.
    except Exception as error:
        text = str(error).rpartition("WeightsUnpickler error: ")[2].partition("\n")[0]
        why = type(error).__name__ if "weights_only" in text else f"torch says: {text}"
        raise refused(path, "the file is damaged", why=why, fix=AGAIN) from None


def _no_weights(root: object, path: Path) -> InputRefused:
    import torch

    if isinstance(root, torch.Tensor):
        why = f"it holds a single tensor of shape {tuple(root.shape)}"
    elif isinstance(root, Mapping) and root:
        why = f"it holds {', '.join(str(name) for name in list(root)[:6])}"
    else:
        why = f"it holds an empty {type(root).__name__}" if not root else f"a {type(root).__name__}"
    return refused(path, "the file holds no state dict", why=why, fix=resave(path))


def _refuse_phantoms(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors that claim more numbers than are stored, before anything writes them out."""
    for name, tensor in tensors.items():
        pieces = parts(tensor)
        if not pieces:
            what = f"the tensor {name!r} has the layout {tensor.layout}"
            why = "only dense tensors and PyTorch's sparse ones can be read"
            raise refused(path, what, why=why, fix=resave(path))
        for piece in pieces:
            claimed = piece.numel() * piece.element_size()
            held = piece.untyped_storage().nbytes()
            if not piece.is_meta and claimed > held:
                what = f"the tensor {name!r} claims {claimed:,} bytes and {held:,} are stored"
                why = "it repeats the same numbers by its strides (expand)"
                raise refused(path, what, why=why, fix=f"{resave(path)} after .contiguous()")


def _read_shards(index: Path) -> Checkpoint:
    """Read the shards that an index names; each tensor comes from the shard it says."""
    table = _weight_map(index)
    shards: dict[str, Checkpoint] = {}
    for shard in sorted(set(table.values())):
        if Path(shard).name != shard:
            why = f"it names {shard!r}"
            raise refused(index, "the index points outside its own folder", why=why)
        shards[shard] = _read_file(existing(index.with_name(shard)), trust=False)
    tensors: dict[str, torch.Tensor] = {}
    for name, shard in table.items():
        if name not in shards[shard].tensors:
            what = f"the index says that {name!r} is in {shard}, where it is not"
            raise refused(index, what, fix=AGAIN)
        tensors[name] = shards[shard].tensors[name]
    extra = [n for part in shards.values() for n in part.tensors if n not in table]
    if extra:
        what = f"its shards hold {extra[0]!r}, which the index does not name"
        raise refused(index, what, why=f"{len(extra)} such tensors", fix=AGAIN)
    digests = "".join(part.sha256 for part in shards.values())
    kinds = {part.format for part in shards.values()}
    return Checkpoint(
        path=index,
        format=f"{' and '.join(sorted(kinds))} in {len(shards)} shards",
        tensors=tensors,
        epoch=None,
        metrics={},
        notes=tuple(note for part in shards.values() for note in part.notes),
        sha256=hashlib.sha256(digests.encode()).hexdigest(),
        size=sum(part.size for part in shards.values()),
    )


def _weight_map(index: Path) -> dict[str, str]:
    with steady(index) as held:
        try:
            table = json.loads(held.file.read().decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise refused(index, "the index is not JSON", why=str(error), fix=AGAIN) from error
    match table:
        case {"weight_map": {**names}} if names and all(isinstance(v, str) for v in names.values()):
            return {str(name): str(shard) for name, shard in names.items()}
    raise refused(index, "the index has no weight_map", why="it names no shards", fix=AGAIN)


def _stated(header: Header) -> dict[str, float]:
    """The numbers among a safetensors file's metadata, which holds texts only."""
    stated: dict[str, float] = {}
    for name, text in header.metadata.items():
        try:
            stated[name] = float(text)
        except ValueError:
            continue
    return stated
