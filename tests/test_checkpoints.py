"""What is read of a file is what was saved in it; anything else is refused by name, never run."""

import argparse
import collections
import contextlib
import datetime
import decimal
import io
import math
import mmap
import os
import random
import subprocess
import sys
import traceback
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph import checkpoints
from cntgraph.checkpoints import find, inspect, match, plain, read
from cntgraph.checkpoints import tensors as tensors_of_files
from cntgraph.checkpoints.names import epoch_in_name
from cntgraph.cli.entry import app
from cntgraph.errors import CntWarning, InputRefused

from . import corpus

WRITERS = {
    "zip.pt": corpus.save,
    "legacy.pt": lambda path, value=None: corpus.save(path, value, legacy=True),
    "file.safetensors": corpus.save_safetensors,
}
FEW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return {name: write(folder / name).read_bytes() for name, write in WRITERS.items()}


def same(a, b):
    return list(a) == list(b) and all(_same(a[name], b[name]) for name in a)


def _same(a, b):
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(a, b)


# refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", corpus.BAD)
def test_bad_files_are_refused_by_name(name, tmp_path):
    build, words = corpus.BAD[name]
    path = tmp_path / name
    build(path)
    with pytest.raises(InputRefused) as caught:
        read(path)
    told = str(caught.value)
    assert words in told
    assert str(path) in told
    assert "weights_only" not in "".join(traceback.format_exception(caught.value))
    assert not corpus.marker(path).exists()
    with pytest.raises(InputRefused):
        inspect(path)


def test_the_corpus_would_run(tmp_path):
    """The code in the files is real: an open reader runs it."""
    path = tmp_path / "evil.pt"
    corpus.BAD["evil.pt"][0](path)
    torch.load(path, weights_only=False)
    assert corpus.marker(path).exists()


@pytest.mark.parametrize("name", WRITERS)
@FEW
@given(data=st.data())
def test_every_cut_is_refused(name, originals, tmp_path, data):
    whole = originals[name]
    path = tmp_path / name
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputRefused):
        read(path)


@FEW
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_does_not_matter(originals, tmp_path, data):
    path = tmp_path / "zip.pt"
    path.write_bytes(originals["zip.pt"])
    corpus.flip(
        path, data.draw(st.integers(0, len(originals["zip.pt"]) - 1)), data.draw(st.integers(0, 7))
    )
    try:
        tensors = read(path).tensors
    except InputRefused:
        return
    assert same(tensors, corpus.weights())


@FEW
@given(data=st.data())
def test_a_flipped_bit_of_a_legacy_file_reaches_numbers_only(originals, tmp_path, data):
    whole = originals["legacy.pt"]
    path = tmp_path / "legacy.pt"
    path.write_bytes(whole)
    corpus.flip(path, data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7)))
    try:
        tensors = read(path).tensors
    except InputRefused:
        return
    assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@settings(FEW, max_examples=50)
@given(
    data=st.data(),
    protocol=st.sampled_from((2, 4)),
    opcodes=st.binary(max_size=3) | st.sampled_from([b"(", b"}", b"]", b"t", b"R", b"\x81", b"b"]),
)
def test_any_pickle_with_right_checksums_is_refused_or_read(data, protocol, opcodes, tmp_path):
    """A file made to deceive: whatever its pickle says, no error but a refusal comes of it."""
    path = tmp_path / "zip.pt"
    sparse, scaled = (
        torch.eye(2).to_sparse(),
        torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8),
    )
    value = {"w": torch.nn.Parameter(torch.ones(2, 3)), "sparse": sparse, "scaled": scaled}
    torch.save({"model": value, "args": objects()["args"]}, path, pickle_protocol=protocol)

    def changed(name, contents):
        if name.endswith("data.pkl"):
            place = data.draw(st.integers(0, len(contents)))
            gone = data.draw(st.integers(0, 4))
            contents = contents[:place] + opcodes + contents[place + gone :]
        return [(name, contents)]

    corpus.rewrite(path, changed, made=True)
    with contextlib.suppress(InputRefused):
        assert inspect(path).elements.sum() <= 6 + 4 + 2


@FEW
@given(data=st.data())
def test_what_safetensors_refuses_is_refused(originals, tmp_path, data):
    """On any one changed byte this reader and the library agree, or this one is stricter."""
    whole = bytearray(originals["file.safetensors"])
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "file.safetensors"
    path.write_bytes(whole)
    try:
        tensors = read(path).tensors
    except InputRefused:
        return
    theirs = safetensors.torch.load(bytes(whole))
    assert same(tensors, {name: theirs[name] for name in tensors})
    assert tensors.keys() == theirs.keys()


@given(name=st.text(), value=st.binary(max_size=40))
@FEW
def test_any_bytes_are_refused(name, value, tmp_path):
    for suffix in ("pt", "safetensors"):
        path = tmp_path / f"any.{suffix}"
        path.write_bytes(name.encode("utf-8", "replace") + value)
        with pytest.raises(InputRefused):
            read(path)


def test_every_name_torch_holds_unsafe_is_refused_or_left_unread(tmp_path):
    """This gate's list of what it reads is within torch's own."""
    foreign = [torch.nn.ReLU(), torch.Generator, print, corpus.Config(), corpus.Config]
    inert = [np.float64(1), Path("a"), int, slice(1), np.ones(2), np.float32]
    for index, value in enumerate([*foreign, *inert]):
        path = corpus.save(tmp_path / f"{index}.pt", {"w": torch.ones(1), "x": value})
        assert torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if index < len(foreign):
            with pytest.raises(InputRefused, match=r"besides weights|whole pickled"):
                read(path)
        else:
            assert list(read(path).tensors) == ["w"]


def test_a_name_the_user_made_safe_for_torch_stays_refused(tmp_path):
    path = corpus.save(tmp_path / "a.pt", {"w": torch.ones(1), "x": corpus.Config()})
    with torch.serialization.safe_globals([corpus.Config]), pytest.raises(InputRefused):
        read(path)


def test_a_missing_file_is_met_with_its_neighbours(tmp_path):
    corpus.save(tmp_path / "epoch=10.pt")
    with pytest.raises(InputRefused, match=r"did you mean epoch=10\.pt\?"):
        read(tmp_path / "epoch10.pt")
    with pytest.raises(InputRefused, match="there is no folder"):
        read(tmp_path / "nowhere" / "epoch10.pt")
    with pytest.raises(InputRefused, match="cannot be opened"):
        read(tmp_path / "epoch=10.pt" / "x")
    with pytest.raises(InputRefused, match="cannot be opened"):
        read(f"{tmp_path}/a\0b")
    with pytest.raises(InputRefused, match="this is a folder"):
        read(tmp_path)


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(InputRefused, match="not a regular file"):
        read(tmp_path / "pipe.pt")


