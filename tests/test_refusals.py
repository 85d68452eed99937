"""Unusual models and inputs work or raise one clear error; the model is left as it was found."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import json
import random
import typing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Dense, LeNet
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli.entry import app
from cntgraph.cli.models import Shape, shapes
from cntgraph.tracing.examples import random_like


class Two(nn.Module):
    """Two layers: what the cases below do differently."""

    def __init__(self):
        super().__init__()
        self.fc, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.fc(x))


# -- the model is left as it was found --------------------------------------------------------


class Busy(Two):
    """Counts, keeps, draws and writes to buffers and attributes in every call."""

    def __init__(self, fails=False):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(3), nn.Dropout()
        self.calls, self.log, self.cache, self.fails = 0, [], None, fails
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.scale = torch.ones(3)  # not registered

    def forward(self, x):
        self.calls += 1
        self.log.append(x)
        self.steps += 1
        self.cache = self.norm(self.fc(x))
        random.random(), np.random.rand(), torch.rand(2)
        if self.fails:
            raise KeyError("never")
        return self.out(self.drop(self.cache) * self.scale.to(x))


def picture(value):
    """Everything that can be told of a model: objects by identity, tensors by value too."""
    if not isinstance(value, nn.Module):
        return value
    tensors = [*value.parameters(), *value.buffers()]
    return {
        "attributes": [
            {
                name: list(part.items()) if isinstance(part, dict) else (id(part), repr(part))
                for name, part in vars(module).items()
                if not isinstance(part, (dict, nn.Module)) or name.endswith("_hooks")
            }
            for module in value.modules()
        ],
        "names": list(value.state_dict()),
        "tensors": [
            (id(t), t.data_ptr(), t._version, t.requires_grad, t.tolist()) for t in tensors
        ],
        "gradients": [None if t.grad is None else (id(t.grad), t.grad.tolist()) for t in tensors],
        "random": (torch.get_rng_state().tolist(), random.getstate()),
        "numpy": [str(part) for part in np.random.get_state()],
        "modes": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device()),
    }


def training(model):
    model.train()
    model.norm.eval()
    model.fc.weight.requires_grad_(False)
    model.fc.register_forward_hook(lambda module, args, result: result * 2)
    model.fc.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    model.fc.register_full_backward_hook(lambda module, grad_in, grad_out: None)
    nn.functional.mse_loss(model.norm(torch.randn(4, 3)), torch.zeros(4, 3)).backward()
    return model


@pytest.mark.parametrize("fails", [False, True], ids=["works", "fails"])
def test_the_model_is_left_as_it_was_found(fails):
    model = training(Busy(fails=fails))
    before = picture(model)
    with pytest.raises(cnt.ModelRefused, match="never") if fails else contextlib.nullcontext():
        cnt.trace(model, (1, 3))
    example = torch.linspace(-2, 2, 15).reshape(5, 3)
    with pytest.raises(cnt.ModelRefused, match="never") if fails else contextlib.nullcontext():
        assert cnt.verify(model, example, samples=2).passed
    after = picture(model)
    assert [key for key in before if after[key] != before[key]] == []


@contextlib.contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
        default_dtype,
    ],
    ids=["no_grad", "inference", "autocast", "meta device", "float64"],
)
def test_the_state_of_torch_around_the_call_does_not_matter(context):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 2))
    plain = cnt.trace(model, (1, 3))
    with context():
        network = cnt.trace(model, (1, 3))
        assert cnt.verify(model, np.ones((1, 3)), samples=1).passed
    assert network.to_json() == plain.to_json()
    for name, tensor in plain.weights.items():
        assert torch.equal(network.weights[name], tensor)
        assert network.weights[name].dtype == tensor.dtype
        assert not network.weights[name].is_inference()


def test_a_model_made_in_inference_mode():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        example = torch.ones(2, 3)
    assert cnt.verify(model, example, samples=1).passed


# -- unusual models ---------------------------------------------------------------------------


def hooked(kind, function):
    model = Two()
    getattr(model.fc, kind)(function)
    return model


def closed():
    model = Two()
    fc, out = model.fc, model.out.forward
    model.forward = lambda x: out(torch.relu(fc(x)))
    return model


def with_part(name, part):
    model = Two()
    setattr(model, name, part)
    return model


class Kept(Two):
    """Modules where the exporter does not look: a list, an object."""

    def __init__(self):
        super().__init__()
        self.unregistered = [nn.Linear(3, 3)]
        self.holder = collections.UserList([])
        self.holder.module = self.fc

    def forward(self, x):
        return self.out(self.holder.module(self.unregistered[0](x)))


class Low(Two):
    """Casts of its own and of autocast."""

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.fc(x)
        y = y.to(torch.float32)
        y = (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)
        return F.softmax(self.out(y), -1, dtype=torch.float32)


class Checkpointed(Two):
    def forward(self, x):
        return self.out(checkpoint(self.fc, x, use_reentrant=False))


class InPlace(Two):
    def forward(self, x):
        x.mul_(2)
        return super().forward(x)


class Asking(Two):
    """Does what it is told in a branch that no value decides."""

    def forward(self, x):
        assert x.shape[1] == 3
        return F.dropout(super().forward(x), 0.5, self.training)


def compiled_in_place():
    model = Two()
    model.compile()
    return model


def shared():
    model = Two()
    model.fc.weight = nn.Parameter(torch.randn(3, 3))
    model.out = nn.Linear(3, 3)
    model.out.weight = model.fc.weight
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "links"),
    [
        (lambda: hooked("register_forward_hook", lambda m, a, y: torch.relu(y)), 15),
        (lambda: hooked("register_forward_pre_hook", lambda m, a: (a[0] * 3,)), 15),
        (lambda: with_part("fc", nn.utils.weight_norm(nn.Linear(3, 3))), 15),
        (lambda: with_part("fc", nn.utils.spectral_norm(nn.Linear(3, 3))), 15),
        (lambda: with_part("fc", prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.4)), 15),
        (lambda: with_part("fc", torch.compile(nn.Linear(3, 3))), 15),
        (lambda: with_part("fc", nn.DataParallel(nn.Linear(3, 3))), 15),
        (lambda: torch.compile(Two()), 15),
        (lambda: nn.DataParallel(Two()), 15),
        (lambda: copy.deepcopy(Two()), 15),
        (lambda: Two().half(), 15),
        (lambda: Two().double(), 15),
        (compiled_in_place, 15),
        (closed, 15),
        (Kept, 15),
        (Low, 15),
        (Checkpointed, 15),
        (InPlace, 15),
        (Asking, 15),
        (shared, 18),
    ],
    ids="""hook pre-hook weight_norm spectral_norm pruned compiled-part parallel-part compiled
    parallel copied half double compiled-in-place closed kept low checkpointed in-place asking
    shared""".split(),
)
def test_an_unusual_model_is_its_network(make, links):
    torch.manual_seed(0)
    model = make()
    found = cnt.verify(model, (1, 3), samples=2)
    assert found.passed
    assert found.link_count == links


def test_hooks_are_part_of_the_function():
    model = hooked("register_forward_hook", lambda m, a, y: y * 5)
    network, x = cnt.trace(model, (1, 3)), torch.randn(2, 3)
    torch.testing.assert_close(network.forward(x)[0], model(x))


Pair = collections.namedtuple("Pair", "first second")


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    more: typing.Any = None


OUTPUTS = {
    "tuple": lambda x, y: (y, x),
    "namedtuple": Pair,
    "nested": lambda x, y: {"b": [y, (None, 3, "text")], "a": {"deep": x * 2}},
    "dataclass": lambda x, y: Answer(y, [x, Answer(x + y)]),
    "constant": lambda x, y: (torch.full((2,), 7.0), y, 2.5),
    "distribution": lambda x, y: torch.distributions.Laplace(y, 1 + x.abs(), validate_args=False),
}


def plain_leaves(value):
    """An oracle of its own: tensors in the order of fields."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Answer):
        value = [value.logits, value.more]
    if isinstance(value, torch.distributions.Laplace):
        value = [value.loc, value.scale]
    values = list(value.values()) if isinstance(value, dict) else value
    return [t for v in values for t in plain_leaves(v)] if isinstance(values, (list, tuple)) else []


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_tensor_that_is_returned_is_an_output(kind):
    class Returning(Two):
        def forward(self, x):
            return OUTPUTS[kind](x, super().forward(x).sum(-1, keepdim=True))

    model, x = Returning(), torch.randn(1, 3)
    network = cnt.trace(model, (1, 3))
    for found, wanted in zip(network.forward(x), plain_leaves(model(x)), strict=True):
        torch.testing.assert_close(found.reshape(wanted.shape), wanted)
    assert cnt.verify(model, (1, 3), samples=1).passed


