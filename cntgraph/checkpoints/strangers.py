"""A file that is no checkpoint is told what it is, by its first bytes, and what mends that."""

from __future__ import annotations

import shlex
from pathlib import Path

from cntgraph.checkpoints.refusal import AGAIN, cut_short, refused, resave
from cntgraph.errors import InputRefused

__all__ = ["LEGACY_START", "stranger"]

LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_FOREIGN_STARTS = (
    (b"\x1f\x8b", "a gzip archive", "unpack it first: gunzip -k {path}"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive", "unpack it first: unzstd {path}"),
    (b"\x89HDF", "an HDF5 file (Keras writes those)", ""),
    (b"GGUF", "a GGUF file", ""),
    (b"\x93NUMPY", "a NumPy array", ""),
)


def stranger(head: bytes, path: Path, size: int) -> InputRefused:
    """Say what a file is that is no checkpoint."""
    if size == 0:
        return refused(path, "the file is empty", why="0 bytes: its writing never began", fix=AGAIN)
    if head.startswith(b"version https://git-lfs"):
        return refused(
            path,
            "the file is a Git LFS pointer, not the checkpoint itself",
            why="the repository was cloned without its large files",
            fix=f"git lfs pull --include {shlex.quote(path.name)}",
        )
    if LEGACY_START.startswith(head) or b"PK\x03\x04".startswith(head):
        return cut_short(path, size, "it ends within its first mark")
    return _other_format(head, path) or _text_or_noise(head, path)


def _other_format(head: bytes, path: Path) -> InputRefused | None:
    for start, kind, fix in _FOREIGN_STARTS:
        if head.startswith(start):
            what = f"the file is {kind}, not a PyTorch checkpoint"
            return refused(path, what, fix=fix.format(path=shlex.quote(str(path))) or resave(path))
    if head[257:262] == b"ustar":
        return refused(
            path,
            "the file is a tar archive",
            why="as a checkpoint it is the oldest format of PyTorch, whose reading runs pickles",
            fix=f"unpack it if it holds checkpoints, else {resave(path)}",
        )
    if head.startswith(b"\x80"):
        return refused(
            path,
            "the file is a pickle that torch.save did not write",
            why="reading it could run code of whoever wrote it",
            fix=resave(path),
        )
    return None


def _text_or_noise(head: bytes, path: Path) -> InputRefused:
    start = head.lstrip().lower()
    if not head.strip(b"\0"):
        return refused(
            path,
            "the file begins with zero bytes",
            why="its space was reserved and the contents never arrived",
            fix=AGAIN,
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return refused(
            path,
            "the file is an HTML page, not a checkpoint",
            why="a server answered with a page (a login, an error) instead of the file",
            fix="download it again from an address that gives the file itself",
        )
    if not start.strip(b"\t\n\r\f\x1b" + bytes(range(32, 127)) + bytes(range(128, 256))):
        kind = "JSON" if start[:1] in (b"{", b"[") else "text"
        return refused(
            path,
            f"the file is {kind}, not a checkpoint",
            why=f"it begins with {head[:40].decode('utf-8', 'replace')!r}",
            fix="name the file that holds the weights",
        )
    return refused(
        path,
        "the file is not a checkpoint, or its beginning is damaged",
        why=f"it begins with the bytes {head[:8].hex(' ')}",
        fix="give a .safetensors file or one that torch.save wrote",
    )
