"""A traced network is its module: same function, same names, every parameter accounted for."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from models import ZOO, Dense, Residual, build, traced_network
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree

import cntgraph as cnt


@pytest.fixture(scope="module", params=ZOO, ids=str)
def traced(request):
    model, example = build(request.param)
    return model, example, {n: traced_network(request.param, n) for n in ("raw", "folded")}


def random_inputs(network, batch=1):
    given = [layer for layer in network.layers if layer.kind == "input"]
    return [torch.randn(batch, *layer.traced[1:]) for layer in given]


@pytest.mark.parametrize("batch_norm", ["raw", "folded"])
def test_verify_passes_by_operators_and_by_links(traced, batch_norm):
    model, example, _ = traced
    found = cnt.verify(model, example, samples=2, batch_norm=batch_norm)
    assert found.passed
    assert found.error_operators <= 1e-12
    assert found.error_links <= 1e-12
    assert "passed" in repr(found)


def test_a_batch_is_its_samples(traced):
    model, _, networks = traced
    inputs = random_inputs(networks["raw"], batch=3)
    with torch.no_grad():
        expected = _pytree.tree_leaves(model.eval()(*inputs))
        for network in networks.values():
            for a, b in zip(expected, network.forward(*inputs), strict=True):
                torch.testing.assert_close(b.reshape(a.shape), a, atol=1e-5, rtol=1e-4)


def test_every_parameter_is_accounted_for(traced):
    model, _, networks = traced
    coverage = networks["raw"].coverage
    named = dict(model.named_parameters(remove_duplicate=False))
    assert list(coverage["parameter"]) == list(named)
    assert set(coverage["status"]) <= {"used", "folded", "unmapped"}
    assert (coverage.loc[coverage["status"] == "unmapped", "reason"] != "").all()
    assert list(coverage["elements"]) == [p.numel() for p in named.values()]


def test_the_topology_survives_json(traced):
    _, _, networks = traced
    for network in networks.values():
        text = json.dumps(network.to_json())
        twin = cnt.Network.from_json(json.loads(text), network.weights)
        inputs = random_inputs(network)
        for a, b in zip(network.forward(*inputs), twin.forward(*inputs), strict=True):
            assert torch.equal(a, b)
        assert [str(a) for a in twin.layers] == [str(a) for a in network.layers]


def test_ids_run_through_the_layers(traced):
    _, _, networks = traced
    network = networks["raw"]
    firsts = np.cumsum([0] + [layer.size for layer in network.layers])
    assert [layer.first for layer in network.layers] == firsts[:-1].tolist()
    neurons = network.neurons()
    assert neurons["neuron"].tolist() == list(range(network.neuron_count))
    assert neurons.groupby("layer", sort=False).size().tolist() == [a.size for a in network.layers]
    position = {layer.name: k for k, layer in enumerate(network.layers)}
    assert all(position[b.source] < position[b.target] for b in network.blocks)


def test_links_point_at_their_parameter(traced):
    _, _, networks = traced
    network = networks["raw"]
    state = {n: t.reshape(-1).to(torch.float64).numpy() for n, t in network.weights.items()}
    plain = {b.parameters[0] for b in network.blocks if b.link_kind == "weight" and b.parameters}
    for batch in network.links(batch=500):
        name = batch.column("parameter")[0].as_py()
        if name in plain and "parametrizations" not in name:
            found = state[name][batch.column("element").to_numpy()]
            np.testing.assert_array_equal(found, batch.column("weight").to_numpy())
    assert sum(b.num_rows for b in network.links()) == network.link_count


def test_layers_carry_the_users_names():
    model, example = build("residual")
    network = cnt.trace(model, example)
    names = {layer.name: layer for layer in network.layers}
    assert next(iter(names)) == "x"
    assert names["conv1"].shape == (8, 8, 8)
    assert names["conv1"].activation == "relu"
    assert names["conv2"].activation == "relu"
    assert names["fc"].kind == "output"
    assert [layer.name for layer in traced_network("dense").layers] == [
        "image",
        "fc.0",
        "fc.1",
        "fc.2",
    ]


def test_the_sum_lands_in_the_layer_nobody_else_reads():
    model, example = build("residual")
    network = cnt.trace(model, example)
    into = [(b.source, b.link_kind) for b in network.blocks if b.target == "conv2"]
    assert into == [("conv1", "weight"), ("conv1", "identity")]


def test_batch_norm_raw_keeps_the_trained_weights_and_folded_scales_them():
    model, example = build("residual")
    raw, folded = (cnt.trace(model, example, batch_norm=n) for n in ("raw", "folded"))
    block = {
        n: next(b for b in net.blocks if b.target == "conv1")
        for n, net in (("raw", raw), ("folded", folded))
    }
    assert torch.equal(block["raw"].tensor, model.conv1.weight)
    scale = model.bn1.weight.double() / (model.bn1.running_var.double() + model.bn1.eps).sqrt()
    wanted = model.conv1.weight * scale.view(-1, 1, 1, 1)
    torch.testing.assert_close(block["folded"].tensor, wanted)
    assert raw.layer("conv1").gain is not None
    assert folded.layer("conv1").gain is None
    status = raw.coverage.set_index("parameter")["status"]
    assert status["bn1.weight"] == "folded"
    # bn3 reads a concatenation whose parts others read as well: a diagonal of its own
    assert status["bn3.weight"] == "used"
    assert {b.link_kind for b in raw.blocks if b.target == "bn3"} == {"scale"}


def test_pooling_and_softmax_bring_no_weights():
    network = traced_network("lenet")
    kinds = {(b.source, b.target): b.link_kind for b in network.blocks}
    assert kinds["conv1", "avg_pool2d"] == "fixed"
    assert kinds["conv2", "max_pool2d"] == "select"
    assert network.layer("fc3").activation == "log_softmax(1)"
    selected = sum(b.num_rows for b in network.links(kinds=("select",)))
    assert selected == 16 * 1 * 1 * 4


def test_an_unknown_operator_is_opaque_and_named():
    network = traced_network("distances")
    coverage = network.coverage.set_index("parameter")
    assert coverage.loc["prototypes", "status"] == "unmapped"
    assert "aten.cdist" in coverage.loc["prototypes", "reason"]
    assert "models.py" in coverage.loc["prototypes", "reason"]
    assert network.link_count == 10


def test_dead_parameters_are_listed():
    coverage = traced_network("reparametrised").coverage.set_index("parameter")
    assert coverage.loc["unused.weight", "status"] == "unmapped"
    assert "does not use" in coverage.loc["unused.weight", "reason"]


def test_the_model_is_left_as_it_was_found():
    model, example = build("residual")
    model.train()
    model.bn2.eval()
    handle = model.fc.register_forward_hook(lambda *a: None)
    flags = {name: m.training for name, m in model.named_modules()}
    before = {name: t.clone() for name, t in model.state_dict().items()}
    network = cnt.trace(model, example)
    cnt.verify(model, example, samples=1)
    assert {name: m.training for name, m in model.named_modules()} == flags
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.fc._forward_hooks
    assert all(p.requires_grad for p in model.parameters())
    handle.remove()
    with torch.no_grad():
        model.fc.weight.fill_(7)
    assert not (network.weights["fc.weight"] == 7).any()


def test_a_batch_of_examples_is_a_batch_of_one():
    model, _ = build("dense")
    assert cnt.trace(model, torch.randn(5, 3, 4)).neuron_count == 12 + 8 + 6 + 3


def test_with_weights_is_the_same_topology():
    model, example = build("residual")
    network = cnt.trace(model, example)
    other, _ = build("residual")
    for p in other.parameters():
        nn.init.normal_(p)
    moved = network.with_weights(other.state_dict())
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(moved.forward(x)[0], other.eval()(x), atol=1e-4, rtol=1e-4)
    lacking = {n: t for n, t in other.state_dict().items() if n != "fc.weight"}
    with pytest.raises(cnt.InputRefused, match=r"fc\.weight"):
        network.with_weights(lacking)
    with pytest.raises(cnt.InputRefused, match=r"\(2, 2\)"):
        network.with_weights({**other.state_dict(), "fc.weight": torch.zeros(2, 2)})


def test_an_unknown_batch_norm_mode_is_refused():
    with pytest.raises(cnt.InputRefused, match="folded"):
        cnt.trace(Dense(), (1, 12), batch_norm="fold")


def test_verify_sees_a_difference():
    model, example = build("dense")
    honest = nn.Linear.forward
    network = cnt.trace(model, example)
    wrong = dict(network.weights)
    wrong["fc.0.weight"] = wrong["fc.0.weight"] + 1e-3
    x = torch.randn(1, 3, 4)
    assert (network.bound_to(wrong).forward(x)[0] - model(x)).abs().max() > 1e-5
    assert nn.Linear.forward is honest


def test_residual_example_has_the_parts_it_is_meant_to_test():
    kinds = {b.kind for b in cnt.trace(Residual(), (1, 3, 16, 16)).blocks}
    assert kinds == {"convolution", "dense", "diagonal", "fixed", "opaque"}


def test_links_of_a_block_a_layer_a_neuron_are_those_of_all():
    network = traced_network("residual")
    kinds = ("weight", "identity", "scale", "fixed", "select")
    everything = pa.Table.from_batches(network.links(kinds)).to_pandas()
    layer, block = network.layer("conv2"), network.blocks[3]
    into = everything[everything["target"].between(layer.first, layer.last - 1)]
    found = pa.Table.from_batches(network.links(kinds, layer="conv2")).to_pandas()
    pd.testing.assert_frame_equal(found, into.reset_index(drop=True))
    of_block = network.links(kinds, block=block.name)
    assert sum(b.num_rows for b in of_block) == block.link_count
    for neuron in (layer.first, layer.first + 37, network.layer("x").first + 5):
        at = everything[(everything["source"] == neuron) | (everything["target"] == neuron)]
        one = pa.Table.from_batches(network.links(kinds, neuron=neuron)).to_pandas()
        order = ["source", "target", "element"]
        pd.testing.assert_frame_equal(
            one.sort_values(order, ignore_index=True), at.sort_values(order, ignore_index=True)
        )


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"layer": "conv9"}, "conv"),
        ({"block": "conv1"}, "no block"),
        ({"neuron": 10**9}, "no neuron"),
        ({"neuron": 1, "layer": "conv1"}, "at once"),
    ],
)
def test_links_of_what_is_not_there_are_refused(chosen, message):
    with pytest.raises(cnt.InputRefused, match=message):
        traced_network("residual").links(**chosen)


class Joined(nn.Module):
    """Two parameters in one weight, turned and padded; a third that is only added."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.randn(2, 5)), nn.Parameter(torch.randn(5, 3))
        self.low, self.high = nn.Parameter(torch.randn(6, 1)), nn.Parameter(torch.randn(1, 5))

    def forward(self, x):
        joined = F.linear(x, F.pad(torch.cat([self.a, self.b.t()]).flip(0), (0, 0, 0, 1)))
        return F.linear(joined, self.low @ self.high @ F.pad(self.a.t(), (0, 4)))


