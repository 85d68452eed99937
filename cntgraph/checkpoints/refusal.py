"""Every refusal of a checkpoint names the file, the reason and the way on."""

from __future__ import annotations

import shlex
from pathlib import Path

from cntgraph.errors import InputRefused

__all__ = ["AGAIN", "cut_short", "inspect_it", "refused", "resave"]

AGAIN = "copy or download it again, or go on without it"


def refused(path: Path, what: str, *, why: str = "", fix: str = "") -> InputRefused:
    """The refusal of one file, its path first."""
    return InputRefused(f"{path}: {what}", why=why, fix=fix)


def cut_short(path: Path, size: int, why: str) -> InputRefused:
    """The refusal of a file whose end is missing."""
    return refused(path, f"the file is cut short at {size:,} bytes", why=why, fix=AGAIN)


def resave(path: Path) -> str:
    """How the weights alone are written, by the program that has the model."""
    target = path.with_suffix(".safetensors").name
    return (
        "where the model was trained, save its state_dict: "
        f"safetensors.torch.save_file(model.state_dict(), {target!r})"
    )


def inspect_it(path: Path | str) -> str:
    """The command that shows what a file holds."""
    return f"cntgraph inspect {shlex.quote(str(path))}"
