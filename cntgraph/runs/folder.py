"""What is in a run folder is whole: files and epochs appear by one rename, under one lock.

Only names that this module gives are ever written, replaced or removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cntgraph.errors import InputRefused, RunDamaged

__all__ = [
    "EPOCH_FILES",
    "MANIFEST",
    "NETWORK",
    "RECEIPT",
    "claimed",
    "clean",
    "discard_epoch",
    "epoch_name",
    "epochs_on_disk",
    "locked",
    "put_epoch",
    "put_file",
    "read_file",
]

MANIFEST, NETWORK, EPOCHS, RECEIPT = "manifest.json", "network.json", "epochs", "epoch.json"
EPOCH_FILES = ("weights.safetensors", "neurons.parquet", "layers.parquet", "metrics.json")
_OURS = ".cntgraph-"  # begins the name of everything that is not finished
_LOCK = f"{_OURS}lock"
_LISTABLE = re.compile(
    rf"network\.json|epochs/epoch=\d{{4,}}/({'|'.join((*EPOCH_FILES, RECEIPT))})"
)


def epoch_name(epoch: int) -> str:
    """The folder of an epoch, seen from the run's."""
    return f"{EPOCHS}/epoch={epoch:04d}"


def epochs_on_disk(folder: Path) -> list[int]:
    """The epochs that are there, in numeric order, whoever wrote them."""
    place = folder / EPOCHS
    names = [entry.name for entry in place.iterdir()] if place.is_dir() else []
    numbers = [int(name[6:]) for name in names if re.fullmatch(r"epoch=\d{4,}", name, re.ASCII)]
    return sorted({n for n in numbers if Path(epoch_name(n)).name in names})


def claimed(folder: Path, document: str) -> bool:
    """True if a run is there, False if nothing is; anything else is refused and left alone."""
    if not os.path.lexists(folder):
        return False
    if not folder.is_dir():
        raise InputRefused(f"{folder} is a file", fix="give a folder: --to runs/NAME")
    names = sorted(e.name for e in folder.iterdir() if not e.name.startswith(_OURS))
    if not names:
        return False
    network = folder / NETWORK
    if NETWORK in names and network.is_file() and document.encode() in network.read_bytes()[:200]:
        return True
    raise InputRefused(
        f"{folder} is not empty and holds no run",
        why=f"{names[0]!r} is there, and what is not a run's is never touched",
        fix="give a folder that is empty or does not exist: --to runs/NAME",
    )


# -- reading ----------------------------------------------------------------------------------


def read_file(folder: Path, name: str) -> bytes:
    """The bytes of a file of the run; names and links that lead elsewhere are refused."""
    if name != MANIFEST and not _LISTABLE.fullmatch(name):
        raise RunDamaged(
            f"{folder / MANIFEST} lists {name!r}",
            why="a run holds no file of that name, and nothing outside its folder is read",
            fix="export the run again",
        )
    path = folder
    for part in Path(name).parts:
        path = path / part
        if path.is_symlink():
            raise RunDamaged(
                f"{path} is a symbolic link",
                why="a run's files lie in its own folder",
                fix="put the file itself there, or export the run again",
            )
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RunDamaged(
            f"{path} is missing", fix="export the run again: what is there is not done twice"
        ) from None
    except OSError as error:
        raise RunDamaged(f"{path} cannot be read", why=str(error)) from error


# -- writing ----------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only writer of a run folder, which is made if need be, or refuse naming the other."""
    new = not folder.exists()
    with _told(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _acquired(folder / _LOCK)
    try:
        clean(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / _LOCK).unlink()
        fcntl.flock(handle, fcntl.LOCK_UN)  # a worker process may have inherited the handle
        os.close(handle)
        if new:
            with suppress(OSError):
                folder.rmdir()  # nothing was written


def _acquired(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 300).decode(errors="replace").strip()
            os.close(handle)
            raise InputRefused(
                f"{path.parent} is being written by {holder or 'another process'}",
                why="two exports of one run would undo each other's work",
                fix="wait until it is done and run the same command, or give another folder: --to",
            ) from None
        with suppress(FileNotFoundError):
            # whoever held it before may have removed it between the two calls
            if os.path.samestat(path.stat(), os.fstat(handle)):
                os.truncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                return handle
        os.close(handle)


def put_file(folder: Path, name: str, data: bytes) -> None:
    """Write one file of the run, whole or not at all."""
    path, part = folder / name, folder / f"{_OURS}{name}"
    with _told(folder, len(data)):
        try:
            _write(part, data)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync_folder(folder)


def put_epoch(folder: Path, epoch: int, files: Mapping[str, bytes]) -> None:
    """Write an epoch's folder, whole or not at all."""
    final = folder / epoch_name(epoch)
    part = final.with_name(f"{_OURS}{final.name}")
    needed = sum(map(len, files.values()))
    with _told(folder, needed):
        final.parent.mkdir(exist_ok=True)
        _room(folder, needed)
        part.mkdir()
        try:
            for name, data in files.items():
                _write(part / name, data)
            _sync_folder(part)
            os.rename(part, final)
        except BaseException:
            _remove(part)
            raise
        _sync_folder(final.parent)


def discard_epoch(folder: Path, epoch: int) -> None:
    """Take an epoch out of the run: all of it at once, by a rename."""
    final = folder / epoch_name(epoch)
    part = final.with_name(f"{_OURS}{final.name}")
    foreign = sorted({entry.name for entry in final.iterdir()} - {*EPOCH_FILES, RECEIPT})
    if foreign:
        raise InputRefused(
            f"{final} cannot be replaced",
            why=f"{foreign[0]!r} is there, and what is not a run's is never removed",
            fix="move it elsewhere and run the same command",
        )
    with _told(folder, 0):
        os.rename(final, part)
        _remove(part)


def clean(folder: Path) -> None:
    """Remove what a killed export left unfinished; only called under the lock."""
    for place in (folder, folder / EPOCHS):
        for entry in list(place.iterdir()) if place.is_dir() else []:
            if entry.name.startswith(_OURS) and entry.name != _LOCK:
                with suppress(OSError):  # what holds foreign files stays
                    _remove(entry)


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        for name in (*EPOCH_FILES, RECEIPT):
            (part / name).unlink(missing_ok=True)
        part.rmdir()
    else:
        part.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(errno.ENOSPC, f"{free:,} bytes are free")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def _told(folder: Path, needed: int) -> Iterator[None]:
    """Say of a failed write where it was, how much was to be written, and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise InputRefused(
            f"{folder} cannot be written",
            why=f"{error.strerror}" + (f"; {needed:,} bytes are needed" if full else ""),
            fix="make room and run the same command: finished epochs are not done twice"
            if full
            else "give a folder that you may write: --to runs/NAME",
        ) from error
