"""A run is proved against the model that it came from, epoch by epoch."""

import json

import pytest
import torch
from models import build
from torch import nn
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli.entry import app

CODE = """
import torch
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)
    )

class Other(nn.Sequential):
    def forward(self, x):
        return 1.001 * super().forward(x)

def other():
    return Other(*build())
"""
IMAGE = (1, 1, 6, 6)


def nets():
    space = {}
    exec(CODE, space)
    return space


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with the code of a model and a run of it."""
    folder = tmp_path_factory.mktemp("verifying")
    (folder / "nets.py").write_text(CODE)
    torch.manual_seed(0)
    model = nets()["build"]()
    with cnt.Recorder(model, IMAGE, to=folder / "run") as recorder:
        for epoch in (0, 2, 5):
            recorder.snapshot(epoch)
            with torch.no_grad():
                for tensor in (*model.parameters(), model[1].running_mean):
                    tensor += 0.3 * torch.randn_like(tensor)
    return folder


@pytest.fixture(scope="module")
def run(here):
    return cnt.open_run(here / "run")


def test_every_epoch_computes_what_the_model_does_with_its_weights(run):
    model = nets()["build"]().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = run.verify(model, IMAGE)
    assert found["epoch"].tolist() == [0, 2, 5]
    assert found["passed"].all()
    assert (found[["error_operators", "error_links"]] < 1e-12).all(axis=None)
    assert found["largest_output"].nunique() == 3  # each with weights of its own
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("kind", ["residual", "tied", "attention", "reparametrised"])
def test_any_model_that_can_be_traced_can_be_proved(tmp_path, kind):
    model, example = build(kind)
    states = {
        3: {
            n: torch.rand_like(t) if t.is_floating_point() else t
            for n, t in model.state_dict().items()
        }
    }
    run = cnt.export(model, states, example, to=tmp_path / "run")
    again, example = build(kind)
    assert run.verify(again, example, samples=1)["passed"].all()


def test_other_code_with_the_same_weights_fails(run):
    found = run.verify(nets()["other"](), IMAGE, epochs=[2], samples=1)
    assert found[["epoch", "passed"]].to_numpy().tolist() == [[2, False]]
    bound = found["largest_output"] / 1.001e3
    assert found["error_operators"].tolist() == pytest.approx(bound.tolist(), rel=1e-3)


def test_another_model_is_refused_by_name(run):
    build = nets()["build"]
    for model, why in (
        (nn.Sequential(build()), "the model has no 0.bias"),
        (nn.Sequential(*build()[:4], nn.Linear(48, 6)), "4.weight is"),
        (nn.Sequential(*build(), nn.Linear(5, 5)), "the run knows no 5.weight"),
    ):
        with pytest.raises(cnt.InputRefused, match="is of another model") as refusal:
            run.verify(model, IMAGE)
        assert why in refusal.value.why
    with pytest.raises(cnt.InputRefused, match="was traced with other inputs") as refusal:
        run.verify(build(), (1, 1, 7, 7))
    assert "(1, 6, 6)" in refusal.value.why
    with pytest.raises(cnt.InputRefused, match="epoch 1 is not in the run"):
        run.verify(build(), IMAGE, epochs=[1])
    with pytest.raises(cnt.InputRefused, match="samples=0"):
        run.verify(build(), IMAGE, samples=0)


def invoke(here, monkeypatch, *words):
    monkeypatch.chdir(here)
    given = ["verify", *words, "--input", "1,6,6", "--samples", "1"]
    return CliRunner().invoke(app, given, standalone_mode=False)


def test_the_verb_proves_the_epochs_of_a_run(here, monkeypatch):
    found = invoke(
        here, monkeypatch, "nets.py:build", "--run", "run", "--epochs", "0,last", "--json"
    )
    assert found.exception is None
    document = json.loads(found.stdout)
    assert (document["run"], document["passed"]) == ("run", True)
    assert [row["epoch"] for row in document["epochs"]] == [0, 5]
    assert all(row["passed"] and row["error_links"] < 1e-12 for row in document["epochs"])
    found = invoke(here, monkeypatch, "nets.py:build", "--run", "run")
    assert [line.split()[:2] for line in found.stdout.splitlines()[1:4]] == [
        ["0", "yes"],
        ["2", "yes"],
        ["5", "yes"],
    ]


def test_the_verb_ends_with_3_where_an_epoch_fails(here, monkeypatch):
    found = invoke(here, monkeypatch, "nets.py:other", "--run", "run", "--json")
    assert not json.loads(found.stdout)["passed"]
    assert isinstance(found.exception, cnt.InputRefused)
    assert "epochs 0, 2, 5" in found.exception.why
    found = invoke(here, monkeypatch, "nets.py:build", "--epochs", "0")
    assert "--run" in str(found.exception)
