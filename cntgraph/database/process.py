"""A process that outlives the one that launched it, known by its pid and by when it was born."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "launch"]


_DEATH = 60.0  # seconds for the system to end a process that was killed
_BURIAL = 5.0  # and to forget one that has ended


@dataclass(frozen=True)
class Process:
    """A pid counts only together with the birth it was recorded with: pids are used again."""

    pid: int = 0
    birth: str = ""

    @staticmethod
    def of(pid: int) -> Process:
        """The process that has this pid now."""
        return Process(pid, _birth(pid) or "")

    @property
    def runs(self) -> bool:
        """Whether this very process is alive (a zombie is not)."""
        return self.pid > 0 and _birth(self.pid) == self.birth

    def end(self, *, patience: float) -> None:
        """SIGTERM, `patience` seconds to finish, then SIGKILL; returns when it is gone.

        Gone is gone from the table of processes too, unless the system is slow to bury its dead.
        """
        self._ended((signal.SIGTERM, patience), (signal.SIGKILL, _DEATH))

    def kill(self) -> None:
        """SIGKILL, for one that must write nothing more; returns when it is gone, as `end` does."""
        self._ended((signal.SIGKILL, _DEATH))

    def _ended(self, *orders: tuple[int, float]) -> None:
        if not self.runs:
            return
        for number, seconds in orders:
            limit = time.monotonic() + seconds
            if self.runs:
                os.kill(self.pid, number)
            while self.runs and time.monotonic() < limit:
                time.sleep(0.02)
        limit = time.monotonic() + _BURIAL
        while _listed(self.pid) and time.monotonic() < limit:
            time.sleep(0.02)


def launch(
    command: Sequence[str], *, folder: Path, log: str, environment: Mapping[str, str]
) -> Process:
    """Run `command` in `folder` with its output in the file `log`, as nobody's child.

    A shell starts it and leaves: no zombie stays behind, Ctrl-C in the terminal does not reach
    it, and what it writes is its owner's to read only.
    """
    script = 'umask 077; log=$1; shift; "$@" </dev/null >"$log" 2>&1 & echo $!'
    shell = subprocess.run(
        ["/bin/sh", "-c", script, "sh", log, *command],
        cwd=folder,
        env=environment,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    )
    return Process.of(int(shell.stdout))


def _listed(pid: int) -> bool:
    """Whether the system still knows the pid, if only as a zombie."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone, or somebody else's by now
        return False
    return True


def _birth(pid: int) -> str | None:
    if not Path("/proc/self/stat").exists():
        return _birth_by_ps(pid)
    stat = _text(Path(f"/proc/{pid}/stat"))
    if stat is None:
        return None
    # the name, in parentheses, may hold anything; then the state and, 19 fields on, the birth
    fields = stat.rpartition(")")[2].split()
    boot = _text(Path("/proc/sys/kernel/random/boot_id")) or ""
    return None if fields[0] in "ZX" else f"{fields[19]} {boot}".strip()


def _birth_by_ps(pid: int) -> str | None:
    ps = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(pid)]
    found = subprocess.run(ps, capture_output=True, text=True, check=False).stdout.split()
    return None if not found or found[0].startswith("Z") else " ".join(found[1:])


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
