"""Files that must not get in, each made by a function, with the words that its refusal says."""

import argparse
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path

import safetensors.torch
import torch

HALF = {"half": 0.5}


def weights():
    """A small state dict with what is easily got wrong: a scalar, an empty tensor, odd names."""
    generator = torch.Generator().manual_seed(7)
    return {
        "conv.weight": torch.randn(2, 1, 3, 3, generator=generator),
        "conv.bias": torch.randn(2, generator=generator),
        "norm.num_batches_tracked": torch.tensor(12),
        "none": torch.empty(0, 3),
        'naïve "`name`"\n../': torch.arange(3.0),
    }


def save(path, value=None, *, legacy=False):
    torch.save(
        weights() if value is None else value, path, _use_new_zipfile_serialization=not legacy
    )
    return path


def save_safetensors(path, tensors=None, metadata=None):
    safetensors.torch.save_file(weights() if tensors is None else tensors, path, metadata)
    return path


def rewrite(path, change, *, made=False, **options):
    """Write an archive again, each (name, contents) through `change`, which gives a list."""
    if not made:
        save(path)
    with zipfile.ZipFile(path) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, contents in records:
            for new_name, new_contents in change(name, contents):
                archive.writestr(new_name, new_contents)


def flip(path, offset, bit=0):
    contents = bytearray(path.read_bytes())
    contents[offset] ^= 1 << bit
    path.write_bytes(contents)


class Calls:
    """Pickles as a call of `function`, which a careless reader would make."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def altered():
    """A tensor that is pickled with a state of its own, to change where its numbers are."""
    function, arguments = torch.ones(2).__reduce_ex__(2)
    calls = Calls(function)
    calls.call = function, arguments, {"arguments": ()}
    return calls


def marker(path):
    """What code that ran would leave beside the file."""
    return path.with_name(path.name + ".ran")


def _system(path):
    return {"weight": torch.ones(2), "x": Calls(os.system, f"touch '{marker(path)}'")}


class Config:
    """An object of a class of the user's own, as training scripts keep beside the weights."""

    def __init__(self):
        self.width = 3


def _misplaced(path):
    """A tensor that begins at its storage's last number and claims two more than there are."""
    save(path, {"w": torch.ones(3)[1:]})
    with zipfile.ZipFile(path) as archive:
        short = archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))
    # after the storage comes the offset, then the shape
    beyond = short.replace(b"QK\x01K\x02\x85", b"QK\x02K\x02\x85")
    assert beyond != short
    rewrite(path, lambda n, c: [(n, beyond if n.endswith("data.pkl") else c)], made=True)


def _evil_tar(path):
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        empty = pickle.dumps(0, 2) + pickle.dumps([], 2)
        for name, contents in (
            ("storages", empty),
            ("tensors", empty),
            ("pickle", pickle.dumps(_system(path)["x"], 2)),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))


def _exported(path):
    program = torch.export.export(torch.nn.Linear(2, 1).eval(), (torch.ones(1, 2),))
    torch.export.save(program, path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)


def _script(path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.ones(1, 2)), path)


def _cut(write, keep):
    def build(path):
        write(path)
        contents = path.read_bytes()
        path.write_bytes(contents[: keep(len(contents))])

    return build


def _flipped_tensor(path):
    save(path)
    flip(path, path.read_bytes().index(weights()["conv.weight"].numpy().tobytes()) + 5)


def _claim(path):
    """The list of records gives one of them more bytes than the file has."""
    save(path)
    contents = bytearray(path.read_bytes())
    place = contents.index(b"PK\x01\x02")
    contents[place + 20 : place + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(contents)


def _encrypted(path):
    save(path)
    flip(path, path.read_bytes().index(b"PK\x01\x02") + 8)


def _folder(path):
    """One bit in the list of records, which no checksum covers."""
    save(path)
    contents = path.read_bytes()
    name = contents.index(b"/data/0", contents.index(b"PK\x01\x02"))
    flip(path, contents.rindex(b"PK\x01\x02", 0, name) + 38, bit=4)


def _overlapping(path):
    """Many names for the same stored bytes."""
    save(path, {"weight": torch.ones(20_000)})
    with zipfile.ZipFile(path, "a") as archive:
        big = max(archive.infolist(), key=lambda entry: entry.file_size)
        for index in range(3):
            copy = zipfile.ZipInfo(f"{big.filename}{index}")
            copy.header_offset, copy.CRC = big.header_offset, big.CRC
            copy.file_size = copy.compress_size = big.file_size
            archive.filelist.append(copy)
        archive._didModify = True


def _pickled(contents):
    """An archive whose pickle is written by hand."""

    def build(path):
        rewrite(path, lambda n, c: [(n, contents if n.endswith("data.pkl") else c)])

    return build


def _claiming_storage(path):
    save(path, {"w": torch.ones(3)})
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        short = archive.read(name)
    long = short.replace(b"K\x03t", b"J\x00\x00\x10\x00t").replace(b"K\x03\x85", b"M\x00\x10\x85")
    assert long != short
    _pickled(long)(path)


def header(table, data=b"", length=None):
    text = table if isinstance(table, bytes) else json.dumps(table).encode()

    def build(path):
        path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)

    return build


