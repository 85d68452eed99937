"""Epochs loaded side by side, and what a load says of itself before and after."""

from __future__ import annotations

import itertools

import pytest
from stored import assert_same_bits, exported, links_sent, links_there, node_count

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def db(server):
    with connect(server.uri, user=server.user, password=server.password) as database:
        yield database


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """A run of three epochs, never changed by a test."""
    return exported(tmp_path_factory.mktemp("runs") / "mlp side by side", "dense", 3)


@pytest.fixture
def name(request, db):
    """A name for one test, whose run goes afterwards."""
    yield request.node.name
    if request.node.name in db.query("runs")["name"].tolist():
        db.delete(request.node.name)


class Stop(BaseException):
    """What a progress callback raises to end a load at that moment."""


def stop_at(call):
    calls = itertools.count(1)

    def progress(done, total):
        if next(calls) == call:
            raise Stop

    return progress


# -- side by side


@pytest.mark.parametrize("model", ["dense", "attention"])
def test_sessions_side_by_side_load_what_one_loads(db, name, tmp_path, model):
    run = exported(tmp_path / "run", model, 5)
    report = db.load(run, name=name, sessions=3)
    assert (report.epochs, len(report.checks)) == (tuple(range(5)), 5)
    assert [check.epoch for check in report.checks] == list(range(5))
    assert report.links == sum(check.links for check in report.checks)
    for epoch in range(5):
        found, sent = links_there(db, name, epoch), links_sent(run.network(epoch))
        assert found.drop(columns="weight").equals(sent.drop(columns="weight"))
        assert_same_bits(found, sent)


def test_an_error_in_one_session_ends_all_and_the_next_load_goes_on(db, name, tmp_path):
    run = exported(tmp_path / "run", "dense", 6)
    with pytest.raises(Stop):
        db.load(run, name=name, sessions=3, progress=stop_at(4))
    left = db.query("runs").set_index("name").loc[name]
    assert left["status"] == "loading"
    report = db.load(run, name=name)
    assert len(report.epochs) + len(report.skipped) == 6
    for epoch in range(6):
        assert_same_bits(links_there(db, name, epoch), links_sent(run.network(epoch)))


@pytest.mark.parametrize("sessions", [0, -1, True, 1.5])
def test_a_number_of_sessions_that_is_none_is_refused(db, mlp, sessions):
    with pytest.raises(cnt.InputRefused, match="is no number of sessions"):
        db.load(mlp, sessions=sessions)


# -- checked, planned, verified


def test_the_check_on_the_server_is_reported(db, name, mlp):
    (check,) = db.load(mlp, name=name, epochs=[1]).checks
    network = mlp.network(1)
    assert (check.epoch, check.neurons, check.links) == (1, network.neuron_count, report_links(mlp))
    assert check.weight == pytest.approx(links_sent(network)["weight"].sum())
    assert check.weight_difference < 1e-12
    assert check.strength_difference < 1e-12
    (part,) = db.load(mlp, name=name, epochs=[2], links="top:2").checks
    assert part.strength_difference is None  # strengths are those of all links
    assert db.load(mlp, name=name, epochs=[1, 2], links="none").checks == ()


def report_links(run):
    return run.network(0).link_count


@pytest.mark.parametrize("links", ["all", "top:2", "none"])
def test_a_plan_says_what_a_load_then_writes(db, name, mlp, links):
    db.load(mlp, name=name, epochs=[0], links=links)
    nodes = node_count(db)
    plan = db.load_plan(mlp, name=name, links=links)
    assert node_count(db) == nodes
    report = db.load(mlp, name=name, links=links)
    assert (plan.epochs, plan.skipped) == (report.epochs, report.skipped) == ((1, 2), (0,))
    assert (plan.neurons, plan.links) == (report.neurons, report.links)
    assert plan.carrying_links == sum(check.carried for check in report.checks)
    assert db.load_plan(mlp, name=name, links=links).seconds == 0


@pytest.mark.parametrize("model", ["dense", "residual"])
def test_what_is_loaded_computes_what_the_network_computes(db, name, tmp_path, model):
    run = exported(tmp_path / "run", model, 2)
    db.load(run, name=name)
    found = db.verify(run, name=name, samples=2)
    assert found["epoch"].tolist() == [0, 1]
    assert found["passed"].all()
    assert (found["error"] <= 1e-9 * (1 + found["largest_output"])).all()
    change = "MATCH (n:NeuronState {run: $run, epoch: 1}) WHERE n.bias > 0 SET n.bias = n.bias + 1"
    db.connection.change(change, run=name)
    assert db.verify(run, name=name)["passed"].tolist() == [True, False]


def test_what_was_not_loaded_whole_is_not_verified(db, name, mlp):
    db.load(mlp, name=name, epochs=[0], links="top:2")
    with pytest.raises(cnt.InputRefused, match="cannot be computed in the database"):
        db.verify(mlp, name=name, epochs=[0])
    with pytest.raises(cnt.InputRefused, match="epoch 1 of"):
        db.verify(mlp, name=name, epochs=[1])
