"""A run folder is whole or says what is wrong with it, whatever happened while it was written."""

import errno
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

import cntgraph as cnt
from cntgraph.runs import Recorder, export, export_plan, open_run
from cntgraph.runs.documents import read_metrics, sealed, write_metrics
from cntgraph.runs.folder import locked
from cntgraph.runs.writing import origin, writing

ROOT = Path(__file__).parents[1]


def mlp(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))


def states(*epochs):
    return {epoch: mlp(epoch).state_dict() for epoch in epochs}


def tree(folder):
    """Every file below a folder with its bytes, links and empty folders included."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of epochs 0, 2 and 10; never changed by a test."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.warns(cnt.CntWarning, match="no checkpoint for epoch 4, 6, 8"):
        return export(mlp(), states(10, 2, 0), (1, 4), to=folder)


@pytest.fixture
def copy(finished, tmp_path):
    """A run of one's own to damage."""
    return Path(shutil.copytree(finished.path, tmp_path / "digits"))


# -- what comes back ------------------------------------------------------------------------------


def test_epochs_are_in_numeric_order_with_their_own_weights(finished):
    assert finished.epochs["epoch"].tolist() == [0, 2, 10]
    for epoch, state in states(0, 2, 10).items():
        weights = finished.network(epoch).weights
        assert set(weights) == set(state)
        for name, tensor in state.items():
            assert weights[name].dtype == tensor.dtype
            assert torch.equal(weights[name], tensor)


def test_a_run_computes_without_the_model(finished):
    x = torch.randn(5, 4)
    with torch.no_grad():
        expected = mlp(2)(x)
    assert torch.allclose(finished.network(2).forward(x)[0], expected, atol=1e-6)


def test_tables_are_those_of_the_measures(finished):
    network = cnt.trace(mlp(2), (1, 4))
    found = finished.neurons(2)
    assert (found.pop("epoch") == 2).all()
    pd.testing.assert_frame_equal(found, cnt.strength(network))
    found = finished.layers().query("epoch == 2").reset_index(drop=True).drop(columns="epoch")
    pd.testing.assert_frame_equal(found, cnt.layers(network))
    assert finished.neurons()["epoch"].tolist() == [0] * 9 + [2] * 9 + [10] * 9
    assert list(finished.neurons().columns[:2]) == ["epoch", "neuron"]


def test_graphs_carry_the_strengths(finished):
    graph, neighbours = finished.to_igraph(10), finished.to_networkx(10)
    expected = finished.neurons(10)["strength"].tolist()
    assert graph.vs["strength"] == expected
    assert [neighbours.nodes[i]["strength"] for i in range(9)] == expected
    assert np.allclose(graph.strength(weights="weight"), expected, atol=1e-12)
    assert graph.vs["layer"] == finished.neurons(10)["layer"].tolist()


def test_names_and_provenance(finished, tmp_path):
    assert finished.name == "digits"
    assert finished.provenance["model"] == "torch.nn.modules.container.Sequential"
    assert finished.provenance["torch"] == str(torch.__version__)
    assert finished.provenance["options"]["convention"] == "plain"
    named = export(mlp(), states(0), (1, 4), to=tmp_path / "a b é", name="another")
    assert (named.name, open_run(tmp_path / "a b é").name) == ("another", "another")
    again = export(mlp(), states(0, 1), (1, 4), to=tmp_path / "a b é")
    assert again.name == "another"
    assert "epochs 0, 1" in repr(again)


def test_an_unknown_epoch_is_refused_with_those_there_are(finished):
    for ask in (finished.network, finished.neurons, finished.to_igraph, finished.metrics):
        with pytest.raises(cnt.InputRefused, match="epoch 7 is not in the run digits") as refusal:
            ask(7)
        assert refusal.value.why == "it holds 0, 2, 10"