@pytest.mark.parametrize(
    "change", ["longer", "same length", "same length and stamp", "through memory", "renamed"]
)
def test_a_file_that_changes_meanwhile_is_refused(change, tmp_path, monkeypatch):
    path = corpus.save(tmp_path / "a.pt")
    other = corpus.save(tmp_path / "b.pt", {n: t + 1 for n, t in corpus.weights().items()})
    really, left = tensors_of_files.take, [1]
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    middle = len(memory) // 2
    memory[middle] = memory[middle]  # from now on a change here leaves the time stamps alone

    def take(*given):
        loaded = really(*given)
        if not left:
            return loaded
        left.clear()
        before = path.stat()
        if change == "longer":
            path.write_bytes(path.read_bytes() + b"\0")
        elif change == "renamed":
            os.replace(other, path)
        elif change == "through memory":
            memory[middle] ^= 1
        else:
            corpus.flip(path, middle)
        if "stamp" in change:
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        return loaded

    monkeypatch.setattr(tensors_of_files, "take", take)
    with pytest.raises(InputRefused, match="changed while it was read"):
        read(path)


# read

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int8,
    torch.uint8,
    torch.int16,
    torch.uint16,
    torch.int64,
    torch.bool,
    torch.complex64,
]
NOT_LEGACY = (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_come_back_as_they_were(write, dtype, tmp_path):
    tensors = {"a": torch.arange(-3.0, 3.0).reshape(2, 3).to(dtype), "b": torch.ones(()).to(dtype)}
    path = write(tmp_path / "x", tensors)
    if write is WRITERS["legacy.pt"] and dtype in NOT_LEGACY:
        with pytest.raises(InputRefused, match="legacy format"):
            read(path)
        return
    checkpoint = read(path)
    assert same(checkpoint.tensors, tensors)
    assert all(not tensor.requires_grad for tensor in checkpoint.tensors.values())
    if dtype.is_complex:
        with pytest.raises(InputRefused, match="'a' of the checkpoint is complex"):
            match(checkpoint.tensors, tensors)
    else:
        assert plain(checkpoint.tensors["a"]).dtype == dtype


@given(names=st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=4))
@FEW
def test_any_name_comes_back(names, tmp_path):
    tensors = {name: torch.full((2,), float(index)) for index, name in enumerate(names)}
    for legacy in (False, True):
        path = corpus.save(tmp_path / "names.pt", tensors, legacy=legacy)
        assert same(read(path).tensors, tensors)
    if "__metadata__" not in tensors:
        path = corpus.save_safetensors(tmp_path / "names.safetensors", tensors)
        assert same(match(read(path).tensors, tensors)[0], tensors)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
def test_quantised_and_sparse_tensors_stand_for_their_numbers(legacy, tmp_path):
    dense = torch.tensor([[0.0, 1.5], [-2.0, 0.0]])
    tensors = {
        "coo": dense.to_sparse(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((1, 1)),
        "qint8": torch.quantize_per_tensor(dense, 0.5, 0, torch.qint8),
        "channels": torch.quantize_per_channel(
            dense, torch.tensor([0.5, 1.0]), torch.zeros(2), 0, torch.qint8
        ),
    }
    path = corpus.save(tmp_path / "a.pt", tensors, legacy=legacy)
    fitted, _ = match(read(path).tensors, dict.fromkeys(tensors, (2, 2)))
    assert all(torch.equal(tensor, dense) for tensor in fitted.values())
    frame = inspect(path).set_index("name")
    assert (frame.minimum == -2).all()
    assert (frame.maximum == 1.5).all()
    assert (frame.finite == 4).all()


def test_unwritten_zeros_of_a_sparse_tensor_count(tmp_path):
    path = corpus.save(tmp_path / "a.pt", {"w": torch.tensor([0.0, 2.0, 3.0]).to_sparse()})
    row = inspect(path).iloc[0]
    assert (row["minimum"], row["maximum"], row["finite"], row["bytes"]) == (0, 3, 3, 24)


def test_a_tensor_without_numbers_is_refused_by_name(tmp_path):
    path = corpus.save(tmp_path / "a.pt", {"ghost": torch.ones(2, device="meta")})
    with pytest.raises(InputRefused, match=r"'ghost' of .*a\.pt holds no numbers"):
        match(read(path).tensors, {"ghost": (2,)}, source=str(path))
    assert inspect(path).finite.isna().all()


def test_packed_numbers_are_refused_by_name(tmp_path):
    packed = torch.ones(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    path = corpus.save(tmp_path / "a.pt", {"tiny": packed})
    assert inspect(path).finite.isna().all()
    with pytest.raises(InputRefused, match=r"'tiny' of .* is packed \(float4_e2m1fn_x2\)"):
        match(read(path).tensors, {"tiny": (2,)})


def test_a_sparse_giant_is_refused_before_it_is_written_out():
    giant = torch.sparse_coo_tensor(
        torch.zeros(2, 1).long(), torch.ones(1), (1 << 20, 1 << 20), check_invariants=True
    )
    with pytest.raises(InputRefused, match="written out"):
        plain(giant)


def test_shared_memory_stays_readable(tmp_path):
    base = torch.arange(6.0)
    tensors = {"a": base.view(2, 3), "b": base[2:4], "c": base.view(2, 3).t()}
    for legacy in (False, True):
        assert same(read(corpus.save(tmp_path / "a.pt", tensors, legacy=legacy)).tensors, tensors)


def test_the_environment_cannot_open_the_gate(tmp_path):
    path = tmp_path / "evil.pt"
    corpus.BAD["evil.pt"][0](path)
    code = f"from cntgraph.checkpoints import read; read({str(path)!r})"
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "InputRefused" in ended.stderr
    assert not corpus.marker(path).exists()


def _training(weights, **facts):
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return (
        {"optimizer": optimiser.state_dict(), "rng_state": torch.get_rng_state()} | facts | weights
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "hyper_parameters": {"lr": 0.1}},
        lambda w: {"model": w, "ema": {n: t + 1 for n, t in w.items()}},
        lambda w: {"model_state": w},
        lambda w: {"model_state_dict": w},
        lambda w: {"module": w},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"generator": w},
        lambda w: {"checkpoint": {"net": w}},
        lambda w: (w, 3),
        lambda w: {"ema": w},
    ],
)
def test_the_state_dict_is_found(wrap, tmp_path):
    wrapped = wrap(corpus.weights())
    if isinstance(wrapped, dict) and len(wrapped) < 5:
        wrapped = _training(wrapped, epoch=4)
    assert same(read(corpus.save(tmp_path / "a.pt", wrapped)).tensors, corpus.weights())


