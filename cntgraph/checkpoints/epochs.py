"""Checkpoints are a sequence in time: each source has one epoch, each epoch one source."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.checkpoints.dense import parts
from cntgraph.checkpoints.files import existing
from cntgraph.checkpoints.hugging import (
    Progress,
    folder_refused,
    progress_of,
    weights_in_folder,
)
from cntgraph.checkpoints.names import epoch_in_name
from cntgraph.checkpoints.reading import epoch_of, read
from cntgraph.errors import CntWarning, InputRefused

if TYPE_CHECKING:
    import numpy as np
    import torch

    Source = Path | Mapping[str, torch.Tensor]

__all__ = ["find"]

_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".pth.tar", ".pt.tar", ".ckpt.tar")
# What trainers leave beside the weights under the same suffixes.
_NOT_WEIGHTS = ("optimizer", "scheduler", "scaler", "rng_state", "training_args")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
_SHOWN = 5


def find(checkpoints: Any, *, trust: bool = False) -> list[tuple[int, Source]]:
    """The checkpoints meant by a folder, a glob, a path, a list of these or a dict, by epoch.

    ::

        find("runs/lenet")                  # [(0, Path("runs/lenet/epoch=0.ckpt")), (1, ...), ...]
        find("runs/lenet/*.safetensors")
        find({0: before, 1: model.state_dict()})

    An epoch is the one stated inside the file, else the one in its name; the keys of a dict say it
    themselves.  The order is that of the numbers.  In a folder only files that could be checkpoints
    are looked at (and Hugging Face folders); a single file without an epoch is epoch 0.  A copy (a
    `last.ckpt` or `best.pt` with the very weights of an epoch) is left out, and epochs missing from
    an even sequence are reported, both by a `CntWarning`.  Raises `InputRefused` for two files of
    one epoch with different weights, several files of which one has none, and where nothing is
    found.  `trust` is that of `read`.
    """
    if isinstance(checkpoints, Mapping):
        found = [(_key(key), _source(key, value)) for key, value in checkpoints.items()]
        if not found:
            raise InputRefused("there are no checkpoints in an empty dict", fix="give epoch: path")
    else:
        found = list(_dated(_paths(checkpoints, trust), trust))
    found.sort(key=lambda pair: pair[0])
    _report_gaps([epoch for epoch, _ in found])
    return found


def _key(key: object) -> int:
    try:
        epoch = key.__index__()  # type: ignore[attr-defined]
    except AttributeError:
        epoch = -1
    if isinstance(key, bool) or epoch < 0:
        raise InputRefused(
            f"the epoch {key!r} is not a whole number from 0 on", fix="give {epoch: path, ...}"
        )
    return int(epoch)


def _source(key: object, value: object) -> Source:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, str | os.PathLike):
        return existing(value)
    raise InputRefused(
        f"the checkpoint of epoch {key!r} is of type {type(value).__name__}",
        why="it must be a path or a state_dict",
        fix="give model.state_dict() or the path of a file",
    )


def _paths(checkpoints: object, trust: bool) -> list[Path]:
    """Every file and Hugging Face folder that is meant, each once even if linked twice."""
    if isinstance(checkpoints, str | os.PathLike):
        checkpoints = [checkpoints]
    if not isinstance(checkpoints, Iterable):
        raise InputRefused(
            f"checkpoints cannot be a value of type {type(checkpoints).__name__}",
            fix="give a folder, a glob, a list of files, or a dict of epoch: state_dict",
        )
    asked = list(checkpoints)
    for item in asked:
        if not isinstance(item, str | os.PathLike):
            raise InputRefused(
                f"a list of checkpoints cannot hold a {type(item).__name__}",
                why="only paths can be put in order by themselves",
                fix="give a dict of epoch: state_dict",
            )
    unique = {path.resolve(): path for item in reversed(asked) for path in _expand(item, trust)}
    if not unique:
        raise InputRefused("no checkpoints were given", fix="name a folder, a glob or files")
    return sorted(unique.values())


def _expand(item: str | os.PathLike[str], trust: bool) -> list[Path]:
    path = Path(item).expanduser()
    if not os.path.lexists(path) and glob.has_magic(str(path)):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        matches = [match for match in matches if match.is_file() or weights_in_folder(match)]
        if not matches:
            raise InputRefused(f"no file matches {str(path)!r}", fix=f"ls {path.parent}")
        return matches
    path = existing(path)
    return _in_folder(path, trust) if path.is_dir() else [path]


def _in_folder(folder: Path, trust: bool) -> list[Path]:
    """A Hugging Face folder itself, or the files and such folders in it."""
    inner = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in inner if entry.is_dir() and weights_in_folder(entry)]
    own = weights_in_folder(folder)
    if own is not None and not folders:
        return [folder]
    files = [entry for entry in inner if entry.is_file() and _could_be(entry.name, trust)]
    if own is not None:  # a trainer's last state beside its numbered ones: one source, not shards
        files = [own]
    if not files and not folders and any(folder.glob("*.distcp")):
        raise folder_refused(folder)
    if not files and not folders:
        raise InputRefused(
            f"{folder}: no checkpoints in this folder",
            why=f"it holds no file that ends in {', '.join(_SUFFIXES)}"
            + (f", only {', '.join(e.name for e in inner[:_SHOWN])}" if inner else ": it is empty"),
            fix="name the files or a glob that matches them",
        )
    return files + folders


def _could_be(name: str, trust: bool) -> bool:
    suffixes = (*_SUFFIXES, ".pt2") if trust else _SUFFIXES
    return name.lower().endswith(suffixes) and not name.lower().startswith(_NOT_WEIGHTS)


def _dated(paths: list[Path], trust: bool) -> Iterator[tuple[int, Path]]:
    """Each path with its epoch, without the copies of others; refuses what has no place in time."""
    epochs = _epochs(paths, trust)
    left = _Copies(epochs, trust).left_out()
    for path, original in left.items():
        warnings.warn(
            f"{path} holds the same weights as {original}: it is left out",
            CntWarning,
            stacklevel=4,
        )
    kept = {path: epoch for path, epoch in epochs.items() if path not in left}
    _refuse_undated(kept)
    first: dict[int, Path] = {}
    for path, stated in kept.items():
        epoch = stated or 0
        if epoch in first:
            raise InputRefused(
                f"epoch {epoch} is there twice: {first[epoch]} and {path}",
                why="they hold different weights, and a run has one state for each epoch",
                fix="leave one out by a glob or a list of files, or give {epoch: path, ...}",
            )
        first[epoch] = path
        yield epoch, path


def _epochs(paths: list[Path], trust: bool) -> dict[Path, int | None]:
    """The epoch of each path; steps throughout where a Trainer saved within its epochs."""
    for path in paths:
        if len(paths) > 1 and _SHARD.search(path.name):
            raise InputRefused(
                f"{path} is a shard, not a checkpoint of its own",
                why="its weights are spread over several files, and their index is not among them",
                fix="give the folder or the .index.json; without that, download the index too",
            )
    epochs = {path: epoch_of(path, trust=trust) for path in paths}
    told = {path: state for path in paths if (state := _progress(path))}
    whole = [state.epoch for path, state in told.items() if path.is_dir()]
    by_step = None in whole or len(set(whole)) < len(whole)
    for path, state in told.items():
        if epochs[path] is None or path.is_dir():
            epochs[path] = state.step if by_step else state.when
    return epochs


def _progress(path: Path) -> Progress | None:
    """What a Trainer says beside a checkpoint; what it wrote at the end lies among its folders."""
    if path.is_dir():
        return progress_of(path)
    return progress_of(path.parent) if weights_in_folder(path.parent) == path else None


@dataclass
class _Copies:
    """Files that hold the weights of another; they are only read where epochs collide or lack."""

    epochs: dict[Path, int | None]
    trust: bool
    prints: dict[Path, str] = field(default_factory=dict)

    def left_out(self) -> dict[Path, Path]:
        """Each copy with the file that stands for it: a dated one, by its name if possible."""
        counted = Counter(self.epochs.values())
        asked = [path for path, epoch in self.epochs.items() if epoch is None or counted[epoch] > 1]
        if not asked or len(self.epochs) == 1:
            return {}
        originals = sorted(self.epochs, key=self._rank)
        left: dict[Path, Path] = {}
        for path in sorted(asked, key=self._rank, reverse=True):
            for other in originals:
                if other != path and other not in left and self._same(path, other):
                    left[path] = other
                    break
        return left

    def _rank(self, path: Path) -> tuple[bool, bool, Path]:
        return self.epochs[path] is None, epoch_in_name(path) is None, path

    def _same(self, path: Path, other: Path) -> bool:
        """Two dated files of different epochs that happen to be equal are both kept."""
        mine, theirs = self.epochs[path], self.epochs[other]
        named = None if mine is None else epoch_in_name(path)
        if mine != theirs and (named is not None or (theirs is None and mine is not None)):
            return False
        return self._print(path) == self._print(other)

    def _print(self, path: Path) -> str:
        if path not in self.prints:
            self.prints[path] = _fingerprint(read(path, trust=self.trust).tensors)
        return self.prints[path]


def _fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """A hash of names, dtypes, shapes and the very bits of the numbers."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(repr((name, tensor.dtype, tensor.layout, tuple(tensor.shape))).encode())
        for part in parts(tensor):
            if not part.is_meta:
                whole.update(_bits(part).data)
    return whole.hexdigest()


