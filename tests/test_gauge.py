"""The balanced gauge: the same function, equal norms, one representative of all rescalings."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import traced_network
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt

pytestmark = pytest.mark.filterwarnings("error::cntgraph.CntWarning")


class ConvNet(nn.Module):
    """Both kinds of pooling, groups, a transposed convolution and a flattening."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 8, 3, groups=2, bias=False)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.slope = nn.PReLU()
        self.fc1, self.fc2 = nn.Linear(4 * 4 * 4, 10), nn.Linear(10, 3)

    def forward(self, x):
        x = F.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(F.leaky_relu(self.conv2(x), 0.2), 2)
        x = self.slope(self.up(x))
        return self.fc2(torch.relu(self.fc1(x.permute(0, 2, 3, 1).flatten(1))))


class Joined(nn.Module):
    """A concatenation read by one matrix, and a linear layer without activation."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 3), nn.Linear(4, 5), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(torch.cat([torch.relu(self.left(x)), self.right(x)], 1))


class Block(nn.Module):
    """A residual block: what is inside it can be rescaled, what it adds up cannot."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 6), nn.Linear(6, 2)
        self.inner, self.outer = nn.Linear(6, 7), nn.Linear(7, 6)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(x + self.outer(torch.relu(self.inner(x)))))


def mlp(*sizes, activation=nn.ReLU):
    layers = [
        part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())
    ]
    return nn.Sequential(*layers[:-1])


def wide(model, shape):
    """A traced network in float64."""
    return cnt.trace(model.double(), torch.zeros(shape, dtype=torch.float64))


CLEAN = {
    "relu": (lambda: mlp(6, 9, 4, 7, 2), (1, 6)),
    "leaky": (lambda: mlp(6, 9, 4, activation=nn.LeakyReLU), (1, 6)),
    "linear": (lambda: mlp(3, 1, 4, activation=nn.Identity), (1, 3)),
    "one slope each": (
        lambda: nn.Sequential(nn.Linear(3, 5), nn.PReLU(5), nn.Linear(5, 2)),
        (1, 3),
    ),
    "convolutions": (ConvNet, (1, 1, 12, 12)),
    "tokens": (lambda: mlp(4, 8, 3), (1, 5, 4)),
    "joined": (Joined, (1, 4)),
}


@pytest.mark.parametrize("name", CLEAN)
def test_the_module_computes_the_same_with_balanced_weights(name):
    torch.manual_seed(7)
    make, shape = CLEAN[name]
    model = make().double()
    x = torch.randn(6, *shape[1:], dtype=torch.float64)
    network = wide(model, shape)
    before = {n: t.clone() for n, t in network.weights.items()}
    balanced, expected = cnt.balanced(network), model(x).detach()
    assert all(torch.equal(t, before[n]) for n, t in network.weights.items())
    torch.testing.assert_close(balanced.forward(x)[0], expected, rtol=1e-9, atol=1e-12)
    model.load_state_dict(dict(balanced.weights))  # an oracle that knows nothing of networks
    torch.testing.assert_close(model(x).detach(), expected, rtol=1e-9, atol=1e-12)
    assert any(not torch.equal(t, before[n]) for n, t in balanced.weights.items())


def assert_equal_norms(into, out):
    torch.testing.assert_close(into.norm(dim=1), out.norm(dim=1), rtol=1e-9, atol=0)


def test_the_norms_at_both_ends_are_equal():
    torch.manual_seed(0)
    w = cnt.balanced(wide(ConvNet(), (1, 1, 12, 12))).weights
    second = w["conv2.weight"]  # (out, in of a group, ...): two groups of 3 in and 4 out
    reads = second.reshape(2, 4, 3, 9).transpose(1, 2).reshape(6, -1)
    assert_equal_norms(w["conv1.weight"].flatten(1), reads)
    assert_equal_norms(second.flatten(1), w["up.weight"].flatten(1))
    flat = w["fc1.weight"].reshape(10, 16, 4)  # positions first, by the permutation
    assert_equal_norms(w["up.weight"].transpose(0, 1).flatten(1), flat.permute(2, 0, 1).flatten(1))
    assert_equal_norms(w["fc1.weight"], w["fc2.weight"].T)


# -- laws -----------------------------------------------------------------------------------------

sizes = st.lists(st.integers(1, 6), min_size=3, max_size=6)


def rescaled(network, names, seed):
    """The network with the hidden neurons between linear layers rescaled at random."""
    generator = torch.Generator().manual_seed(seed)
    weights = {n: t.clone() for n, t in network.weights.items()}
    for here, after in itertools.pairwise(names):
        scale = torch.rand(len(weights[f"{here}.weight"]), generator=generator).double() * 6 - 3
        weights[f"{here}.weight"] *= scale.exp()[:, None]
        weights[f"{here}.bias"] *= scale.exp()
        weights[f"{after}.weight"] /= scale.exp()
    return network.with_weights(weights)