def test_what_was_chosen_is_said(tmp_path):
    weights = corpus.weights()
    value = {"ema": weights, "net": {n: t + 1 for n, t in weights.items()}, "epoch": 2}
    checkpoint = read(corpus.save(tmp_path / "epoch_1.pt", value))
    assert checkpoint.notes == (
        "weights taken from 'net'",
        "'ema' was not taken, though it holds tensors too (5)",
        "epoch 2 as stated inside; the name says 1",
    )


def test_numbers_beside_the_weights_are_metrics(tmp_path):
    value = _training(
        {"model": corpus.weights()},
        epoch=7,
        accuracy=0.5,
        loss=torch.tensor(2.0),
        global_step=40,
        best=True,
        val_loss=float("nan"),
        note="x",
        metrics={"f1": 0.25},
        huge=10**400,
    )
    checkpoint = read(corpus.save(tmp_path / "a.pt", value))
    assert checkpoint.epoch == 7
    assert math.isnan(checkpoint.metrics.pop("val_loss"))
    assert checkpoint.metrics == {"accuracy": 0.5, "loss": 2.0, "global_step": 40.0, "f1": 0.25}
    assert read(corpus.save(tmp_path / "b.pt")).metrics == {}


def test_metadata_of_safetensors_is_read(tmp_path):
    metadata = {"format": "pt", "epoch": "12", "accuracy": "0.75"}
    checkpoint = read(corpus.save_safetensors(tmp_path / "last.safetensors", metadata=metadata))
    assert (checkpoint.epoch, checkpoint.metrics) == (12, {"accuracy": 0.75})


def test_the_format_is_told_by_the_contents(tmp_path):
    path = corpus.save_safetensors(tmp_path / "pytorch_model.bin")
    assert read(path).format == "safetensors"
    path = corpus.save(tmp_path / "a.tar", legacy=True)
    assert read(path).format == "torch (legacy)"
    assert read(path).size == path.stat().st_size


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_hugging_face_folder_is_one_checkpoint(kind, tmp_path):
    folder = tmp_path / "checkpoint-500"
    folder.mkdir()
    weights = {f"layer.{index}": torch.full((2,), float(index)) for index in range(12)}
    stem, write = (
        ("model", corpus.save_safetensors)
        if kind == "safetensors"
        else ("pytorch_model", corpus.save)
    )
    shards = {f"{stem}-0000{1 + (n > 'layer.5')}-of-00002.{kind}": {} for n in weights}
    for name, tensor in weights.items():
        shards[f"{stem}-0000{1 + (name > 'layer.5')}-of-00002.{kind}"][name] = tensor
    where = {name: shard for shard, part in shards.items() for name in part}
    for shard, part in shards.items():
        write(folder / shard, part)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(corpus.json.dumps({"weight_map": {name: where[name] for name in weights}}))
    corpus.save(folder / "optimizer.pt", {"state": {}})
    assert same(read(folder).tensors, weights)
    assert read(folder).epoch == 500
    assert find(folder) == find(tmp_path) == [(500, folder)]
    index.write_text(corpus.json.dumps({"weight_map": {"layer.1": "../secret.pt"}}))
    with pytest.raises(InputRefused, match="outside its own folder"):
        read(folder)
    index.write_text(corpus.json.dumps({"weight_map": {"layer.x": next(iter(shards))}}))
    with pytest.raises(InputRefused, match=r"layer\.x"):
        read(folder)
    index.write_text("[")
    with pytest.raises(InputRefused, match="not JSON"):
        read(folder)


# match