# -- names ------------------------------------------------------------------------------------

HOSTILE = [
    *"""code graph meta recompile class None a"b a\\ \\x a`b a'b a@b ﬁ Fc fc weight self model
    emoji😀 \u202eabc""".split(),
    *("a\nb", "a\0b", "a b", "x" * 10_000),
]
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)).filter(
    lambda name: name and "." not in name and not hasattr(nn.Module(), name)
)


class Named(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.order = names
        for name in names:
            self.add_module(name, nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.MaxPool1d(1)))
            self.register_parameter(f"{name}'s", nn.Parameter(torch.randn(2)))

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x) + getattr(self, f"{name}'s")
        return x


@settings(max_examples=4, deadline=None)
@given(st.lists(NAMES, min_size=3, max_size=4, unique=True))
def test_the_network_carries_the_users_own_names(names):
    names = [name for name in names if name not in ("order", "forward")]
    model = Named(names)
    network = cnt.trace(model, (1, 2))
    assert list(network.coverage["parameter"]) == list(dict(model.named_parameters()))
    assert set(network.coverage["status"]) <= {"used"}
    layers = {layer.name for layer in network.layers}
    assert layers >= {f"{name}.0" for name in names}
    assert layers >= {f"{name}.2" for name in names if "@" not in name}
    assert set(network.weights) == set(model.state_dict())
    x = torch.randn(1, 2)
    torch.testing.assert_close(network.forward(x)[0], model(x))


