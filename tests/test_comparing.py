"""Measures beside strength, epochs beside each other: against SciPy, igraph and plain counting."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import exported
from torch import nn

import cntgraph as cnt
from cntgraph.comparing.ranking import Ranked, kendall, levels, pearson, spearman

KINDS = ("weight", "identity", "fixed", "scale", "select")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Four epochs that share nothing; PageRank is stored."""
    return exported(tmp_path_factory.mktemp("runs") / "dense", "dense", 4, measures=("pagerank",))


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("runs") / "residual", "residual", 2)


def run_of(folder, *matrices, **options):
    """A run of one linear layer whose epochs have these weights (outputs x inputs)."""
    matrices = [torch.as_tensor(m, dtype=torch.float64) for m in matrices]
    model = nn.Linear(*reversed(matrices[0].shape), bias=False, dtype=torch.float64)
    states = {epoch: {"weight": m} for epoch, m in enumerate(matrices)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cnt.CntWarning)
        return cnt.export(model, states, torch.zeros(1, model.in_features).double(), to=folder,
                          **options)  # fmt: skip


# -- two lists of numbers -------------------------------------------------------------------------

CORRELATIONS = (pearson, spearman, kendall)
lists = st.integers(2, 12).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(-4, 4), min_size=n, max_size=n)] * 2)
)


