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
from cntgraph.database import home as homes
from cntgraph.database import server as local
from cntgraph.database.releases import LATEST, find_release

real = pytest.mark.neo4j

OLD = find_release("5.26")
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


# -- a store that it cannot open


def tree(folder):
    """Every file with its bytes."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def copied(tmp_path, monkeypatch, new_home, local_environment):
    """The home of a server, as somebody copied it to where the older release looks."""
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path))
    monkeypatch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
    home = tmp_path / "data" / OLD.folder
    shutil.copytree(new_home, home)
    return home


@real
def test_a_store_of_a_newer_release(copied):
    homes.keep(copied, homes.Record(LATEST.version))
    before = tree(copied)
    with pytest.raises(cnt.DatabaseError, match=r"was written by Neo4j 2026\.08\.1, newer than"):
        local.start(neo4j="5.26")
    assert tree(copied) == before

    homes.keep(copied, homes.Record(OLD.version))  # a mark that is wrong: the server has to say it
    with pytest.raises(cnt.DatabaseError, match=r"written by a Neo4j newer than 5\.26\.30"):
        local.start(neo4j="5.26", **SMALL)
    assert not local.status().running


@real
def test_a_store_without_its_mark_is_refused_and_left_alone(copied):
    before = tree(copied)
    for verb in (lambda: local.start(neo4j="5.26"), local.stop, local.reset):
        local._choose(OLD)
        with pytest.raises(cnt.InputRefused, match="is not a server folder of cntgraph"):
            verb()
    assert tree(copied) == before


@real
def test_a_store_that_was_damaged(tmp_path, monkeypatch, new_home, local_environment):
    """A server of that store runs and answers; its database never will."""
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path))
    monkeypatch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
    home = tmp_path / "data" / LATEST.folder
    shutil.copytree(new_home, home)
    homes.keep(home, homes.Record(LATEST.version))
    (home / "data" / "databases" / "neo4j" / "neostore").write_bytes(b"no store at all")
    with pytest.raises(cnt.DatabaseError, match="cannot open its database") as refused:
        local.start(**SMALL)
    assert refused.value.why != "it does not say"
    assert "cntgraph db restore FILE" in refused.value.fix
    assert not local.status().running
