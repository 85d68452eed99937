"""The epoch that a file name tells, read as a number wherever the name puts it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["epoch_in_name"]

_SUFFIXES = re.compile(r"(\.(safetensors|pt|pth|ckpt|bin|tar|index|json|pt2))+$", re.IGNORECASE)
_EPOCH = re.compile(r"(?<![a-z])(?:epochs?|ep)[=_\-. ]?(\d+)(?![\d.]*\d)", re.IGNORECASE)
_COUNTED = re.compile(
    r"(?<![a-z])(?:checkpoint|ckpt|chkpt|cp|snapshot|step|iter"
    r"|(?:model|net|weights|state|state_dict)(?=[=_\-.]))[=_\-. ]?(\d+)(?!\d)",
    re.IGNORECASE,
)
_BARE = re.compile(r"(\d+)")


def epoch_in_name(path: Path) -> int | None:
    """The epoch by the file's name, else by the folder's when it is named for an epoch alone.

    >>> epoch_in_name(Path("epoch=0003-step=900-val_loss=0.25.ckpt"))
    3
    >>> epoch_in_name(Path("checkpoint-500/model.safetensors"))
    500

    An epoch so called wins over a number after checkpoint, ckpt, snapshot, step or model; a name
    that is a number and nothing else is its epoch.  The 18 of `resnet18.pt` is none.
    """
    stem = _SUFFIXES.sub("", path.name)
    for pattern in (_EPOCH, _COUNTED):
        if found := pattern.search(stem):
            return int(found[1])
    folder = path.parent.name
    for text, patterns in ((stem, (_BARE,)), (folder, (_EPOCH, _COUNTED))):
        for pattern in patterns:
            if found := pattern.fullmatch(text):
                return int(found[1])
    return None
