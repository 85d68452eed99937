"""What befalls a server of this machine: a full disk, a kill, a store that it cannot open.

Each is brought about on a real server and a real disk; nothing that was committed is lost.
"""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from stored import exported
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli.entry import app
from cntgraph.database import connect
from cntgraph.database import server as local

real = pytest.mark.neo4j

SMALL = {"heap": "512m", "page_cache": "64m"}
TEXTS = "UNWIND range(1, 10000) AS i CREATE (:Text {text: 'as long as a line of text ' + i})"


def opened(server):
    return connect(server.uri, user=server.user, password=server.password)


def count(db, label):
    (row,) = db.connection.rows(f"MATCH (n:{label}) RETURN count(n) AS n")
    return row["n"]


# -- a full disk


@pytest.fixture
def disk(tmp_path, monkeypatch, local_environment):
    """A small disk of its own for a home; gone at the end."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(place)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("only root can make a small disk")
    monkeypatch.setenv("CNTGRAPH_HOME", str(place))
    monkeypatch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
    try:
        yield place
    finally:
        local.stop()
        subprocess.run(["umount", str(place)], check=True)


def fill(place, leave):
    """Take all but so many bytes of the disk."""
    with (place / "filler").open("wb") as file:
        file.write(bytes(shutil.disk_usage(place).free - leave))


def write_until_it_fails(db):
    """What the last one says, and how many went through."""
    for done in range(100):
        try:
            db.connection.change(TEXTS)
        except cnt.DatabaseError as error:
            return error, done
    raise AssertionError("the disk has no end")


@real
def test_a_full_disk_is_said_and_loses_nothing(disk, tmp_path):
    server = local.start(**SMALL)
    run = exported(tmp_path / "run", "dense", 1)
    with opened(server) as db:
        fill(disk, 4 << 20)
        error, done = write_until_it_fails(db)
        assert "cannot write and has ended itself" in error.what
        assert "make room on the disk" in error.fix
        with pytest.raises(cnt.DatabaseError, match="cannot write and has ended itself"):
            db.query("runs")
        with pytest.raises(cnt.DatabaseError, match="cannot write and has ended itself"):
            db.load(run)

    told = CliRunner().invoke(app, ["db", "status"])
    assert server.uri in told.stdout
    assert "unknown: the database does not answer" in told.stdout
    assert "make room on the disk" in told.exception.fix
    told = CliRunner().invoke(app, ["db", "status", "--json"])
    assert json.loads(told.stdout)["runs"] is None

    with pytest.raises(cnt.DatabaseError, match=r"the disk of .* is full: [\d,]+ bytes"):
        local.start()
    assert local.status().pid == server.pid, "it is left as it is"
    (disk / "filler").unlink()
    again = local.start()
    assert again.pid != server.pid
    with opened(again) as db:
        assert count(db, "Text") == done * 10_000
        assert db.load(run).epochs == (0,)

    fill(disk, 0)
    assert local.stop(), "at once: it would wait for room to write"
    with pytest.raises(cnt.DatabaseError, match="is full: 0 bytes") as full:
        local.start()
    assert "nothing was changed" in full.value.why
    assert not [path for path in server.home.iterdir() if path.name.startswith(".")]
    local.reset()
    assert not (server.home / "data").exists()