class Owns(torch.nn.Module):
    """A model whose own attributes are called as wrappers call theirs."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        self.module = torch.nn.Linear(3, 1)


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module.", "net."]
)
def test_wrappers_are_taken_off_and_the_models_own_words_stay(prefix):
    for model in (Owns(), Owns().model, torch.nn.Sequential(Owns())):
        expected = model.state_dict()
        wrapped = {prefix + name: tensor for name, tensor in reversed(expected.items())}
        fitted, notes = match(wrapped, expected)
        assert same(fitted, expected)
        assert bool(notes) == bool(prefix)
        if notes:
            assert all(repr(word) in notes[0] for word in prefix.strip(".").split("."))


def test_real_wrappers_are_taken_off():
    model = Owns()
    expected = model.state_dict()
    parallel = torch.nn.DataParallel(Owns())
    averaged = torch.optim.swa_utils.AveragedModel(Owns())
    inner = Owns()
    inner.model = torch.nn.DataParallel(inner.model)
    compiled = torch.compile(Owns())
    for wrapper in (parallel, averaged, inner, compiled):
        fitted, _ = match(wrapper.state_dict(), expected)
        assert list(fitted) == list(expected)
    for wrapper in (parallel, inner, compiled):
        fitted, _ = match(expected, wrapper.state_dict())
        assert list(fitted) == list(wrapper.state_dict())


def test_a_misfit_names_everything():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    state = model.state_dict()
    state["0.weight"] = torch.ones(3, 4)
    state["head.weight"] = state.pop("1.weight")
    with pytest.raises(InputRefused) as caught:
        match(state, model.state_dict(), source="runs/e 3.pt")
    told = str(caught.value)
    assert "runs/e 3.pt does not fit the model" in told
    assert "the file lacks 1.weight 3" in told
    assert "the model has no head.weight 3" in told
    assert "0.weight is 3x4 in the file and 3x2 in the model" in told
    assert "cntgraph inspect 'runs/e 3.pt'" in told
    many = {f"a{index}": torch.ones(1) for index in range(10)}
    with pytest.raises(InputRefused, match="a3 1 and 6 more"):
        match(many, {"b": (2,)})


def test_counters_and_tied_names_may_be_missing():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = torch.nn.Embedding(4, 2)
            self.norm = torch.nn.BatchNorm1d(2)
            self.head = torch.nn.Linear(2, 4, bias=False)
            self.head.weight = self.embed.weight

    for device in ("cpu", "meta"):
        with torch.device(device):
            expected = Tied().state_dict()
        state = Tied().state_dict()
        del state["norm.num_batches_tracked"], state["head.weight"]
        fitted, notes = match(state, expected)
        assert torch.equal(fitted["head.weight"], state["embed.weight"])
        assert notes == ("'head.weight' is not in the file; the model ties it to 'embed.weight'",)
        del state["embed.weight"]
        with pytest.raises(InputRefused, match=r"lacks embed\.weight 4x2, head\.weight 4x2"):
            match(state, expected)


# epochs


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("epoch=0003-step=900-val_loss=0.25.ckpt", 3),
        ("val_loss=0.25-epoch=12.ckpt", 12),
        ("lenet-epoch=7-v1.ckpt", 7),
        ("epoch_10.pt", 10),
        ("epoch10.pt", 10),
        ("Epoch-4.PTH", 4),
        ("model_epoch_2.pth", 2),
        ("ckpt-7.pt", 7),
        ("checkpoint_0007.pth.tar", 7),
        ("checkpoint-500", 500),
        ("checkpoint-500/model.safetensors", 500),
        ("epoch=0003/weights.safetensors", 3),
        ("model_12.safetensors", 12),
        ("step_900.pt", 900),
        ("12.pt", 12),
        ("resnet18.pt", None),
        ("lenet5.safetensors", None),
        ("vgg_16.pt", None),
        ("best.pt", None),
        ("runs_2024/best.pt", None),
        ("epoch_loss=0.3.pt", None),
        ("footstep_4.pt", None),
        ("sheep3.pt", None),
    ],
)
def test_the_epoch_in_a_name(name, epoch):
    assert epoch_in_name(Path(name)) == epoch


@given(epochs=st.sets(st.integers(0, 200), min_size=1, max_size=6), data=st.data())
@settings(max_examples=25, deadline=None)
def test_epochs_are_ordered_as_numbers(epochs, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    shuffled = data.draw(st.permutations(sorted(epochs)))
    for epoch in shuffled:
        torch.save({"w": torch.tensor([float(epoch)])}, folder / f"epoch{epoch}.pt")
    (folder / "README.md").write_text("notes")
    (folder / "metrics.json").write_text("{}")
    (folder / "optimizer.pt").write_bytes(b"not looked at")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = find(folder)
        by_glob = find(f"{folder}/*epoch*.pt")
        by_list = find([str(folder / f"epoch{epoch}.pt") for epoch in shuffled])
    assert [epoch for epoch, _ in found] == sorted(epochs)
    assert all(read(path).tensors["w"].item() == epoch for epoch, path in found)
    assert found == by_glob == by_list


def test_the_epoch_inside_wins_everywhere(tmp_path):
    for name, write in WRITERS.items():
        path = tmp_path / f"epoch=1-{name}"
        if name.endswith("safetensors"):
            write(path)
            safetensors.torch.save_file(corpus.weights(), path, {"epoch": "5"})
        else:
            write(path, {"state_dict": corpus.weights(), "epoch": 5})
        assert find(path) == [(5, path)]
        assert read(path).epoch == 5


def test_one_file_is_enough_and_a_link_to_it_is_not_another(tmp_path):
    path = corpus.save(tmp_path / "best.pt")
    assert find(path) == find(str(path)) == find(tmp_path) == [(0, path)]
    (tmp_path / "last.pt").symlink_to(path)
    assert len(find(tmp_path)) == 1


def test_sources_without_one_epoch_each_are_refused(tmp_path):
    with pytest.raises(InputRefused, match="no checkpoints in this folder"):
        find(tmp_path)
    with pytest.raises(InputRefused, match="no file matches"):
        find(str(tmp_path / "*.pt"))
    with pytest.raises(InputRefused, match="no such file"):
        find(tmp_path / "a.pt")
    with pytest.raises(InputRefused, match="no checkpoints were given"):
        find([])
    first = corpus.save(tmp_path / "epoch3.pt")
    second = corpus.save(tmp_path / "epoch_03.pt", {"other": torch.ones(2)})
    with pytest.raises(InputRefused) as caught:
        find(tmp_path)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    second.rename(tmp_path / "best.pt")
    with pytest.raises(InputRefused, match=r"best\.pt: neither the file nor its name"):
        find(tmp_path)
    for wrong in (3, [corpus.weights()], {"a": first}, {-1: first}, {1.5: first}, {0: 3}, {}):
        with pytest.raises(InputRefused):
            find(wrong)


def test_a_dict_says_its_epochs_itself(tmp_path):
    path = corpus.save(tmp_path / "epoch9.pt")
    weights = corpus.weights()
    found = find({np.int64(2): weights, 1: str(path), 0: path})
    assert [epoch for epoch, _ in found] == [0, 1, 2]
    assert found[0][1] == found[1][1] == path
    assert found[2][1] is weights


def test_missing_epochs_are_reported():
    def state(*epochs):
        return find(dict.fromkeys(epochs, corpus.weights()))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state(0, 1, 2)
        state(500, 1000, 1500)
        state(3)
        state(0, 5, 7)
    with pytest.warns(CntWarning, match="no checkpoint for epoch 15 between 0 and 20"):
        state(0, 5, 10, 20)
    with pytest.warns(CntWarning, match="epoch 2, 3, 4, 5, 6 and 94 more between 0 and 101"):
        state(0, 1, 101)


# inspect


def test_inspect_counts_what_numpy_counts(tmp_path):
    odd = torch.tensor([[1.0, float("nan")], [float("inf"), -float("inf")], [-2.0, 0.5]])
    tensors = {
        "odd": odd,
        "half": odd.half(),
        "eighth": odd.to(torch.float8_e5m2),
        "bad": torch.full((2,), float("nan")),
        "int": torch.tensor([-5, 9]),
        "bool": torch.tensor([True, False]),
        "unsigned": torch.tensor([3, 2**32 - 1], dtype=torch.uint32),
        "none": torch.empty(0, 3),
        "complex": torch.tensor([1 + 2j, float("nan")]),
    }
    frame = inspect(corpus.save(tmp_path / "epoch_3.pt", {"model": tensors, "loss": 0.5}))
    assert list(frame.columns) == [
        *("name", "dtype", "shape", "elements", "bytes"),
        *("finite", "nan", "inf", "minimum", "maximum"),
    ]
    assert list(frame.name) == list(tensors)
    rows = frame.set_index("name")
    for name, tensor in tensors.items():
        numbers = tensor.float().numpy() if tensor.dtype.itemsize == 1 else tensor.numpy()
        row = rows.loc[name]
        assert row["shape"] == tuple(tensor.shape)
        assert row["bytes"] == tensor.numel() * tensor.dtype.itemsize
        assert row["finite"] == np.isfinite(numbers).sum()
        assert row["nan"] == np.isnan(numbers).sum()
        assert row["inf"] == np.isinf(numbers).sum()
        finite = numbers[np.isfinite(numbers)]
        if finite.size and not tensor.is_complex():
            assert (row["minimum"], row["maximum"]) == (finite.min(), finite.max())
        else:
            assert math.isnan(row["minimum"])
            assert math.isnan(row["maximum"])
    assert frame.attrs == {
        "format": "torch",
        "epoch": 3,
        "metrics": {"loss": 0.5},
        "notes": ("weights taken from 'model'",),
        "beside": {"loss": "0.5"},
        "prefixes": (),
    }


def test_the_public_words():
    assert checkpoints.__all__ == ["Checkpoint", "find", "inspect", "match", "plain", "read"]
    assert all(hasattr(checkpoints, word) for word in checkpoints.__all__)


# beside the weights


def objects():
    """What training scripts keep beside the weights, none of it the user's own classes."""
    return {
        "args": argparse.Namespace(lr=0.1, root=Path("data")),
        "path": Path("runs/a"),
        "now": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        "took": datetime.timedelta(hours=1),
        "state": (random.getstate(), np.random.get_state(), torch.get_rng_state()),
        "generator": np.random.default_rng(3),
        "history": collections.defaultdict(list, {"loss": [1.0]}),
        "counts": collections.Counter("aab"),
        "recent": collections.deque([1, 2]),
        "array": np.ones((2, 3)),
        "dtype": np.dtype("f4"),
        "type": np.float32,
        "exact": decimal.Decimal("1.5"),
        "device": torch.device("cpu"),
        "blob": b"\xff\x00",
        "bytes": bytearray(b"12"),
        "set": {1, 2},
        "slice": slice(1, 2),
        "complex": 1 + 2j,
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_harmless_objects_beside_the_weights_are_left_unread(protocol, legacy, tmp_path):
    value = _training({"model": corpus.weights()}, epoch=np.int64(3), **objects())
    path = tmp_path / "a.pt"
    zipped = not legacy
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    checkpoint = read(path)
    assert same(checkpoint.tensors, corpus.weights())
    assert checkpoint.epoch == 3
    assert set(checkpoint.beside) == set(value) - {"model"}
    assert checkpoint.beside["args"] == "an object of argparse.Namespace, left unread"
    assert find(tmp_path) == [(3, path)]


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_numbers_of_numpy_are_python_numbers(data, tmp_path_factory):
    code = data.draw(st.sampled_from("? b B h H i I q Q e f d".split()))
    kind = np.dtype(code).newbyteorder(data.draw(st.sampled_from("<>")))
    raw = data.draw(st.binary(min_size=kind.itemsize, max_size=kind.itemsize))
    if code == "?":
        raw = bytes([raw[0] & 1])
    number = np.frombuffer(raw, dtype=kind)[0]
    call = corpus.Calls(np.float64(1).__reduce__()[0], kind, raw)
    path = corpus.save(
        tmp_path_factory.mktemp("n") / "a.pt", {"state_dict": corpus.weights(), "x": call}
    )
    assert torch.load(path, weights_only=False)["x"] == number or np.isnan(number)
    found = read(path).metrics.get("x")
    if code == "?":
        assert found is None
    else:
        assert found == float(number) or (math.isnan(found) and math.isnan(number))


def _class_elsewhere(monkeypatch, path, bases=(), **body):
    """A class that a file can name, in modules made for the occasion."""
    words = path.split(".")
    for length in range(1, len(words)):
        module = ".".join(words[:length])
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    made = type(words[-1], bases, {"__module__": module} | body)
    setattr(sys.modules[module], words[-1], made)
    return made


def test_classes_that_hold_data_are_not_even_imported(tmp_path, monkeypatch):
    """The classes that are allowed would run code if they were made; their modules are not here."""
    path = tmp_path / "a.pt"
    ran = []
    classes = (
        "omegaconf.dictconfig.DictConfig",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    )
    value = {"state_dict": corpus.weights(), "epoch": 1}
    for name in classes:
        made = _class_elsewhere(monkeypatch, name, __setstate__=lambda _, state: ran.append(state))
        value[name] = made()
        value[name].content = {"lr": 0.1}
        value[f"of {name}"] = {made: 1}
    corpus.save(path, value)
    torch.load(path, weights_only=False)
    assert len(ran) == len(classes), "an open reader makes them"
    modules = {name.rpartition(".")[0] for name in classes}
    for module in modules:
        monkeypatch.delitem(sys.modules, module)
    assert same(read(path).tensors, corpus.weights())
    assert len(ran) == len(classes)
    assert not modules & set(sys.modules)


def test_lightnings_dictionaries_are_looked_through(tmp_path, monkeypatch):
    name = "pytorch_lightning.utilities.parsing.AttributeDict"
    made = _class_elsewhere(monkeypatch, name, (dict,))
    path = corpus.save(tmp_path / "a.pt", {"w": torch.ones(2), "hyper_parameters": made(lr=0.1)})
    assert read(path).beside == {"hyper_parameters": "a dict of 1: 'lr'"}


def _lit(path, epoch, extra=0.0):
    """A file with the structure of a Lightning checkpoint."""
    state = {f"net.{name}": t + extra for name, t in torch.nn.Linear(4, 3).state_dict().items()}
    torch.manual_seed(0)
    value = {
        "epoch": epoch,
        "global_step": 2 * epoch + 2,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": collections.OrderedDict(state | {"criterion.weight": torch.ones(2)}),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_path": str(path)}},
        "optimizer_states": [_training({})["optimizer"]],
        "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": epoch}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "root": Path("x"), "args": argparse.Namespace(a=1)},
    }
    return corpus.save(path, value)


