"""A load needs little memory on the client, and PyTorch only where arithmetic is asked of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from stored import exported

import cntgraph as cnt
from cntgraph.runs.weights import read_weights

# The peak is that of this program alone: what is forked counts anew from its exec.
LOADED = """
import sys
from pathlib import Path
import cntgraph as cnt
with cnt.connect() as db:
    print(db.load(sys.argv[1]).links)
    db.delete(cnt.open_run(sys.argv[1]).name)
print("torch" in sys.modules)
print(Path("/proc/self/status").read_text())
"""


def status_of(run, environment):
    surroundings = {**os.environ, **environment, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", LOADED, str(run.path)]
    done = subprocess.run(words, capture_output=True, text=True, env=surroundings, check=False)
    assert done.returncode == 0, done.stderr
    links, with_torch, status = done.stdout.split("\n", 2)
    return int(links), with_torch == "True", int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


@pytest.mark.neo4j
@pytest.mark.parametrize("kind", ["dense", "lenet", "residual"])
def test_a_run_is_loaded_without_pytorch_in_little_memory(kind, neo4j_environment, tmp_path):
    run = exported(tmp_path / "run", kind, 3)
    links, with_torch, megabytes = status_of(run, neo4j_environment)
    assert links == 3 * run.network(0).link_count
    assert not with_torch
    assert megabytes < 500


TYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()


@pytest.mark.parametrize("name", TYPES)
def test_weights_of_every_type_come_back_as_they_were_saved(name):
    torch.manual_seed(0)
    kept = (torch.randn(3, 4) * 5).to(getattr(torch, name))
    scalar = kept[0, 0].clone()
    found = read_weights(save({"w": kept, "s": scalar, "empty": kept[:0].clone()}), "weights")
    assert set(found) == {"empty", "s", "w"}
    assert len(found) == 3
    assert "w" in found
    assert "v" not in found
    for weight, stored in (("w", kept), ("s", scalar), ("empty", kept[:0])):
        assert found[weight].dtype == stored.dtype
        assert found[weight].shape == stored.shape
        assert torch.equal(found[weight], stored)
    assert found["w"] is found["w"]


def test_an_array_and_its_tensor_are_the_same_memory():
    found = read_weights(save({"w": torch.arange(6.0).reshape(2, 3)}), "weights")
    found["w"][0, 1] = 9
    np.testing.assert_array_equal(found.arrays["w"], [[0, 9, 2], [3, 4, 5]])


def test_bytes_that_are_no_weights_are_damage():
    with pytest.raises(cnt.RunDamaged, match="here is damaged"):
        read_weights(Path(__file__).read_bytes(), "here")