def test_fingerprints_tell_epochs_apart(finished):
    assert len({finished.fingerprint(epoch) for epoch in (0, 2, 10)}) == 3


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn]
)
def test_files_of_any_precision_come_back_bit_by_bit(tmp_path, dtype):
    state = {f"module.{n}": t.to(dtype) for n, t in mlp(3).state_dict().items()}
    torch.save({"epoch": 3, "loss": 0.5, "state_dict": state}, tmp_path / "last.ckpt")
    run = export(mlp(), tmp_path / "last.ckpt", (1, 4), to=tmp_path / "run")
    weights = run.network(3).weights
    before = state["module.0.weight"].view(torch.uint8)
    assert weights["0.weight"].dtype == dtype
    assert torch.equal(weights["0.weight"].view(torch.uint8), before)
    assert np.isfinite(run.neurons(3)["strength"]).all()
    assert run.epochs.to_dict("records") == [{"epoch": 3, "loss": 0.5}]
    receipt = json.loads((run.path / "epochs/epoch=0003/epoch.json").read_text())
    assert "'module' was taken off the names" in receipt["source"]["notes"]


class Buffered(torch.nn.Module):
    """Batch norm, tied weights, a buffer that no state dict holds and a head that nobody uses."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(2)
        self.one = torch.nn.Linear(18, 18)
        self.two = torch.nn.Linear(18, 18, bias=False)
        self.two.weight = self.one.weight
        self.unused = torch.nn.Linear(3, 3)
        self.register_buffer("scale", torch.full((18,), 0.5), persistent=False)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x))).flatten(1)
        return self.two(torch.relu(self.one(y * self.scale)))


def test_what_no_state_dict_holds_is_kept_and_what_is_not_used_is_not(tmp_path):
    model = Buffered()
    run = export(model, {0: model.state_dict()}, (1, 1, 3, 3), to=tmp_path / "run")
    network = run.network(0)
    assert not [name for name in network.weights if "unused" in name]
    x = torch.randn(2, 1, 3, 3)
    with torch.no_grad():
        assert torch.allclose(network.forward(x)[0], model.eval()(x), atol=1e-5)
    stored = run.path / "epochs/epoch=0000/neurons.parquet"
    assert pd.read_parquet(stored)[["channel", "y", "x"]].iloc[26].tolist() == [1.0, 2.0, 2.0]
    assert run.check().rows == network.neuron_count + len(network.layers)


def test_measures_are_columns_beside_the_strengths(tmp_path):
    run = export(mlp(), states(0), (1, 4), to=tmp_path / "run", measures=["pagerank"])
    assert list(run.neurons(0).columns)[-1] == "pagerank"
    assert math.isclose(run.neurons(0)["pagerank"].sum(), 1.0)
    assert run.to_igraph(0).vs["pagerank"] == run.neurons(0)["pagerank"].tolist()
    with pytest.raises(cnt.InputRefused, match="no measure 'pagerang'") as refusal:
        export(mlp(), states(0), (1, 4), to=tmp_path / "other", measures=["pagerang"])
    assert "pagerank" in refusal.value.why
    assert not (tmp_path / "other").exists()


NAMES = ["a`b'c\"d ../\\ <script>\n\0", "é \N{TEST TUBE}\N{RIGHT-TO-LEFT OVERRIDE}", "x" * 10_000]


@pytest.mark.parametrize("name", NAMES, ids=["signs", "unicode", "long"])
def test_layer_names_are_data(tmp_path, name):
    network = cnt.trace(mlp(), (1, 4))
    text = json.dumps(network.to_json()).replace('"name": "0"', f'"name": {json.dumps(name)}')
    network = cnt.Network.from_json(json.loads(text), network.weights)
    with writing(tmp_path / "run", origin(network, mlp(), ()), name=name, replace=False) as writer:
        writer.write(0, network, {name: name})
        writer.finish()
    run = open_run(tmp_path / "run")
    assert [layer.name for layer in run.network(0).layers] == ["input", name, "2"]
    assert run.neurons()["layer"].tolist() == ["input"] * 4 + [name] * 3 + ["2"] * 2
    assert (run.name, run.epochs[name].tolist(), run.check().epochs) == (name, [name], 1)


def test_values_that_are_not_finite_are_kept_and_said(tmp_path):
    state = mlp().state_dict()
    state["0.weight"][1, 2] = float("nan")
    state["2.bias"][0] = float("inf")
    with pytest.warns(cnt.CntWarning, match="epoch 4: .*1 of 0.weight.*1 of 2.bias"):
        run = export(mlp(), {4: state}, (1, 4), to=tmp_path / "run")
    found = run.neurons(4)["strength"]
    assert np.flatnonzero(found.isna()).tolist() == [2, 5]
    receipt = json.loads((run.path / "epochs/epoch=0004/epoch.json").read_text())
    assert receipt["not_finite"] == {"0.weight": 1, "2.bias": 1}
    assert run.check().epochs == 1


def test_a_gpu_that_is_not_there_is_replaced_with_a_word(tmp_path):
    if torch.cuda.is_available():
        run = export(mlp(), states(1), (1, 4), to=tmp_path / "run", device="cuda")
    else:
        with pytest.warns(cnt.CntWarning, match="no GPU for device='cuda'"):
            run = export(mlp(), states(1), (1, 4), to=tmp_path / "run", device="cuda")
    pd.testing.assert_frame_equal(
        run.neurons(1).drop(columns="epoch"), cnt.strength(cnt.trace(mlp(1), (1, 4))), rtol=1e-6
    )
    with pytest.raises(cnt.InputRefused, match="device='gpu'"):
        export(mlp(), states(1), (1, 4), to=tmp_path / "other", device="gpu")


# -- metrics --------------------------------------------------------------------------------------

METRIC = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.dictionaries(st.text(), METRIC))
def test_metrics_survive_as_they_are(metrics):
    data = write_metrics(metrics)
    found = read_metrics(data)
    assert list(found) == list(metrics)
    for name, value in metrics.items():
        assert type(found[name]) is type(value)
        assert found[name] == value or (math.isnan(found[name]) and math.isnan(value))
    json.loads(data, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_scalars_of_other_libraries_are_numbers():
    metrics = {"a": np.float32(0.5), "b": torch.tensor(2), "c": np.float64(0.1), "d": np.int64(3)}
    assert read_metrics(write_metrics(metrics)) == {"a": 0.5, "b": 2, "c": 0.1, "d": 3}
    for value in (torch.ones(2), [1.0], object(), 1j):
        with pytest.raises(cnt.InputRefused, match="the metric 'a' is of type"):
            write_metrics({"a": value})


# -- going on, refusing, replacing ----------------------------------------------------------------


def test_finished_epochs_are_not_done_twice(copy):
    before = tree(copy)
    stamps = {p: p.stat().st_mtime_ns for p in copy.rglob("*.safetensors")}
    run = export(mlp(), states(0, 2, 5, 10), (1, 4), to=copy)
    assert run.epochs["epoch"].tolist() == [0, 2, 5, 10]
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    after = tree(copy)
    assert {n: b for n, b in after.items() if n in before and n != "manifest.json"} == {
        n: b for n, b in before.items() if n != "manifest.json"
    }


def test_other_weights_for_an_epoch_are_refused_or_replaced(copy):
    other = {2: mlp(99).state_dict()}
    before = tree(copy)
    with pytest.raises(
        cnt.InputRefused, match=r"epoch 2 is in .* already, with other weights"
    ) as no:
        export(mlp(), other, (1, 4), to=copy)
    assert "--replace" in no.value.fix
    assert tree(copy) == before
    run = export(mlp(), other, (1, 4), to=copy, replace=True)
    assert run.epochs["epoch"].tolist() == [0, 2, 10]
    assert torch.equal(run.network(2).weights["0.weight"], other[2]["0.weight"])
    assert run.check().epochs == 3


def test_another_architecture_or_other_options_are_refused_or_replaced(copy):
    wide = torch.nn.Sequential(torch.nn.Linear(4, 7))
    before = tree(copy)
    with pytest.raises(cnt.InputRefused, match="holds the run of another network"):
        export(wide, {0: wide.state_dict()}, (1, 4), to=copy)
    with pytest.raises(cnt.InputRefused, match=r"was exported with measures=\[\]"):
        export(mlp(), states(0), (1, 4), to=copy, measures=["pagerank"])
    assert tree(copy) == before
    run = export(wide, {0: wide.state_dict()}, (1, 4), to=copy, replace=True)
    assert (len(run.neurons()), run.check().epochs) == (11, 1)


def test_a_foreign_file_in_an_epoch_is_not_removed(copy):
    note = copy / "epochs/epoch=0002/notes.txt"
    note.write_text("mine")
    with pytest.raises(cnt.InputRefused, match=r"notes.txt") as refusal:
        export(mlp(), {2: mlp(99).state_dict()}, (1, 4), to=copy, replace=True)
    assert "cannot be replaced" in str(refusal.value)
    assert note.read_text() == "mine"


def test_a_checkpoint_that_does_not_fit_names_epoch_and_file(tmp_path):
    torch.save(mlp(0).state_dict(), tmp_path / "epoch=0.pt")
    torch.save(torch.nn.Linear(4, 2).state_dict(), tmp_path / "epoch=1.pt")
    with pytest.raises(cnt.InputRefused) as refusal:
        export(mlp(), tmp_path, (1, 4), to=tmp_path / "run")
    assert refusal.value.what.startswith("epoch 1: ")
    assert "epoch=1.pt" in refusal.value.what
    assert [p.name for p in (tmp_path / "run" / "epochs").iterdir()] == ["epoch=0000"]
    with pytest.raises(cnt.RunDamaged, match="the export is not finished"):
        open_run(tmp_path / "run")


@pytest.mark.parametrize("content", ["README", "network.json", "epochs"])
def test_a_foreign_folder_is_refused_and_left_alone(tmp_path, content):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / content).write_text('{"format": "something else"}')
    before = tree(tmp_path)
    with pytest.raises(cnt.InputRefused, match="is not empty and holds no run"):
        export(mlp(), states(0), (1, 4), to=folder)
    with pytest.raises(cnt.InputRefused, match="is a file"):
        export(mlp(), states(0), (1, 4), to=folder / content)
    with pytest.raises(cnt.InputRefused, match="holds no run"):
        Recorder(mlp(), (1, 4), to=folder).__enter__()
    assert tree(tmp_path) == before


def test_notes_beside_a_run_are_welcome(copy):
    (copy / "README").write_text("mine")
    run = export(mlp(), states(1), (1, 4), to=copy)
    assert run.check().epochs == 4
    assert (copy / "README").read_text() == "mine"


def test_a_second_writer_is_refused_by_name(copy):
    with locked(copy), pytest.raises(cnt.InputRefused, match=f"process {os.getpid()} on"):
        export(mlp(), states(1), (1, 4), to=copy)
    assert export(mlp(), states(1), (1, 4), to=copy).check().epochs == 4


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(cnt.InputRefused, match="cannot be written"):
        export(mlp(), states(0), (1, 4), to=tmp_path / "file" / "run")


# -- broken off -----------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_nothing_half_written(tmp_path, monkeypatch, failure):
    network = cnt.trace(mlp(), (1, 4))
    source = origin(network, mlp(), ())
    sync, reached = os.fsync, 0

    def write(folder):
        with writing(folder, source, name="broken", replace=False) as writer:
            for epoch, state in states(0, 1).items():
                writer.write(epoch, network.bound_to(state), {"loss": 0.5})
            writer.finish()

    def broken(handle):
        nonlocal reached
        reached += 1
        if reached == fail_at:
            raise failure
        sync(handle)

    write(tmp_path / "clean")
    for fail_at in range(1, 19):
        reached, folder = 0, tmp_path / str(fail_at)
        monkeypatch.setattr(os, "fsync", broken)
        expected = cnt.InputRefused if isinstance(failure, OSError) else KeyboardInterrupt
        with pytest.raises(expected, match=None if expected is KeyboardInterrupt else "cannot be"):
            write(folder)
        assert not [p for p in folder.rglob("*") if p.name.startswith(".")]
        for epoch in (folder / "epochs").glob("*"):
            assert len(list(epoch.iterdir())) == 5
        monkeypatch.setattr(os, "fsync", sync)
        write(folder)
        assert tree(folder) == tree(tmp_path / "clean")
    assert reached == 18


KILLED = """
import os, shutil, sys, warnings
from pathlib import Path
import torch
torch.set_num_threads(1)
import cntgraph as cnt
from cntgraph.runs import open_run
from cntgraph.runs.writing import origin, writing

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
network = cnt.trace(model, (1, 4))
source = origin(network, model, ())
cnt.strength(network)