@settings(max_examples=12, deadline=None)
@given(sizes, st.integers(0, 2**16))
def test_all_rescalings_of_a_network_are_balanced_to_one(widths, seed):
    torch.manual_seed(seed)
    network = wide(mlp(*widths), (1, widths[0]))
    names = [str(2 * k) for k in range(len(widths) - 1)]
    other = rescaled(network, names, seed)
    x = torch.randn(4, widths[0], dtype=torch.float64)
    one, same = cnt.balanced(network), cnt.balanced(other)
    for name, t in one.weights.items():
        torch.testing.assert_close(same.weights[name], t, rtol=1e-7, atol=1e-9)
    y = network.forward(x)[0]
    for computed in (one, other, same):
        torch.testing.assert_close(computed.forward(x)[0], y, rtol=1e-9, atol=1e-9)
    again = cnt.balanced(one)
    for name, t in one.weights.items():
        torch.testing.assert_close(again.weights[name], t, rtol=1e-9, atol=0)
    total = [sum(float((n.weights[f"{k}.weight"] ** 2).sum()) for k in names) for n in (one, other)]
    assert total[0] <= total[1] * (1 + 1e-12), "no rescaling has smaller squares"


def path_scores(network, names):
    """Weight of all paths through each neuron, by dense products of |W|."""
    matrices = [network.weights[f"{n}.weight"].abs() for n in names]
    ahead, back = (
        [torch.ones(matrices[0].shape[1]).double()],
        [torch.ones(len(matrices[-1])).double()],
    )
    for m in matrices:
        ahead.append(m @ ahead[-1])
    for m in reversed(matrices):
        back.append(m.T @ back[-1])
    return torch.cat([a * b for a, b in zip(ahead, reversed(back), strict=True)])


def test_rescaling_changes_strength_and_leaves_the_path_score():
    torch.manual_seed(2)
    network = wide(mlp(5, 7, 6, 3), (1, 5))
    names = ["0", "2", "4"]
    for other in (rescaled(network, names, 1), cnt.balanced(network)):
        torch.testing.assert_close(path_scores(other, names), path_scores(network, names))
        pair = [cnt.measure(n, "path_score")["path_score"] for n in (network, other)]
        np.testing.assert_allclose(*pair, rtol=1e-9)
        strengths = [cnt.strength(n)["strength"] for n in (network, other)]
        assert not np.allclose(*strengths, rtol=0.01)


def test_many_layers_converge():
    torch.manual_seed(3)
    model = mlp(*[8] * 41)
    with torch.no_grad():
        for k, layer in enumerate(model[::2]):
            layer.weight *= 10 ** ((k * 7) % 5 - 2)
    w = cnt.balanced(wide(model, (1, 8))).weights  # a warning would be an error
    for k in range(0, 78, 2):
        assert_equal_norms(w[f"{k}.weight"], w[f"{k + 2}.weight"].T)


# -- what stays -----------------------------------------------------------------------------------


def balanced_with_warning(network):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = cnt.balanced(network)
    assert [w.category for w in told] == [cnt.CntWarning]
    assert told[0].filename == __file__
    return found, str(told[0].message)


def test_a_residual_block_is_balanced_inside():
    torch.manual_seed(4)
    network = wide(Block(), (1, 5))
    found, said = balanced_with_warning(network)
    assert said == "not rescaled: stem, outer (a skip connection)"
    x = torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(found.forward(x), network.forward(x), rtol=1e-9, atol=1e-12)
    w = found.weights
    assert_equal_norms(w["inner.weight"], w["outer.weight"].T)
    for kept in ("stem.weight", "stem.bias", "head.weight", "outer.bias"):
        assert w[kept] is network.weights[kept]


