"""Random kills of the loader, the server and the connection, and what is in the database then.

    python benchmarks/soak.py             200 of them, written to benchmarks/soak.md
    python benchmarks/soak.py 30 7        30 of them, with the seed 7, printed

Each load, in three sessions, goes through a proxy on a server of its own and is hurt once or twice,
at random moments; the same load is then run again until it succeeds, and its checksum compared with
that of a clean load.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from proxy import Proxy
from run import machine
from stored import everything_of, exported

import cntgraph as cnt
from cntgraph.database import server as local
from cntgraph.database.jars import user_folder
from cntgraph.errors import LoadInterrupted

RESULTS = Path(__file__).parent / "soak.md"
TRIES = 5


class Soak:
    """A run, a server, a proxy between them, and the checksum of a clean load."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random, self.child = random.Random(seed), 0
        self.run = exported(folder / "soak", "lenet", 3)
        self.server = local.start()
        self.proxy = Proxy(int(self.server.uri.rpartition(":")[2])).__enter__()
        with self.connect() as db:
            self.proxy.arm()
            begun = time.perf_counter()
            db.load(self.run)
            self.seconds = time.perf_counter() - begun
            self.bytes = dict(self.proxy.passed)
        self.clean = self.checksum()

    def connect(self) -> cnt.Database:
        uri = f"bolt://127.0.0.1:{self.proxy.port}"
        return cnt.connect(uri, user=self.server.user, password=self.server.password)

    def checksum(self) -> str:
        """The hash of all there is of the run; then it is deleted."""
        with self.connect() as db:
            found = everything_of(db, self.run.name)
            db.delete(self.run.name)
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def load(self) -> int:
        """A load in a process of its own: its exit status."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with self.connect() as db:
                    db.load(self.run)
                status = 0
            except LoadInterrupted:
                status = 5
            finally:
                os._exit(status)
        self.child = child
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def hurt(self, what: str) -> None:
        """One fault, at a moment drawn beforehand."""
        if what == "connection":
            direction = self.random.choice(["up", "down"])
            self.proxy.arm(cut=(direction, self.random.randrange(self.bytes[direction])))
            self.load()
            return
        moment = self.random.uniform(0, self.seconds)
        timer = threading.Timer(moment, self.kill, [what])
        timer.start()
        self.load()
        timer.join()

    def kill(self, what: str) -> None:
        if what == "loader":
            # the parent waits for it in another thread; a pid is not used again before that
            if Path(f"/proc/{self.child}/status").exists():
                os.kill(self.child, signal.SIGKILL)
            return
        if (pid := local.status().pid) is not None:
            os.kill(pid, signal.SIGKILL)
        local.start()

    def once(self) -> list[str]:
        """One load, hurt once or twice before it is whole; what was killed."""
        times = self.random.choice([1, 2])
        killed = self.random.choices(["loader", "connection", "server"], [5, 4, 1], k=times)
        for what in killed:
            self.hurt(what)
            self.proxy.heal()
        statuses = []
        while not statuses or statuses[-1] != 0:
            assert len(statuses) < TRIES, statuses
            statuses.append(self.load())
        assert self.checksum() == self.clean, killed
        return killed


def soak(number: int, seed: int) -> Counter[str]:
    done: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CNTGRAPH_CACHE"] = str(user_folder("cache"))
        os.environ["CNTGRAPH_HOME"] = folder + "/home"
        try:
            work = Soak(Path(folder), seed)
            while done.total() < number:
                done.update(work.once())
                print(f"{done.total()} of {number}: {dict(done)}", file=sys.stderr)
        finally:
            local.stop()
    return done


def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    number, seed = (*words, *(200, 0)[len(words) :])
    begun = time.perf_counter()
    done = soak(number, seed)
    told = "".join(f"| {what} | {done[what]} | 0 |\n" for what in sorted(done))
    text = (
        f"# Soak\n\n`python benchmarks/soak.py {number} {seed}` on {machine()}; "
        f"{time.perf_counter() - begun:,.0f} s.\n\n"
        "A run of three epochs is loaded, hurt at one or two random moments, and loaded again.\n\n"
        f"| killed | times | checksums unlike a clean load |\n| --- | --- | --- |\n{told}"
    )
    print(text)
    if not words:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