def test_a_lightning_folder_is_a_sequence(tmp_path):
    torch.manual_seed(1)
    for epoch in (0, 1):
        _lit(tmp_path / f"epoch={epoch}-step={2 * epoch + 2}.ckpt", epoch)
    last = tmp_path / "last.ckpt"
    last.write_bytes((tmp_path / "epoch=1-step=4.ckpt").read_bytes())
    with pytest.warns(CntWarning, match=r"last\.ckpt holds the same weights as .*epoch=1-step=4"):
        found = find(tmp_path)
    assert [(epoch, path.name) for epoch, path in found] == [
        (0, "epoch=0-step=2.ckpt"),
        (1, "epoch=1-step=4.ckpt"),
    ]
    fitted, notes = match(read(found[1][1]).tensors, torch.nn.Linear(4, 3).state_dict())
    assert torch.equal(fitted["weight"], read(last).tensors["net.weight"])
    assert notes == ("'net' was taken off the names; 1 tensors besides were left out",)


def test_a_real_lightning_checkpoint_is_read(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self, lr=0.1, root=Path("x")):
            super().__init__()
            self.save_hyperparameters()
            self.net = torch.nn.Linear(2, 2)
            self.loss = torch.nn.CrossEntropyLoss(weight=torch.ones(2))

        def training_step(self, batch, _):
            return self.loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters())

    data = torch.utils.data.TensorDataset(torch.ones(4, 2), torch.zeros(4, dtype=torch.long))
    kept = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, save_top_k=-1, save_last=True)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[kept], logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=2))
        found = find(tmp_path)
    assert [epoch for epoch, _ in found] == [0, 1]
    fitted, _ = match(read(found[-1][1]).tensors, module.net.state_dict())
    assert same(fitted, module.net.state_dict())