def _entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def _text(contents):
    return lambda path: path.write_bytes(contents)


def _twice(name, contents):
    return [(name, contents)] * (2 if name.endswith("byteorder") else 1)


# name of the file: how it is made, what the refusal says
BAD = {
    "empty.pt": (_text(b""), "the file is empty"),
    "empty.safetensors": (_text(b""), "the file is empty"),
    "pointer.pt": (
        _text(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"),
        "git lfs pull --include pointer.pt",
    ),
    "page.pt": (_text(b"\n<!DOCTYPE html><title>Sign in</title>"), "an HTML page"),
    "words.pth": (_text(b"Entry not found"), "the file is text"),
    "facts.ckpt": (_text(b'{"error": "no such model"}'), "the file is JSON"),
    "zeros.pt": (_text(bytes(4096)), "begins with zero bytes"),
    "noise.bin": (_text(bytes(range(255, 0, -1)) + b"\0"), "not a checkpoint"),
    "packed.pt.gz": (_text(b"\x1f\x8b\x08" + bytes(30)), "gunzip"),
    "keras.h5": (_text(b"\x89HDF\r\n\x1a\n" + bytes(30)), "HDF5"),
    "evil.tar": (_evil_tar, "the file is a tar archive"),
    "pickle4.pt": (_text(pickle.dumps(HALF, 4)), "torch.save did not write"),
    "pickle2.pt": (_text(pickle.dumps(HALF, 2)), "torch.save did not write"),
    "half.pt": (_cut(save, lambda n: n // 2), "the file is cut short"),
    "almost.pt": (_cut(save, lambda n: n - 16), "the file is cut short"),
    "three.pt": (_cut(save, lambda n: 3), "the file is cut short"),
    "half-legacy.pt": (_cut(lambda p: save(p, legacy=True), lambda n: n // 2), "cut short"),
    "almost-legacy.pt": (_cut(lambda p: save(p, legacy=True), lambda n: n - 16), "cut short"),
    "half.safetensors": (_cut(save_safetensors, lambda n: n // 2), "the file is cut short"),
    "almost.safetensors": (_cut(save_safetensors, lambda n: n - 1), "the file is cut short"),
    "flipped.pt": (_flipped_tensor, "/data/0' is damaged"),
    "deflated.pt": (
        lambda p: rewrite(
            p, lambda n, c: [(n, c or bytes(1 << 24))], compression=zipfile.ZIP_DEFLATED
        ),
        "is compressed",
    ),
    "outside.pt": (
        lambda p: rewrite(p, lambda n, c: [(n.replace("byteorder", "../../etc"), c)]),
        "points outside the archive",
    ),
    "absolute.pt": (
        lambda p: rewrite(p, lambda n, c: [("/" + n if n.endswith("version") else n, c)]),
        "points outside the archive",
    ),
    "twice.pt": (lambda p: rewrite(p, _twice), "is there twice"),
    "folder.pt": (_folder, "is marked as a folder"),
    "encrypted.pt": (_encrypted, "is encrypted"),
    "claim.pt": (_claim, "claims more bytes than the file has"),
    "overlap.pt": (_overlapping, "records overlap"),
    "storage.pt": (_claiming_storage, "do not fit its records"),
    "arrays.npz": (lambda p: rewrite(p, lambda n, c: [(n + ".npy", c)]), "NumPy archive"),
    "plain.zip": (
        lambda p: rewrite(p, lambda n, c: [(n.replace("data.pkl", "other"), c)]),
        "torch.save did not write",
    ),
    "exported.pt2": (_exported, "torch.export program"),
    "exported.pt": (_exported, "torch.export program"),
    "script.pt": (_script, "TorchScript"),
    "compiled.pt2": (
        lambda p: rewrite(p, lambda n, c: [(n.replace("data.pkl", "data/aotinductor/m.so"), c)]),
        "compiled program",
    ),
    "altered.pt": (lambda p: save(p, {"w": altered()}), "changes a tensor after it was made"),
    "scaleless.pt": (
        lambda p: save(p, {"w": torch.ones(4, dtype=torch.uint8).view(torch.qint8)}),
        "their scale is not there",
    ),
    "module.pt": (lambda p: save(p, torch.nn.Linear(2, 1)), "model.state_dict(), 'module.safe"),
    "module-legacy.pt": (lambda p: save(p, torch.nn.Linear(2, 1), legacy=True), "whole pickled"),
    "evil.pt": (lambda p: save(p, _system(p)), "posix.system"),
    "evil-legacy.pt": (lambda p: save(p, _system(p), legacy=True), "posix.system"),
    "eval.pt": (lambda p: save(p, Calls(eval, f"open({str(marker(p))!r}, 'w')")), "__builtin__"),
    "touch.pt": (lambda p: save(p, {"a": Calls(Path.touch, marker(p))}), "Python objects"),
    "within.pt": (
        lambda p: save(p, _system(p) | {"x": argparse.Namespace(y=_system(p)["x"])}),
        "posix.system",
    ),
    "factory.pt": (
        lambda p: save(p, {"w": torch.ones(2), "x": Calls(defaultdict, os.system)}),
        "posix.system",
    ),
    "builds.pt": (
        lambda p: save(p, {"w": torch.ones(2), "x": Calls(getattr, Path, "home")}),
        "__builtin__.getattr (in 'x')",
    ),
    "config.pt": (
        lambda p: save(p, {"state_dict": weights(), "hparams": {"cfg": Config()}}),
        "Config (in 'hparams.cfg')",
    ),
    "beyond.pt": (_misplaced, "last number would be number 4 of 3"),
    "qint8-strides.pt": (
        lambda p: save(
            p,
            {"w": torch.quantize_per_tensor(torch.ones(1), 1.0, 0, torch.qint8).expand(1 << 30)},
        ),
        "(expand)",
    ),
    "giant.pt": (lambda p: save(p, Calls(torch.Tensor, 1 << 40)), "calls torch.Tensor"),
    "giant2.pt": (lambda p: save(p, Calls(bytearray, 1 << 40)), "bytearray"),
    "memo.pt": (_pickled(b"\x80\x02}r\xff\xff\xff\xff."), "no state dict"),
    "nothing.pt": (_pickled(b"\x80\x02"), "pickle cannot be read"),
    "strides.pt": (lambda p: save(p, {"w": torch.ones(1).expand(1 << 30)}), "(expand)"),
    "strides-legacy.pt": (
        lambda p: save(p, {"w": torch.ones(1, 1).expand(1 << 20, 1 << 20)}, legacy=True),
        "(expand)",
    ),
    "sparse-strides.pt": (
        lambda p: save(
            p,
            {
                "w": torch.sparse_coo_tensor(
                    torch.arange(9)[None], torch.ones(1).expand(9), (9,), check_invariants=True
                )
            },
        ),
        "(expand)",
    ),
    "one.pt": (lambda p: save(p, torch.ones(2, 3)), "single tensor of shape (2, 3)"),
    "dict.pt": (lambda p: save(p, {}), "no state dict"),
    "facts.pt": (lambda p: save(p, {"epoch": 3, "loss": 0.5}), "it holds epoch, loss"),
    "none.safetensors": (header({}), "no state dict"),
    "long.safetensors": (header({}, length=1 << 62), "the format allows"),
    "longer.safetensors": (header({}, length=1 << 20), "cut short"),
    "short.safetensors": (_text(b"\x01\0\0"), "cut short"),
    "broken.safetensors": (header(b'{"a": '), "header is not valid"),
    "bytes.safetensors": (header(b'{"\xff": 1}'), "header is not valid"),
    "deep.safetensors": (header(b'{"a": ' + b"[" * 100_000), "header is not valid"),
    "digits.safetensors": (
        header(b'{"a": {"dtype": "F32", "shape": [' + b"9" * 9000 + b"]}}"),
        "header is not valid",
    ),
    "list.safetensors": (header(b"{}[]"), "header is not valid"),
    "number.safetensors": (header({"a": 1}), "lacks a dtype"),
    "places.safetensors": (header({"a": _entry(offsets=(0, 4, 8))}, bytes(4)), "lacks a dtype"),
    "dtype.safetensors": (header({"a": _entry("F31")}, bytes(4)), "'F31'"),
    "negative.safetensors": (header({"a": _entry(shape=(-1,))}, bytes(4)), "no count"),
    "float.safetensors": (header({"a": _entry(shape=(1.0,))}, bytes(4)), "no count"),
    "bool.safetensors": (header({"a": _entry(shape=(True,))}, bytes(4)), "no count"),
    "shape.safetensors": (header({"a": _entry(shape=(2,))}, bytes(4)), "takes 8 bytes"),
    "giant.safetensors": (
        header({"a": _entry(shape=(1 << 62, 1 << 62, 0), offsets=(0, 0))}),
        "header is not valid",
    ),
    "overlap.safetensors": (
        header({"a": _entry(), "b": _entry(offsets=(2, 6))}, bytes(6)),
        "'b' overlaps",
    ),
    "hole.safetensors": (header({"a": _entry(offsets=(4, 8))}, bytes(8)), "leaves a hole"),
    "more.safetensors": (header({"a": _entry()}, bytes(5)), "the file has"),
    "twice.safetensors": (
        header(b'{"a": %b, "a": %b}' % ((json.dumps(_entry()).encode(),) * 2), bytes(4)),
        "'a' is there twice",
    ),
    "half-name.safetensors": (
        header(b'{"\\ud800": %b}' % json.dumps(_entry()).encode(), bytes(4)),
        "header is not valid",
    ),
    "metadata.safetensors": (header({"__metadata__": {"a": 1}}), "__metadata__"),
}
