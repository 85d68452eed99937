"""What a listed graph will need is known before it is built, so what cannot fit is never begun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cntgraph.errors import InputRefused

__all__ = ["available_memory", "require_memory"]

_CGROUP = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def available_memory() -> int | None:
    """Bytes that this process can still take, by the tightest of the limits it runs under.

    The machine's free memory, a container's limit and the process's own limit on its address
    space; None where the system tells none of them.
    """
    return min((*_machine(), *_container(), *_address_space()), default=None)


def require_memory(links: int, per_link: int, neurons: int, per_neuron: int, *, what: str) -> None:
    """Refuse a graph of so many links and neurons, at so many bytes each, where they do not fit."""
    needed = links * per_link + neurons * per_neuron
    there = available_memory()
    if there is None or needed <= there:
        return
    lighter = "" if what == "a SciPy matrix" else f" network.to_scipy() needs {32 * links:,} bytes;"
    raise InputRefused(
        f"{what} of {links:,} links does not fit in memory",
        why=f"it needs about {needed:,} bytes while it is built, {there:,} are available",
        fix="network.filtered('top:32') keeps the strongest links;"
        f"{lighter} cnt.strength(network) needs no links at all",
    )


def _machine() -> Iterator[int]:
    try:
        lines = (_PROC / "meminfo").read_text().splitlines()
        yield from (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except OSError:
        if "SC_PHYS_PAGES" in os.sysconf_names:
            yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container() -> Iterator[int]:
    """Room under the memory limit of every control group around the process."""
    for folder, limit, used in _groups():
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            # pages of files read long ago are given back before the limit is felt
            yield max(0, most - now + _inactive_file(folder))


def _groups() -> Iterator[tuple[Path, str, str]]:
    try:
        lines = (_PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used = _CGROUP, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, used = _CGROUP / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        own = Path(path.strip("/"))
        for inner in (own, *own.parents):
            yield root / inner, limit, used


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such group, or the word "max"
        return None


def _inactive_file(folder: Path) -> int:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))


def _address_space() -> Iterator[int]:
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int((_PROC / "self" / "statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    if most != resource.RLIM_INFINITY:
        yield max(0, most - pages * resource.getpagesize())
