"""A norm is its module: statistics without weights, a trained scale and shift that are links."""

from __future__ import annotations

import functools

import pytest
import torch
from branches import Branches, of, traced, uneven
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt

IMAGE = (1, 4, 5, 3)
TRAINED = {  # norms whose statistics are those of the activities
    "layer": (nn.LayerNorm((4, 5, 3)), IMAGE),
    "layer_over_vectors": (nn.LayerNorm(4), (1, 4)),
    "layer_without_bias": (nn.LayerNorm(3, bias=False), IMAGE),
    "group": (nn.GroupNorm(2, 4), IMAGE),
    "group_of_vectors": (nn.GroupNorm(2, 4), (1, 4)),
    "instance_1d": (nn.InstanceNorm1d(4, affine=True), (1, 4, 6)),
    "instance_2d": (nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance_3d": (nn.InstanceNorm3d(4, affine=True), (1, 4, 2, 3, 2)),
    "instance_unbatched": (nn.InstanceNorm2d(4, affine=True), (4, 5, 3)),
    "root_mean_square": (nn.RMSNorm(3), IMAGE),
    "batch_unrecorded": (nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
}
PLAIN = {
    "layer": (nn.LayerNorm(3, elementwise_affine=False), IMAGE),
    "group": (nn.GroupNorm(2, 4, affine=False), IMAGE),
    "instance": (nn.InstanceNorm2d(4), IMAGE),
    "root_mean_square": (nn.RMSNorm(3, elementwise_affine=False), IMAGE),
    "batch": (nn.BatchNorm2d(4, affine=False, track_running_stats=False), IMAGE),
}
RECORDED = {
    "vectors": (nn.BatchNorm1d(4), (1, 4)),
    "batch_1d": (nn.BatchNorm1d(4, affine=False), (1, 4, 6)),
    "batch_2d": (nn.BatchNorm2d(4), IMAGE),
    "batch_3d": (nn.BatchNorm3d(4), (1, 4, 2, 3, 2)),
    "over_machines": (nn.SyncBatchNorm(4), IMAGE),
    "instance": (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), IMAGE),
}
FUNCTIONS = {
    "unit_length": (lambda x: F.normalize(x, dim=1), IMAGE),
    "local_response": (nn.LocalResponseNorm(3), IMAGE),
    "instance": (F.instance_norm, IMAGE),
    "batch_in_training": (
        lambda x: F.batch_norm(
            x, x.new_zeros(4), x.new_ones(4), x.new_full((4,), 2), training=True
        ),
        IMAGE,
    ),
}
FAMILIES = {"trained": TRAINED, "plain": PLAIN, "recorded": RECORDED, "functions": FUNCTIONS}


@functools.cache
def network_of(family):
    return traced(FAMILIES[family])[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_norms_compute_what_their_modules_do(family):
    model = uneven(Branches(FAMILIES[family]))
    assert cnt.verify(model, model.example, samples=2).passed


@pytest.mark.parametrize("name", TRAINED)
def test_what_a_norm_learned_is_links_and_shifts(name):
    network = network_of("trained")
    assert of(network, name) == [".statistics", ""]
    norm = f"branch.{name}"
    statistics = network.layer(f"{norm}.statistics")
    assert statistics.join is not None
    assert not statistics.join.parameters
    into = [(b.source, b.kind, b.link_kind) for b in network.blocks if b.target == norm]
    assert into == [(statistics.name, "diagonal", "scale")]
    learned = [f"{norm}.{parameter}" for parameter, _ in TRAINED[name][0].named_parameters()]
    assert set(network.coverage.set_index("parameter")["status"][learned]) == {"used"}


def test_a_scale_link_carries_the_weight_it_names():
    network = network_of("trained")
    found = 0
    for batch in network.links(kinds=("scale",)):
        (name,) = set(batch.column("parameter").to_pylist())
        weight = network.weights[name].reshape(-1).double().numpy()
        element, value = (batch.column(c).to_numpy() for c in ("element", "weight"))
        assert (weight[element] == value).all()
        found += batch.num_rows
    assert found == sum(network.layer(f"branch.{name}").size for name in TRAINED)


@pytest.mark.parametrize("name", PLAIN)
def test_a_norm_that_learned_nothing_is_one_join(name):
    network = network_of("plain")
    assert of(network, name) == [""]
    assert network.layer(f"branch.{name}").join is not None


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_statistics_are_a_fixed_scale_and_shift(name):
    network = network_of("recorded")
    assert of(network, name) == [""]
    into = [b.link_kind for b in network.blocks if b.target == f"branch.{name}"]
    assert into == ["scale"]
    assert network.layer(f"branch.{name}").shift is not None


def test_recorded_statistics_fold_into_the_layer_before():
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    model = uneven(nn.Sequential(nn.Conv2d(4, 4, 1), norm, nn.ReLU()))
    assert cnt.verify(model, IMAGE, samples=1).passed
    network = cnt.trace(model, IMAGE)
    assert [layer.name for layer in network.layers] == ["input", "0"]
    assert network.layer("0").gain is not None


def test_statistics_kept_in_another_precision():
    model = uneven(nn.BatchNorm2d(4)).eval()
    network = cnt.trace(model, IMAGE)
    model.running_var, model.running_mean = model.running_var.double(), model.running_mean.double()
    x = torch.randn(IMAGE)
    wanted = model.double()(x.double())
    found = network.with_weights(model.state_dict()).forward(x)[0]
    torch.testing.assert_close(found.double(), wanted, atol=1e-6, rtol=1e-6)


def test_a_frozen_norm_is_one_layer():
    frozen = pytest.importorskip("torchvision").ops.FrozenBatchNorm2d(4)
    model = uneven(nn.Sequential(nn.Conv2d(4, 4, 1), frozen, nn.ReLU()))
    assert cnt.verify(model, IMAGE, samples=1).passed
    assert [layer.name for layer in cnt.trace(model, IMAGE).layers] == ["input", "0", "1"]
