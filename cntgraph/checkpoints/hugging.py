"""A Hugging Face folder is one checkpoint: one file, or shards that an index names.

A Trainer writes such folders side by side (`checkpoint-500`, `checkpoint-1000`), each with a
`trainer_state.json` that says how far training was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cntgraph.checkpoints.files import existing, steady
from cntgraph.checkpoints.header import once
from cntgraph.checkpoints.refusal import AGAIN, refused
from cntgraph.errors import InputRefused

__all__ = [
    "Progress",
    "folder_refused",
    "is_index",
    "progress_of",
    "shards_of",
    "weights_in_folder",
]

_IN_FOLDER = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
_STATE = "trainer_state.json"
_INDEX = ".index.json"
_JSON_LIMIT = 1 << 28


def weights_in_folder(folder: Path) -> Path | None:
    """The file by which a Hugging Face folder is read."""
    return next((folder / name for name in _IN_FOLDER if (folder / name).is_file()), None)


def is_index(path: Path) -> bool:
    """Whether a file by its name lists the shards of a checkpoint."""
    return path.name.endswith(_INDEX)


def folder_refused(folder: Path) -> InputRefused:
    """The refusal of a folder that is no checkpoint."""
    if any(folder.glob("*.distcp")):
        return refused(
            folder,
            "this is a distributed checkpoint of PyTorch (.distcp)",
            why="its parts are not readable one by one",
            fix="python -m torch.distributed.checkpoint.format_utils dcp_to_torch "
            f"{folder} {folder.name}.pt",
        )
    return refused(
        folder,
        "this is a folder, not a checkpoint",
        why=f"it holds none of {', '.join(_IN_FOLDER)}",
        fix="name one of its files, or give the folder to cntgraph export for all its epochs",
    )


def shards_of(index: Path) -> tuple[dict[str, str], dict[str, Path]]:
    """For each tensor the shard that holds it, and for each shard its file beside the index.

    Raises `InputRefused` for an index that is no such table, or that leads out of its folder.
    """
    match _json(index):
        case {"weight_map": {**names}} if names and all(isinstance(v, str) for v in names.values()):
            table = {str(name): str(shard) for name, shard in names.items()}
        case _:
            raise refused(index, "the index has no weight_map", why="it names no shards", fix=AGAIN)
    return table, {shard: _shard(index, shard) for shard in sorted(set(table.values()))}


def _shard(index: Path, shard: str) -> Path:
    """The file of a shard: in the index's own folder, or linked into the cache it belongs to."""
    outside = "the index points outside its own folder"
    if shard in ("", ".", "..") or Path(shard).name != shard or "\\" in shard:
        raise refused(index, outside, why=f"it names {shard!r}")
    try:
        place = existing(index.with_name(shard))
    except InputRefused as error:
        why = f"{index.name} says that it holds part of the weights"
        raise InputRefused(error.what, why=error.why or why, fix=error.fix or AGAIN) from error
    target = place.resolve()
    # The hub's cache keeps files in blobs/ and links to them from snapshots/REVISION/.
    cache = index.parent.resolve().parent.parent / "blobs"
    if target.parent not in (index.parent.resolve(), cache):
        raise refused(
            index,
            outside,
            why=f"{shard!r} is a link to {target}",
            fix="copy the file into the folder, if the weights are really there",
        )
    return place


@dataclass(frozen=True)
class Progress:
    """How far training was: whole epochs where it was at the end of one, steps, and its figures."""

    epoch: int | None = None
    step: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def when(self) -> int | None:
        """The epoch at its end, the step within one."""
        return self.step if self.epoch is None else self.epoch


def progress_of(folder: Path) -> Progress | None:
    """What `trainer_state.json` says in a folder of a Trainer; none where there is no such file."""
    path = folder / _STATE
    if not path.is_file():
        return None
    state = _json(path)
    if not isinstance(state, Mapping):
        raise refused(path, "the state of the Trainer is not a table", fix=AGAIN)
    step = _number(state.get("global_step"))
    metrics: dict[str, float] = {}
    history = state.get("log_history")
    for entry in history if isinstance(history, list) else ():
        if isinstance(entry, Mapping) and entry.get("step") == step:
            metrics |= {name: f for name, v in entry.items() if (f := _number(v)) is not None}
    metrics.pop("epoch", None)
    return Progress(_whole(_number(state.get("epoch"))), _whole(step), metrics)


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and abs(value) < 2**53 else None


def _whole(value: float | None) -> int | None:
    return int(value) if value is not None and value >= 0 and value == value // 1 else None


def _json(path: Path) -> Any:
    kind = "index" if is_index(path) else "file"
    with steady(path) as held:
        if held.size > _JSON_LIMIT:
            raise refused(path, f"the {kind} is too large to be one", why=f"{held.size:,} bytes")
        try:
            return json.loads(held.file.read().decode("utf-8"), object_pairs_hook=once)
        except (ValueError, RecursionError) as error:
            raise refused(path, f"the {kind} is not JSON", why=str(error), fix=AGAIN) from error
