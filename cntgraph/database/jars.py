"""The jars of Neo4j, fetched once: a jar is in place when its bytes hash to the lock file's line.

The lock file names every artifact by its Maven coordinates, with sha256 and size, so that
nothing is resolved on the user's machine and nothing unexpected runs there. Neo4j Community is
GPL-3.0: it is fetched at the user's wish and runs as a process of its own, none of it is
shipped with this package.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from cntgraph.database.releases import LATEST, VERSION, Release
from cntgraph.errors import DatabaseError, InputRefused

__all__ = ["VERSION", "Jar", "exclusive", "fetch", "pinned", "user_folder"]

Progress = Callable[[int, int], None]

_ATTEMPTS = 3  # a fetch of 225 files should not end with the first reset connection


@dataclass(frozen=True)
class Jar:
    """One artifact of the lock file."""

    group: str
    artifact: str
    version: str
    classifier: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        """The file's name, as Maven would write it.

        >>> Jar("io.netty", "netty-buffer", "4.2", "", "", 0).name
        'netty-buffer-4.2.jar'
        """
        return "-".join(filter(None, (self.artifact, self.version, self.classifier))) + ".jar"

    def is_whole(self, path: Path) -> bool:
        """Whether `path` holds exactly these bytes."""
        try:
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    return False
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


@cache
def pinned(purpose: str = "server", release: Release = LATEST) -> tuple[Jar, ...]:
    """The jars of one group of a release's lock file.

    It is `"server"`, `"import"` for the offline import, or `"gds"` for Graph Data Science, which
    not every release has.

    >>> pinned()[0].version
    '2.1'
    """
    lock = release.lock.read_text(encoding="ascii")
    lines = (line.split() for line in lock.splitlines() if not line.startswith("#"))
    return tuple(
        _jar(coordinates, sha256, int(size))
        for group, coordinates, sha256, size in lines
        if group == purpose
    )


def _jar(coordinates: str, sha256: str, size: int) -> Jar:
    group, artifact, version, *classifier = coordinates.split(":")
    return Jar(group, artifact, version, "".join(classifier), sha256, size)


def fetch(
    jars: Iterable[Jar],
    folder: Path,
    *,
    title: str = LATEST.title,
    progress: Progress | None = None,
) -> list[Path]:
    """The paths of `jars` in `folder`, each whole; what is missing or damaged is fetched.

    Every jar appears by one rename, so that a killed fetch goes on where it stopped. `progress`
    is called with the bytes fetched and the bytes to fetch; by default a bar is drawn on a
    terminal and one line is written elsewhere, both on stderr. `title` says there what the jars
    are.

    Raises `DatabaseError` where the network or the disk says no.
    """
    wanted = tuple(jars)
    if _missing(wanted, folder):
        with exclusive(folder.parent / "fetch.lock"):
            _fetch_missing(_missing(wanted, folder), folder, title, progress)
    return [folder / jar.name for jar in wanted]


def _missing(jars: Iterable[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not jar.is_whole(folder / jar.name)]


def _fetch_missing(missing: list[Jar], folder: Path, title: str, progress: Progress | None) -> None:
    if not missing:  # another process fetched them while this one waited
        return
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name("fetching")
    total, done = sum(jar.size for jar in missing), 0
    with nullcontext(progress) if progress else _shown(missing, folder, title) as tell:
        for jar in missing:
            _fetch_one(jar, beside, folder, title)
            done += jar.size
            tell(done, total)
    shutil.rmtree(beside, ignore_errors=True)


def _fetch_one(jar: Jar, beside: Path, folder: Path, title: str) -> None:
    from jgo.maven import MavenContext

    failure: Exception | None = None
    for _ in range(_ATTEMPTS):
        # what a killed fetch left here is cut short, and jgo would take it for the whole
        shutil.rmtree(beside, ignore_errors=True)
        component = MavenContext(repo_cache=beside).project(jar.group, jar.artifact)
        artifact = component.at_version(jar.version).artifact(jar.classifier, "jar")
        try:
            path = artifact.resolve()
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _disk_full(jar, folder) from error
            failure = error
            continue
        if jar.is_whole(path):
            os.replace(path, folder / jar.name)
            return
        failure = None
    raise _not_fetched(jar, title, failure) from failure


def _disk_full(jar: Jar, folder: Path) -> DatabaseError:
    return DatabaseError(
        f"the disk is full: {jar.name} ({jar.size} bytes) does not fit into {folder}",
        why="Neo4j Community takes 160 MB there, once",
        fix="free some space, or set CNTGRAPH_CACHE to a folder with more, and run this again",
    )


def _not_fetched(jar: Jar, title: str, failure: Exception | None) -> DatabaseError:
    return DatabaseError(
        f"{title} could not be fetched: {jar.name} did not arrive",
        why=str(failure) if failure else f"what arrives is not the file with sha256 {jar.sha256}",
        fix="run this again with a network (it goes on where it stopped), "
        "or set NEO4J_URI to a server that runs already",
    )


def _shown(missing: list[Jar], folder: Path, title: str) -> AbstractContextManager[Progress]:
    total = sum(jar.size for jar in missing) / 1e6
    sys.stderr.write(
        f"fetching {title} (GPL-3.0), once: {len(missing)} files, {total:.0f} MB, into {folder}\n"
    )
    return _bar() if sys.stderr.isatty() else nullcontext(lambda done, total: None)


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def user_folder(kind: Literal["data", "cache"]) -> Path:
    """This user's folder of cntgraph, where `CNTGRAPH_HOME` and `CNTGRAPH_CACHE` do not move it.

    `CNTGRAPH_HOME` moves both, to its `data` and `cache`; `CNTGRAPH_CACHE` the cache alone.
    """
    import platformdirs

    home, cache = os.environ.get("CNTGRAPH_HOME"), os.environ.get("CNTGRAPH_CACHE")
    if kind == "cache" and cache:
        return Path(cache).expanduser().absolute()
    if home:
        return Path(home).expanduser().absolute() / kind
    if kind == "cache":
        return platformdirs.user_cache_path("cntgraph", appauthor=False)
    return platformdirs.user_data_path("cntgraph", appauthor=False)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time in the block; the lock ends with the process, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise InputRefused(
            f"{path.parent} cannot be written",
            why=str(error),
            fix="set CNTGRAPH_HOME to a folder of your own",
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