def write(folder):
    with writing(folder, source, name="killed", replace=False) as writer:
        for epoch in (0, 1):
            later = {n: t + epoch for n, t in network.weights.items()}
            writer.write(epoch, network.bound_to(later), {"loss": 1.0 / (1 + epoch)})
        writer.finish()

def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
            for p in folder.rglob("*")}

base = Path(sys.argv[1])
write(base / "clean")
expected, killed = tree(base / "clean"), 0
for name in ("fsync", "rename", "replace"):
    for at in range(1, 100):
        folder = base / f"{name}{at}"
        child = os.fork()
        if child == 0:
            real, calls = getattr(os, name), iter(range(1, 1000))
            def die(*args):
                if next(calls) == at:
                    os._exit(137)
                return real(*args)
            setattr(os, name, die)
            write(folder)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for epoch in (folder / "epochs").glob("epoch=*"):
            assert len(list(epoch.iterdir())) == 5, epoch
        if status == 0:
            break
        assert status == 137, status
        killed += 1
        try:
            open_run(folder).check()
        except cnt.InputRefused as unfinished:
            assert "is not finished" in str(unfinished) or "is not a run" in str(unfinished)
        write(folder)
        assert tree(folder) == expected, (name, at)
        assert open_run(folder).check().epochs == 2
        shutil.rmtree(folder)
