"""Layer statistics against SciPy, and the null model against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from models import build, traced_network
from torch import nn

import cntgraph as cnt
from cntgraph.measures.nulls import null_models


@pytest.mark.parametrize("name", ["dense", "residual", "lenet", "sequence"])
@pytest.mark.parametrize("convention", ["plain", "paper"])
def test_statistics_are_scipys(name, convention):
    model, example = build(name)
    network = cnt.trace(model, example)
    strengths = cnt.strength(network, convention=convention).groupby("layer")["strength"]
    modules = dict(model.named_modules())
    for row in cnt.layers(network, convention=convention).to_dict("records"):
        of_layer = strengths.get_group(row["layer"]).to_numpy()
        assert row["fluctuation"] == pytest.approx(of_layer.std(ddof=0), abs=1e-12)
        assert row["strength_mean"] == pytest.approx(of_layer.mean(), abs=1e-12)
        module = modules.get(row["layer"])
        if not isinstance(module, (nn.Linear, nn.Conv2d, nn.Conv1d, nn.ConvTranspose2d)):
            assert row["weight_count"] == 0
            continue
        # a kernel counts once, however many links it unrolls to
        parts = (
            [module.weight]
            if convention == "plain" or module.bias is None
            else [module.weight, module.bias]
        )
        w = np.concatenate([p.detach().numpy().astype(np.float64).ravel() for p in parts])
        assert row["weight_count"] == w.size
        wanted = (w.mean(), w.std(), scipy.stats.skew(w), scipy.stats.kurtosis(w), w.min(), w.max())
        found = [row[f"weight_{n}"] for n in ("mean", "std", "skewness", "kurtosis", "min", "max")]
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_two_blocks_of_one_matrix_count_it_once():
    class Joined(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(2, 3), nn.Linear(2, 4)
            self.out = nn.Linear(7, 2)

        def forward(self, x):
            return self.out(torch.cat([self.left(x), self.right(x)], 1))

    found = cnt.layers(cnt.trace(Joined(), (1, 2))).set_index("layer")
    assert found.loc["out", "weight_count"] == 14


def test_shuffling_keeps_weights_and_changes_who_has_them():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(30, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
    with torch.no_grad():
        model[0].weight[0] += 1.0  # one neuron far stronger than chance would make it
    found = cnt.layers(cnt.trace(model, (1, 30)), shuffles=20, seed=1).set_index("layer")
    assert found.loc["0", "fluctuation_excess"] > 1.5
    assert found.loc["0", "fluctuation_z"] > 3
    again = cnt.layers(cnt.trace(model, (1, 30)), shuffles=20, seed=1).set_index("layer")
    assert again.equals(found)
    ratio = found["fluctuation"] / found["fluctuation_null"]
    np.testing.assert_allclose(found["fluctuation_excess"], ratio)


def test_nan_weights_give_nan_statistics_and_leave_other_layers_alone():
    network = traced_network("dense")
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.2.weight"][0, 0] = float("nan")
    found = cnt.layers(network.with_weights(weights)).set_index("layer")
    assert np.isnan(found.loc["fc.2", "weight_mean"])
    assert np.isfinite(found.loc["fc.0", "fluctuation"])


@pytest.mark.filterwarnings("error")
def test_infinite_weights_are_told_by_nan_alone():
    network = traced_network("dense")
    weights = {n: t.clone() for n, t in network.weights.items()}
    weights["fc.2.weight"][0] = torch.tensor([float("inf"), float("-inf"), 0, 0, 0, 0])
    infinite = network.with_weights(weights)
    assert np.isnan(cnt.layers(infinite).set_index("layer").loc["fc.2", "fluctuation"])
    assert np.isnan(cnt.strength(infinite).set_index("layer").loc["fc.2", "strength"].iloc[0])


def test_bad_values_are_refused():
    network = traced_network("dense")
    with pytest.raises(cnt.InputRefused, match="shuffles=-1"):
        cnt.layers(network, shuffles=-1)
    with pytest.raises(cnt.InputRefused, match="plain"):
        cnt.layers(network, convention="plane")


@pytest.mark.parametrize("null", ["weights", "signs"])
@pytest.mark.parametrize("name", ["dense", "residual", "reparametrised"])
def test_the_null_is_the_moments_of_its_draws(name, null):
    network = traced_network(name)
    found = cnt.layers(network, shuffles=4, null=null, seed=2)
    drawn = np.array(
        [
            cnt.strength(one).groupby("layer", sort=False)["strength"].std(ddof=0)
            for one in null_models(network, null, 4, seed=2)
        ]
    )
    assert drawn.std(0).max() > 0
    np.testing.assert_allclose(found["fluctuation_null"], drawn.mean(0), rtol=1e-9)
    varies = drawn.std(0) > 1e-9
    z = (found["fluctuation"] - drawn.mean(0))[varies] / drawn.std(0)[varies]
    np.testing.assert_allclose(found["fluctuation_z"][varies], z, rtol=1e-6)


def test_a_null_that_keeps_the_fluctuation_is_refused():
    network = traced_network("dense")
    with pytest.raises(cnt.DegenerateMeasure, match="says nothing"):
        cnt.layers(network, shuffles=2, null="strengths")
    with pytest.raises(cnt.InputRefused, match="no null model 'sign'"):
        cnt.layers(network, null="sign")
