"""What is read of a file is what was saved in it; anything else is refused by name, never run."""

import math
import mmap
import os
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cntgraph import checkpoints
from cntgraph.checkpoints import find, inspect, match, plain, read
from cntgraph.checkpoints.names import epoch_in_name
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


def test_every_name_torch_holds_unsafe_is_refused(tmp_path):
    """This gate's list is within torch's own."""
    values = [np.float64(1), Path("a"), torch.nn.ReLU(), torch.Generator, int, slice(1), print]
    for index, value in enumerate(values):
        path = corpus.save(tmp_path / f"{index}.pt", {"w": torch.ones(1), "x": value})
        assert torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with pytest.raises(InputRefused, match=r"besides weights|whole pickled"):
            read(path)


def test_a_name_the_user_made_safe_for_torch_stays_refused(tmp_path):
    path = corpus.save(tmp_path / "a.pt", {"w": torch.ones(1), "x": Path("a")})
    with torch.serialization.safe_globals([type(Path("a"))]), pytest.raises(InputRefused):
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
    really = torch.load
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    middle = len(memory) // 2
    memory[middle] = memory[middle]  # from now on a change here leaves the time stamps alone

    def load(file, **options):
        loaded = really(file, **options)
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

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(InputRefused, match="changed while it was read"):
        read(path)


def test_an_exported_program_is_read_when_trusted(tmp_path):
    path = tmp_path / "exported.pt2"
    model = torch.nn.Linear(2, 1).eval()
    torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), path)
    assert same(read(path, trust=True).tensors, model.state_dict())


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
    first, second = corpus.save(tmp_path / "epoch3.pt"), corpus.save(tmp_path / "epoch_03.pt")
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
    }


def test_the_public_words():
    assert checkpoints.__all__ == ["Checkpoint", "find", "inspect", "match", "plain", "read"]
    assert all(hasattr(checkpoints, word) for word in checkpoints.__all__)
