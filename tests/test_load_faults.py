"""Nothing that happens on the way loses or doubles a link, and the next load is like any other."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import neo4j
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy import Proxy
from stored import assert_same_bits, everything_of, exported, links_sent, rows_of

import cntgraph as cnt
from cntgraph.database import attending, connect, load
from cntgraph.database import server as local
from cntgraph.database import settings as of_server
from cntgraph.database.links import link_columns, link_parts
from cntgraph.database.part import Portion
from cntgraph.errors import LoadInterrupted

# So little memory that no part fits whole.
TIGHT = "db.memory.transaction.max=2m\n"


@pytest.fixture(scope="module")
def tight(tmp_path_factory, local_environment):
    """A server of this file's own, which may be killed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNTGRAPH_HOME", str(tmp_path_factory.mktemp("tight")))
        patch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
        patch.setattr(of_server, "_SETTINGS", of_server._SETTINGS + TIGHT)
        try:
            yield local.start()
        finally:
            local.stop()


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("runs") / "faults", "dense", 2)


@pytest.fixture(scope="module")
def clean(tight, mlp):
    """What a load without any fault leaves in the database."""
    with opened(tight) as db:
        db.load(mlp)
        found = everything_of(db, mlp.name)
        db.delete(mlp.name)
    return found


@pytest.fixture
def proxy(tight):
    with Proxy(int(tight.uri.rpartition(":")[2])) as between:
        yield between


def opened(server, uri=None):
    return connect(uri or server.uri, user=server.user, password=server.password)


def through(proxy, server):
    return opened(server, f"bolt://127.0.0.1:{proxy.port}")


def assert_as_clean(server, run, clean):
    with opened(server) as db:
        assert everything_of(db, run.name) == clean
        db.delete(run.name)


class Stop(BaseException):
    pass


# -- pieces of a part