# -- inputs -----------------------------------------------------------------------------------


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places, self.out = nn.Embedding(9, 4), nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask=None, *, offset=0):
        y = self.words(input_ids) + self.places.weight[offset : offset + input_ids.shape[1]]
        return self.out(y if attention_mask is None else y * attention_mask.unsqueeze(-1))


IDS, MASK = torch.tensor([[7, 2, 0]]), torch.tensor([[True, True, False]])


@pytest.mark.parametrize(
    ("model", "example", "inputs"),
    [
        (Two(), np.zeros((1, 3)), ["x"]),
        (Two(), [torch.zeros(4, 3, dtype=torch.float64)], ["x"]),
        (Two(), {"x": torch.zeros(1, 3)}, ["x"]),
        (Tokens(), IDS, ["input_ids"]),
        (Tokens(), IDS.repeat(4, 1).numpy(), ["input_ids"]),
        (Tokens(), (IDS, None), ["input_ids"]),
        (Tokens(), (IDS, MASK), ["input_ids", "attention_mask"]),
        (Tokens(), {"attention_mask": MASK, "input_ids": IDS}, ["input_ids", "attention_mask"]),
        (Tokens(), {"input_ids": IDS, "offset": 2}, ["input_ids"]),
        (nn.Bilinear(3, 2, 2), (torch.zeros(1, 3), torch.zeros(1, 2)), ["input1", "input2"]),
    ],
    ids=str,
)
def test_inputs_by_position_by_name_and_as_arrays(model, example, inputs):
    network = cnt.trace(model, example)
    given = [layer for layer in network.layers if layer.kind == "input"]
    assert [layer.name for layer in given] == inputs
    assert all(layer.traced[0] == 1 for layer in given)
    assert cnt.verify(model, example, samples=4).passed


def test_parts_of_an_argument_are_named_after_it():
    class Parts(Two):
        def forward(self, batch, x):
            return self.fc(batch["image"]) + batch["pair"][1] + x

    x = torch.zeros(1, 3)
    example = ({"image": x, "pair": (x, x.clone())}, x)
    names = [layer.name for layer in cnt.trace(Parts(), example).layers if layer.kind == "input"]
    assert names == ["batch.image", "batch.pair.0", "batch.pair.1", "x"]
    assert cnt.verify(Parts(), example).passed


