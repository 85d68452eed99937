"""Activity over a probe batch against what hooks on the modules see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import build, traced_network
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt

NAMES = ["neurons_strength", "neurons_activation", "active_share"]


def seen(model, *inputs):
    """What every module of a model returns, by name: hooks know nothing of networks."""
    found, hooks = {}, []
    for name, module in model.named_modules():

        def keep(_, __, y, name=name):
            found[name] = y.detach().double() if isinstance(y, torch.Tensor) else y

        hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model.eval()(*inputs)
    for hook in hooks:
        hook.remove()
    return found


def assert_row_is(found, layer, z, a, rtol=1e-5):
    rows = found[found["layer"] == layer]
    expected = [t.flatten(1).double() for t in (z, a, (a != 0))]
    for name, t in zip(NAMES, expected, strict=True):
        np.testing.assert_allclose(rows[name], t.mean(0), rtol=rtol, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("batch", [1, 7, 256])
def test_hooks_see_the_same_in_a_dense_network(batch):
    model, _ = build("dense")
    x = torch.randn(20, 3, 4)
    found = cnt.activity(traced_network("dense"), x, batch=batch)
    outputs = seen(model, x)
    assert_row_is(found, "image", x, x)
    for name in ("fc.0", "fc.1"):
        assert_row_is(found, name, outputs[name], outputs[name].relu())
    assert_row_is(found, "fc.2", outputs["fc.2"], outputs["fc.2"])
    assert list(found.columns) == ["neuron", "layer", "index", *NAMES]
    assert found["neuron"].tolist() == list(range(29))
    assert 0 < found.set_index("layer").loc["fc.0", "active_share"].mean() < 1


def test_hooks_see_the_same_through_pooling_and_an_output_function():
    model, _ = build("lenet")
    x = torch.randn(9, 1, 12, 12)
    found = cnt.activity(traced_network("lenet"), x, batch=4)
    outputs = seen(model, x)
    for name in ("conv1", "conv2", "fc1", "fc2"):
        assert_row_is(found, name, outputs[name], outputs[name].tanh())
    assert_row_is(found, "fc3", outputs["fc3"], F.log_softmax(outputs["fc3"], 1))
    average = F.avg_pool2d(outputs["conv1"].tanh(), 2)
    assert_row_is(found, "avg_pool2d", average, average)
    largest = F.max_pool2d(outputs["conv2"].tanh(), 2)
    assert_row_is(found, "max_pool2d", largest, largest)


@pytest.mark.parametrize("batch_norm", ["raw", "folded"])
def test_batch_norms_and_skips_belong_to_the_sum(batch_norm):
    model, _ = build("residual")
    x = torch.randn(5, 3, 16, 16)
    found = cnt.activity(traced_network("residual", batch_norm), x, batch=3)
    outputs = seen(model, x)
    first = outputs["bn1"]
    assert_row_is(found, "conv1", first, first.relu(), rtol=1e-4)
    summed = outputs["bn2"] + first.relu()
    assert_row_is(found, "conv2", summed, summed.relu(), rtol=1e-4)
    assert_row_is(found, "fc", outputs["fc"], outputs["fc"], rtol=1e-4)


def test_a_recurrent_network_has_a_row_for_every_step():
    model, _ = build("recurrent")
    x = torch.randn(6, 3, 4)
    found = cnt.activity(traced_network("recurrent"), x)
    states = seen(model, x)["lstm"][0].double()
    for t in range(3):
        assert_row_is(found, f"lstm.l0.t{t}.hidden", states[:, t], states[:, t])


def test_several_inputs_come_as_a_tuple_and_one_sample_goes_with_all():
    model, _ = build("attention")
    network = traced_network("attention")
    tokens, scale = torch.randn(5, 4, 8), torch.randn(1, 8)
    found = cnt.activity(network, (tokens, scale), batch=2)
    gate = seen(model, tokens[:1], scale)["gate"]
    assert_row_is(found, "gate", gate, gate.sigmoid())
    every = torch.cat([model.eval()(t[None], scale).detach() for t in tokens])
    assert_row_is(found, "mul", every, every)
    with pytest.raises(cnt.InputRefused, match=r"5 of tokens, 2 of scale"):
        cnt.activity(network, (tokens, torch.randn(2, 8)))
    with pytest.raises(cnt.InputRefused, match="1 inputs given, the network has 2"):
        cnt.activity(network, tokens)


def test_words_are_probes_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 2))
    words = torch.randint(0, 7, (30, 4))
    found = cnt.activity(cnt.trace(model, words[:1]), words, batch=8)
    outputs = seen(model, words)
    assert_row_is(found, "2", outputs["2"], outputs["2"])
    first = found[found["layer"] == found["layer"][0]]["neurons_activation"]
    share = F.one_hot(words, 7).double().mean(0).flatten()
    np.testing.assert_allclose(first, share, atol=1e-6)


# -- laws -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**16))
def test_an_expectation_is_the_mean_of_its_parts(here, there, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(here + there, 12, generator=generator)
    network = traced_network("dense")
    whole, a, b = (cnt.activity(network, part)[NAMES] for part in (x, x[:here], x[here:]))
    mixed = (here * a + there * b) / (here + there)
    np.testing.assert_allclose(whole, mixed, rtol=1e-5, atol=1e-6)


def test_affine_neurons_have_the_activity_of_the_mean_input():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).double()
    x = torch.randn(50, 5, dtype=torch.float64)
    network = cnt.trace(model, x[:1])
    found, mean = (cnt.activity(network, part) for part in (x, x.mean(0, keepdim=True)))
    np.testing.assert_allclose(found["neurons_strength"], mean["neurons_strength"], rtol=1e-12)
    np.testing.assert_allclose(found["neurons_activation"], found["neurons_strength"])


def test_a_dead_neuron_is_never_active():
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        layer.bias.copy_(torch.tensor([0.0, -10.0]))
    network = cnt.trace(nn.Sequential(layer, nn.ReLU()), (1, 2))
    found = cnt.activity(network, np.array([[1.0, 1.0], [-3.0, 2.0]]))
    assert found["active_share"].tolist() == [1.0, 1.0, 0.5, 0.0]
    assert found["neurons_strength"].tolist() == [-1.0, 1.5, -1.0, -8.5]
    assert found["neurons_activation"].tolist() == [-1.0, 1.5, 0.5, 0.0]


def test_expectations_are_float64_in_any_type():
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    network = cnt.trace(model, torch.zeros(1, 1, dtype=torch.bfloat16))
    network = network.with_weights({"weight": torch.ones(1, 1, dtype=torch.bfloat16)})
    x = torch.tensor([[256.0]] + [[1.0]] * 255)  # 256 + 1 is 256 in bfloat16
    found = cnt.activity(network, x)
    assert found["neurons_activation"].tolist() == [511 / 256] * 2


def test_a_nan_weight_stays_nan_and_counts_as_active():
    network = traced_network("dense")
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.2.weight"][1, 0] = float("nan")
    found = cnt.activity(network.with_weights(weights), torch.ones(4, 12)).set_index("layer")
    assert found.loc["fc.2", "neurons_activation"].isna().tolist() == [False, True, False]
    assert found.loc["fc.2", "active_share"].iloc[1] == 1.0


def test_a_filtered_network_is_probed_as_it_is():
    network = traced_network("dense").filtered("above:1e9")
    found = cnt.activity(network, torch.randn(5, 12)).set_index("layer")
    bias = network.weights["fc.0.bias"]
    np.testing.assert_allclose(found.loc["fc.0", "neurons_strength"], bias, rtol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (torch.randn(3, 11), {}, "input image has the shape (3, 11)"),
        (torch.zeros(0, 12), {}, "no inputs"),
        ((torch.zeros(1, 12), torch.zeros(1, 12)), {}, "2 inputs given"),
        (torch.zeros(1, 12), {"batch": 0}, "batch=0"),
    ],
)
def test_what_is_refused(inputs, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.activity(traced_network("dense"), inputs, **options)
    assert said in str(refusal.value)


def test_channels_compute_nothing():
    with pytest.raises(cnt.InputRefused, match="computes nothing"):
        cnt.activity(traced_network("lenet").by_channel(), torch.zeros(1, 1, 12, 12))
