"""The network runs in the database: what Cypher computes is what PyTorch computes."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from models import build
from sklearn.datasets import load_digits
from stored import exported
from torch import nn

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def db(server):
    with connect(server.uri, user=server.user, password=server.password) as database:
        yield database


def loaded(db, folder, model, example):
    """The model as a run of one epoch, in the database."""
    run = cnt.export(model, {0: model.state_dict()}, example, to=folder, name=str(folder))
    db.load(run)
    return run


def by_torch(model, inputs):
    with torch.no_grad():
        return model(inputs).reshape(len(inputs), -1).double().numpy()


def test_real_images_through_a_convolutional_network(db, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 10),
        nn.Softmax(1),
    )
    images = torch.from_numpy(load_digits().images[:4]).float().div(16)[:, None]
    model(images)  # running statistics of the batch norm that are not those of the start
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        module = model.to(dtype).eval()
        run = loaded(db, tmp_path / str(dtype), module, images[:1].to(dtype))
        found = db.evaluate(run, 0, images.to(dtype))
        np.testing.assert_allclose(
            found.to_numpy(), by_torch(module, images.to(dtype)), atol=tolerance
        )
        assert list(found.columns) == [f"8[{k}]" for k in range(10)]
        db.delete(run)


@pytest.mark.parametrize("name", ["dense", "lenet", "residual"])
def test_every_wiring(db, tmp_path, name):
    model, example = build(name)
    model = model.double().eval()
    shape = example if isinstance(example, tuple) else tuple(example.shape)
    run = loaded(db, tmp_path / name, model, torch.zeros(shape, dtype=torch.float64))
    inputs = torch.randn(2, *shape[1:], dtype=torch.float64)
    found = db.evaluate(run.name, 0, inputs)
    np.testing.assert_allclose(found.to_numpy(), by_torch(model, inputs), atol=1e-11)
    db.delete(run)


ACTIVATIONS = [
    nn.ReLU(),
    nn.LeakyReLU(0.123456789),
    nn.ELU(0.7),
    nn.CELU(0.7),
    nn.SELU(),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Mish(),
    nn.Sigmoid(),
    nn.LogSigmoid(),
    nn.Tanh(),
    nn.Softplus(2.0),
    nn.Hardtanh(-0.5, 0.75),
    nn.ReLU6(),
    nn.Hardsigmoid(),
    nn.Hardswish(),
    nn.LogSoftmax(1),
]


class Activations(nn.Module):
    """Every activation on sums that are small, large and negative."""

    values = (-40.0, -3.1, -0.5, -1e-9, 0.0, 1e-5, 0.4, 2.9, 6.5, 45.0)

    def __init__(self):
        super().__init__()
        self.sums = nn.ModuleList(nn.Linear(1, len(self.values)) for _ in ACTIVATIONS)
        self.functions = nn.ModuleList(ACTIVATIONS)
        for layer in self.sums:
            nn.init.zeros_(layer.weight)
            layer.bias.data = torch.tensor(self.values)

    def forward(self, x):
        pairs = zip(self.sums, self.functions, strict=True)
        return tuple(function(layer(x)) for layer, function in pairs)


def test_activations(db, tmp_path):
    model, x = Activations().double(), torch.ones(1, 1).double()
    run = loaded(db, tmp_path / "activations", model, x)
    found = db.evaluate(run, 0, x).to_numpy().reshape(len(ACTIVATIONS), -1)
    for values, expected, name in zip(found, model(x), ACTIVATIONS, strict=True):
        expected = expected[0].detach().numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-13, err_msg=str(name))
    db.delete(run)


class Halves(nn.Module):
    """A layer some of whose neurons have an activation of their own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, x):
        h = self.first(x)
        return self.last(torch.cat([torch.tanh(h[:, :3]), h[:, 3:5], torch.relu(h[:, 5:])], 1))


def test_activations_of_some_neurons(db, tmp_path):
    model, x = Halves().double(), torch.randn(2, 3).double()
    run = loaded(db, tmp_path / "halves", model, x[:1])
    assert run.wiring.layer("first").activation == "tanh[0:3], relu[5:8]"
    found = db.evaluate(run, 0, x)
    np.testing.assert_allclose(found.to_numpy(), by_torch(model, x), atol=1e-14)
    db.delete(run)


def test_two_inputs_and_a_constant(db, tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 2, bias=False)
            self.register_buffer("c", torch.tensor([[0.5, -2.0]]))

        def forward(self, left, right):
            return self.a(left) + self.b(torch.relu(right + self.c))

    model = Two().double()
    inputs = torch.randn(3, 3).double(), torch.randn(3, 2).double()
    run = loaded(db, tmp_path / "two", model, tuple(x[:1] for x in inputs))
    found = db.evaluate(run, 0, inputs)
    with torch.no_grad():
        np.testing.assert_allclose(found.to_numpy(), model(*inputs).numpy(), atol=1e-13)
    with pytest.raises(cnt.InputRefused, match="1 inputs given, the network has 2"):
        db.evaluate(run, 0, inputs[0])
    db.delete(run)


def test_what_is_refused(db, tmp_path):
    run = exported(tmp_path / "refused", "dense", name="refused here")
    db.load(run, links="top:2")
    with pytest.raises(cnt.InputRefused, match="cannot be computed") as refusal:
        db.evaluate(run, 0, np.zeros((1, 12)))
    assert "top:2" in refusal.value.why
    db.load(run, replace=True)
    with pytest.raises(cnt.InputRefused, match=r"\(2, 13\)") as refusal:
        db.evaluate(run, 0, np.zeros((2, 13)))
    assert refusal.value.fix
    with pytest.raises(cnt.InputRefused, match="no run 'refused her'"):
        db.evaluate("refused her", 0, np.zeros((1, 12)))
    with pytest.raises(cnt.InputRefused, match="epoch 7"):
        db.evaluate(run, 7, np.zeros((1, 12)))
    db.delete(run)


@pytest.mark.parametrize(
    ("model", "why"), [("attention", "scaled_dot_product|softmax|matmul"), ("sequence", "prelu")]
)
def test_what_has_no_formula(db, tmp_path, model, why):
    run = exported(tmp_path / "run", model, name=f"no formula: {model}")
    db.load(run)
    given = [layer for layer in run.wiring.layers if layer.kind == "input"]
    inputs = tuple(np.zeros((1, *layer.shape)) for layer in given)
    with pytest.raises(cnt.InputRefused, match="cannot be computed in the database") as refusal:
        db.evaluate(run, 0, inputs if len(inputs) > 1 else inputs[0])
    assert re.search(why, refusal.value.why)
    db.delete(run)
