"""A recorder reads the model where it is and leaves nothing behind but the run."""

import gc
import json
import math
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import prune

import cntgraph as cnt
from cntgraph.runs import Recorder, open_run
from cntgraph.runs.documents import sealed


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def convolutional(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)
    )


IMAGE = (1, 1, 6, 6)


def recorded(model, folder, example=IMAGE, **options):
    with Recorder(model, example, to=folder, **options) as recorder:
        recorder.snapshot(0, loss=0.5)
    return open_run(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What is recorded of `convolutional` where nothing is out of the ordinary."""
    return recorded(convolutional(), tmp_path_factory.mktemp("runs") / "plain", measures=MEASURES)


MEASURES = ("pagerank", "pagerank_backward")


def assert_same(run, plain):
    pd.testing.assert_frame_equal(run.neurons(), plain.neurons(), rtol=1e-6, atol=1e-6)
    pd.testing.assert_frame_equal(run.layers(), plain.layers(), rtol=1e-5, atol=1e-6)
    assert run.check().epochs == len(run.epochs)


# -- the loop -------------------------------------------------------------------------------------


def test_a_training_loop_is_recorded_and_not_disturbed(tmp_path):
    def train(record):
        model = mlp()
        model.train()
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        x, y = torch.randn(32, 4), torch.randint(0, 2, (32,))
        kept = []
        for epoch in range(3):
            noisy = torch.nn.functional.dropout(x, 0.2)
            loss = torch.nn.functional.cross_entropy(model(noisy), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            record(model, epoch, loss)
            assert model.training
            kept.append({n: t.clone() for n, t in model.state_dict().items()})
        return kept

    alone = train(lambda *_: None)
    torch.manual_seed(0)
    with Recorder(mlp(), (1, 4), to=tmp_path / "run") as recorder:

        def record(model, epoch, loss):
            recorder._model = model
            recorder.snapshot(epoch, loss=loss.item(), note=None if epoch else "first")
            assert open_run(tmp_path / "run").check().epochs == epoch + 1

        recorded = train(record)
    run = open_run(tmp_path / "run")
    for epoch in range(3):
        for name, tensor in alone[epoch].items():
            assert torch.equal(tensor, recorded[epoch][name])
            assert torch.equal(tensor, run.network(epoch).weights[name])
    assert run.epochs["note"].tolist()[0] == "first"
    assert run.metrics(1)["note"] is None
    assert run.check().unlisted == ()


def test_what_was_recorded_before_a_failure_is_a_run(tmp_path):
    model = mlp()
    recorder = Recorder(model, (1, 4), to=tmp_path / "r")

    def train():
        with recorder:
            recorder.snapshot(0, loss=float("nan"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert math.isnan(open_run(tmp_path / "r").metrics(0)["loss"])
    with pytest.raises(cnt.InputRefused, match="the recorder is not open"):
        recorder.snapshot(1)
    with recorder:
        recorder.snapshot(np.int64(1), loss=0.5)
    assert open_run(tmp_path / "r").epochs["epoch"].tolist() == [0, 1]


def test_an_epoch_is_recorded_once(tmp_path):
    model = mlp()
    with Recorder(model, (1, 4), to=tmp_path / "r", name="mine") as recorder:
        recorder.snapshot(0, loss=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            recorder.snapshot(0, loss=1.0)
        with pytest.warns(cnt.CntWarning, match="those recorded first are kept"):
            recorder.snapshot(0, loss=2.0)
        with torch.no_grad():
            model[0].weight += 1
        with pytest.raises(cnt.InputRefused, match="with other weights"):
            recorder.snapshot(0)
        for epoch in (-1, True, 0.5, "1"):
            with pytest.raises(cnt.InputRefused, match="is not a whole number"):
                recorder.snapshot(epoch)
        with pytest.raises(cnt.InputRefused, match="the metric 'loss'"):
            recorder.snapshot(1, loss=[1.0])
    run = open_run(tmp_path / "r")
    assert run.epochs.to_dict("records") == [{"epoch": 0, "loss": 1.0}]
    with Recorder(model, (1, 4), to=tmp_path / "r", replace=True) as recorder:
        recorder.snapshot(0)
    run = open_run(tmp_path / "r")
    assert (run.name, run.metrics(0)) == ("mine", {})
    assert torch.equal(run.network(0).weights["0.weight"], model[0].weight)


def test_a_measure_that_falls_silent_is_missing_where_it_does(tmp_path):
    """A recording does not end for it; at the first epoch of a run it is refused."""
    model, dead = mlp(), mlp()
    for parameter in dead.parameters():
        nn.init.zeros_(parameter)
    names = ("harmonic", "katz")
    with Recorder(model, (1, 4), to=tmp_path / "run", measures=names) as recorder:
        recorder.snapshot(0)
        expected = cnt.measure(cnt.trace(model, (1, 4)), *names)
        model.load_state_dict(dead.state_dict())
        with pytest.warns(cnt.CntWarning, match="harmonic is missing at epoch 1: "):
            recorder.snapshot(1)
        model.load_state_dict(mlp(seed=1).state_dict())
        recorder.snapshot(2)
    run = open_run(tmp_path / "run")
    neurons = run.neurons()
    values = neurons.pivot(index="neuron", columns="epoch", values="harmonic")
    assert values[1].isna().all()
    assert values[0].tolist() == expected["harmonic"].tolist()
    assert not values[2].isna().any()
    assert not neurons["katz"].isna().any()
    assert run.check().rows == 3 * (9 + 3)
    with Recorder(dead, (1, 4), to=tmp_path / "other", measures=names) as recorder:
        for epoch in (0, 1):
            with pytest.raises(cnt.DegenerateMeasure, match="harmonic"):
                recorder.snapshot(epoch)


def test_a_recording_without_snapshots_is_an_empty_run(tmp_path):
    with Recorder(mlp(), (1, 4), to=tmp_path / "r"):
        pass
    run = open_run(tmp_path / "r")
    assert (len(run.epochs), len(run.neurons()), len(run.layers())) == (0, 0, 0)
    assert "strength" in run.neurons()
    assert "fluctuation" in run.layers()
    assert run.check().epochs == 0


# -- what is around the call, and what the model is ----------------------------------------------

AROUND = {
    "inference mode": torch.inference_mode,
    "bfloat16 autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another default device": lambda: torch.device("meta"),
}
MODELS = {
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled in place": lambda m: m.compile(backend="eager") or m,
    "data parallel": nn.DataParallel,
    "both": lambda m: torch.compile(nn.DataParallel(m), backend="eager"),
}


@pytest.mark.parametrize("kind", AROUND)
def test_what_the_loop_has_switched_on_does_not_matter(plain, tmp_path, kind):
    model = convolutional()
    with AROUND[kind]():
        run = recorded(model, tmp_path / "run", measures=MEASURES)
    assert_same(run, plain)


class LowRank(nn.Module):
    """A weight that is computed from parameters, by what autocast does in half precision."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(2, 4))

    def forward(self, x):
        return nn.functional.linear(x, self.a @ self.b)


def test_computed_weights_keep_their_precision_under_autocast(tmp_path):
    expected = recorded(LowRank(), tmp_path / "plain", (1, 4)).neurons()
    half = torch.autocast("cpu", dtype=torch.bfloat16)
    with Recorder(LowRank(), (1, 4), to=tmp_path / "run") as recorder, half:
        recorder.snapshot(0)
    pd.testing.assert_frame_equal(open_run(tmp_path / "run").neurons(), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_a_wrapped_model_is_the_model(plain, tmp_path, kind):
    model = MODELS[kind](convolutional().eval())
    model(torch.zeros(2, *IMAGE[1:]))
    run = recorded(model, tmp_path / "run", measures=MEASURES)
    assert_same(run, plain)
    assert set(run.network(0).weights) == set(plain.network(0).weights)


@given(flags=st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=4, deadline=None)  # each one traces the model
def test_flags_gradients_and_the_random_state_are_as_they_were(tmp_path_factory, flags):
    model = convolutional()
    for module, training in zip(model.modules(), flags, strict=True):
        module.training = training
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = torch.get_rng_state(), {n: t.clone() for n, t in model.state_dict().items()}
    recorded(model, tmp_path_factory.mktemp("runs") / "run")
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(t, before[1][n]) for n, t in model.state_dict().items())
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight))
    assert all(p.requires_grad for p in model.parameters())


