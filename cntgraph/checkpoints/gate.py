"""No byte reaches torch before the file has shown that it is whole and holds weights only.

torch's own reader neither checks the archive's checksums nor bounds what a record unfolds to,
and its errors advise to switch the protection off; so damage and code are named here instead.
"""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cntgraph.checkpoints.exported import TABLE, weights_of
from cntgraph.checkpoints.header import Header, read_header
from cntgraph.checkpoints.inert import StandIn
from cntgraph.checkpoints.outline import Outline, draw
from cntgraph.checkpoints.refusal import AGAIN, cut_short, refused, resave
from cntgraph.checkpoints.strangers import LEGACY_START, stranger
from cntgraph.checkpoints.tensors import Store

if TYPE_CHECKING:
    from io import BufferedReader

__all__ = ["Admitted", "admit"]

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MARK = LEGACY_START[2:]  # its pickle in any protocol
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
TRUST = "if you made it yourself, --trust (in Python trust=True) reads its weights; else {save}"
_CHUNK = 1 << 20
# torch takes such a record for empty and hands out memory that nothing was written to.
_FOLDER = 0x10
_OTHER_ORDER = b"big" if sys.byteorder == "little" else b"little"


@dataclass(frozen=True)
class Admitted:
    """A file that passed: its format and, by format, its header or its outline and its bytes.

    Neither is there for a trusted `.pt2` that only torch itself can read.
    """

    format: str
    outline: Outline | None = None
    header: Header | None = None
    store: Store | None = None


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
    if head[:1] == b"\x80" and _MARK in head[:32]:
        return _legacy(file, path, size)
    raise stranger(head, path, size)


def _is_safetensors(head: bytes, path: Path) -> bool:
    if len(head) < 9:
        return path.suffix == ".safetensors" and len(head) > 0
    return head[8:9] == b"{" and (path.suffix == ".safetensors" or head[5:8] == b"\0\0\0")


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
        records = {entry.filename: entry for entry in entries}
        top = entries[0].filename.partition("/")[0] + "/"
        if exported:
            return _exported(archive, records, file, path)
        outline, folder = _zip_outline(archive, records, top, path), f"{top}data/"
        return Admitted("torch", outline, store=_store(outline, records, folder, file, path))


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
    if any(name.endswith((".so", ".cubin")) for name in whole):
        kind, why = "a compiled program (AOTInductor)", "loading it runs the machine code within"
    elif "constants.pkl" in names or any(name.startswith("code/") for name in names):
        kind, why = "a TorchScript program", "it holds code, and loading it runs that code"
    elif names & {"archive_format", "models/model.json"} or any(
        name.endswith("serialized_exported_program.json") for name in whole
    ):
        kind, why = "a torch.export program (.pt2)", "torch.export.load runs the pickles within"
        if trust:
            return True
        raise refused(path, f"the file is {kind}", why=why, fix=TRUST.format(save=resave(path)))
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


def _zip_outline(
    archive: zipfile.ZipFile, records: Mapping[str, zipfile.ZipInfo], top: str, path: Path
) -> Outline:
    if f"{top}data.pkl" not in records:
        why = f"its records are not all in the folder {top[:-1]!r}"
        raise refused(path, "the file is not as torch.save writes it", why=why, fix=resave(path))
    outline = draw(io.BytesIO(_contents(archive, records[f"{top}data.pkl"], path)))
    _refuse_foreign(outline, path)
    _refuse_damage(outline, path)
    return outline


def _exported(
    archive: zipfile.ZipFile,
    records: Mapping[str, zipfile.ZipInfo],
    file: BufferedReader,
    path: Path,
) -> Admitted:
    """The weights of a `.pt2`, where they are plain records that no pickle is needed for."""
    tables = [name for name in records if name.endswith(TABLE)]
    if len(tables) != 1:
        return Admitted("torch.export")
    folder = tables[0].rpartition("/")[0] + "/"
    sizes = {
        n.removeprefix(folder): e.file_size for n, e in records.items() if n.startswith(folder)
    }
    try:
        outline = weights_of(_contents(archive, records[tables[0]], path), sizes)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it is not what torch.export writes: {type(error).__name__} {error}"
        raise refused(path, "its table of weights is damaged", why=why, fix=AGAIN) from error
    if outline is None:
        return Admitted("torch.export")
    store = _store(outline, records, folder, file, path)
    return Admitted("torch.export", outline, store=store)