@given(st.integers(0, 10**6), st.lists(st.integers(0, 8), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_random_tokens_are_those_that_the_model_knows(seed, tokens):
    example = (torch.tensor([tokens]), torch.tensor([tokens]) > 4, torch.zeros(1, 2))
    ids, mask, floats = random_like(example, Tokens(), seed)
    assert set(ids.unique().tolist()) <= {*tokens, *range(5)}
    assert ids.dtype == torch.int64
    assert mask.any()
    assert floats.dtype == torch.float64
    again = random_like(example, Tokens(), seed)
    assert all(map(torch.equal, (ids, mask, floats), again))


def test_tokens_are_not_always_the_same():
    example = (torch.zeros(1, 64, dtype=torch.int64),)
    assert len(random_like(example, Tokens(), 0)[0].unique()) == 5


def test_a_permutation_where_no_other_integers_do():
    class Positions(Two):
        def forward(self, order, x):
            return self.out(torch.zeros(1, 3).to(x).scatter(1, order, self.fc(x)))

    assert cnt.verify(Positions(), (torch.tensor([[2, 0, 1]]), torch.zeros(1, 3))).passed


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Dense(), (1, 5), "cannot be traced"),
        (Dense(), (1, 0), "empty axis"),
        (Dense(), torch.zeros(0, 12), "empty axis"),
        (Dense(), "1,12", "example_input is str"),
        (Dense(), ("1", "12"), "example_input is tuple"),
        (Dense(), (), "example_input is tuple"),
        (Dense(), None, "NoneType"),
        (Dense(), {}, "example_input is dict"),
        (Dense(), {3: torch.zeros(1, 12)}, "3 names no argument"),
        (Dense(), np.array(["text"]), "no numbers"),
        (Dense(), {"imag": torch.zeros(1, 12)}, "did you mean image"),
        (Dense(), (torch.zeros(1, 12), torch.zeros(1, 12)), "does not take 2 inputs"),
        (Tokens(), {"attention_mask": MASK}, "input_ids"),
        (nn.Bilinear(3, 2, 2), (1, 3), "(input1, input2)"),
        (LeNet(), (1, 3, 12, 12), "cannot be traced"),
        (Tokens(), (1, 3), "integer tokens"),
        (Two(), torch.zeros(1, 3, dtype=torch.int64), "int64 where its weights are float32"),
        (nn.Linear(3, 2, dtype=torch.complex64), (1, 3), "complex"),
        (nn.LazyLinear(3), (1, 3), "parameter weight is not initialised"),
        (nn.Linear(3, 2, device="meta"), (1, 3), "meta device"),
        (nn.BatchNorm1d(3, affine=False, device="meta"), (1, 3), "buffer running_mean"),
        (torch.jit.script(nn.Linear(3, 2)), (1, 3), "TorchScript"),
        (nn.Sequential(torch.jit.script(nn.Tanh())), (1, 3), "module 0 is TorchScript"),
        (nn.Linear, (1, 3), "is a class"),
        (nn.Linear(3, 2).state_dict(), (1, 3), "not a torch.nn.Module"),
        (nn.Module(), (1, 3), "forward"),
    ],
)
def test_what_cannot_be_traced_says_why(model, example, message):
    with pytest.raises(cnt.InputRefused) as refused:
        cnt.trace(model, example)
    text = str(refused.value)
    assert message in text
    assert refused.value.fix
    assert len(text) < 700
    assert "weights_only" not in text


def test_a_wrong_shape_names_the_module():
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)))
    with pytest.raises(cnt.ModelRefused, match=r"1x4 and 5x2") as refused:
        cnt.trace(model, (1, 3))
    assert "in module 1.1: Linear(in_features=5" in refused.value.why


def test_a_token_that_no_embedding_has_is_told_by_verify():
    with pytest.raises(cnt.ModelRefused, match="from 0 to num_embeddings - 1"):
        cnt.verify(nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 1)), torch.full((1, 64), 99))


# -- code that cannot be followed -----------------------------------------------------------------


class Branch(Two):
    def forward(self, x):
        y = self.fc(x)
        return y if y.sum() > 0 else -y  # here


class Loop(Two):
    def forward(self, x):
        while x.abs().max() > 1:  # here
            x = x / 2
        return self.fc(x)


class Checked(Two):
    def forward(self, x):
        assert x.abs().max() < 100  # here
        return self.fc(x)


class Item(Two):
    def forward(self, x):
        scale = x.sum().item()  # here
        return self.fc(x) * scale


class Listed(Two):
    def forward(self, x):
        return self.fc(x) * sum(x[0].tolist())  # here


class Helped(Two):
    def scale(self, x):
        return float(x.sum())  # here

    def forward(self, x):
        return self.fc(x) * self.scale(x)


