"""No byte reaches torch before the file has shown that it is whole and holds weights only.

torch's own reader neither checks the archive's checksums nor bounds what a record unfolds to,
and its errors advise to switch the protection off; so damage and code are named here instead.
"""

from __future__ import annotations

import io
import shlex
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cntgraph.checkpoints.header import Header, read_header
from cntgraph.checkpoints.outline import Outline, draw
from cntgraph.checkpoints.refusal import AGAIN, cut_short, refused, resave
from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    from io import BufferedReader

__all__ = ["Admitted", "admit"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
    EOFError,
    KeyError,
    OSError,
    struct.error,
)
_FOREIGN_STARTS = (
    (b"\x1f\x8b", "a gzip archive", "unpack it first: gunzip -k {path}"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive", "unpack it first: unzstd {path}"),
    (b"\x89HDF", "an HDF5 file (Keras writes those)", ""),
    (b"GGUF", "a GGUF file", ""),
    (b"\x93NUMPY", "a NumPy array", ""),
)
_CHUNK = 1 << 20
# torch takes such a record for empty and hands out memory that nothing was written to.
_FOLDER = 0x10


@dataclass(frozen=True)
class Admitted:
    """A file that passed: its format and, by format, the outline of its pickle or its header."""

    format: str
    outline: Outline | None = None
    header: Header | None = None


def admit(
    file: BufferedReader, path: Path, size: int, *, every_record: bool = True, trust: bool = False
) -> Admitted:
    """Let a whole file of weights pass, and refuse anything else by its name.

    `every_record=False` leaves out the checksums of the tensors' bytes; `trust` lets a `.pt2` in.
    Raises `InputRefused`.
    """
    file.seek(0)
    head = file.read(512)
    if _is_safetensors(head, path):
        return Admitted("safetensors", header=read_header(file, path, size))
    if head.startswith(b"PK\x03\x04"):
        return _admit_zip(file, path, size, every_record, trust)
    if head.startswith(_LEGACY_START):
        return Admitted("torch (legacy)", outline=_legacy(file, path, size))
    raise _stranger(head, path, size)


def _is_safetensors(head: bytes, path: Path) -> bool:
    if len(head) < 9:
        return path.suffix == ".safetensors" and len(head) > 0
    return head[8:9] == b"{" and (path.suffix == ".safetensors" or head[5:8] == b"\0\0\0")


def _stranger(head: bytes, path: Path, size: int) -> InputRefused:
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
    if _LEGACY_START.startswith(head) or b"PK\x03\x04".startswith(head):
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


def _admit_zip(
    file: BufferedReader, path: Path, size: int, every_record: bool, trust: bool
) -> Admitted:
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_DAMAGE as error:
        if _lacks_end(file, size):
            why = "an archive ends with the list of its records, and this one does not"
            raise cut_short(path, size, why) from error
        raise refused(
            path, "the file's list of records is damaged", why=str(error), fix=AGAIN
        ) from error
    with archive:
        entries = archive.infolist()
        exported = _refuse_by_kind(entries, path, trust)
        _check_entries(entries, path, size)
        for entry in entries if every_record else ():
            _contents(archive, entry, path, keep=False)
        if exported:
            return Admitted("torch.export")
        return Admitted("torch", outline=_zip_outline(archive, entries, path))


def _lacks_end(file: BufferedReader, size: int) -> bool:
    """True where the closing mark of an archive is missing or has less than its 22 bytes."""
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    return place < 0 or len(tail) - place < 22


def _refuse_by_kind(entries: list[zipfile.ZipInfo], path: Path, trust: bool) -> bool:
    """Refuse the archives that are programs; true for a `.pt2` that is trusted."""
    names = {entry.filename.partition("/")[2] for entry in entries}
    whole = {entry.filename for entry in entries}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        kind, why = "a TorchScript program", "it holds code, and loading it runs that code"
    elif names & {"archive_format", "models/model.json"} or any(
        name.endswith("serialized_exported_program.json") for name in whole
    ):
        kind, why = "a torch.export program (.pt2)", "torch.export.load runs the pickles within"
        if trust:
            return True
    elif "data.pkl" in names:
        return False
    elif whole and all(name.endswith(".npy") for name in whole):
        kind, why = "a NumPy archive (.npz)", "it names no PyTorch state dict"
    else:
        kind, why = "a zip archive that torch.save did not write", "it has no record data.pkl"
    raise refused(path, f"the file is {kind}", why=why, fix=resave(path))


def _check_entries(entries: list[zipfile.ZipInfo], path: Path, size: int) -> None:
    """Names that stay inside, each once, stored as they are and no longer than the file."""
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        what = why = ""
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/"):
            what, why = f"the record {name!r} points outside the archive", "torch.save writes none"
        elif name in seen:
            what, why = f"the record {name!r} is there twice", "readers disagree which one counts"
        elif entry.external_attr & _FOLDER or name.endswith("/"):
            what, why = (
                f"the record {name!r} is marked as a folder",
                "torch would not read its data",
            )
        elif entry.flag_bits & 1:
            what, why = f"the record {name!r} is encrypted", "torch.save encrypts nothing"
        elif entry.compress_type != zipfile.ZIP_STORED:
            what = f"the record {name!r} is compressed"
            why = (
                f"torch.save stores records as they are; this one unfolds to {entry.file_size:,} B"
            )
        elif entry.file_size > size or entry.compress_size > size:
            what = f"the record {name!r} claims more bytes than the file has"
            why = f"it claims {entry.file_size:,} of {size:,} B"
        if what:
            raise refused(path, what, why=why, fix=resave(path))
        seen.add(name)
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size:
        why = f"its records claim {claimed:,} bytes together and the file has {size:,}"
        raise refused(path, "the file's records overlap", why=why, fix=resave(path))


def _contents(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, *, keep: bool = True
) -> bytes:
    """Read one record to its end, where its checksum is compared; its bytes if they are kept."""
    kept: list[bytes] = []
    try:
        with archive.open(entry) as record:
            while chunk := record.read(_CHUNK):
                if keep:
                    kept.append(chunk)
    except _ZIP_DAMAGE as error:
        raise refused(
            path,
            f"the record {entry.filename!r} is damaged",
            why=f"its checksum (CRC-32) or its place in the file is wrong: {error}",
            fix=AGAIN,
        ) from error
    return b"".join(kept)


def _zip_outline(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], path: Path) -> Outline:
    top = entries[0].filename.partition("/")[0]
    records = {entry.filename: entry for entry in entries}
    if f"{top}/data.pkl" not in records:
        why = f"its records are not all in the folder {top!r}"
        raise refused(path, "the file is not as torch.save writes it", why=why, fix=resave(path))
    pickled = _contents(archive, records[f"{top}/data.pkl"], path)
    outline = draw(io.BytesIO(pickled))
    _refuse_foreign(outline, path)
    _refuse_damage(outline, path)
    for key, claimed in outline.storages.items():
        record = records.get(f"{top}/data/{key}")
        held = record.file_size if record else 0
        if claimed > held:
            why = f"its pickle claims {claimed:,} bytes of {f'data/{key}'!r}, which holds {held:,}"
            raise refused(path, "the file's tensors do not fit its records", why=why, fix=AGAIN)
    return outline