def _store(
    outline: Outline,
    records: Mapping[str, zipfile.ZipInfo],
    folder: str,
    file: BufferedReader,
    path: Path,
) -> Store:
    """Where the bytes of each storage are in an archive; refuses those that claim too many."""
    places: dict[str, int] = {}
    for key, claimed in outline.storages.items():
        record = records.get(f"{folder}{key}")
        held = record.file_size if record else 0
        if claimed > held:
            why = f"its pickle claims {claimed:,} bytes of {f'data/{key}'!r}, which holds {held:,}"
            raise refused(path, "the file's tensors do not fit its records", why=why, fix=AGAIN)
        places[key] = _begins(file, record) if record else 0
    order = records.get(f"{folder.partition('/')[0]}/byteorder")
    swapped = order is not None and _raw(file, order) == _OTHER_ORDER
    return Store(file, path, places, outline.storages, swapped)


def _begins(file: BufferedReader, record: zipfile.ZipInfo) -> int:
    """The first byte of a record, after its own head: 30 bytes, a name and padding."""
    file.seek(record.header_offset + 26)
    name, padding = struct.unpack("<HH", file.read(4))
    return int(record.header_offset + 30 + name + padding)


def _raw(file: BufferedReader, record: zipfile.ZipInfo) -> bytes:
    file.seek(_begins(file, record))
    return file.read(record.file_size)


def _legacy(file: BufferedReader, path: Path, size: int) -> Admitted:
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
    listed = [str(key) for key in keys.root]
    if sorted(listed) != sorted(outline.storages):
        why = "the storages that its tensors name are not those it holds"
        raise refused(path, "the file's list of storages is damaged", why=why, fix=AGAIN)
    if outline.untyped:
        what = "the file holds float8 or unsigned numbers in PyTorch's legacy format"
        raise refused(path, what, why="torch itself cannot read those back", fix=resave(path))
    wanted = file.tell() + sum(8 + claimed for claimed in outline.storages.values())
    if wanted > size:
        raise cut_short(path, size, f"its tensors end at byte {wanted:,}")
    store = Store(file, path, _legacy_places(file, path, listed, outline), outline.storages)
    return Admitted("torch (legacy)", outline, store=store)


def _legacy_places(
    file: BufferedReader, path: Path, keys: list[str], outline: Outline
) -> dict[str, int]:
    """Where each storage begins: they follow each other, each after its count of numbers."""
    places: dict[str, int] = {}
    place = file.tell()
    for key in keys:
        file.seek(place)
        (count,) = struct.unpack("<q", file.read(8))
        if count * outline.widths[key] != outline.storages[key]:
            why = f"a storage of {outline.storages[key]:,} bytes is said to have {count:,} numbers"
            raise refused(path, "the file's list of storages is damaged", why=why, fix=AGAIN)
        places[key] = place + 8
        place += 8 + outline.storages[key]
    return places


def _refuse_foreign(outline: Outline, path: Path) -> None:
    """Refuse a pickle that would import anything besides tensors, containers and plain data."""
    if not outline.foreign:
        return
    first, more = outline.foreign[:3], len(outline.foreign) - 3
    named = ", ".join(first) + (f" and {more} more" if more > 0 else "")
    held = sorted({".".join(place) for place in _places(outline.root, outline.foreign)})
    where = f" (in {', '.join(map(repr, held[:3]))})" if held else ""
    if any(name.startswith("torch.nn.modules.") for name in outline.foreign):
        what = "the file holds a whole pickled model, not its weights"
        why = f"reading it would run the code of its classes: {named}{where}"
    else:
        what = f"the file holds Python objects besides weights: {named}{where}"
        why = "reading them would run their code, so they were not read"
    raise refused(path, what, why=why, fix=resave(path))


def _places(root: object, foreign: list[str]) -> Iterator[tuple[str, ...]]:
    """The words of a training dictionary, two deep, under which foreign objects lie."""
    todo: list[tuple[tuple[str, ...], object]] = [((), root)]
    for place, value in todo:
        if isinstance(value, StandIn) and value.path in foreign and place:
            yield place
        elif isinstance(value, Mapping) and len(place) < 2:
            todo += [((*place, str(word)), item) for word, item in value.items()]


def _refuse_damage(outline: Outline, path: Path) -> None:
    if outline.damage:
        why = f"it is not what torch.save writes: {outline.damage}"
        raise refused(path, "the file's pickle cannot be read", why=why, fix=AGAIN)
