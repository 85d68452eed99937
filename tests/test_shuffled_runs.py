"""A run exported with shuffles holds the fluctuation of every layer beside that of its null."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
import torch
from pyarrow import parquet

import cntgraph as cnt
from cntgraph.database.offline import selections, write_offline

NULL = ["fluctuation_null", "fluctuation_excess", "fluctuation_z"]


def mlp(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))


def exported(folder, shuffles, **options):
    states = {epoch: mlp(epoch).state_dict() for epoch in (0, 3)}
    return cnt.export(mlp(0), states, (1, 4), to=folder, shuffles=shuffles, **options)


def test_layers_are_those_of_the_network(tmp_path):
    run = exported(tmp_path / "run", 7)
    for epoch in (0, 3):
        expected = cnt.layers(run.network(epoch), shuffles=7)
        found = run.layers(epoch).drop(columns="epoch")
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert run.provenance["options"]["shuffles"] == 7
    assert run.check().epochs == 2


def test_a_recording_is_the_same_run(tmp_path):
    with cnt.Recorder(mlp(0), (1, 4), to=tmp_path / "run", shuffles=7) as recorder:
        recorder.snapshot(0)
    expected = exported(tmp_path / "exported", 7)
    pd.testing.assert_frame_equal(cnt.open_run(tmp_path / "run").layers(), expected.layers(0))


def test_a_run_without_them_says_nothing_of_them(tmp_path):
    run = exported(tmp_path / "run", 0)
    assert "shuffles" not in run.provenance["options"]
    assert not set(NULL) & set(run.layers())


def test_all_epochs_of_a_run_are_shuffled_alike(tmp_path):
    exported(tmp_path / "run", 0)
    with pytest.raises(cnt.InputRefused, match="was exported with shuffles=0"):
        exported(tmp_path / "run", 2)
    run = exported(tmp_path / "run", 2, replace=True)
    assert run.layers()["fluctuation_null"].notna().any()
    with pytest.raises(cnt.InputRefused, match="was exported with shuffles=2"):
        exported(tmp_path / "run", 3)


@pytest.mark.parametrize("shuffles", [-1, 1.5, True, "3", None])
def test_what_is_no_number_of_shuffles(tmp_path, shuffles):
    with pytest.raises(cnt.InputRefused, match="shuffles="):
        exported(tmp_path / "run", shuffles)
    assert not (tmp_path / "run").exists()


def test_the_files_for_the_importer_hold_them(tmp_path):
    run = exported(tmp_path / "run", 7)
    write_offline(selections([(run, None)], "all", name=None), tmp_path / "files")
    (path,) = (tmp_path / "files").rglob("LayerState*.parquet")
    found = parquet.read_table(path).to_pandas()
    expected = run.layers()[["epoch", "layer", *NULL]]
    pd.testing.assert_frame_equal(found[list(expected)], expected, check_dtype=False)


def test_the_command(tmp_path):
    torch.save(mlp(1).state_dict(), tmp_path / "epoch=1.pt")
    (tmp_path / "net.py").write_text(
        "import torch.nn as nn\n"
        "def build(): return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))\n"
    )
    words = ["export", "net.py:build", "epoch=1.pt", "--input", "4", "--to", "run", "--json"]
    command = [sys.executable, "-m", "cntgraph", *words, "--shuffles", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    run = cnt.open_run(tmp_path / "run")
    assert json.loads(done.stdout)["epochs"] == [1]
    assert set(NULL) <= set(run.layers())


def test_a_run_that_has_no_epoch_yet_has_the_columns(tmp_path):
    for count in (0, 3):
        with cnt.Recorder(mlp(0), (1, 4), to=tmp_path / str(count), shuffles=count):
            pass
        found = cnt.open_run(tmp_path / str(count)).layers()
        expected = ["epoch", *cnt.layers(cnt.trace(mlp(0), (1, 4)), shuffles=count)]
        assert list(found) == expected
        assert found.empty


@pytest.mark.parametrize("library", ["lightning.pytorch", "transformers"])
def test_a_callback_passes_them_on(tmp_path, library):
    module = pytest.importorskip(library)
    run = tmp_path / "run"
    if library == "transformers":
        callback = cnt.callbacks.HuggingFace((1, 4), to=run, shuffles=3)
        data = [{"input": torch.randn(4), "labels": 0} for _ in range(4)]
        given = {"num_train_epochs": 1, "report_to": [], "use_cpu": True, "save_strategy": "no"}
        module.Trainer(
            Classifier(),
            module.TrainingArguments(str(tmp_path / "out"), **given),
            train_dataset=data,
            callbacks=[callback],
        ).train()
    else:
        callback = cnt.callbacks.Lightning((1, 4), to=run, shuffles=3)
        trainer = module.Trainer(
            max_epochs=1,
            callbacks=[callback],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.fit(
            lightning_classifier(module),
            torch.utils.data.DataLoader(torch.randn(8, 4), batch_size=4),
        )
    found = cnt.open_run(run)
    assert found.provenance["options"]["shuffles"] == 3
    assert found.layers(1)["fluctuation_null"].notna().any()


class Classifier(torch.nn.Module):
    """What the Trainer of transformers trains: a loss where labels are given."""

    def __init__(self):
        super().__init__()
        self.net = mlp(0)

    def forward(self, input, labels=None):
        logits = self.net(input)
        if labels is None:
            return logits
        return torch.nn.functional.cross_entropy(logits, labels), logits


def lightning_classifier(lightning):
    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = mlp(0)

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            return self(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    return Net()
