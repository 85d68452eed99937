"""Loaders that meet in one database, and values that make the way there and back."""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stored import everything_of, exported, links_there

import cntgraph as cnt
from cntgraph.database import connect
from cntgraph.database.journal import write_stretch
from cntgraph.database.part import Part
from cntgraph.database.schema import SCHEMA, prepare, property_value

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def db(server):
    with connect(server.uri, user=server.user, password=server.password) as database:
        yield database


BLOCKED = "SHOW TRANSACTIONS YIELD status WHERE status STARTS WITH 'Blocked' RETURN status"


def in_parallel(*works):
    with ThreadPoolExecutor(len(works)) as pool:
        return [each.result() for each in [pool.submit(work) for work in works]]


# -- loaders at the same time


def test_two_runs_loaded_at_once_are_what_they_are_alone(db, tmp_path):
    runs = [exported(tmp_path / f"together {k}", "dense", 3) for k in (0, 1)]
    alone = []
    for run in runs:
        db.load(run)
        alone.append(everything_of(db, run.name))
        db.delete(run)
    reports = in_parallel(*(lambda run=run: db.load(run, sessions=3) for run in runs))
    assert [report.epochs for report in reports] == [(0, 1, 2)] * 2
    for run, expected in zip(runs, alone, strict=True):
        assert everything_of(db, run.name) == expected
        db.delete(run)


def test_what_waits_for_another_loader_sees_what_that_one_wrote(db):
    owner = -7
    db.connection.change("CREATE (:Snapshot {id: $id, steps: 0, status: 'loading'})", id=owner)
    waiting = []

    def write(stretch):
        part = Part("CREATE (:Once)", "neurons", 1, stretch)
        return write_stretch(db.connection, "Snapshot", owner, 0, part, 1)

    def while_the_other_waits(first, most):
        """The lock is held here."""
        waiting.append(pool.submit(write, lambda first, most: ({}, 1)))
        limit = time.monotonic() + 60
        while not db.connection.rows(BLOCKED):
            assert time.monotonic() < limit
        return {}, 1

    with ThreadPoolExecutor(1) as pool:
        assert write(while_the_other_waits) == (1, True)
        assert waiting[0].result() == (0, True)
    gone = "MATCH (n) WHERE n:Once OR n.id = $id WITH n, n.steps AS steps DELETE n RETURN steps"
    found = [row["steps"] for row in db.connection.change(gone, id=owner)]
    assert sorted(found, key=str) == [1, None]


def test_a_deadlock_is_survived(db):
    db.connection.change("CREATE (:Knot {id: 'a', times: 0}), (:Knot {id: 'b', times: 0})")
    both_hold_one = threading.Barrier(2)
    attempts = []

    def tie(first, second):
        def work(tx):
            text = "MATCH (k:Knot {id: $id}) SET k.times = k.times + 1"
            attempts.append(first)
            tx.run(text, id=first).consume()
            if attempts.count(first) == 1:
                both_hold_one.wait(60)
            tx.run(text, id=second).consume()

        db.connection.transaction(work)

    in_parallel(lambda: tie("a", "b"), lambda: tie("b", "a"))
    assert len(attempts) > 2  # one of the two was ended by the server, and came again
    found = db.connection.rows("MATCH (k:Knot) RETURN k.times AS times")
    db.connection.change("MATCH (k:Knot) DELETE k")
    assert [row["times"] for row in found] == [2, 2]


def test_a_schema_that_several_create_at_once_is_there_once(db):
    named = "SHOW INDEXES YIELD name WHERE name STARTS WITH 'cntgraph_' RETURN name"
    prepare(db.connection)
    for name, statement in SCHEMA.items():
        kind = "CONSTRAINT" if "CONSTRAINT" in statement else "INDEX"
        db.connection.change(f"DROP {kind} {name}")
    assert db.connection.rows(named) == []
    in_parallel(*[lambda: prepare(db.connection)] * 4)
    assert {row["name"] for row in db.connection.rows(named)} == set(SCHEMA)


# -- values there and back

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.floats(width=32)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS | st.integers(2**63, 2**80)


def same(found, sent):
    """Equal, of one type, and of one sign where it is a zero."""
    return type(found) is type(sent) and repr(found) == repr(sent)


@given(sent=st.lists(VALUES, min_size=1, max_size=30))
@example(sent=[math.nan, True, -(2**63), 2**63])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_value_comes_back_as_it_was(db, sent):
    properties = {f"p{place}": property_value(value) for place, value in enumerate(sent)}
    text = "CREATE (t:Trip) SET t = $properties WITH t, properties(t) AS back DELETE t RETURN back"
    (row,) = db.connection.change(text, properties=properties)
    back = row["back"]
    for place, value in enumerate(sent):
        lost = value is None or (isinstance(value, float) and math.isnan(value))
        large = isinstance(value, int) and abs(value) >= 2**63 and value != -(2**63)
        expected = None if lost else str(value) if large else value
        assert same(back.get(f"p{place}"), expected)


SINGLE = st.floats(width=32) | st.sampled_from([-0.0, 1e-45, 3.4028234663852886e38, 0.1])


@given(weights=st.lists(SINGLE, min_size=12, max_size=12))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_weights_of_32_bits_are_the_same_numbers_in_64(db, weights, tmp_path_factory):
    model = torch.nn.Linear(4, 3, bias=False)
    model.weight.data = torch.tensor(weights, dtype=torch.float32).reshape(3, 4)
    folder = tmp_path_factory.mktemp("single") / "single"
    run = cnt.export(model, {0: model.state_dict()}, (1, 4), to=folder)
    db.load(run, replace=True)
    found = links_there(db, "single", 0)
    places = found["source"] + 4 * (found["target"] - 4)
    expected = model.weight.detach().double().reshape(-1).numpy()[places]
    db.delete("single")
    np.testing.assert_array_equal(found["weight"].to_numpy(dtype="float64"), expected)
    assert (np.signbit(found["weight"].to_numpy(dtype="float64")) == np.signbit(expected)).all()