def _bits(part: torch.Tensor) -> np.ndarray[Any, Any]:
    import torch

    plain = part.int_repr() if part.is_quantized else part.resolve_conj().resolve_neg()
    return plain.contiguous().reshape(-1).view(torch.uint8).numpy()


def _refuse_undated(epochs: Mapping[Path, int | None]) -> None:
    without = [path for path, epoch in epochs.items() if epoch is None]
    if without and len(epochs) > 1:
        raise InputRefused(
            f"{without[0]}: neither the file nor its name says an epoch",
            why=f"{len(without)} of {len(epochs)} files say none, and they cannot be put in order",
            fix="name them like epoch=3.pt, leave them out by a glob, or give {epoch: path, ...}",
        )


def _report_gaps(epochs: list[int]) -> None:
    """Warn of epochs that an even sequence would have and this one lacks."""
    steps = [later - earlier for earlier, later in itertools.pairwise(epochs)]
    if not steps or any(step % min(steps) for step in steps):
        return
    step = min(steps)
    missing = (epochs[-1] - epochs[0]) // step + 1 - len(epochs)
    if missing:
        present = set(epochs)
        named: list[str] = []
        for epoch in range(epochs[0], epochs[-1], step):
            if epoch not in present:
                named.append(str(epoch))
            if len(named) == min(missing, _SHOWN):
                break
        more = f" and {missing - len(named)} more" if missing > len(named) else ""
        warnings.warn(
            f"no checkpoint for epoch {', '.join(named)}{more} "
            f"between {epochs[0]} and {epochs[-1]}: they are left out",
            CntWarning,
            stacklevel=3,
        )