# whose weights


def test_the_part_that_is_the_model_is_taken_and_said():
    model = Owns()
    state = model.state_dict()
    other = {f"criterion.{name}": t for name, t in torch.nn.Linear(2, 2).state_dict().items()}
    for prefix, averaged in (
        ("net", "ema_model"),
        ("online_model", "ema.model"),
        ("student", "teacher"),
        ("module.lit._orig_mod", "averaged"),
    ):
        file = {f"{prefix}.{name}": t for name, t in state.items()} | other
        fitted, notes = match(file, state)
        assert same(fitted, state)
        assert "2 tensors besides were left out" in notes[0]
        file |= {f"{averaged}.{name}": t + 1 for name, t in state.items()}
        fitted, notes = match(file, state)
        assert same(fitted, state)
        assert repr(averaged) in notes[0]


def test_a_running_average_alone_is_taken():
    state = Owns().state_dict()
    file = {f"ema_model.{name}": t for name, t in state.items()} | {"initted": torch.ones(1)}
    fitted, notes = match(file, state)
    assert same(fitted, state)
    assert notes == ("'ema_model' was taken off the names; 1 tensors besides were left out",)


def test_a_model_that_is_there_twice_is_refused():
    state = Owns().state_dict()
    file = {f"{part}.{name}": t for part in ("left", "right") for name, t in state.items()}
    with pytest.raises(InputRefused, match="holds the model 2 times: under left, right"):
        match(file, state)
    narrow = {name: t[:1] if t.ndim else t for name, t in state.items()}
    file |= {f"right.{name}": t for name, t in narrow.items()}
    assert same(match(file, state)[0], state), "shapes tell them apart"


def test_real_averages_are_taken_off(tmp_path):
    model = Owns()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    average.update_parameters(model)
    path = corpus.save(tmp_path / "a.pt", {"ema": average.state_dict(), "epoch": 2})
    fitted, notes = match(read(path).tensors, model.state_dict())
    assert same(fitted, model.state_dict())
    assert notes == ("'module' was taken off the names",)
    assert inspect(path).attrs["prefixes"] == ("module",)


# folders of Hugging Face


def _sharded(folder, parts, table=None):
    folder.mkdir(parents=True, exist_ok=True)
    names = {}
    for index, part in enumerate(parts, 1):
        shard = f"model-{index:05}-of-{len(parts):05}.safetensors"
        corpus.save_safetensors(folder / shard, part)
        names |= dict.fromkeys(part, shard)
    text = corpus.json.dumps({"metadata": {}, "weight_map": names if table is None else table})
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


PARTS = ({"a": torch.ones(2)}, {"b": torch.zeros(3)})


def test_shards_that_do_not_add_up_are_refused(tmp_path):
    folder = _sharded(tmp_path / "m", PARTS)
    assert sorted(read(folder).tensors) == ["a", "b"]
    second = folder / "model-00002-of-00002.safetensors"
    second.unlink()
    with pytest.raises(InputRefused, match=r"model-00002-of-00002\.safetensors: no such file"):
        read(folder)
    _sharded(folder, (PARTS[0] | {"c": torch.ones(1)}, PARTS[1] | {"a": torch.zeros(2)}))
    with pytest.raises(InputRefused, match="'a' is in two shards"):
        read(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "x", "a": "y"}}')
    with pytest.raises(InputRefused, match="'a' is there twice"):
        read(folder)
    index.unlink()
    with pytest.raises(InputRefused, match="is a shard, not a checkpoint"):
        find(folder)


@pytest.mark.parametrize("shard", ["../x", "/etc/passwd", "", ".", "..", "a/b", "a\\b", "x\0"])
def test_an_index_stays_in_its_folder(shard, tmp_path):
    folder = _sharded(tmp_path / "m", PARTS, {"a": shard})
    with pytest.raises(InputRefused, match=r"outside its own folder|cannot be opened"):
        read(folder)


def test_links_lead_into_the_cache_of_the_hub_and_nowhere_else(tmp_path):
    folder = _sharded(tmp_path / "models--x" / "snapshots" / "abc", PARTS)
    shard = folder / "model-00002-of-00002.safetensors"
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir()
    shard.rename(blobs / "0123")
    shard.symlink_to(Path("..", "..", "blobs", "0123"))
    assert sorted(read(folder).tensors) == ["a", "b"]
    (blobs / "0123").rename(tmp_path / "secret")
    shard.unlink()
    shard.symlink_to(tmp_path / "secret")
    with pytest.raises(InputRefused, match="is a link to"):
        read(folder)


def _trained(folder, step, epoch, weight):
    folder.mkdir(parents=True)
    corpus.save_safetensors(folder / "model.safetensors", {"w": torch.full((2,), float(weight))})
    history = [{"step": step - 1, "loss": 9.0}, {"step": step, "loss": 0.5, "epoch": epoch}]
    state = {"epoch": epoch, "global_step": step, "log_history": history}
    (folder / "trainer_state.json").write_text(corpus.json.dumps(state))
    corpus.save(folder / "optimizer.pt", {"state": {}})


def test_a_trainers_folders_are_epochs_or_steps(tmp_path):
    run = tmp_path / "run"
    for number in (1, 2, 10):
        _trained(run / f"checkpoint-{500 * number}", 500 * number, float(number), number)
    with pytest.warns(CntWarning, match="no checkpoint for epoch 3, 4, 5, 6, 7"):
        found = find(run)
    assert [(epoch, path.name) for epoch, path in found] == [
        (1, "checkpoint-500"),
        (2, "checkpoint-1000"),
        (10, "checkpoint-5000"),
    ]
    checkpoint = read(run / "checkpoint-1000")
    assert (checkpoint.epoch, checkpoint.metrics, checkpoint.notes) == (
        2,
        {"step": 1000.0, "loss": 0.5},
        (),
    )
    _trained(run / "checkpoint-250", 250, 0.5, 7)
    with pytest.warns(CntWarning, match="no checkpoint for epoch 750"):
        assert [epoch for epoch, _ in find(run)] == [250, 500, 1000, 5000]
    (run / "checkpoint-250" / "trainer_state.json").write_text("[]")
    with pytest.raises(InputRefused, match="not a table"):
        find(run)


