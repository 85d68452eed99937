"""One architecture of each family: the network is the model, and its strengths are the module's.

Every trained layer is held against the module itself: its answer to ones (less the bias) is the
in-strength, the adjoint of that map on ones is the out-strength.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import cntgraph as cnt
from cntgraph.tracing.tracing import LISTABLE

torchvision = pytest.importorskip("torchvision")

models = torchvision.models


def convnext():
    setting = models.convnext.CNBlockConfig
    return models.ConvNeXt([setting(12, 16, 2), setting(16, None, 1)], num_classes=7)


def regnet():
    shape = models.regnet.BlockParams.from_init_params(
        depth=5, w_0=16, w_a=8.0, w_m=2.0, group_width=8, se_ratio=0.25
    )
    return models.RegNet(shape, num_classes=7)


def swin(**options):
    return models.SwinTransformer([4, 4], 8, [2, 2], [2, 2], [4, 4], num_classes=7, **options)


def efficientnet():
    part = models.efficientnet
    stages = [
        part.FusedMBConvConfig(1, 3, 1, 16, 16, 1),
        part.MBConvConfig(4, 3, 2, 16, 24, 2),
        part.MBConvConfig(4, 5, 1, 24, 24, 1),
    ]
    return models.EfficientNet(stages, 0.2, last_channel=32, num_classes=7)


def swin_v2():
    part = models.swin_transformer
    return swin(block=part.SwinTransformerBlockV2, downsample_layer=part.PatchMergingV2)


def ready(name, **options):
    return lambda: models.get_model(name, weights=None, num_classes=7, **options)


FAMILIES = {
    "alexnet": (ready("alexnet"), 64),
    "vgg": (ready("vgg11_bn"), 32),
    "resnet": (ready("resnet18"), 32),
    "resnext": (lambda: models.ResNet(models.resnet.Bottleneck, [1, 2, 1, 1], 7, False, 4, 8), 32),
    "densenet": (lambda: models.DenseNet(8, (2, 3, 2, 2), 16, num_classes=7), 32),
    "googlenet": (ready("googlenet", init_weights=False), 32),
    "inception": (ready("inception_v3", init_weights=False), 75),
    "squeezenet": (ready("squeezenet1_1"), 32),
    "mobilenet_v2": (ready("mobilenet_v2", width_mult=0.25), 32),
    "mobilenet_v3": (ready("mobilenet_v3_small"), 32),
    "efficientnet": (efficientnet, 32),
    "mnasnet": (ready("mnasnet0_5"), 32),
    "regnet": (regnet, 32),
    "shufflenet": (ready("shufflenet_v2_x0_5"), 32),
    "convnext": (convnext, 32),
    "swin": (swin, 32),
    "swin_v2": (swin_v2, 32),
    "vit": (lambda: models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=7), 32),
    "maxvit": (lambda: models.MaxVit((64, 64), 8, 2, [8, 16], [1, 1], 8, 0.0, num_classes=7), 64),
}


def build(make):
    """The model in float64 with running statistics that a trained one might have."""
    torch.manual_seed(0)
    model = make()
    generator = torch.Generator().manual_seed(1)
    for key, buffer in model.named_buffers():
        if key.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        if key.endswith("running_var"):
            buffer.copy_(0.8 + 0.4 * torch.rand(buffer.shape, generator=generator))
    return model.eval().to(torch.float64)


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def family(request):
    """Model, shape of its input, network in raw weights."""
    make, size = FAMILIES[request.param]
    model = build(make)
    shape = (1, 3, size, size)
    return model, shape, cnt.trace(model, shape)


def seen(model, shape):
    """For each linear module that ran, by name: module and the shape of its input."""
    shapes = {}
    handles = [
        module.register_forward_hook(lambda m, args, out, n=name: shapes.update({n: args[0].shape}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        model(torch.zeros(shape, dtype=torch.float64))
    for handle in handles:
        handle.remove()
    return {name: (model.get_submodule(name), shape) for name, shape in shapes.items()}


def test_the_network_computes_what_the_model_computes(family):
    model, shape, network = family
    found = cnt.verify(model, shape, samples=2)  # the second with weights moved at random
    assert found.largest_output > 0
    assert found.error_operators <= 1e-9 * max(1.0, found.largest_output), found
    if network.link_count < LISTABLE:
        assert found.error_links is not None
        assert found.error_links <= 1e-9 * max(1.0, found.largest_output)


def test_every_parameter_is_accounted_for(family):
    model, _, network = family
    assert set(network.coverage["parameter"]) == {n for n, _ in model.named_parameters()}
    lost = network.coverage[network.coverage["status"] == "unmapped"]
    dead = lost["reason"].str.contains("no output depends on it")
    assert dead.all(), lost[~dead]
    assert lost["parameter"].str.contains("aux|AuxLogits").all()  # heads of training alone


def test_strengths_are_the_modules_answers_to_ones(family):
    model, shape, network = family
    table = cnt.strength(network)
    by_layer = dict(list(table.groupby("layer", sort=False)))
    checked = 0
    for name, (module, given) in seen(model, shape).items():
        if name not in by_layer:
            continue  # attention reads its projections by another way than their modules
        zero = torch.zeros(given, dtype=torch.float64)
        # the difference takes the bias away
        answer, adjoint = torch.func.vjp(lambda x, m=module, z=zero: m(x) - m(z), zero + 1)
        (back,) = adjoint(torch.ones_like(answer))
        into = by_layer[name]["strength_in"].to_numpy()
        np.testing.assert_allclose(into, answer.detach().reshape(-1), rtol=1e-9, atol=1e-9)
        blocks = [b for b in network.blocks if b.target == name and b.link_kind == "weight"]
        sums = [b.sums()[1].sum(0) for b in blocks]
        total = float(sum(s.sum() for s in sums))
        np.testing.assert_allclose(total, float(back.detach().sum()), rtol=1e-9, atol=1e-8)
        if len(blocks) == 1 and blocks[0].inputs is None:
            np.testing.assert_allclose(sums[0], back.detach().reshape(-1), rtol=1e-9, atol=1e-9)
        checked += 1
    assert checked > 2


def test_what_leaves_arrives(family):
    _, _, network = family
    table = cnt.strength(network)
    into, out = table["strength_in"].sum(), table["strength_out"].sum()
    assert into == pytest.approx(out, rel=1e-9, abs=1e-9 * table["strength_absolute"].sum())
    assert table["degree_in"].sum() == table["degree_out"].sum() == network.link_count