print("killed", killed)
"""


def test_a_killed_export_goes_on_to_the_same_tree_wherever_it_died(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) >= 20


def test_a_file_size_limit_is_said_with_the_bytes_needed(tmp_path):
    model = torch.nn.Linear(600, 600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(cnt.InputRefused, match="cannot be written") as refusal:
            export(model, {0: model.state_dict()}, (1, 600), to=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "bytes are needed" in refusal.value.why
    assert [p.name for p in (tmp_path / "run").rglob("*")] == ["network.json", "epochs"]


# -- damaged --------------------------------------------------------------------------------------


def names(folder):
    return [str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if p.is_file()]


def test_a_byte_altered_anywhere_is_named(finished, copy):
    assert len(names(copy)) == 17
    for name in names(copy):
        whole = (copy / name).read_bytes()
        for at in {0, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            altered = bytearray(whole)
            altered[at] ^= 1
            (copy / name).write_bytes(altered)
            with pytest.raises(cnt.RunDamaged) as damage:
                open_run(copy).check()
            assert name in damage.value.what
        for broken in (whole[: len(whole) // 2], whole + b"\n", b""):
            (copy / name).write_bytes(broken)
            with pytest.raises(cnt.RunDamaged, match=Path(name).name):
                open_run(copy).check()
        (copy / name).unlink()
        with pytest.raises(cnt.RunDamaged, match=Path(name).name):
            open_run(copy).check()
        (copy / name).write_bytes(whole)
    assert open_run(copy).check() == finished.check()


def test_reading_meets_the_damage_too(copy):
    weights = copy / "epochs/epoch=0002/weights.safetensors"
    state = states(2)[2]
    state["0.weight"][0, 0] += 1
    safetensors.torch.save_file(state, weights)
    run = open_run(copy)
    assert len(run.neurons(2)) == 9
    with pytest.raises(cnt.RunDamaged, match=r"epoch=0002/weights.safetensors was altered"):
        run.network(2)


def test_a_missing_manifest_says_how_to_go_on(copy):
    (copy / "manifest.json").unlink()
    with pytest.raises(cnt.RunDamaged, match="the export is not finished") as damage:
        open_run(copy)
    assert "cntgraph export" in damage.value.fix
    assert "3 epochs are done" in damage.value.why
    assert export(mlp(), states(0), (1, 4), to=copy).check().epochs == 3


def test_no_run_at_all(copy, tmp_path):
    with pytest.raises(cnt.InputRefused, match="there is no run") as refusal:
        open_run(tmp_path / "digit")
    assert "did you mean digits?" in str(refusal.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(cnt.InputRefused, match="is not a run"):
        open_run(tmp_path / "empty")


def manifest(folder, change):
    """Write a manifest that has the right hash of itself and says something else."""
    document = json.loads((folder / "manifest.json").read_text())
    document = {k: v for k, v in document.items() if k not in ("format", "version", "sha256")}
    change(document)
    (folder / "manifest.json").write_bytes(sealed("cntgraph run", document))


@pytest.mark.parametrize(
    "name",
    [
        "../../secret",
        "/etc/hostname",
        "../epoch=0000/metrics.json",
        "notes.txt",
        "a/../metrics.json",
    ],
)
def test_a_manifest_leads_nowhere_else(copy, name):
    def change(document):
        document["epochs"]["0"][name] = document["epochs"]["0"]["metrics.json"]

    manifest(copy, change)
    with pytest.raises(cnt.RunDamaged, match="nothing outside its folder is read"):
        open_run(copy).check()


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("epochs"),
        lambda document: document["epochs"].update(later={}),
        lambda document: document["epochs"].update({"0": []}),
        lambda document: document["epochs"]["0"].pop("metrics.json"),
        lambda document: document["epochs"]["0"]["metrics.json"].pop("bytes"),
        lambda document: document.update(network={}),
        lambda document: document["epochs"]["0"]["neurons.parquet"].update(rows=8),
        lambda document: document["epochs"].update({"-1": document["epochs"]["0"]}),
    ],
)
def test_a_manifest_that_makes_no_sense_is_damage(copy, change):
    manifest(copy, change)
    with pytest.raises(cnt.RunDamaged):
        open_run(copy).check()


def test_symbolic_links_are_refused(copy, tmp_path):
    outside = tmp_path / "outside"
    shutil.move(copy / "epochs/epoch=0002", outside)
    (copy / "epochs/epoch=0002").symlink_to(outside)
    with pytest.raises(cnt.RunDamaged, match="epoch=0002 is a symbolic link"):
        open_run(copy).network(2)
    shutil.move(copy / "manifest.json", outside)
    (copy / "manifest.json").symlink_to(outside / "manifest.json")
    with pytest.raises(cnt.RunDamaged, match=r"manifest.json is a symbolic link"):
        open_run(copy)


def test_a_newer_format_is_refused_with_the_upgrade(copy, monkeypatch):
    monkeypatch.setattr("cntgraph.runs.documents.VERSION", 2)
    manifest(copy, lambda document: None)
    monkeypatch.undo()
    with pytest.raises(cnt.RunDamaged, match="format version 2") as damage:
        open_run(copy)
    assert "upgrade" in damage.value.fix


def test_epochs_on_disk_that_no_manifest_lists_are_said(copy, tmp_path):
    more = export(mlp(), states(0, 11), (1, 4), to=tmp_path / "more")
    shutil.copytree(more.path / "epochs/epoch=0011", copy / "epochs/epoch=0011")
    assert open_run(copy).check().unlisted == (11,)
    run = export(mlp(), states(0), (1, 4), to=copy)
    assert run.epochs["epoch"].tolist() == [0, 2, 10, 11]
    assert run.check().unlisted == ()


def test_an_epoch_of_another_run_is_not_taken_in(copy, tmp_path):
    wide = torch.nn.Linear(4, 7)
    export(wide, {3: wide.state_dict()}, (1, 4), to=tmp_path / "wide")
    shutil.copytree(tmp_path / "wide/epochs/epoch=0003", copy / "epochs/epoch=0003")
    with pytest.raises(cnt.RunDamaged, match="epoch=0003 belongs to another run") as damage:
        export(mlp(), states(0), (1, 4), to=copy)
    assert "rm -r" in damage.value.fix


# -- the plan -------------------------------------------------------------------------------------


def test_a_plan_says_what_will_be_and_writes_nothing(copy, tmp_path):
    plan = export_plan(mlp(), states(0, 1, 2), (1, 4), to=copy)
    assert (plan.epochs, plan.finished, plan.name) == ((1,), (0, 2), "digits")
    folder = tmp_path / "new"
    plan = export_plan(mlp(), states(0, 1, 2), (1, 4), to=folder, name="planned")
    assert not folder.exists()
    assert (plan.epochs, plan.neurons, plan.links, plan.name) == ((0, 1, 2), 9, 18, "planned")
    run = export(mlp(), states(0, 1, 2), (1, 4), to=folder)
    written = sum(len(data) for n, data in tree(folder).items() if data and n != "manifest.json")
    assert abs(plan.bytes - written) < 0.02 * written
    assert "3 epochs to do, 0 done" in repr(plan)
    assert run.manifest.network["links"] == plan.links