def tensors_of(numel):
    """Every tensor of that size that anybody holds."""
    gc.collect()
    found = (x for x in gc.get_objects() if issubclass(type(x), torch.Tensor))
    return [tensor for tensor in found if not is_lazy(tensor) and tensor.numel() == numel]


def test_between_snapshots_no_weight_is_held(tmp_path):
    model = nn.Sequential(nn.Linear(67, 71, bias=False), nn.ReLU(), nn.Linear(71, 2))
    before = {id(t) for t in tensors_of(67 * 71)}
    with Recorder(model, (1, 67), to=tmp_path / "run", measures=["pagerank"]) as recorder:
        assert {id(t) for t in tensors_of(67 * 71)} == before
        recorder.snapshot(0)
        assert {id(t) for t in tensors_of(67 * 71)} == before
        with torch.no_grad():
            model[0].weight = nn.Parameter(torch.ones(71, 67))
        recorder.snapshot(1)
    assert bool((open_run(tmp_path / "run").network(1).weights["0.weight"] == 1).all())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("keep_weights", [True, False])
def test_a_model_on_a_gpu_is_measured_there_and_left_there(plain, tmp_path, keep_weights):
    model = convolutional().cuda()
    options = {"measures": MEASURES, "keep_weights": keep_weights}
    with Recorder(model, IMAGE, to=tmp_path / "run", **options) as recorder:
        recorder.snapshot(0, loss=torch.tensor(0.5, device="cuda"))  # what is lasting is there now
        torch.cuda.synchronize()
        held = torch.cuda.memory_allocated()
        for epoch in range(1, 4):
            recorder.snapshot(epoch)
        gc.collect()
        assert torch.cuda.memory_allocated() == held
    run = open_run(tmp_path / "run")
    pd.testing.assert_frame_equal(run.neurons(0), plain.neurons(0), rtol=1e-6, atol=1e-6)
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert run.metrics(0) == {"loss": 0.5}


