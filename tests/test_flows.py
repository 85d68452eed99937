"""Sweeps against linear algebra on the explicit graph, and the laws of path scores."""

from __future__ import annotations

import functools

import networkx
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ZOO, traced_network
from torch import nn

import cntgraph as cnt

KINDS = ("weight", "identity", "fixed", "scale", "select")
MEASURES = ("katz", "communicability", "path_score", "flow")


def explicit(network, kinds=KINDS, of=np.abs):
    """The weight of i -> j in row i, from the listed links; parallel links are added up."""
    ends, weights = [[], []], []
    for batch in network.links(kinds):
        for end, name in zip(ends, ("source", "target"), strict=True):
            end.append(batch.column(name).to_numpy())
        weights.append(of(batch.column("weight").to_numpy()))
    size = (network.neuron_count,) * 2
    joined = [np.concatenate([*part, np.zeros(0, np.int64)]) for part in ends]
    return scipy.sparse.csr_array((np.concatenate([*weights, []]), joined), shape=size)


def column(network, name, **how):
    return cnt.measure(network, name, **how)[name].to_numpy()


def close(found, expected, rtol=1e-10):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def solved(matrix, start):
    """What arrives at every neuron if what starts is passed on along the links."""
    size = len(start)
    return scipy.sparse.linalg.spsolve(scipy.sparse.eye_array(size, format="csc") - matrix.T, start)


def of_kind(network, kind):
    return np.concatenate([np.full(a.size, float(a.kind == kind)) for a in network.layers])


@functools.cache
def filtered(name):
    return traced_network(name).filtered("top:3")


NETWORKS = [(name, traced_network) for name in ZOO] + [("residual", filtered), ("lenet", filtered)]


@pytest.mark.parametrize(("name", "of"), NETWORKS)
@pytest.mark.parametrize("kinds", [KINDS, ("weight",)], ids=["all kinds", "weights"])
@pytest.mark.parametrize(("sign", "part"), [("absolute", np.abs), ("signed", np.asarray)])
def test_katz_solves_its_equation(name, of, kinds, sign, part):
    matrix = explicit(of(name), kinds, part)
    expected = solved(0.3 * matrix, np.full(matrix.shape[0], 2.0))
    close(column(of(name), "katz", alpha=0.3, beta=2.0, sign=sign, kinds=kinds), expected)


@pytest.mark.parametrize("name", ["dense", "tied", "sequence"])
def test_networkx_gives_the_same_katz(name):
    network = traced_network(name)
    graph = networkx.from_scipy_sparse_array(explicit(network), create_using=networkx.DiGraph)
    theirs = networkx.katz_centrality(graph, tol=1e-14, normalized=False, weight="weight")
    close(column(network, "katz"), [theirs[k] for k in range(network.neuron_count)])


SMALL = ["dense", "padding modes", "sequence", "tied", "shuffled", "attention", "recurrent"]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("sign", "part"), [("absolute", np.abs), ("signed", np.asarray)])
def test_communicability_is_the_exponential(name, sign, part):
    exponential = scipy.linalg.expm(explicit(traced_network(name), of=part).toarray())
    close(column(traced_network(name), "communicability", sign=sign), exponential.sum(0))


@pytest.mark.parametrize(("name", "of"), NETWORKS)
def test_path_scores_solve_their_equations(name, of):
    network = of(name)
    matrix = explicit(network)
    ahead = solved(matrix, of_kind(network, "input"))
    back = solved(matrix.T, of_kind(network, "output"))
    if not (ahead * back).any():
        with pytest.raises(cnt.DegenerateMeasure, match="no path"):
            column(network, "path_score")
        return
    found = column(network, "path_score")
    close(found, ahead * back)
    total = found[of_kind(network, "input") > 0].sum()
    close(column(network, "path_score", normalised=True), found / total)


@pytest.mark.parametrize(("name", "of"), NETWORKS)
def test_flow_solves_its_equation(name, of):
    network = of(name)
    matrix, inputs = explicit(network), of_kind(network, "input")
    out = np.asarray(matrix.sum(1))
    if not out[inputs > 0].any():
        with pytest.raises(cnt.DegenerateMeasure, match="no path"):
            column(network, "flow")
        return
    chances = scipy.sparse.diags_array(np.divide(1, out, out=np.zeros_like(out), where=out > 0))
    expected = solved((chances @ matrix).tocsr(), inputs / inputs.sum())
    found = column(network, "flow")
    close(found, expected)
    np.testing.assert_allclose(found[out == 0].sum(), 1, rtol=1e-12)


def head():
    """Two inputs, two hidden neurons, one output, and a link of zero."""
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -3.0], [3.0, 0.0]]))
        model[2].weight.copy_(torch.tensor([[2.0, -5.0]]))
    return cnt.trace(model, (1, 2))