@pytest.mark.parametrize("best", [1, 2])
def test_what_a_trainer_saved_at_the_end_is_a_copy(best, tmp_path):
    """The last state, or the best one loaded again: either is one of the checkpoints."""
    run = tmp_path / "run"
    for number in (1, 2):
        _trained(run / f"checkpoint-{500 * number}", 500 * number, float(number), number)
    end = f"checkpoint-{500 * best}"
    for name in ("model.safetensors", "trainer_state.json"):
        source = run / (end if name.startswith("model") else "checkpoint-1000") / name
        (run / name).write_bytes(source.read_bytes())
    with pytest.warns(CntWarning, match=f"same weights as .*{end}"):
        found = find(run)
    assert [(epoch, path.name) for epoch, path in found] == [
        (1, "checkpoint-500"),
        (2, "checkpoint-1000"),
    ]
    corpus.save_safetensors(run / "model.safetensors", {"w": torch.full((2,), 9.0)})
    with pytest.raises(InputRefused, match="epoch 2 is there twice"):
        find(run)


# copies


@given(
    epochs=st.sets(st.integers(0, 30), min_size=1, max_size=4),
    chosen=st.integers(0, 3),
    inside=st.booleans(),
    legacy=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_a_copy_changes_nothing(epochs, chosen, inside, legacy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    states = {epoch: {"w": torch.tensor([float(epoch), math.nan])} for epoch in epochs}
    for epoch, state in states.items():
        corpus.save(folder / f"epoch={epoch}.pt", {"state_dict": state, "epoch": epoch})
    epoch = sorted(epochs)[chosen % len(epochs)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = find(folder)
        facts = {"epoch": epoch, "callbacks": [1]} if inside else {}
        best = {"state_dict": states[epoch]} | facts
        corpus.save(folder / "best.ckpt", best, legacy=legacy)
        corpus.save_safetensors(folder / "last.safetensors", states[epoch])
        assert find(folder) == plain
    corpus.save(folder / "best.ckpt", {"state_dict": {"w": torch.tensor([0.5, 1])}} | facts)
    with pytest.warns(CntWarning), pytest.raises(InputRefused) as caught:
        find(folder)
    assert str(folder / "best.ckpt") in str(caught.value)
    assert ("there twice" if inside else "says an epoch") in str(caught.value)


def test_equal_weights_of_two_epochs_are_two_epochs(tmp_path):
    for epoch in (1, 2):
        corpus.save(tmp_path / f"epoch{epoch}.pt", {"w": torch.ones(2)})
    assert [epoch for epoch, _ in find(tmp_path)] == [1, 2]
    corpus.save(tmp_path / "epoch=3.pt", {"w": torch.zeros(2)})
    corpus.save(tmp_path / "other_epoch=3.pt", {"w": torch.ones(2)})
    with pytest.raises(InputRefused, match="epoch 3 is there twice"):
        find(tmp_path)


# programs


class Program(torch.nn.Module):
    """Tied weights, a view and an empty tensor: what a table of records could get wrong."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
        self.second.weight = torch.nn.Parameter(self.first.weight.detach().t())
        self.again = self.second
        self.register_buffer("brief", torch.ones(3, dtype=torch.bfloat16))
        self.register_buffer("none", torch.empty(0, 2))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())

    def forward(self, x):
        sums = self.brief.float().sum() + self.turned.sum() + self.none.sum()
        return self.again(self.first(x)) + sums


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The bytes of a .pt2, and the state dict of its model."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    model = Program().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), path)
    return path.read_bytes(), model.state_dict()


def test_an_exported_program_is_read_on_trust_and_still_not_run(program, tmp_path):
    path = tmp_path / "net.pt2"
    contents, state = program
    path.write_bytes(contents)
    with pytest.raises(InputRefused) as caught:
        read(path)
    assert "--trust" in caught.value.fix
    evil = io.BytesIO()
    pickled = corpus.save(evil, corpus.Calls(os.system, f"touch '{corpus.marker(path)}'"))
    corpus.rewrite(
        path,
        lambda n, c: [(n, pickled.getvalue() if n.endswith("sample_inputs/model.pt") else c)],
        made=True,
    )
    checkpoint = read(path, trust=True)
    assert same(checkpoint.tensors, {name: state[name] for name in checkpoint.tensors})
    assert checkpoint.tensors.keys() == state.keys()
    assert "nothing in it was executed" in checkpoint.notes[0]
    assert len(inspect(path, trust=True)) == len(state)
    assert find(path, trust=True) == find(tmp_path, trust=True) == [(0, path)]
    assert not corpus.marker(path).exists()
    flipped = path.read_bytes().index(state["first.weight"].numpy().tobytes())
    corpus.flip(path, flipped)
    with pytest.raises(InputRefused, match="is damaged"):
        read(path, trust=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"as_int": 3', b'"as_int": 9'),
        (b'"as_int": 3', b'"as_int":-3'),
        (b'"weight_0"', b'"weight_x"'),
        (b'{"config"', b'{"confik"'),
        (b'"tensor_meta": {', b'"tensor_meta": ['),
    ],
)
def test_a_program_whose_table_lies_is_refused(old, new, program, tmp_path):
    path = tmp_path / "net.pt2"
    path.write_bytes(program[0])
    table = "model_weights_config.json"
    corpus.rewrite(
        path, lambda n, c: [(n, c.replace(old, new) if n.endswith(table) else c)], made=True
    )
    with pytest.raises(InputRefused, match=r"damaged|claims"):
        read(path, trust=True)


@pytest.mark.filterwarnings("ignore")
def test_pickled_weights_of_a_program_are_left_to_torch(program, tmp_path):
    path = tmp_path / "net.pt2"
    contents, state = program
    path.write_bytes(contents)
    table = zipfile.ZipFile(path).read("net/data/weights/model_weights_config.json")
    record = corpus.json.loads(table)["config"]["first.bias"]["path_name"]
    stream = io.BytesIO()
    torch.save(torch.nn.Parameter(state["first.bias"]), stream)

    def pickled(name, contents):
        if name.endswith(f"weights/{record}"):
            return [(name, stream.getvalue())]
        if name.endswith("weights_config.json"):
            facts = corpus.json.loads(contents)
            facts["config"]["first.bias"]["use_pickle"] = True
            contents = corpus.json.dumps(facts).encode()
        return [(name, contents)]

    corpus.rewrite(path, pickled, made=True)
    checkpoint = read(path, trust=True)
    assert same(checkpoint.tensors, {name: state[name] for name in checkpoint.tensors})
    assert "pickles in it were executed" in checkpoint.notes[0]
    assert checkpoint.tensors.keys() == state.keys()
    script = tmp_path / "script.pt"
    corpus.BAD["script.pt"][0](script)
    with pytest.raises(InputRefused, match="TorchScript"):
        read(script, trust=True)


# how torch spells tensors


class Marked(torch.Tensor):
    """A subclass, which a file of tensors may not name."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
def test_every_spelling_of_a_tensor_is_read_as_torch_reads_it(legacy, tmp_path):
    noted = torch.nn.Parameter(torch.arange(3.0))
    noted.note = "x"
    labelled = torch.arange(4.0)
    labelled.label = {"a": 1}
    turned = torch.tensor([1 + 2j, 3 - 4j])
    tensors = {
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "noted": noted,
        "labelled": labelled,
        "conjugate": turned.conj(),
        "negative": turned.clone().conj().imag,
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "strided": torch.arange(12.0)[1::3],
        "twice": torch.sparse_coo_tensor(
            torch.tensor([[0, 0]]), torch.ones(2), (3,), check_invariants=True
        ),
        "int32": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint32),
        "uint8": torch.quantize_per_channel(
            torch.rand(3, 2), torch.rand(2) + 0.1, torch.ones(2), 1, torch.quint8
        ),
    }
    path = corpus.save(tmp_path / "a.pt", tensors, legacy=legacy)
    mine, theirs = read(path).tensors, torch.load(path, weights_only=True)
    for name, tensor in theirs.items():
        assert mine[name].dtype == tensor.dtype
        a, b = (t.to_dense() if t.is_sparse else t for t in (mine[name], tensor.detach()))
        a, b = (t.dequantize() if t.is_quantized else t for t in (a, b))
        assert torch.equal(a, b), name


def test_a_subclass_of_tensors_is_foreign(tmp_path):
    path = corpus.save(tmp_path / "a.pt", {"w": torch.ones(2).as_subclass(Marked)})
    with pytest.raises(InputRefused, match="Marked"):
        read(path)


def test_numbers_of_the_other_byte_order_are_turned(tmp_path):
    path = tmp_path / "a.pt"
    other = "big" if sys.byteorder == "little" else "little"

    def turned(name, contents):
        if name.endswith("byteorder"):
            contents = other.encode()
        elif "/data/" in name:
            contents = np.frombuffer(contents, np.float32).byteswap().tobytes()
        return [(name, contents)]

    corpus.save(path, {"a": torch.arange(3.0), "b": torch.arange(6.0).reshape(2, 3)})
    corpus.rewrite(path, turned, made=True)
    assert same(read(path).tensors, torch.load(path, weights_only=True))
    assert read(path).tensors["a"].tolist() == [0, 1, 2]


def test_an_optimiser_is_not_read_from_the_disk(tmp_path, monkeypatch):
    taken = []
    really = tensors_of_files.take
    monkeypatch.setattr(
        tensors_of_files, "take", lambda *given: taken.append(given[3]) or really(*given)
    )
    state = {"w": torch.ones(5)}
    read(corpus.save(tmp_path / "a.pt", _training({"model": state})))
    assert taken == [20]


# through to the run

NAMES = [
    "we`ight",
    "we'ig\"ht",
    "line\nbreak",
    "..",
    "a\\b",
    "n\0ul",
    "n" * 10_000,
    "🧠",
    "\u202eright to left",
    "CON",
    "a b;{}$",
]


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:12] for name in NAMES])
def test_odd_names_survive_from_file_to_run(name, tmp_path, capsys):
    if name == "..":
        state = {"../../a": torch.ones(2), "..": torch.zeros(1)}
        assert list(inspect(corpus.save(tmp_path / "a.pt", state)).name) == list(state)
        return
    model = torch.nn.Sequential()
    model.register_module(name, torch.nn.Linear(2, 3))
    state = model.state_dict()
    path = corpus.save(tmp_path / "epoch=1.pt", {f"module.{n}": t for n, t in state.items()})
    assert list(inspect(path).name) == [f"module.{name}.weight", f"module.{name}.bias"]
    run = cnt.export(model, path, (1, 2), to=tmp_path / "run")
    stored = safetensors.torch.load_file(next((tmp_path / "run").rglob("weights.safetensors")))
    assert same({n: stored[n] for n in state}, state)
    assert run.neurons(1)["layer"].iloc[-1] == name
    assert CliRunner().invoke(app, ["inspect", str(path)]).exit_code == 0