def test_a_link_names_its_own_parameter_where_several_meet():
    model = Joined()
    network = cnt.trace(model, (1, 5))
    state = {name: p.detach().reshape(-1).to(torch.float64) for name, p in model.named_parameters()}
    links = pa.Table.from_batches(network.links(batch=7)).to_pandas()
    named = links[links["parameter"] != ""]
    assert set(named["parameter"]) == {"a", "b"}
    found = [state[p][e].item() for p, e in zip(named["parameter"], named["element"], strict=True)]
    np.testing.assert_array_equal(found, named["weight"])
    # what padding brought, and a product of three, are no element of one parameter
    rest = links[links["parameter"] == ""]
    assert (rest["element"] == -1).all()
    assert len(rest) == 5 + 6 * 6


class Silenced(nn.Module):
    """A layer that reads nothing but zeros, and one whose result nobody reads."""

    def __init__(self):
        super().__init__()
        self.silent, self.heard, self.lost = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 2)
        self.rnn = nn.GRU(3, 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        nothing = x.clone()
        nothing[:] = 0
        both = torch.stack([self.lost(x) for _ in range(2)])
        steps, _ = self.rnn(torch.tanh(self.heard(x) + self.silent(nothing)).unsqueeze(1))
        return steps[:, -1] + both[:, 0, :1] * 0 + nothing.matmul(x.t())


def test_neurons_that_read_nothing_compute_and_those_nobody_reads_are_left_out():
    model = Silenced()
    assert cnt.verify(model, (1, 4)).passed
    reverse = nn.LSTM(3, 2, bidirectional=True, batch_first=True)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = reverse

        def forward(self, x):
            return self.rnn(x)[0][:, -1]

    network = cnt.trace(Last(), (1, 5, 3))
    steps = {name.split(".")[2] for a in network.layers if "reverse" in (name := a.name)}
    assert steps == {"t4"}
    assert cnt.verify(Last(), (1, 5, 3)).passed


def test_forward_takes_what_was_traced_or_a_batch_of_it():
    network = cnt.trace(nn.RNN(3, 2), (4, 1, 3))  # time first: its first axis is no batch
    assert network.forward(torch.zeros(4, 1, 3))[0].shape == (4, 1, 2)
    with pytest.raises(cnt.InputRefused, match=r"\(4, 5, 3\)"):
        network.forward(torch.zeros(4, 5, 3))


def test_zero_weights_hide_nothing_from_a_verification():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    for p in model[3].parameters():
        nn.init.zeros_(p)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    assert cnt.verify(model, (1, 3), samples=1).largest_output == 0
    moved = cnt.verify(model, (1, 3), samples=3)
    assert moved.passed
    assert moved.largest_output > 1e-3
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


class Views(nn.Module):
    """Sums of what was viewed in between: a bias that fits either shape, one that does not."""

    def __init__(self):
        super().__init__()
        self.tokens, self.image = nn.Linear(4, 4), nn.Conv2d(2, 2, 1)

    def forward(self, x):
        tokens = self.tokens(x.view(3, 1, 4)).view(1, 3, 4) + x
        shift = torch.arange(12.0).view(1, 3, 4)
        return torch.relu(self.image(tokens.view(1, 2, 2, 3)).view(1, 3, 4) + tokens + shift)


def test_a_sum_lands_through_a_view():
    network = cnt.trace(Views(), (1, 3, 4))
    assert [a.name for a in network.layers] == ["x", "tokens", "image"]
    into = [(b.source, b.link_kind) for b in network.blocks]
    assert into == [
        ("x", "weight"),
        ("x", "identity"),
        ("tokens", "weight"),
        ("tokens", "identity"),
    ]
    assert network.layer("image").activation == "relu"
    assert cnt.verify(Views(), (1, 3, 4)).passed
    biases = cnt.layers(network, convention="paper")["weight_count"].tolist()
    assert biases == [0, 16 + 4, 4 + 2]  # each bias once