def test_by_hand():
    found = cnt.measure(head(), *MEASURES, alpha=0.5)
    assert found["katz"].tolist() == [1, 1, 3, 2.5, 1 + 3 + 6.25]
    assert found["communicability"].tolist() == [1, 1, 5, 4, 8 + (2 * 4 + 5 * 3) / 2]
    assert found["path_score"].tolist() == [1 * 2 + 3 * 5, 3 * 2, 4 * 2, 3 * 5, 8 + 15]
    assert found["flow"].tolist() == [0.5, 0.5, 0.125 + 0.5, 0.375, 1]
    signed = cnt.measure(head(), "katz", "communicability", sign="signed", alpha=0.5)
    assert signed["katz"].tolist() == [1, 1, 0, 2.5, -5.25]
    assert signed["communicability"].tolist() == [1, 1, -1, 4, 1 + 2 - 5 + (2 * -2 - 5 * 3) / 2]


class Exits(nn.Module):
    """An output that feeds another one, a constant that is no input, a dead end."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(4, 2, bias=False)
        self.table = nn.Parameter(torch.tensor([[0.5, -1.5]]))
        with torch.no_grad():
            self.first.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 4.0]]))
            self.second.weight.copy_(torch.tensor([[3.0, 0.0, 7.0, 7.0], [1.0, 0.0, 7.0, 7.0]]))

    def forward(self, x):
        y = torch.relu(self.first(x))
        return y, self.second(torch.cat([y, self.table.expand(len(x), -1)], 1))


def test_an_output_that_feeds_others_and_a_constant_that_is_no_input():
    network = cnt.trace(Exits(), (1, 2))
    assert "constant" in {layer.kind for layer in network.layers}
    found = cnt.measure(network, "path_score", "flow").groupby("layer").agg(list)
    by_kind = {a.kind: a.name for a in network.layers}
    assert found.loc[by_kind["constant"], "flow"] == [0, 0]
    assert found.loc[by_kind["constant"], "path_score"] == [0, 0]
    assert found.loc["first", "path_score"] == [(1 + 2) * (1 + 3 + 1), 4 * 1]
    assert found.loc["second", "path_score"] == [3 * 3, 3 * 1]
    assert found.loc["x", "flow"] == [0.5, 0.5]
    np.testing.assert_allclose(found.loc["first", "flow"], [0.5 + 0.5 / 3, 1 / 3])  # ends there
    np.testing.assert_allclose(found.loc["second", "flow"], [2 / 3 * 3 / 4, 2 / 3 / 4])


def rescaled(model, weights, into, out, channel, factor):
    """Weights with the links into a hidden channel times a factor and those out of it by it."""
    changed = {n: t.clone() for n, t in weights.items()}
    changed[f"{into}.weight"][channel] *= factor
    changed[f"{into}.bias"][channel] *= factor
    changed[f"{out}.weight"][:, channel] /= factor
    return changed


def convolutional():
    parts = [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 2, stride=2), nn.ReLU()]
    return nn.Sequential(*parts, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)), (1, 2, 4, 4)


def dense():
    parts = [nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)]
    return nn.Sequential(*parts), (1, 5)


@functools.cache
def traced(build):
    torch.manual_seed(1)
    model, shape = build()
    return model.double(), cnt.trace(model, torch.zeros(shape, dtype=torch.float64))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([dense, convolutional]), st.integers(0, 2), st.floats(1e-6, 1e6))
def test_rescaling_a_rectified_neuron_changes_no_path_score(build, channel, factor):
    model, network = traced(build)
    weights = {n: t.detach() for n, t in model.named_parameters()}
    changed = rescaled(model, weights, "0", "2", channel, factor)
    x = torch.randn((4, *network.layers[0].traced[1:]), dtype=torch.float64)
    again = network.with_weights(changed)
    torch.testing.assert_close(again.forward(x)[0], network.forward(x)[0], rtol=1e-9, atol=1e-12)
    before, after = column(network, "path_score"), column(again, "path_score")
    np.testing.assert_allclose(after, before, rtol=1e-9)
    if not 0.5 < factor < 2:
        a, b = (cnt.strength(n)["strength_absolute"] for n in (network, again))
        assert not np.allclose(a, b, rtol=1e-3)


@pytest.mark.parametrize("build", [dense, convolutional])
def test_all_paths_cross_every_layer(build):
    _, network = traced(build)
    found = cnt.measure(network, "path_score", normalised=True).groupby("layer")["path_score"].sum()
    np.testing.assert_allclose(found, 1, rtol=1e-12)


@functools.cache
def traced_chain(count):
    """One neuron after another."""
    layers = [nn.Linear(1, 1, bias=False) for _ in range(count)]
    return cnt.trace(nn.Sequential(*layers).double(), torch.zeros(1, 1, dtype=torch.float64))


def chain(weights):
    network = traced_chain(len(weights))
    values = (torch.full((1, 1), float(w), dtype=torch.float64) for w in weights)
    return network.with_weights(dict(zip(network.weights, values, strict=True)))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(-500, 500), min_size=30, max_size=30))
def test_products_leave_the_range_on_the_way_without_harm(exponents):
    exponents = [*exponents, *(-e for e in exponents)]
    found = column(chain([2.0**e for e in exponents]), "path_score")
    np.testing.assert_array_equal(found, 1)


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_scores_outside_the_range_are_refused_and_shares_are_not(size):
    network = chain([size] * 60)
    with pytest.raises(cnt.InputRefused, match="normalised=True") as refusal:
        column(network, "path_score")
    assert f"1e{60 * round(np.log10(size)):+}" in str(refusal.value)
    np.testing.assert_allclose(column(network, "path_score", normalised=True), 1, rtol=1e-12)
    inside = column(chain([size] * 50 + [1] * 10), "path_score")
    np.testing.assert_allclose(inside, size**50, rtol=1e-12)


class Skips(nn.Module):
    """Deep products beside a short way to the same layer."""

    def __init__(self):
        super().__init__()
        self.deep = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(20))
        for layer in self.deep:
            nn.init.constant_(layer.weight, 1e-30)

    def forward(self, x):
        y = x
        for layer in self.deep:
            y = layer(torch.relu(y))
        return torch.relu(y + x)


def test_a_short_way_beside_a_deep_one():
    found = cnt.measure(cnt.trace(Skips(), (1, 2)), "path_score", "flow")
    assert found["path_score"].iloc[[0, 1, -2, -1]].tolist() == [1, 1, 1, 1]
    assert (found["path_score"].iloc[2:-2] < 1e-300).all()
    np.testing.assert_allclose(found["flow"].iloc[-2:], 0.5)


def mlp(**changes):
    network = cnt.trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (1, 3))
    weights = {n: torch.full_like(t, 0.5) for n, t in network.weights.items()}
    for place, value in changes.items():
        layer, row, at = place[1:].split("_")
        weights[f"{layer}.weight"][int(row), int(at)] = value
    return network.with_weights(weights)


@pytest.mark.parametrize("name", MEASURES)
def test_nan_stays_nan_and_goes_no_further_than_paths_do(name):
    found = column(mlp(w2_1_0=float("nan")), name)
    assert np.isnan(found[-1])
    assert np.isfinite(found[4:7]).all()
    both = name == "path_score"
    assert np.isnan(found[:4]).all() == both, "scores look both ways, the others ahead"


@pytest.mark.parametrize("name", ["katz", "communicability", "path_score"])
def test_an_infinite_weight_is_infinitely_much(name):
    found = column(mlp(w2_1_0=float("inf")), name)
    assert np.isposinf(found[-1])
    assert np.isfinite(found[-2])


def test_an_input_that_leads_nowhere():
    network = mlp(w0_0_1=0, w0_1_1=0, w0_2_1=0, w0_3_1=0)
    found = cnt.measure(network, *MEASURES)
    assert found["path_score"][1] == 0
    assert found["flow"][1] == 1 / 3
    np.testing.assert_allclose(found["flow"][3:7].sum(), 2 / 3)  # a third of the walkers stays


@pytest.mark.parametrize("name", [*MEASURES, "pagerank", "pagerank_backward"])
def test_without_links_nothing_is_said(name):
    with pytest.raises(cnt.DegenerateMeasure, match="no links"):
        column(mlp().filtered("above:1"), name)


@pytest.mark.parametrize("name", MEASURES)
def test_zero_weights(name):
    network = mlp()
    network = network.with_weights({n: torch.zeros_like(t) for n, t in network.weights.items()})
    if name in ("path_score", "flow"):
        with pytest.raises(cnt.DegenerateMeasure, match="other than zero"):
            column(network, name)
    else:
        assert column(network, name).tolist() == [1.0] * 9


def test_layers_of_one_neuron():
    found = cnt.measure(chain([2.0, -3.0]), *MEASURES, alpha=1.0)
    assert found["katz"].tolist() == [1, 3, 10]
    assert found["communicability"].tolist() == [1, 3, 1 + 3 + 3]
    assert found["path_score"].tolist() == [6, 6, 6]
    assert found["flow"].tolist() == [1, 1, 1]


def test_by_channel():
    network = traced_network("residual").by_channel("l1")
    matrix = explicit(network)
    close(column(network, "katz"), solved(0.1 * matrix, np.ones(matrix.shape[0])))


@pytest.mark.parametrize(
    ("names", "options", "said"),
    [
        (("katz",), {"alpha": float("nan")}, "alpha=nan"),
        (("katz",), {"beta": float("inf")}, "beta=inf"),
        (("path_score",), {"sign": "signed"}, "its sign is absolute"),
        (("flow",), {"sign": "positive"}, "its sign is absolute"),
        (("path_score",), {"normalized": True}, "did you mean normalised"),
        (("path_scor",), {}, "did you mean path_score"),
    ],
)
def test_what_is_refused(names, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.measure(head(), *names, **options)
    assert said in str(refusal.value)
