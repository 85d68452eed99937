"""One layer, one derivative, one idle neuron asked in Cypher: the module and autograd answer so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from stored import exported
from torch import nn

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


class Skips(nn.Module):
    """Batch norms, a skip past a convolution, pooling of both kinds, three activations."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm_a, self.norm_b = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.c, self.d = nn.Linear(16, 12), nn.Linear(12, 10)

    def forward(self, image):
        x = torch.relu(self.norm_a(self.a(image)))
        x = nn.functional.leaky_relu(self.norm_b(self.b(x)) + x, 0.1)
        x = nn.functional.avg_pool2d(nn.functional.max_pool2d(x, 2), 2).flatten(1)
        return self.d(torch.sigmoid(self.c(x)))


def dense():
    return nn.Sequential(
        nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 12), nn.Tanh(), nn.Linear(12, 10)
    )


MODELS = {"dense": (dense, (1, 64)), "skips": (Skips, (1, 1, 8, 8))}


@pytest.fixture(scope="module")
def db(server):
    with connect(server.uri, user=server.user, password=server.password) as database:
        yield database


@pytest.fixture(scope="module")
def trained(db, tmp_path_factory):
    """Name, module and images of each kind, trained on real digits, in the database."""
    digits = load_digits()
    found = {}
    for name, (kind, shape) in MODELS.items():
        torch.manual_seed(3)
        images = torch.tensor(digits.images[:200] / 16).reshape(-1, *shape[1:])
        labels = torch.tensor(digits.target[:200])
        model = kind().double()
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        folder = tmp_path_factory.mktemp("runs") / name
        with cnt.Recorder(model, images[:1], to=folder, name=f"layers: {name}") as recorder:
            for epoch in range(2):
                for batch in torch.randperm(200).split(20):
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                    optimiser.step()
                recorder.snapshot(epoch)
        run = cnt.open_run(folder)
        db.load(run)
        found[name] = (run, model.eval(), images)
    yield found
    for run, _, _ in found.values():
        db.delete(run)


def values_of(db, run, image):
    """Every neuron's value, each layer asked with those of the layers before it."""
    values = image.flatten().tolist()
    for layer in run.wiring.layers[1:]:
        found = db.query("evaluate_layer", run=run.name, epoch=1, layer=layer.name, values=values)
        assert found["neuron"].tolist() == list(range(layer.first, layer.last))
        assert found["index"].tolist() == list(range(layer.size))
        values += found["value"].tolist()
    return values


@pytest.mark.parametrize("name", MODELS)
def test_layer_after_layer_is_the_forward_pass(db, trained, name):
    run, model, images = trained[name]
    for image in images[:2]:
        values = values_of(db, run, image)
        assert len(values) == run.wiring.neuron_count
        with torch.no_grad():
            np.testing.assert_allclose(values[-10:], model(image[None])[0], atol=1e-12)


def test_sums_come_before_the_activation(db, trained):
    run, model, images = trained["dense"]
    given = {"run": run.name, "epoch": 1, "values": images[0]}
    found = db.query("evaluate_layer", **given, layer="0")
    sums = model[0](images[0]).detach()
    assert (sums < 0).any()
    np.testing.assert_allclose(found["sum"], sums, atol=1e-13)
    np.testing.assert_allclose(found["value"], sums.relu(), atol=1e-13)


@pytest.mark.parametrize(("name", "last", "index"), [("dense", "4", 3), ("skips", "d", 7)])
def test_saliency_is_the_gradient(db, trained, name, last, index):
    run, model, images = trained[name]
    image = images[5:6].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(image)[0, index], image)
    given = {"run": run.name, "epoch": 1, "values": values_of(db, run, images[5])}
    found = db.query("input_saliency", **given, layer=last, index=index, top=64)
    assert sorted(found["neuron"]) == list(range(64))
    np.testing.assert_array_equal(found["neuron"], found["index"])
    np.testing.assert_allclose(
        found["derivative"], gradient.flatten()[found["neuron"]], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_array_equal(found["value"], images[5].flatten()[found["neuron"]])
    assert found["derivative"].abs().is_monotonic_decreasing
    few = db.query("input_saliency", **given, layer=last, index=index, top=3)
    assert few["neuron"].tolist() == found["neuron"].tolist()[:3]


def test_saliency_of_a_hidden_neuron(db, trained):
    run, model, images = trained["dense"]
    image = images[9].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model[:3](image)[4], image)
    given = {"run": run.name, "epoch": 1, "values": values_of(db, run, images[9])}
    found = db.query("input_saliency", **given, layer="2", index=4, top=64)
    np.testing.assert_allclose(
        found["derivative"], gradient[found["neuron"]], rtol=1e-9, atol=1e-12
    )