@pytest.mark.parametrize("model", ["dense", "lenet", "residual"])
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_pieces_of_any_size_are_the_part(data, model, tmp_path_factory):
    network = network_of(model, tmp_path_factory)
    number = data.draw(st.integers(0, 2))
    columns = list(link_columns(network, 100))
    parts = list(link_parts(network, 100))
    assert [part.size for part in parts] == [len(each.weight) for each in columns]
    part, whole = parts[number], columns[number]
    found, there = [], 0
    while there < part.size:
        most = data.draw(st.integers(part.size // 12 + 1, part.size))  # some cut a row
        parameters, count = part.stretch(there, most)
        assert 1 <= count <= most
        found += links_of(parameters)
        there += count
    sent = zip(whole.source.tolist(), whole.target.tolist(), whole.weight.tolist(), strict=True)
    assert found == list(sent)


NETWORKS = {}


def network_of(model, tmp_path_factory):
    if model not in NETWORKS:
        NETWORKS[model] = exported(tmp_path_factory.mktemp("runs") / model, model).network(0)
    return NETWORKS[model]


def links_of(parameters):
    if "rows" in parameters:
        rows = np.array(parameters["rows"])
        targets = range(parameters["first"], parameters["first"] + len(rows))
        return [
            (s, t, w)
            for t, row in zip(targets, rows.tolist(), strict=True)
            for s, w in zip(parameters["sources"], row, strict=True)
        ]
    columns = parameters["from"], parameters["to"], parameters["weights"]
    sources, targets = parameters["sources"], parameters["targets"]
    return [(sources[a], targets[b], w) for a, b, w in zip(*columns, strict=True)]


def test_a_portion_is_halved_once_for_all_sessions():
    portion = Portion()
    assert portion.halve(1)
    assert portion.halve(1)  # another session had the same trouble with the same size
    assert (portion.divisor, portion.of(12_500), portion.of(1)) == (2, 6_250, 1)
    assert not portion.halve(Portion.smallest)


# -- the server's memory


@pytest.mark.neo4j
def test_batches_are_halved_where_the_servers_memory_is_short(tight, tmp_path):
    run = wide(tmp_path / "wide")
    calls = []

    def stop_at_the_first_links(done, total):
        calls.append(done)
        if done:
            raise Stop

    with opened(tight) as db:
        with pytest.raises(Stop):
            db.load(run, sessions=1, progress=stop_at_the_first_links)
        assert calls[-1] < 7_000  # what the part holds where memory is not short
        (within,) = db.cypher("MATCH (x:Snapshot {run: 'wide'}) RETURN x.within AS w")["w"]
        assert within > 0  # cut within a part, whose other half comes in pieces of another size
        report = db.load(run, sessions=1)
        assert report.links == run.network(0).link_count - calls[-1]
        assert_same_bits(links_by_target(db, "wide"), links_sent(run.network(0)))
        db.delete("wide")


@pytest.mark.neo4j
def test_what_no_size_fits_into_is_said(tight, tmp_path, monkeypatch):
    monkeypatch.setattr(Portion, "smallest", 1)
    with opened(tight) as db, pytest.raises(cnt.DatabaseError) as refused:
        db.load(wide(tmp_path / "wide"), name="too wide")
    assert "more memory than the server grants" in refused.value.what
    assert "db.memory.transaction.max" in refused.value.fix
    with opened(tight) as db:
        db.delete("too wide")


def links_by_target(db, run):
    """All links, asked for neuron by neuron: answers too need the server's memory."""
    text = """
    MATCH (t:NeuronState {run: $run}) WHERE t.neuron >= 700 AND t.neuron % 10 = $digit
    MATCH (s)-[k:LINK]->(t)
    RETURN s.neuron AS source, t.neuron AS target, 'weight' AS kind, k.weight AS weight
    """
    found = [db.within(rows=None).cypher(text, run=run, digit=digit) for digit in range(10)]
    return rows_of(pd.concat(found))


def wide(folder):
    import torch
    from models import Dense

    torch.manual_seed(3)
    model = Dense((700, 10, 4))
    return cnt.export(model, {0: model.state_dict()}, (1, 700), to=folder)


# -- the connection


@pytest.mark.neo4j
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_connection_cut_anywhere_doubles_nothing(tight, proxy, mlp, clean, direction):
    with through(proxy, tight) as db:
        proxy.arm()
        db.load(mlp)
        total = proxy.passed[direction]
    with opened(tight) as db:
        db.delete(mlp.name)
    for third in range(3):  # more of them in benchmarks/soak.py
        with through(proxy, tight) as db:
            proxy.arm(cut=(direction, total * third // 3))
            db.load(mlp)
            assert proxy.cut is None  # it happened
        assert_as_clean(tight, mlp, clean)


@pytest.mark.neo4j
@pytest.mark.parametrize("direction", ["up", "down"])
def test_every_commit_cut_on_its_way_or_its_answers_way_counts_once(
    tight, proxy, mlp, clean, monkeypatch, direction
):
    commit, calls = neo4j.Transaction.commit, itertools.count()

    def cut(transaction):
        if next(calls) % 2 == 0:  # each in turn is lost, and its repetition is not
            proxy.arm(cut=(direction, 0))
        commit(transaction)

    with through(proxy, tight) as db:
        monkeypatch.setattr(neo4j.Transaction, "commit", cut)
        db.load(mlp, sessions=1)
        monkeypatch.undo()
        assert proxy.cut is None
    assert next(calls) > 20
    assert_as_clean(tight, mlp, clean)


@pytest.mark.neo4j
def test_a_slow_link_is_slow_and_works(tight, proxy, mlp, clean):
    with through(proxy, tight) as db:
        proxy.arm(delay=0.002, chunk=200)
        db.load(mlp)
    assert_as_clean(tight, mlp, clean)


@pytest.mark.neo4j
def test_a_link_that_falls_silent_is_given_up(tight, proxy, mlp, clean, monkeypatch):
    monkeypatch.setattr(load, "_PATIENCE", 4.0)
    monkeypatch.setattr(attending, "_SILENCE", 0.2)
    monkeypatch.setattr(attending, "_GREETING", 0.8)
    with through(proxy, tight) as db, ThreadPoolExecutor(1) as pool:
        proxy.arm(silent_after=6_000)
        with (
            pytest.warns(cnt.CntWarning, match="the load waits for it"),
            pytest.raises(LoadInterrupted, match="was interrupted") as error,
        ):
            pool.submit(db.load, mlp).result(timeout=120)
        assert "says nothing" in error.value.what
        assert f"cntgraph load {mlp.path}" in error.value.fix
        proxy.heal()
        proxy.reset()
        db.load(mlp)
    assert_as_clean(tight, mlp, clean)


@pytest.fixture
def soon(monkeypatch):
    """What is lost is noticed in a moment."""
    monkeypatch.setattr(attending, "_SILENCE", 0.3)
    monkeypatch.setattr(attending, "_GREETING", 0.7)
    monkeypatch.setattr(attending, "_IDLE", 2)


@pytest.mark.neo4j
@pytest.mark.parametrize("direction", ["up", "down"])
def test_one_connection_that_dies_without_a_word_is_replaced(
    direction, tight, proxy, mlp, clean, soon
):
    """The server answers everybody else, and may wait for the rest of what was on its way."""
    deaf = []

    def another(done, total):
        if done > len(deaf) * total // 6 and len(deaf) < 4:
            deaf.append(done)
            proxy.arm(deaf_after=(direction, 300 * len(deaf)))

    with through(proxy, tight) as db, ThreadPoolExecutor(1) as pool:
        pool.submit(db.load, mlp, progress=another, sessions=1).result(timeout=240)
    assert len(deaf) == 4
    assert proxy.deaf_after is None
    assert_as_clean(tight, mlp, clean)


@pytest.mark.neo4j
def test_what_is_given_up_keeps_no_locks(tight, proxy, soon):
    """The server would hold them for a transaction that nobody will ever end."""
    attempts = []

    def work(transaction):
        transaction.run("MATCH (k:Held) SET k.times = coalesce(k.times, 0) + 1").consume()
        attempts.append(transaction)
        if len(attempts) == 1:
            proxy.arm(deaf_after=("up", 0))
        return transaction.run("MATCH (k:Held) RETURN k.times AS times").single()["times"]

    with opened(tight) as db:
        db.connection.change("CREATE (:Held)")
    with through(proxy, tight) as db, ThreadPoolExecutor(1) as pool:
        assert pool.submit(db.connection.transaction, work).result(timeout=60) == 1
    assert len(attempts) == 2
    with opened(tight) as db:
        db.connection.change("MATCH (k:Held) DELETE k")


@pytest.mark.neo4j
def test_a_long_statement_is_let_be(tight, proxy, soon):
    long = "UNWIND range(1, 8000000) AS x RETURN count(toString(x)) AS n"
    attempts = []

    def work(transaction):
        attempts.append(transaction)
        return transaction.run(long).single()["n"]

    with through(proxy, tight) as db:
        assert db.connection.transaction(work) == 8_000_000
    assert len(attempts) == 1


@pytest.mark.neo4j
def test_a_server_that_stays_away_interrupts_and_the_same_command_goes_on(
    tight, proxy, mlp, clean, monkeypatch
):
    monkeypatch.setattr(load, "_PATIENCE", 1.0)
    with through(proxy, tight) as db:
        away = lambda done, total: proxy.arm(closed=True) if done else None  # noqa: E731
        with pytest.raises(LoadInterrupted) as error:
            db.load(mlp, progress=away, epochs=[1])
        command = re.search("cntgraph load .*", error.value.fix)[0]
        assert command == f"cntgraph load {mlp.path} --epochs 1"
        assert error.value.exit_status == 5
        proxy.heal()
        db.load(mlp)
    assert_as_clean(tight, mlp, clean)


# -- the processes


@pytest.mark.neo4j
def test_a_server_killed_and_restarted_in_the_middle(tight, mlp, clean):
    threads = []

    def kill_and_restart(done, total):
        if done and not threads:
            os.kill(local.status().pid, signal.SIGKILL)
            threads.append(threading.Thread(target=local.start))
            threads[0].start()

    with opened(tight) as db, pytest.warns(cnt.CntWarning, match="the load waits for it"):
        db.load(mlp, progress=kill_and_restart)
    threads[0].join()
    assert_as_clean(tight, mlp, clean)


KILLED = """
import itertools, os, random, signal, sys
import neo4j
import cntgraph as cnt
from stored import everything_of

uri, user, path = sys.argv[1:]
password = os.environ["SECRET"]
run = cnt.open_run(path)
opened = lambda: cnt.connect(uri, user=user, password=password)
real, chance = neo4j.Transaction.commit, random.Random(0)
seen = "MATCH (x:Snapshot {run: $run, status: 'complete'}) RETURN x.epoch AS epoch"

def counted(at, before):
    calls = itertools.count(1)  # of all sessions
    def commit(transaction):
        here = next(calls) == at
        if not (here and before):
            real(transaction)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
    neo4j.Transaction.commit = commit
    return calls

def killed(at, before, sessions):
    child = os.fork()
    if child == 0:
        with opened() as db:
            counted(at, before)
            db.load(run, sessions=sessions)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status != 0

def made_good(at, sessions):
    with opened() as db:
        there = db.cypher(seen, run=run.name)["epoch"].tolist()
        report = db.load(run, sessions=sessions)
        assert set(report.skipped) == set(there), (at, there)
        assert everything_of(db, run.name) == clean, at
        db.delete(run.name)

def commits(sessions):
    with opened() as db:
        calls = counted(0, before=False)
        db.load(run, sessions=sessions)
        neo4j.Transaction.commit = real
        db.delete(run.name)
    return next(calls) - 1

with opened() as db:
    db.load(run)
    clean = everything_of(db, run.name)
    db.delete(run.name)
"""

KILLED_AT_EVERY_COMMIT = """
total = commits(sessions=1)
for at in range(1, total + 1):  # in turns before and after it
    assert killed(at, before=bool(at % 2), sessions=1), at
    made_good(at, sessions=1)
print("killed", at, "of", total)
"""

KILLED_TWICE = """
kills, total = 0, commits(sessions=3)
for number in range(4):
    at = total * number // 4 + chance.randint(1, total // 4)  # anywhere, from first to last
    kills += killed(at, before=bool(number % 2), sessions=3)
    kills += killed(chance.randint(1, total // 3), before=chance.random() < 0.5, sessions=3)
    made_good(at, sessions=3)
print("killed", kills, "of", total)
"""


@pytest.mark.neo4j
@pytest.mark.parametrize(("series", "more_than"), [(KILLED_AT_EVERY_COMMIT, 20), (KILLED_TWICE, 5)])
def test_a_killed_load_is_made_good_by_the_next_one(tight, tmp_path, series, more_than):
    run = exported(tmp_path / "killed", "dense", 3)
    environment = {**os.environ, "SECRET": tight.password, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    words = [sys.executable, "-c", KILLED + series, tight.uri, tight.user, str(run.path)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    kills, total = (int(done.stdout.split()[place]) for place in (1, 3))
    assert kills > more_than
    assert total > 20