@pytest.mark.parametrize(
    ("name", "batch_norm", "said"),
    [
        ("lenet", "raw", "conv1, conv2, fc1, fc2 (tanh)"),
        ("residual", "raw", "conv1, conv2 (a skip connection)"),
        ("sequence", "raw", "conv (a shift that is added)"),
        ("tied", "raw", "again, twin, again#2, encoder (weights that are shared)"),
        ("shuffled", "raw", "inner (values that are returned)"),
        ("recurrent", "raw", "lstm.l0.t2.gates (sigmoid)"),
        ("attention", "raw", "in_proj (read by encoder.self_attn.scaled_dot_product_attention)"),
    ],
)
def test_what_is_not_rescaled_is_said_and_the_function_stays(name, batch_norm, said):
    network = traced_network(name, batch_norm)
    network = network.bound_to({n: t.double() for n, t in network.weights.items()})
    found, told = balanced_with_warning(network)
    assert said in told
    inputs = [a for a in network.layers if a.kind == "input"]
    x = [torch.randn(2, *a.shape, dtype=torch.float64) for a in inputs]
    for a, b in zip(found.forward(*x), network.forward(*x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_batch_norms_keep_a_network_unless_they_are_folded():
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 3, 2))
    model[1].running_var.uniform_(0.5, 2)
    model[1].running_mean.uniform_(-1, 1)
    model.double().eval()
    x = torch.randn(1, 2, 9, dtype=torch.float64)
    _, said = balanced_with_warning(cnt.trace(model, x))
    assert "0 (a batch norm's gain)" in said
    folded = cnt.trace(model, x, batch_norm="folded")
    found = cnt.balanced(folded)
    torch.testing.assert_close(found.forward(x)[0], model(x).detach(), rtol=1e-9, atol=1e-12)
    first, last = (b.tensor for b in found.blocks)
    assert_equal_norms(first.flatten(1), last.transpose(0, 1).flatten(1))
    assert not torch.allclose(first, folded.blocks[0].tensor)


def test_computed_weights_are_rescaled_as_they_come():
    torch.manual_seed(6)
    norm = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    network = wide(nn.Sequential(norm, nn.ReLU(), nn.Linear(4, 2)), (1, 3))
    found = cnt.balanced(network)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(found.forward(x), network.forward(x), rtol=1e-9, atol=1e-12)
    first, last = (b.tensor for b in found.blocks)
    assert_equal_norms(first, last.T)


class SharedBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.two.bias = self.one.bias

    def forward(self, x):
        return self.out(torch.relu(self.two(torch.relu(self.one(x)))))


class OneBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.out = nn.Parameter(torch.randn(3, 4)), nn.Linear(3, 2)
        self.bias = nn.Parameter(torch.randn(1))

    def forward(self, x):
        return self.out(torch.relu(F.linear(x, self.one) + self.bias))


class Reused(nn.Module):
    """A weight that is a factor elsewhere."""

    def __init__(self):
        super().__init__()
        self.one, self.out = nn.Linear(3, 1, bias=False), nn.Linear(3, 2)
        self.back = nn.Linear(1, 3, bias=False)

    def forward(self, x):
        return self.out(torch.relu(self.back(torch.relu(self.one(x)))) * self.one.weight[0])


@pytest.mark.parametrize("make", [SharedBias, OneBias, Reused])
def test_what_is_shared_never_changes_the_function(make):
    torch.manual_seed(8)
    model = make().double()
    width = 3 if make is Reused else 4
    network = wide(model, (1, width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = cnt.balanced(network)
    x = torch.randn(4, width, dtype=torch.float64)
    torch.testing.assert_close(found.forward(x)[0], model(x).detach(), rtol=1e-9, atol=1e-12)


def test_neurons_without_weight_or_with_one_that_is_not_finite_stay():
    torch.manual_seed(9)
    network = wide(mlp(4, 5, 5, 2), (1, 4))
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["0.weight"][1] = 0  # only its bias speaks
    weights["4.weight"][:, 2] = 0  # nobody listens
    network = network.with_weights(weights)
    found, said = balanced_with_warning(network)
    assert "1 of 5 in 0, 1 of 5 in 2 (an end without weight" in said
    x = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(found.forward(x), network.forward(x), rtol=1e-9, atol=1e-12)
    live = [0, 2, 3, 4]
    assert_equal_norms(found.weights["0.weight"][live], found.weights["2.weight"].T[live])
    torch.testing.assert_close(found.weights["0.bias"][1], weights["0.bias"][1])
    weights["0.weight"][0, 0] = float("nan")
    found, said = balanced_with_warning(network.with_weights(weights))
    assert "2 of 5 in 0" in said
    live = [2, 3, 4]
    assert_equal_norms(found.weights["0.weight"][live], found.weights["2.weight"].T[live])


def test_weights_keep_their_type():
    torch.manual_seed(10)
    model = mlp(4, 6, 3)
    found = cnt.balanced(cnt.trace(model, (1, 4)))
    x = torch.randn(3, 4)
    assert found.weights["0.weight"].dtype == torch.float32
    torch.testing.assert_close(found.forward(x)[0], model(x).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lost", ["filtered", "reduced to channels"])
def test_parts_of_a_network_are_refused(lost):
    network = traced_network("dense")
    part = network.filtered("top:2") if lost == "filtered" else network.by_channel()
    with pytest.raises(cnt.InputRefused, match=lost) as refusal:
        cnt.balanced(part)
    assert "balance first" in str(refusal.value)


def test_balance_comes_before_a_filter():
    found = cnt.balanced(traced_network("dense")).filtered("top:2")
    assert 0 < found.kept < 1