def _legacy(file: BufferedReader, path: Path, size: int) -> Outline:
    """Five pickles (mark, version, machine, object, storage keys), then the storages' bytes."""
    file.seek(0)
    drawn: list[Outline] = []
    while len(drawn) < 5 and not (drawn and drawn[-1].damage):
        drawn.append(draw(file))
        _refuse_foreign(drawn[-1], path)
    if drawn[-1].damage and file.tell() >= size:
        raise cut_short(path, size, "it ends before its list of storages")
    _refuse_damage(drawn[-1], path)
    mark, version, _, outline, keys = drawn
    if mark.root != _LEGACY_MAGIC or version.root != 1001 or not isinstance(keys.root, list):
        why = "its first pickles are not those of torch.save"
        raise refused(path, "the file's beginning is damaged", why=why, fix=AGAIN)
    if sorted(map(str, keys.root)) != sorted(outline.storages):
        why = "the storages that its tensors name are not those it holds"
        raise refused(path, "the file's list of storages is damaged", why=why, fix=AGAIN)
    if outline.untyped:
        what = "the file holds float8 or unsigned numbers in PyTorch's legacy format"
        raise refused(path, what, why="torch itself cannot read those back", fix=resave(path))
    wanted = file.tell() + sum(8 + claimed for claimed in outline.storages.values())
    if wanted > size:
        raise cut_short(path, size, f"its tensors end at byte {wanted:,}")
    return outline


def _refuse_foreign(outline: Outline, path: Path) -> None:
    """Refuse a pickle that would import anything besides tensors and plain containers."""
    if not outline.foreign:
        return
    first, more = outline.foreign[:3], len(outline.foreign) - 3
    named = ", ".join(first) + (f" and {more} more" if more > 0 else "")
    if any(name.startswith("torch.nn.modules.") for name in outline.foreign):
        what = "the file holds a whole pickled model, not its weights"
        why = f"reading it would run the code of its classes: {named}"
    else:
        what = f"the file holds Python objects besides weights: {named}"
        why = "reading them would run their code, so they were not read"
    raise refused(path, what, why=why, fix=resave(path))


def _refuse_damage(outline: Outline, path: Path) -> None:
    if outline.damage:
        why = f"it is not what torch.save writes: {outline.damage}"
        raise refused(path, "the file's pickle cannot be read", why=why, fix=AGAIN)
