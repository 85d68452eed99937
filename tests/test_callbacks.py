"""The callbacks inside the real trainers: which epochs are recorded, with what, and by whom."""

import copy
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import cntgraph as cnt


def weights_of(run, epoch, name):
    return run.network(epoch).weights[name]


# -- Lightning ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request):
    return pytest.importorskip(request.param)


ROWS = torch.utils.data.TensorDataset(
    torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
)


def loader(size):
    return torch.utils.data.DataLoader(ROWS, batch_size=size)


def module(lightning, seed=0):
    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
            self.ends = []

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, _):
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch, _):
            self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))
            self.log("lost", float("nan"))

        def on_train_epoch_end(self):
            self.ends.append({n: t.clone() for n, t in self.state_dict().items()})
            self.log("late", float(self.current_epoch))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Net()


def fit(lightning, net, *callbacks, resume=None, **options):
    given = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False} | options
    given.setdefault("enable_checkpointing", any(hasattr(c, "save_last") for c in callbacks))
    trainer = lightning.Trainer(enable_model_summary=False, callbacks=list(callbacks), **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of workers and sanity; ours are told all the same
        warnings.simplefilter("always", cnt.CntWarning)
        trainer.fit(net, loader(8), loader(20), ckpt_path=resume)
    return trainer


def test_lightning_records_every_epoch_and_the_untrained_model(lightning, tmp_path):
    net = module(lightning)
    untrained = net.net[0].weight.detach().clone()
    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run")
    fit(lightning, net, recorder, max_epochs=3, check_val_every_n_epoch=2)
    run = cnt.open_run(tmp_path / "run")
    assert run.epochs["epoch"].tolist() == [0, 1, 2, 3]
    assert torch.equal(weights_of(run, 0, "net.0.weight"), untrained)
    for epoch, state in enumerate(net.ends, start=1):
        assert torch.equal(weights_of(run, epoch, "net.0.weight"), state["net.0.weight"])
    assert run.epochs["step"].tolist() == [0, 5, 10, 15]
    assert run.epochs["train_loss"].isna().tolist() == [True, False, False, False]
    assert run.epochs["val_loss"].isna().tolist() == [True, True, False, True]  # never an old one
    assert not {"lost", "late"} & set(run.epochs.columns)
    assert run.check().epochs == 4


def test_lightning_resumes_the_run_of_a_checkpoint(lightning, tmp_path):
    checkpoints = sys.modules[f"{lightning.__name__}.callbacks"].ModelCheckpoint
    keep = checkpoints(tmp_path / "kept", save_top_k=-1, every_n_epochs=1)
    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run")
    fit(lightning, module(lightning), recorder, keep, max_epochs=2)
    (last,) = (tmp_path / "kept").glob("*step=10.ckpt")
    again = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run")
    anew = cnt.callbacks.Lightning((1, 4), to=tmp_path / "anew")
    fit(lightning, module(lightning, seed=5), again, anew, resume=last, max_epochs=3)
    assert cnt.open_run(tmp_path / "anew").epochs["epoch"].tolist() == [2, 3]
    run = cnt.open_run(tmp_path / "run")
    assert run.epochs["step"].tolist() == [0, 5, 10, 15]
    assert run.check().epochs == 4


def test_lightning_leaves_out_what_is_no_epoch(lightning, tmp_path):
    options = {"every": 2, "untrained": False, "keep_weights": False}
    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run", **options)
    with pytest.warns(cnt.CntWarning, match="step 22, in the midst of epoch 5"):
        fit(lightning, module(lightning), recorder, max_epochs=9, max_steps=22)
    run = cnt.open_run(tmp_path / "run")
    assert (run.epochs["epoch"].tolist(), run.keeps_weights) == ([2, 4], False)
    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "tried")
    fit(lightning, module(lightning), recorder, fast_dev_run=True)
    assert not (tmp_path / "tried").exists()


def test_lightning_lets_the_run_go_where_training_fails(lightning, tmp_path):
    class Failing(lightning.Callback):
        def on_train_batch_start(self, trainer, *_):
            if trainer.current_epoch == 1:
                raise ZeroDivisionError

    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        fit(lightning, module(lightning), recorder, Failing(), max_epochs=3)
    assert cnt.open_run(tmp_path / "run").check().epochs == 2
    net = module(lightning)
    fit(lightning, net, recorder, max_epochs=1)  # the same seed: the same weights
    with torch.no_grad():
        net.net[0].weight += 1
    with pytest.raises(cnt.InputRefused, match="with other weights"):
        fit(lightning, net, recorder, max_epochs=1)


def test_a_process_that_is_not_the_first_records_nothing(lightning, tmp_path):
    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run")

    class Second(lightning.Trainer):
        is_global_zero = False

    trainer = Second(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[recorder],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module(lightning), loader(8), loader(20))
    assert not (tmp_path / "run").exists()