def test_strict_refuses_what_is_not_finite(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    state = {name: t.clone() for name, t in model.state_dict().items()}
    state["0.weight"][0, 0], state["1.bias"][:] = math.nan, math.inf
    path = corpus.save(tmp_path / "epoch=3.pt", state)
    with pytest.raises(InputRefused, match=r"epoch 3: .*1 of 0\.weight, 2 of 1\.bias"):
        cnt.export(model, path, (1, 2), to=tmp_path / "strict", strict=True)
    with pytest.warns(CntWarning, match="NaN or infinite"):
        run = cnt.export(model, path, (1, 2), to=tmp_path / "run")
    assert run.neurons(3)["strength"].isna().any()
    frame = inspect(path).set_index("name")
    assert (frame.loc["0.weight", "nan"], frame.loc["1.bias", "inf"]) == (1, 2)


def test_trust_passes_through_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(2, 3).eval()
    torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), "epoch_4.pt2")
    Path("nets.py").write_text("import torch\nnet = torch.nn.Linear(2, 3)\n")
    words = ["export", "nets.py:net", "epoch_4.pt2", "--input", "2", "--to", "run"]
    for refused in (["inspect", "epoch_4.pt2"], words):
        with pytest.raises(InputRefused, match=r"torch\.export program"):
            CliRunner().invoke(app, refused, catch_exceptions=False)
    shown = CliRunner().invoke(app, ["inspect", "epoch_4.pt2", "--trust"], catch_exceptions=False)
    assert "trusted: epoch_4.pt2" in shown.stderr
    assert "weight" in shown.stdout
    done = CliRunner().invoke(app, [*words, "--trust"], catch_exceptions=False)
    assert "trusted: epoch_4.pt2" in done.stderr
    assert "nothing in it was executed" in done.stderr
    stored = safetensors.torch.load_file(next(Path("run").rglob("weights.safetensors")))
    assert torch.equal(stored["weight"], model.weight)