def tau_b(a, b):
    """Kendall's tau-b by looking at every pair."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    x = np.array([np.sign(a[i] - a[j]) for i, j in pairs])
    y = np.array([np.sign(b[i] - b[j]) for i, j in pairs])
    return (x @ y) / math.sqrt((x @ x) * (y @ y))


@given(lists)
def test_correlations_are_scipys_and_pair_by_pair(drawn):
    a, b = (np.array(values, float) for values in drawn)
    found = [correlation(Ranked(a), Ranked(b)) for correlation in CORRELATIONS]
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(found).all()
        return
    expected = scipy.stats.pearsonr(a, b)[0], scipy.stats.spearmanr(a, b)[0], tau_b(a, b)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(lists, st.randoms(use_true_random=False), st.sampled_from([1e-200, 1.0, 1e200]))
def test_rounding_errors_and_units_change_nothing(drawn, random, unit):
    a, b = (np.array(values, float) for values in drawn)
    noisy = np.array([v * (1 + random.uniform(-1e-14, 1e-14)) for v in a * unit])
    np.testing.assert_array_equal(levels(noisy), levels(a))
    np.testing.assert_array_equal(levels(a), np.unique(a, return_inverse=True)[1])
    for correlation in CORRELATIONS:
        found, expected = (correlation(Ranked(v), Ranked(b)) for v in (noisy, a))
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert Ranked(noisy).strongest(3) == Ranked(a).strongest(3)


@given(lists)
def test_the_strongest_are_the_first_of_a_stable_sort(drawn):
    values = drawn[0]
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:3]
    found = Ranked(np.array(values, float)).strongest(3)
    assert found == (set(expected) if len(set(values)) > 1 else set())


# -- compare --------------------------------------------------------------------------------------


def oracle(network):
    """PageRank and strengths of the listed links, by igraph."""
    graph = network.to_igraph(KINDS)
    graph.es["size"] = [abs(w) for w in graph.es["weight"]]
    trained = network.to_igraph()
    return {
        "pagerank": np.array(graph.pagerank(weights="size")),
        "strength": np.array(trained.strength(weights="weight")),
        "strength_absolute": np.array(trained.strength(weights=np.abs(trained.es["weight"]))),
    }


def top_of(values, count):
    return set(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])


@pytest.mark.parametrize("name", ["dense", "residual"])
def test_scipy_and_igraph_say_the_same(name, request):
    run = request.getfixturevalue(name)
    found = cnt.compare(run, "pagerank", top=3).set_index(["epoch", "layer", "against"])
    assert len(found) == len(run.epochs) * len(run.wiring.layers) * 2
    for epoch in run.epochs["epoch"]:
        values = oracle(run.network(epoch))
        for layer, against in itertools.product(
            run.wiring.layers, ("strength", "strength_absolute")
        ):
            row = found.loc[epoch, layer.name, against]
            a, b = (values[n][layer.first : layer.last] for n in ("pagerank", against))
            assert (row["size"], row["measure"]) == (layer.size, "pagerank")
            if min(np.ptp(a), np.ptp(b)) < 1e-9:
                assert row[["pearson", "spearman", "kendall", "top_shared"]].isna().all()
                continue
            assert row["pearson"] == pytest.approx(scipy.stats.pearsonr(a, b)[0], abs=1e-9)
            if name == "residual":  # convolutions: equal values that rounding tells apart
                a, b = np.round(a, 12), np.round(b, 9)
            assert row["spearman"] == pytest.approx(scipy.stats.spearmanr(a, b)[0], abs=1e-9)
            assert row["kendall"] == pytest.approx(scipy.stats.kendalltau(a, b)[0], abs=1e-9)
            k = min(3, layer.size // 2)
            assert row["top_shared"] == len(top_of(a, k) & top_of(np.abs(b), k)) / k


def test_stored_values_are_those_that_are_used(dense, tmp_path):
    stored = cnt.compare(dense)
    assert list(stored.columns) == [
        "epoch", "layer", "size", "measure", "against", "pearson", "spearman", "kendall",
        "top_shared",
    ]  # fmt: skip
    assert set(stored["measure"]) == {"pagerank"}
    computed = exported(tmp_path / "again", "dense", 4)
    again = cnt.compare(computed, "pagerank")
    numbers = ["pearson", "spearman", "kendall", "top_shared"]
    np.testing.assert_array_equal(stored[numbers], again[numbers])
    assert cnt.compare(dense, epochs=[3, 1])["epoch"].unique().tolist() == [1, 3]


def test_a_stored_label_is_no_amount(tmp_path):
    run = exported(tmp_path / "run", "dense", 2, measures=("community", "participation"))
    assert set(cnt.compare(run)["measure"]) == {"participation"}


def test_without_weights_what_is_stored_is_compared(tmp_path):
    model = nn.Linear(6, 4)
    with cnt.Recorder(
        model, (1, 6), to=tmp_path / "run", measures=("pagerank",), keep_weights=False
    ) as recorder:
        recorder.snapshot(0)
        nn.init.normal_(model.weight)
        recorder.snapshot(1)
    run = cnt.open_run(tmp_path / "run")
    assert len(cnt.compare(run)) == 2 * 2 * 2
    assert len(cnt.stability(run, "pagerank")) == 2
    with pytest.raises(cnt.InputRefused, match="holds no weights"):
        cnt.compare(run, "pagerank_backward")


def test_by_default_what_is_cheap_and_says_something(tmp_path):
    run = exported(tmp_path / "run", "dense", 2)
    with pytest.warns(cnt.CntWarning, match="not compared: .*degree") as told:
        found = cnt.compare(run)
    measured = set(found["measure"])
    assert {"pagerank", "pagerank_backward", "balance", "disparity_in"} <= measured
    assert not {"community", "degree", "strength", "strength_in"} & measured
    assert "one value per layer" in str(told[0].message)
    assert set(found["epoch"]) == {0, 1}


def test_a_measure_that_ends_to_say_something_is_left_out_from_there(tmp_path):
    """At epoch 1 nothing has a weight: without names that is told, with names refused."""
    run = run_of(tmp_path / "run", torch.randn(5, 6), torch.zeros(5, 6))
    with pytest.warns(cnt.CntWarning, match="participation"):
        found = cnt.compare(run)
    assert set(found.query("measure == 'participation'")["epoch"]) == {0}
    with pytest.raises(cnt.DegenerateMeasure):
        cnt.compare(run, "participation")


def test_one_neuron_and_one_value_have_no_correlation(tmp_path):
    run = run_of(tmp_path / "run", torch.randn(1, 6), torch.ones(1, 6))
    found = cnt.compare(run, "pagerank_backward").set_index(["epoch", "layer", "against"])
    numbers = ["pearson", "spearman", "kendall", "top_shared"]
    assert found.loc[(slice(None), "linear"), numbers].isna().all(axis=None)
    assert found.loc[(slice(None), "linear"), "size"].eq(1).all()
    assert found.loc[(1, "input"), numbers].isna().all(axis=None)
    assert found.loc[(0, "input", "strength_absolute"), "spearman"] == pytest.approx(1)


def test_what_is_no_number_is_left_out_and_counted(tmp_path):
    weights = torch.randn(4, 7)
    weights[1, 2], weights[3, 0] = float("nan"), float("inf")
    run = run_of(tmp_path / "run", weights)
    found = cnt.compare(run, "net_strength").query("against == 'strength'").set_index("layer")
    assert found["size"].to_dict() == {"input": 5, "linear": 2}
    out = -np.delete(weights.numpy().sum(0), [0, 2])
    expected = scipy.stats.pearsonr(out, -out)[0]
    assert found.loc["input", "pearson"] == pytest.approx(expected)


def test_the_longest_link_is_that_of_all_epochs(tmp_path):
    small, large = torch.rand(4, 5) * 0.1, torch.rand(4, 5) * 3
    run = run_of(tmp_path / "run", small, large)
    values = cnt.measure(run, "harmonic", length="log").query("epoch == 0 and layer == 'input'")
    strength = cnt.strength(run.network(0)).query("layer == 'input'")["strength"]
    found = cnt.compare(run, "harmonic", length="log", epochs=[0]).set_index(["layer", "against"])
    expected = scipy.stats.pearsonr(values["harmonic"], strength)[0]
    assert found.loc[("input", "strength"), "pearson"] == pytest.approx(expected, abs=1e-12)
    alone = run_of(tmp_path / "alone", small)
    other = cnt.compare(alone, "harmonic", length="log").set_index(["layer", "against"])
    assert abs(other.loc[("input", "strength"), "pearson"] - expected) > 1e-6


# -- over the epochs ------------------------------------------------------------------------------


def test_a_case_that_fits_in_the_head(tmp_path):
    """Outputs of strength 4, -3, 2, 1 and then 1, -5, 2, 4: two of four count as the strongest."""
    run = run_of(tmp_path / "run", [[4], [-3], [2], [1]], [[1], [-5], [2], [4]])
    (found,) = cnt.stability(run, layer="linear").to_dict("records")
    kendall = found.pop("kendall")
    assert found == {
        "epoch": 1, "previous": 0, "layer": "linear", "top": 2, "shared": 1,
        "jaccard": pytest.approx(1 / 3), "spearman": pytest.approx(-0.4),
    }  # fmt: skip
    assert kendall == pytest.approx(-1 / 3)
    kept = cnt.persistent(run, layer="linear")
    assert kept.to_numpy().tolist() == [
        ["linear", 1, 2, 2, 0, 1], ["linear", 0, 1, 1, 0, 0], ["linear", 3, 4, 1, 1, 1],
    ]  # fmt: skip
    assert cnt.risers(run, top=3).to_numpy().tolist() == [
        ["linear", 0, 1, 4.0, 1.0, -3.0, 1, 5],
        ["linear", 3, 4, 1.0, 4.0, 3.0, 5, 2],
        ["input", 0, 0, 4.0, 2.0, -2.0, 1, 3],
    ]


@pytest.mark.parametrize("measure", ["strength", "pagerank", "balance"])
def test_stability_counted_by_hand(dense, measure):
    found = cnt.stability(dense, measure, top=4).set_index(["epoch", "layer"])
    values = cnt.measure(dense, measure)
    sizes = values[measure].abs() if measure == "strength" else values[measure]
    parts = sizes.groupby([values["epoch"], values["layer"]])
    for epoch, layer in itertools.product((1, 2, 3), dense.wiring.layers):
        row = found.loc[epoch, layer.name]
        a, b = (parts.get_group((e, layer.name)).to_numpy() for e in (epoch - 1, epoch))
        k = min(4, layer.size // 2)
        assert (row["previous"], row["top"]) == (epoch - 1, k)
        if min(np.ptp(a), np.ptp(b)) < 1e-12:
            assert row[["shared", "jaccard", "kendall", "spearman"]].isna().all()
            continue
        tops = top_of(a, k), top_of(b, k)
        assert row["shared"] == len(tops[0] & tops[1])
        assert row["jaccard"] == pytest.approx(row["shared"] / len(tops[0] | tops[1]))
        assert row["kendall"] == pytest.approx(tau_b(a, b))
        assert row["spearman"] == pytest.approx(scipy.stats.spearmanr(a, b)[0])


def test_persistent_and_stability_count_the_same(dense):
    kept = cnt.persistent(dense, top=3)
    steady = cnt.stability(dense, top=3)
    everywhere = kept.groupby("layer")["epochs_in_top"].sum()
    for layer in dense.wiring.layers:
        assert everywhere[layer.name] == 4 * min(3, layer.size // 2)
    assert (kept["first"] <= kept["last"]).all()
    assert kept["epochs_in_top"].is_monotonic_decreasing
    always = kept[kept["epochs_in_top"] == 4].groupby("layer").size()
    least = steady.groupby("layer")["shared"].min()
    assert all(always.get(layer, 0) <= shared for layer, shared in least.items())


@settings(max_examples=5, deadline=None)
@given(st.integers(2, 5), st.integers(1, 30))
def test_nothing_moves_where_the_weights_stay(tmp_path_factory, outputs, top):
    weights = torch.randn(outputs, 7)
    run = run_of(tmp_path_factory.mktemp("still") / "run", weights, weights, weights)
    found = cnt.stability(run, top=top)
    assert (found["shared"] == found["top"]).all()
    assert (found[["jaccard", "kendall", "spearman"]] > 1 - 1e-12).all(axis=None)
    assert (cnt.persistent(run, top=top)["epochs_in_top"] == 3).all()
    assert (cnt.risers(run)["change"] == 0).all()


def test_risers_are_the_largest_changes(dense):
    found = cnt.risers(dense, 1, 2, top=5)
    first, last = (dense.neurons(e)["strength"] for e in (1, 2))
    change = (last - first).abs().sort_values(ascending=False, kind="stable").head(5)
    assert found["neuron"].tolist() == change.index.tolist()
    np.testing.assert_array_equal(found["value_first"], first[change.index])
    np.testing.assert_array_equal(found["change"], found["value_last"] - found["value_first"])
    ranks = [1 + int((last.abs() > abs(last[n])).sum()) for n in change.index]
    assert found["rank_last"].tolist() == ranks
    back = cnt.risers(dense, 2, 1, top=5)
    np.testing.assert_array_equal(back["change"], -found["change"])
    whole = cnt.risers(dense, measure="pagerank", top=100)
    assert len(whole) == dense.wiring.neuron_count


def test_a_layer_of_equal_neurons_has_no_strongest(tmp_path):
    run = run_of(tmp_path / "run", torch.ones(3, 4), torch.randn(3, 4), torch.randn(3, 4))
    found = cnt.stability(run, layer="linear").set_index("epoch")
    assert found.loc[1, ["shared", "jaccard", "kendall", "spearman"]].isna().all()
    assert found.loc[2, "shared"] in (0, 1)
    assert cnt.persistent(run)["first"].min() == 1


def test_a_neuron_without_a_number_is_neither_strong_nor_risen(tmp_path):
    weights = torch.randn(4, 6)
    weights[2, 3] = float("nan")
    run = run_of(tmp_path / "run", torch.randn(4, 6), weights)
    assert cnt.stability(run, layer="linear")["top"].item() == 1
    lost = {3, 6 + 2}
    assert not lost & set(cnt.risers(run, top=100)["neuron"])
    strong = cnt.persistent(run, top=100).query("last == 1")
    assert not lost & set(strong["neuron"])
    assert strong["layer"].value_counts().to_dict() == {"input": 2, "linear": 1}


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: cnt.compare(run, "pagernk"), "did you mean pagerank"),
        (lambda run: cnt.compare(run, "assortativity"), "it is per block, strength is per neuron"),
        (lambda run: cnt.compare(run, "modularity"), "it is per network, strength is per neuron"),
        (lambda run: cnt.compare(run, "community"), "compare participation"),
        (lambda run: cnt.compare(run, "pagerank", sign="signed"), "its sign is absolute"),
        (lambda run: cnt.compare(run, epochs=[0, 9]), "no epoch 9"),
        (lambda run: cnt.compare(run, epochs=[]), "needs an epoch"),
        (lambda run: cnt.compare(run, top=0), "top=0"),
        (lambda run: cnt.stability(run, "streng"), "did you mean strength"),
        (lambda run: cnt.stability(run, layer="fc.7"), "did you mean fc."),
        (lambda run: cnt.persistent(run, top=-1), "top=-1"),
        (lambda run: cnt.risers(run, 2, 2), "from epoch 2 to itself"),
        (lambda run: cnt.risers(run, 0, 7), "no epoch 7"),
    ],
)
def test_what_is_refused(dense, ask, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        ask(dense)
    assert said in str(refusal.value)


def test_one_epoch_has_nothing_to_be_compared_with(tmp_path):
    run = run_of(tmp_path / "run", torch.randn(3, 4))
    for ask in (cnt.stability, cnt.risers):
        with pytest.raises(cnt.InputRefused, match="needs 2 epochs"):
            ask(run)
    assert set(cnt.persistent(run)["epochs_in_top"]) == {1}