def test_a_callback_can_be_sent_to_another_process(lightning, tmp_path):
    recorder = cnt.callbacks.Lightning((1, 4), to=tmp_path / "run", every=3)
    for twin in (pickle.loads(pickle.dumps(recorder)), copy.deepcopy(recorder)):
        assert isinstance(twin, (cnt.callbacks.Lightning, lightning.Callback))
        fit(lightning, module(lightning), twin, max_epochs=3)
        assert cnt.open_run(tmp_path / "run").epochs["epoch"].tolist() == [0, 3]


# -- Hugging Face ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("accelerate")
    library = pytest.importorskip("transformers")
    library.logging.set_verbosity_error()
    return library


def bert(transformers, seed=0):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 4, "intermediate_size": 4, "max_position_embeddings": 4}
    config = transformers.BertConfig(
        vocab_size=7, num_hidden_layers=1, num_attention_heads=1, num_labels=2, **sizes
    )
    return transformers.BertForSequenceClassification(config)


TOKENS = torch.randint(0, 7, (20, 3), generator=torch.Generator().manual_seed(0))
SENTENCES = [{"input_ids": row, "labels": int(row[0]) % 2} for row in TOKENS]


def trained(transformers, model, folder, callback, resume=None, **options):
    given = {"num_train_epochs": 2, "save_strategy": "no"} | options
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=4,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        **given,
    )
    trainer = transformers.Trainer(
        model, arguments, train_dataset=SENTENCES, eval_dataset=SENTENCES, callbacks=[callback]
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def recorder(folder, **options):
    return cnt.callbacks.HuggingFace({"input_ids": TOKENS[:1]}, to=folder / "run", **options)


HEAD = "classifier.weight"


def test_hugging_face_records_every_epoch_with_its_evaluation(transformers, tmp_path):
    from safetensors.torch import load_file

    model = bert(transformers)
    untrained = model.classifier.weight.detach().clone()
    each = dict.fromkeys(("eval_strategy", "save_strategy", "logging_strategy"), "epoch")
    trained(transformers, model, tmp_path, recorder(tmp_path), load_best_model_at_end=True, **each)
    run = cnt.open_run(tmp_path / "run")
    assert run.epochs["epoch"].tolist() == [0, 1, 2]
    assert run.epochs["step"].tolist() == [0, 5, 10]
    assert run.epochs["loss"].isna().tolist() == [True, False, False]
    assert run.epochs["eval_loss"].nunique() == 2
    assert torch.equal(weights_of(run, 0, HEAD), untrained)
    for epoch, step in ((1, 5), (2, 10)):  # what was trained, not the best that was loaded after
        saved = load_file(tmp_path / f"out/checkpoint-{step}/model.safetensors")
        assert torch.equal(weights_of(run, epoch, HEAD), saved[HEAD])
    resumed = bert(transformers, seed=9)
    given = {"save_strategy": "epoch", "num_train_epochs": 3}
    trained(transformers, resumed, tmp_path, recorder(tmp_path), resume=True, **given)
    run = cnt.open_run(tmp_path / "run")
    assert run.epochs["step"].tolist() == [0, 5, 10, 15]
    assert torch.equal(weights_of(run, 3, HEAD), resumed.classifier.weight)


def test_hugging_face_in_mixed_precision_and_with_steps(transformers, tmp_path):
    options = {"keep_weights": False, "measures": ("pagerank",)}
    with pytest.warns(cnt.CntWarning, match="step 7, in the midst of epoch 2"):
        trained(
            transformers,
            bert(transformers),
            tmp_path,
            recorder(tmp_path, **options),
            max_steps=7,
            bf16=True,
            eval_on_start=True,
        )
    run = cnt.open_run(tmp_path / "run")
    assert run.epochs["epoch"].tolist() == [0, 1]
    assert run.epochs["eval_loss"].isna().tolist() == [False, True]
    plain = cnt.trace(bert(transformers), TOKENS[:1])
    assert run.neurons(0)["strength"].tolist() == pytest.approx(cnt.strength(plain)["strength"])


# -- without them ---------------------------------------------------------------------------------

MISSING = """
import importlib.util, sys
real = importlib.util.find_spec
def find(name, *rest):
    return None if name in ("lightning", "pytorch_lightning", "transformers") else real(name, *rest)
importlib.util.find_spec = find
import cntgraph as cnt
for kind in (cnt.callbacks.Lightning, cnt.callbacks.HuggingFace):
    try:
        kind((1, 4), to="run")
    except cnt.InputRefused as refusal:
        print(refusal.fix)
print(*sorted({"torch", "lightning", "pytorch_lightning", "transformers"} & set(sys.modules)))
"""


def test_a_missing_library_is_named_with_its_command():
    done = subprocess.run(
        [sys.executable, "-c", MISSING], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "pip install lightning",
        "pip install 'transformers[torch]'",
        "",
    ]


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_every_is_a_number_of_epochs(tmp_path, every):
    pytest.importorskip("pytorch_lightning")
    with pytest.raises(cnt.InputRefused, match="every="):
        cnt.callbacks.Lightning((1, 4), to=tmp_path, every=every)
