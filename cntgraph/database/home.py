"""The home folder of the local server: its mark, its password, its settings, its data.

A folder without the mark is not ours, and is neither written to nor deleted from. What lies in
the home is its owner's to read only.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cntgraph.database.exchanging import KEPT, discard
from cntgraph.database.java import Java, java_options, quoted
from cntgraph.database.process import Process
from cntgraph.database.releases import LATEST, RELEASES, VERSION, Release
from cntgraph.database.settings import Options, settings
from cntgraph.errors import DatabaseError, InputRefused

__all__ = [
    "USER",
    "Record",
    "admitted",
    "bytes_on_disk",
    "discard_data",
    "ensure_password",
    "has_room",
    "keep",
    "password_file",
    "prepare",
    "recorded",
    "refuse_without_room",
    "release_of",
]

USER = "neo4j"
_MARK = "server.json"
_ROOM = 32 << 20  # bytes: a new store, its log and a few transactions
_UNREADABLE = (
    FileNotFoundError,
    NotADirectoryError,
    ValueError,
    TypeError,
    KeyError,
    InputRefused,
)


@dataclass(frozen=True)
class Record:
    """The mark in the home: the version that wrote the data, the port, the process, its options."""

    neo4j: str = VERSION
    port: int = 0
    process: Process = field(default_factory=Process)
    options: Options = field(default_factory=Options)

    @property
    def uri(self) -> str:
        """Where Bolt listens."""
        return f"bolt://127.0.0.1:{self.port}"


def recorded(home: Path) -> Record:
    """What the home says of itself; a new or empty one says nothing yet."""
    if not home.exists() or all(_is_beside(path) for path in home.iterdir()):
        return Record(release_of(home).version)
    try:
        return _record(json.loads((home / _MARK).read_text(encoding="utf-8")))
    except _UNREADABLE as error:
        raise InputRefused(
            f"{home} is not a server folder of cntgraph",
            why=f"it is not empty, and {_MARK} in it is not what cntgraph writes there",
            fix="set CNTGRAPH_HOME to another folder, or move this one away",
        ) from error


def _record(kept: dict[str, Any]) -> Record:
    version = str(kept["neo4j"])
    _order(version)
    options = Options(**kept.get("options", {}))  # marks of earlier releases have none
    return Record(version, int(kept["port"]), Process(**kept["process"]), options)


def release_of(home: Path) -> Release:
    """The release whose data lies in a folder of this name."""
    return next((release for release in RELEASES if release.folder == home.name), LATEST)


def _is_beside(path: Path) -> bool:
    """Whether a mark is being written here: of a new home others see this for a moment."""
    return path.name.startswith(f".{_MARK}-")


def keep(home: Path, record: Record) -> None:
    """Write the mark anew. Raises `DatabaseError` where the disk does not take it."""
    try:
        _write(home / _MARK, json.dumps(asdict(record)) + "\n")
    except OSError as error:
        raise DatabaseError(
            f"{home} cannot be written",
            why=f"{error.strerror}; {shutil.disk_usage(home).free:,} bytes are free there",
            fix="make room on its disk, or set CNTGRAPH_HOME to a folder on another",
        ) from error


def has_room(home: Path) -> bool:
    """Whether a server can write there; on a full disk it neither starts nor stops by itself."""
    return shutil.disk_usage(home).free >= _ROOM


def refuse_without_room(home: Path) -> None:
    """A full disk, said before a server meets it: what it cannot write there ends its database."""
    if not has_room(home):
        raise DatabaseError(
            f"the disk of {home} is full: {shutil.disk_usage(home).free:,} bytes are free",
            why=f"a server needs {_ROOM:,} to start, and more to write; nothing was changed",
            fix="make room there, then run this again: what was committed is safe",
        )


def admitted(home: Path) -> Record:
    """The record of a home that is ours, or new, and that this Neo4j can read."""
    record = recorded(home)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if home.stat().st_uid != os.getuid():
        raise InputRefused(
            f"{home} belongs to another user",
            why=f"its owner has the number {home.stat().st_uid}, you have {os.getuid()}",
            fix="set CNTGRAPH_HOME to a folder of your own",
        )
    version = release_of(home).version
    if _order(record.neo4j) > _order(version):
        raise DatabaseError(
            f"the data in {home} was written by Neo4j {record.neo4j}, newer than {version}",
            why="an older Neo4j cannot read it",
            fix="upgrade cntgraph, or delete the data and load again: cntgraph db reset",
        )
    if not (home / _MARK).exists():
        keep(home, record)
    return record


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _write(path: Path, text: str) -> None:
    """The whole text under `path` or nothing of it, for its owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def discard_data(home: Path) -> None:
    """Delete what the (stopped) server wrote and nothing else; port and password stay."""
    discard(home / "data")
    rebuilt = home / KEPT, home / "rebuilding"  # what a killed rebuild left
    for folder in (*rebuilt, home / "logs", home / "run"):
        shutil.rmtree(folder, ignore_errors=True)
    keep(home, replace(recorded(home), neo4j=release_of(home).version))


def bytes_on_disk(home: Path) -> int:
    """What the home takes on the disk."""
    total = 0
    for folder, _, names in os.walk(home):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:  # a running server rotates its files
                continue
    return total


def password_file(home: Path) -> Path:
    """Where the random password of the only user lies."""
    return home / "password"


def prepare(home: Path, record: Record, java: Java, jars: list[Path], plugins: list[Path]) -> Path:
    """Settings and password for a start; the path of the file of arguments for Java."""
    release = release_of(home)
    _write(home / "conf" / "neo4j.conf", settings(release, record.port, record.options))
    _link_plugins(home, plugins)
    ensure_password(home)
    arguments = home / "conf" / "java.arguments"
    main = [release.main, "--console-mode"]
    folders = [f"--home-dir={home}", f"--config-dir={home / 'conf'}"]
    options = java_options(java, [*plugins, *jars], record.options.heap)
    _write(arguments, quoted([*options, *main, *folders]))
    return arguments


def _link_plugins(home: Path, plugins: list[Path]) -> None:
    """The folder where the server looks for procedures leads to the jars of the plugins, or is not.

    A folder of the user's own is left alone; what lies there is on no class path of ours.
    """
    place = home / "plugins"
    if place.is_symlink():
        place.unlink()
    if not plugins:
        return
    try:
        place.symlink_to(plugins[0].parent)
    except FileExistsError as error:
        raise InputRefused(
            f"{place} is in the way of a plugin",
            why="it is not the link that cntgraph makes there",
            fix=f"move it away: mv {place} {place}.mine",
        ) from error


def ensure_password(home: Path) -> None:
    """A random password, for a home that has none and for a server that will make its data."""
    password = password_file(home)
    has_data = (home / "data" / "databases").exists()
    if has_data and not password.exists():
        raise DatabaseError(
            f"the password of the local server is gone: {password}",
            why="its data is there, but nobody can log in",
            fix="delete the data and load again: cntgraph db reset",
        )
    if not password.exists():
        _write(password, secrets.token_urlsafe(24) + "\n")
    if not has_data:  # the server reads it when it makes its first database
        text = password.read_text(encoding="utf-8").strip()
        _write(home / "data" / "dbms" / "auth.ini", _credential(text))


def _credential(password: str) -> str:
    """What `neo4j-admin dbms set-initial-password` writes; that takes the password in sight."""
    salt = os.urandom(32)
    digest = hashlib.sha256(salt + password.encode()).digest()
    for _ in range(1023):
        digest = hashlib.sha256(digest).digest()
    return f"{USER}:SHA-256,{digest.hex()},{salt.hex()},1024:\n"
