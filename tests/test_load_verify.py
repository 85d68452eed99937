"""What could not be verified in the database is refused before anything is loaded."""

from __future__ import annotations

import pytest
from models import build
from stored import exported
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli.entry import app
from cntgraph.database.content import Content
from cntgraph.database.verifying import refuse_unverifiable


@pytest.fixture
def nowhere(monkeypatch):
    """No server is there: whoever asks it for something fails otherwise."""
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:1")


@pytest.mark.parametrize(
    ("model", "layer", "why"),
    [("attention", "scaled_dot_product", "no sum of links"), ("sequence", "'conv'", "prelu")],
)
def test_layers_without_a_formula_are_named_before_the_load(tmp_path, nowhere, model, layer, why):
    run = exported(tmp_path / "run", model)
    told = CliRunner().invoke(app, ["load", str(run.path), "--verify"]).exception
    assert isinstance(told, cnt.InputRefused)
    assert layer in told.what
    assert why in told.why
    assert "without --verify" in told.fix


def test_a_run_without_weights_is_not_verified(tmp_path, nowhere):
    model, example = build("dense")
    with cnt.Recorder(model, example, to=tmp_path / "run", keep_weights=False) as recorder:
        recorder.snapshot(0)
    told = CliRunner().invoke(app, ["load", str(tmp_path / "run"), "--verify"]).exception
    assert isinstance(told, cnt.InputRefused)
    assert "keep_weights=False" in told.why


@pytest.mark.parametrize("model", ["dense", "lenet", "residual"])
def test_what_can_be_computed_is_not_refused(tmp_path, model):
    run = exported(tmp_path / "run", model)
    refuse_unverifiable(Content(run, run.name))
