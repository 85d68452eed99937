"""Whether what cntgraph stands on is there, and the one command that mends what is not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import print_json, size, write
from cntgraph.errors import CntError

__all__ = ["doctor"]

_LIBRARIES = ("torch", "igraph", "networkx", "scipy", "pandas", "pyarrow", "numba", "matplotlib")
_ROOM = 1_000_000_000  # bytes: the server's jars, its store and a few runs
_DATABASE = 4
_INPUT = 3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; a fix is there only where it is broken."""

    name: str
    detail: str
    ok: bool = True
    fix: str = ""
    status: int = _INPUT


def doctor(json: Json = False) -> None:
    """Check what cntgraph needs, and say what mends it."""
    found = []
    for check in _checks():
        found.append(check)
        if not json:
            _tell(check)
    broken = [check for check in found if not check.ok]
    if json:
        checks = [
            {name: value for name, value in asdict(check).items() if name != "status"}
            for check in found
        ]
        print_json({"ok": not broken, "checks": checks})
    if broken:
        raise typer.Exit(max(check.status for check in broken))


def _tell(check: Check) -> None:
    write(f"{'ok' if check.ok else 'problem':<8} {check.name:<13}{check.detail}\n")
    if check.fix:
        write(f"{'':<22}fix: {check.fix}\n")


def _checks() -> Iterator[Check]:
    from cntgraph import __version__

    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    yield Check("cntgraph", f"{__version__}, Python {platform.python_version()}, {system}")
    for library in _LIBRARIES:
        yield _library(library)
    yield _guarded("cuda", _cuda)
    yield _library("neo4j")
    yield _guarded("java", _java)
    yield _guarded("server", _server)
    yield _guarded("NEO4J_URI", _given_server)
    yield _guarded("data folder", lambda: _folder("data", "CNTGRAPH_HOME"))
    yield _guarded("cache folder", lambda: _folder("cache", "CNTGRAPH_CACHE"))
    yield _guarded("memory", _memory)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except CntError as error:
        why = f": {error.why}" if error.why else ""
        return Check(name, error.what + why, False, error.fix, min(4, error.exit_status))


def _library(name: str) -> Check:
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError) as error:
        fix = f"pip install --force-reinstall {name}"
        return Check(name, f"cannot be imported: {error}", False, fix)
    return Check(name, str(getattr(module, "__version__", "present")))


def _cuda() -> Check:
    try:
        import torch
    except (ImportError, OSError):
        return Check("cuda", "unknown without torch")
    if not torch.cuda.is_available():
        built = torch.version.cuda
        return Check("cuda", f"built for {built}, no device" if built else "none, the CPU is used")
    count = torch.cuda.device_count()
    return Check("cuda", f"{torch.version.cuda}, {count} x {torch.cuda.get_device_name(0)}")


def _java() -> Check:
    from cntgraph.database.java import java_runtime, javas
    from cntgraph.database.releases import LATEST, RELEASES

    here = "; ".join(f"{java.version} by {java.origin} ({java.path})" for java in javas()) or "none"
    chosen = []
    for release in RELEASES:
        try:
            java = java_runtime(release)
        except CntError as error:
            if release is LATEST:
                return Check("java", f"{here}: {error.what}", False, error.fix, _DATABASE)
            chosen.append(f"Neo4j {release.name} finds none that fits: {error.fix}")
        else:
            chosen.append(f"Neo4j {release.name} runs on {java.version} by {java.origin}")
    return Check("java", "; ".join([here, *chosen]))


def _server() -> Check:
    from cntgraph.database.server import status

    found = status()
    if not found.running:
        return Check("server", f"Neo4j {found.version}, not running: starts on first use")
    return Check("server", f"Neo4j {found.version} at {found.uri}, process {found.pid}")


def _given_server() -> Check:
    uri = os.environ.get("NEO4J_URI")
    if not uri:
        return Check("NEO4J_URI", "not set, the server of this machine is used")
    from cntgraph.database import connect

    with connect() as database:
        return Check("NEO4J_URI", f"{database.uri} answers")


def _folder(kind: Literal["data", "cache"], variable: str) -> Check:
    from cntgraph.database.jars import user_folder

    folder = user_folder(kind)
    there = next(p for p in (folder, *folder.parents) if p.exists())
    name = f"{kind} folder"
    if not os.access(there, os.W_OK | os.X_OK):
        fix = f"export {variable}=FOLDER, one that you can write to"
        return Check(name, f"{there} cannot be written to", False, fix)
    free = shutil.disk_usage(there).free
    if free < _ROOM:
        return Check(name, f"{folder}, {size(free)} free", False, f"make room on {_mount(there)}")
    return Check(name, f"{folder}, {size(free)} free")


def _mount(folder: Path) -> Path:
    return next(p for p in (folder, *folder.parents) if os.path.ismount(p))


def _memory() -> Check:
    from cntgraph.graphs.memory import available_memory

    there = available_memory()
    return Check("memory", "unknown" if there is None else f"{size(there)} available")