def test_a_model_that_changed_its_form_is_refused_and_the_run_stays(tmp_path):
    def pruned(model):
        prune.l1_unstructured(model[0], "weight", 0.5)

    def wider(model):
        model[0].weight = nn.Parameter(torch.ones(3, 5))

    def offloaded(model):
        model.to("meta")

    for k, change in enumerate((pruned, wider, offloaded)):
        model = mlp()
        with Recorder(model, (1, 4), to=tmp_path / str(k)) as recorder:
            recorder.snapshot(0)
            change(model)
            with pytest.raises(cnt.InputRefused, match=r"no longer the one|not all in this"):
                recorder.snapshot(1)
        assert open_run(tmp_path / str(k)).check().epochs == 1


def test_metrics_are_numbers_of_any_library(tmp_path):
    given = {
        "a": 1,
        "b": 0.5,
        "c": np.float32(0.25),
        "d": np.int64(7),
        "e": torch.tensor(2.0, requires_grad=True) * 2,
        "f": torch.tensor([3], dtype=torch.int32),
        "g": torch.tensor(0.5, dtype=torch.bfloat16),
        "h": np.bool_(True),
        "i": None,
    }
    with Recorder(mlp(), (1, 4), to=tmp_path / "run") as recorder:
        recorder.snapshot(0, **given)
    found = open_run(tmp_path / "run").metrics(0)
    assert list(found.values()) == [1, 0.5, 0.25, 7, 4.0, 3, 0.5, True, None]