def test_neurons_that_are_never_active(db, tmp_path):
    torch.manual_seed(4)
    model = dense().double()
    with torch.no_grad():
        model[0].bias[[2, 11]] = -100.0
        model[2].weight[:, 11] *= 1e-3
    images = torch.tensor(load_digits().images[:40]).flatten(1) / 16
    run = cnt.export(model, {0: model.state_dict()}, (1, 64), to=tmp_path / "idle", name="idle")
    db.load(run)
    parts = [images, model[:2](images), model[:4](images), model(images)]
    values = torch.cat([part.detach() for part in parts], 1)
    found = db.query("inactive_neurons", run=run.name, epoch=0, values=values)
    largest = values[:, 64:96].abs().amax(0).numpy()  # the hidden ones
    never = [("0", int(i)) for i in np.flatnonzero(largest == 0)]
    assert {("0", 2), ("0", 11)} <= set(never)
    assert list(zip(found["layer"], found["index"], strict=True)) == never
    out = model[2].weight.detach().abs().amax(0)
    np.testing.assert_allclose(found["largest_out"], out[[i for _, i in never]])
    bound = float(np.median(largest))
    more = db.query("inactive_neurons", run=run.name, epoch=0, values=values, above=bound, top=13)
    few = np.flatnonzero(largest <= bound)[:13]
    np.testing.assert_array_equal(more["neuron"], few + 64)
    np.testing.assert_allclose(more["largest"], largest[few])
    for wrong in ([], values[0, :-1]):
        with pytest.raises(cnt.InputRefused, match=f"values holds {len(wrong)} numbers") as refused:
            db.query("inactive_neurons", run=run.name, epoch=0, values=wrong)
        assert "106 neurons" in refused.value.why
    db.delete(run)


def test_two_epochs_on_the_same_images(db, trained):
    run, model, images = trained["skips"]
    first, last = (db.evaluate(run, epoch, images[:2]) for epoch in (0, 1))
    with torch.no_grad():
        after = model(images[:2])
        model.load_state_dict(run.network(0).weights, strict=False)
        before = model(images[:2])
        model.load_state_dict(run.network(1).weights, strict=False)
    np.testing.assert_allclose(last - first, after - before, atol=1e-11)
    assert (last - first).abs().to_numpy().max() > 0.1


def test_what_is_not_known_is_null(db, tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2)).double()
    run = cnt.export(model, {0: model.state_dict()}, (1, 4), to=tmp_path / "gelu", name="gelu")
    db.load(run)
    image = torch.linspace(-1, 1, 4).double()
    asked = {"run": "gelu", "epoch": 0}
    found = db.query("evaluate_layer", **asked, layer="0", values=image)
    np.testing.assert_allclose(found["sum"], model[0](image).detach(), atol=1e-14)
    assert found["value"].isna().all()
    assert db.query("evaluate_layer", **asked, layer="0", values=image[:3])["sum"].isna().all()
    values = torch.cat([image, model[:2](image), model(image)])
    found = db.query("input_saliency", **asked, layer="2", index=0, values=values)
    assert found["derivative"].isna().tolist() == [True] * 4
    db.delete(run)


def test_what_attention_joins_is_not_known(db, tmp_path):
    run = exported(tmp_path / "run", "attention", name="joined")
    db.load(run)
    asked = {"run": "joined", "epoch": 0, "values": np.ones(run.wiring.neuron_count)}
    joined = [each for each in run.wiring.layers if each.join is not None]
    for layer in joined:
        assert db.query("evaluate_layer", **asked, layer=layer.name)["sum"].isna().all()
    last = run.wiring.layers[-1].name
    found = db.query("input_saliency", **asked, layer=last, index=0, top=1000)
    assert joined
    assert found["derivative"].isna().any()
    db.delete(run)


def test_a_network_with_some_of_its_links_is_not_computed(db, tmp_path):
    run = exported(tmp_path / "run", "dense", name="some links")
    db.load(run, links="top:2")
    asked = {"run": run.name, "epoch": 0, "values": np.ones(run.wiring.neuron_count)}
    for name, more in (("evaluate_layer", {}), ("input_saliency", {"index": 0})):
        with pytest.raises(cnt.InputRefused, match="cannot be computed") as refused:
            db.query(name, **asked, layer="fc.1", **more)
        assert "links='top:2'" in refused.value.why
        assert "--links all" in refused.value.fix
    db.delete(run)
