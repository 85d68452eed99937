"""The demonstration on real digits and a real server, with fewer epochs than users get."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph import demo as whole
from cntgraph.cli.entry import app

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def environment(neo4j_environment):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in neo4j_environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs") / "demo"


@pytest.fixture(scope="module")
def done(folder, environment):
    state = torch.random.get_rng_state()
    said = []
    found = whole.demo(folder, epochs=1, say=said.append)
    assert torch.equal(torch.random.get_rng_state(), state), "the user's seed is left alone"
    assert any("mlp: epoch  1  accuracy 0." in line for line in said)
    return found


def test_both_networks_learn_and_are_proved(done):
    for path, build in zip(done.runs, (whole.mlp, whole.cnn), strict=True):
        run = cnt.open_run(path)
        run.check()
        assert list(run.epochs["epoch"]) == [0, 1]
        accuracy = run.epochs["accuracy"].tolist()
        assert accuracy[0] < 0.3
        assert accuracy[1] > 0.5
        assert cnt.verify(build(), whole.SHAPE, samples=1).passed


def test_the_convolutional_network_has_what_it_is_shown_for(done):
    blocks = cnt.open_run(done.runs[1]).network(0).blocks
    kinds = {block.link_kind for block in blocks}
    assert {"weight", "select", "identity"} <= kinds


def test_igraph_agrees_on_every_strength(done):
    assert done.agreement.agrees
    assert done.agreement.epochs == 4
    assert done.agreement.strengths == 2 * (266 + 970)
    assert str(done.agreement).startswith("igraph agrees: 4 epochs, 2,472 strengths, largest")


def test_a_strength_that_differs_is_told(done, environment):
    run = cnt.open_run(done.runs[0])
    with cnt.connect() as database:
        neo4j = whole._summed(database, run.name, 1)
        for wrong in (neo4j + 1e-6, neo4j[1:], neo4j * float("nan")):
            difference = whole._distance(wrong, neo4j)
            assert difference > 0, "not NaN either, which a maximum would pass over"
            assert not whole.Agreement(1, len(neo4j), difference, float(abs(neo4j).max())).agrees
    assert "DISAGREES" in str(whole.Agreement(1, 1, 1e-6, 1.0))


def test_the_questions_are_answered(done):
    strong, risers, beside = done.answers
    assert strong.command == "cntgraph query strong_neurons run=demo-mlp epoch=1 top=5"
    strengths = strong.rows["strength"].abs().tolist()
    assert strengths == sorted(strengths, reverse=True)
    change = risers.rows["strength_last"] - risers.rows["strength_first"]
    assert change.tolist() == risers.rows["change"].tolist()
    assert {"strength", "rank_strength", "pagerank", "rank_pagerank"} <= set(beside.rows)
    assert [len(answer.rows) for answer in done.answers] == [5, 5, 5]


def test_it_is_safe_to_run_again(done, folder, environment):
    kept = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    said = []
    again = whole.demo(folder, epochs=1, say=said.append)
    changed = [p for p, when in kept.items() if p.stat().st_mtime_ns != when]
    assert changed == [folder / "demo.png"]
    assert "demo-mlp: 0 links written" in "\n".join(said)
    assert again.agreement == done.agreement


def test_a_run_of_the_users_own_is_left_alone(tmp_path, environment):
    model = whole.mlp()
    cnt.export(model, {0: model.state_dict()}, whole.SHAPE, to=tmp_path / "mlp", name="mine")
    with pytest.raises(cnt.InputRefused, match="holds the run 'mine'"):
        whole.demo(tmp_path, epochs=1, say=print)


def test_the_command_prints_tables_or_one_document(done, folder, environment, monkeypatch):
    monkeypatch.setattr(whole, "EPOCHS", 1)
    runner = CliRunner()
    found = runner.invoke(app, ["demo", "--dir", str(folder), "--json"], catch_exceptions=False)
    document = json.loads(found.stdout)
    assert document["igraph_agrees"] is True
    assert document["run"] == str(folder / "mlp")
    assert document["figure"] == str(folder / "demo.png")
    assert set(document["queries"]) == {"strong_neurons", "risers", "compare_measures"}
    assert len(document["queries"]["risers"]["rows"]) == 5
    shown = runner.invoke(app, ["demo", "--dir", str(folder)], catch_exceptions=False).stdout
    assert "igraph agrees: 4 epochs" in shown
    assert shown.count("\n  cntgraph ") == 6, "three questions and three commands to try next"
    assert all(len(line) <= 80 or str(folder) in line for line in shown.splitlines())