# -- without weights ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    """The same as `plain`, its weights not kept."""
    folder = tmp_path_factory.mktemp("runs") / "light"
    return recorded(convolutional(), folder, measures=MEASURES, keep_weights=False)


def test_without_weights_the_tables_are_the_same(light, plain):
    assert_same(light, plain)
    assert (light.keeps_weights, plain.keeps_weights) == (False, True)
    assert not list(light.path.rglob("*.safetensors"))
    files = {p.name for p in (light.path / "epochs/epoch=0000").iterdir()}
    assert files == {"neurons.parquet", "layers.parquet", "metrics.json", "epoch.json"}
    receipts = [
        json.loads((run.path / "epochs/epoch=0000/epoch.json").read_text())
        for run in (light, plain)
    ]
    assert receipts[0]["weights"] == receipts[1]["weights"]
    assert light.wiring.link_count == plain.network(0).link_count


@pytest.mark.parametrize("ask", ["network", "to_igraph", "to_networkx"])
def test_without_weights_there_is_no_graph(light, ask):
    with pytest.raises(cnt.InputRefused, match="epoch 0 of the run light holds no weights") as no:
        getattr(light, ask)(0)
    assert "keep_weights=False" in no.value.why
    assert "export" in no.value.fix
    with pytest.raises(cnt.InputRefused, match="epoch 7 is not in the run"):
        getattr(light, ask)(7)


def test_without_weights_an_epoch_is_known_again(light, tmp_path):
    folder = tmp_path / "light"
    shutil.copytree(light.path, folder)
    model = convolutional()
    options = {"measures": MEASURES, "keep_weights": False}
    with Recorder(model, IMAGE, to=folder, **options) as recorder:
        recorder.snapshot(0, loss=0.5)
        with torch.no_grad():
            model[0].bias += 1
        with pytest.raises(cnt.InputRefused, match="with other weights"):
            recorder.snapshot(0)
        recorder.snapshot(1)
    assert open_run(folder).check().epochs == 2


def test_a_run_keeps_the_weights_of_all_its_epochs_or_of_none(light, plain, tmp_path):
    for run, keep, was in ((light, True, False), (plain, False, True)):
        folder = tmp_path / run.name
        shutil.copytree(run.path, folder)
        with (
            pytest.raises(cnt.InputRefused, match=f"was exported with keep_weights={was}"),
            Recorder(convolutional(), IMAGE, to=folder, measures=MEASURES, keep_weights=keep),
        ):
            pass
        assert open_run(folder).check() == run.check()


def test_weights_that_were_taken_away_are_missed(plain, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(plain.path, folder)
    document = json.loads((folder / "manifest.json").read_text())
    document = {k: v for k, v in document.items() if k not in ("format", "version", "sha256")}
    del document["epochs"]["0"]["weights.safetensors"]
    (folder / "epochs/epoch=0000/weights.safetensors").unlink()
    for options in (document["provenance"]["options"], {"keep_weights": False}):
        document["provenance"]["options"].update(options)
        (folder / "manifest.json").write_bytes(sealed("cntgraph run", document))
        with pytest.raises(cnt.RunDamaged):
            open_run(folder).check()


def test_without_weights_links_are_not_loaded(light):
    from cntgraph.database.content import Content
    from cntgraph.database.load import load

    for links in ("all", "top:3"):
        with pytest.raises(cnt.InputRefused, match="cannot be loaded") as refusal:
            load(None, Content(light, "light"), None, links)  # refused before the server is asked
        assert '"none"' in refusal.value.fix


@pytest.mark.neo4j
def test_without_weights_strengths_are_loaded(light, server):
    with cnt.connect(server.uri, user=server.user, password=server.password) as db:
        report = db.load(light, links="none")
        assert (report.neurons, report.links) == (len(light.neurons(0)), 0)
        strong = db.query("strong_neurons", run="light", epoch=0, top=5)
        expected = light.neurons(0)["strength"].abs().nlargest(5).tolist()
        assert strong["strength"].abs().tolist() == pytest.approx(expected)
        db.delete("light")