class Nonzero(Two):
    def forward(self, x):
        rows = torch.nonzero(x[:, 0])  # here
        return self.fc(x[rows[:, 0]])


class Masked(Two):
    def forward(self, x):
        y = self.fc(x)
        return y[y > 0].sum()  # here


class Numpy(Two):
    def forward(self, x):
        return torch.from_numpy(np.tanh(self.fc(x).detach().numpy()))  # here


class Arrays(Two):
    def forward(self, x):
        return self.fc(torch.as_tensor(np.asarray(x)))  # here


class Noisy(Two):
    def forward(self, x):
        return self.fc(x + torch.randn_like(x))  # here


class Dropping(Two):
    def forward(self, x):
        return F.dropout(self.fc(x), 0.5)  # here


class Missing(Two):
    def forward(self, x):
        return self.nowhere(x)  # here


@torch.library.custom_op("cntgraph_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


class Foreign(Two):
    def forward(self, x):
        return self.fc(torch.ops.cntgraph_tests.twice(x))  # here


class Chance(Two):
    def forward(self, x):
        return self.fc(x) * random.random()


class NumpyChance(Two):
    def forward(self, x):
        return self.fc(x) * float(np.random.rand())


class Changing(Two):
    def __init__(self):
        super().__init__()
        self.total = torch.zeros(3)

    def forward(self, x):
        self.total += 1
        return self.fc(x) + self.total


class Nothing(Two):
    def forward(self, x):
        return "done"


@pytest.mark.parametrize(
    ("kind", "why", "fix"),
    [
        (Branch, "depends on the values", "torch.where"),
        (Loop, "depends on the values", "torch.where"),
        (Checked, "depends on the values", "leave the check"),
        (Item, "Python number", ".item()"),
        (Listed, "Python number", ".tolist()"),
        (Helped, "Python number", "float()"),
        (Nonzero, "how many values nonzero gives", "mask"),
        (Masked, "how many values index gives", "mask"),
        (Numpy, "NumPy", "PyTorch's own function"),
        (Arrays, "NumPy", "PyTorch's own function"),
        (Noisy, "randn_like draws", "self.training"),
        (Dropping, "dropout draws", "self.training"),
        (Missing, "'Missing' object has no attribute 'nowhere'", "model(*example_input)"),
        (Foreign, "does not say the shape", "register_fake"),
        (Chance, "draws from random", "self.training"),
        (NumpyChance, "draws from random or numpy.random", "self.training"),
        (Changing, "changes self.total in place", "register_buffer('total'"),
        (Nothing, "a value of type str", "return the tensors"),
    ],
)
def test_code_that_cannot_be_followed_is_shown(kind, why, fix, capfd):
    with pytest.raises(cnt.ModelRefused) as refused:
        cnt.trace(kind(), (1, 3))
    error = refused.value
    assert error.what.startswith(kind.__name__)
    assert why in error.why
    assert fix in error.fix
    assert len(str(error).splitlines()) <= 4
    *_, last = error.why.splitlines()
    if kind not in (Chance, NumpyChance, Changing, Nothing):
        assert f"{__file__}:" in last
        assert last.endswith("# here")
    assert capfd.readouterr() == ("", "")


# -- the command ------------------------------------------------------------------------------


def test_shapes_on_the_command_line():
    found = shapes("1,28,28; 16:int;4:bool")
    assert found == (Shape((1, 28, 28)), Shape((16,), "int"), Shape((4,), "bool"))
    for wrong in ("", "3,", "3,0", "3:in", ":int", "a"):
        with pytest.raises(ValueError, match=r"literal|length|int"):
            shapes(wrong)


NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, tokens, mask):
        print("hello from forward")
        return self.out(self.words(tokens) * mask.unsqueeze(-1))
"""


def test_verify_tokens_and_masks_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    run = CliRunner().invoke
    found = run(app, ["verify", "nets.py:Net", "--input", "6:int;6:bool", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["passed"]
    assert "hello from forward" in found.stderr
    with pytest.raises(cnt.ModelRefused) as refused:
        run(app, ["verify", "nets.py:Net", "--input", "6;6:bool"], catch_exceptions=False)
    assert "--input 16:int" in refused.value.fix
    wrong = run(app, ["verify", "nets.py:Net", "--input", "6:into"])
    assert wrong.exit_code == 2
    assert "did you mean int" in wrong.output
