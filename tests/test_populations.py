"""Populations against NumPy and SciPy on the weights themselves, and all that goes wrong."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from torch import nn

import cntgraph as cnt
from cntgraph.runs import open_run

GROUP = ["architecture", "initialisation", "bin"]
# name: hidden neurons, initialisation, accuracy at the end
RUNS = {
    "a0": (3, "small", 0.15),
    "a1": (3, "small", 0.45),
    "a2": (3, "small", 0.75),
    "a3": (3, "small", 0.95),
    "b0": (3, "large", 0.2),
    "b1": (3, "large", 0.9),
    "wide": (5, "small", 0.8),
    "lost": (3, "small", 0.85),  # a weight of it is NaN
    "plain": (3, None, None),  # nothing was recorded of it
    "light": (3, "small", 0.65),  # no weights are kept
}


def record(folder, name, hidden, initialisation, accuracy):
    """Epochs 0 and 2 of a network; the weights of each epoch, by layer."""
    seed = sorted(RUNS).index(name)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 2))
    facts = {"initialisation": initialisation, "seed": seed} if initialisation else {}
    final = {} if accuracy is None else {"accuracy": accuracy, "step": 7 * seed + 1}
    weights = {}
    with cnt.Recorder(model, (1, 4), to=folder, keep_weights=name != "light") as recorder:
        for epoch, metrics in ((0, facts), (2, final)):
            with torch.no_grad():
                model[0].weight.mul_(1 + epoch * (accuracy or 1))
                model[2].weight.add_(epoch * torch.randn(2, hidden))
                if name == "lost" and epoch:
                    model[0].weight[1, 2] = float("nan")
            if epoch == 0:
                metrics = metrics | {"accuracy": 0.1} if accuracy else metrics
            recorder.snapshot(epoch, **metrics)
            arrays = (model[i].weight.detach().double().numpy().copy() for i in (0, 2))
            weights[epoch] = dict(zip(("0", "2"), arrays, strict=True))
    return weights


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Every run of the table, recorded once: its folder, and its weights by epoch and layer."""
    root = tmp_path_factory.mktemp("recorded")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cnt.CntWarning)  # of the NaN
        return {name: (root / name, record(root / name, name, *RUNS[name])) for name in RUNS}


@pytest.fixture
def populate(recorded, tmp_path):
    """Put some of the runs into a folder of one's own."""

    def put(*names, at=""):
        for name in names:
            shutil.copytree(recorded[name][0], tmp_path / at / name)
        return tmp_path

    return put


def strengths(weights):
    """Strength by layer, from the two matrices."""
    first, second = weights["0"], weights["2"]
    return {
        "input": first.sum(0),
        "0": first.sum(1) + second.sum(0),
        "2": second.sum(1),
    }


SMALL = ("a0", "a1", "a2", "a3")
LARGE = ("b0", "b1")


# -- finding runs ---------------------------------------------------------------------------------


def test_runs_are_found_wherever_they_lie(populate):
    root = populate(*SMALL)
    populate("b0", at="deep/er")
    (root / "notes.txt").write_text("mine")
    population = cnt.open_population(root)
    found = population.runs
    assert found["run"].tolist() == ["a0", "a1", "a2", "a3", "b0"]
    assert found["path"].tolist()[-1] == str(root / "deep" / "er" / "b0")
    assert found["epochs"].tolist() == [2] * 5
    assert found["epoch"].tolist() == [2] * 5
    assert found["accuracy"].tolist() == [RUNS[name][2] for name in found["run"]]
    assert found["initialisation"].tolist() == ["small"] * 4 + ["large"], "recorded at epoch 0 only"
    assert found["seed"].tolist() == [0, 1, 2, 3, 4]
    assert len(population) == 5
    assert [run.name for run in population] == found["run"].tolist()
    assert population.left_out.empty
    assert "5 runs" in repr(population)


def test_one_run_is_a_population(populate):
    population = cnt.open_population(populate("a0") / "a0")
    assert population.runs["run"].tolist() == ["a0"]


def test_columns_are_all_that_any_run_recorded(populate):
    found = cnt.open_population(populate("a0", "plain")).runs.set_index("run")
    assert np.isnan(found.loc["plain", "accuracy"])
    assert found.loc["a0", "step"] == 1


def test_what_is_damaged_is_left_out_and_named(populate):
    root = populate("a0", "a1", "a2", "b0", "b1")
    (root / "a1" / "manifest.json").write_text("{}")
    (root / "a2" / "manifest.json").unlink()
    metrics = root / "b0" / "epochs" / "epoch=0002" / "metrics.json"
    metrics.write_bytes(metrics.read_bytes().replace(b"0.2", b"0.9"))
    (root / "web").mkdir()
    (root / "web" / "manifest.json").write_text('{"icons": []}')
    populate("a3", at="web")
    with pytest.warns(cnt.CntWarning, match="4 of 7 run folders are left out"):
        population = cnt.open_population(root)
    assert population.runs["run"].tolist() == ["a0", "b1", "a3"]
    reasons = population.left_out.set_index("path")["why"]
    assert "is not the file of a cntgraph run" in reasons[str(root / "a1")]
    assert "the export is not finished" in reasons[str(root / "a2")]
    assert "altered after its export" in reasons[str(root / "b0")]
    assert "left out" in repr(population)


def test_a_run_without_epochs_is_left_out(populate):
    root = populate("a0")
    with cnt.Recorder(nn.Linear(2, 1), (1, 2), to=root / "begun"):
        pass
    with pytest.warns(cnt.CntWarning, match="begun holds no epoch"):
        assert len(cnt.open_population(root)) == 1


def test_links_are_followed_once(populate):
    root = populate("a0")
    (root / "again").symlink_to(root / "a0")
    (root / "loop").symlink_to(root)
    assert len(cnt.open_population(root)) == 1


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    with pytest.raises(cnt.InputRefused, match="no run that can be read"):
        cnt.open_population(tmp_path / "runs")
    with pytest.raises(cnt.InputRefused, match="does not exist") as refusal:
        cnt.open_population(tmp_path / "rusn")
    assert "did you mean runs" in str(refusal.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(cnt.InputRefused, match="is a file"):
        cnt.open_population(tmp_path / "file")


def test_a_run_is_named_by_name_path_or_row(populate):
    root = populate("a0", "a1")
    populate("a0", at="deep")
    population = cnt.open_population(root)
    assert population["a1"].path == root / "a1"
    assert population[-1].path == population[np.int64(2)].path == root / "deep" / "a0"
    assert population[str(root / "a0")] is population[root / "a0"] is population[0]
    assert population[open_run(root / "a1")] is population[1]
    with pytest.raises(cnt.InputRefused, match="2 runs are named 'a0'") as refusal:
        population["a0"]
    assert str(root / "deep" / "a0") in refusal.value.why
    with pytest.raises(cnt.InputRefused, match="there is no run 'a2'"):
        population["a2"]
    with pytest.raises(cnt.InputRefused, match="there is no run 3"):
        population[3]


# -- ensembles ------------------------------------------------------------------------------------


def summary(values):
    return {
        "count": len(values),
        "mean": np.mean(values),
        "std": np.std(values),
        "skewness": scipy.stats.skew(values),
        "kurtosis": scipy.stats.kurtosis(values),
        "min": np.min(values),
        "q05": np.quantile(values, 0.05),
        "median": np.median(values),
        "q95": np.quantile(values, 0.95),
        "max": np.max(values),
    }


def test_what_is_pooled_is_what_the_weights_say(populate, recorded):
    population = cnt.open_population(populate(*SMALL, *LARGE))
    found = population.ensemble(bins=[0, 0.5, 1]).layers
    members = {
        ("4-3-2", "large", "[0, 0.5)"): ["b0"],
        ("4-3-2", "large", "[0.5, 1]"): ["b1"],
        ("4-3-2", "small", "[0, 0.5)"): ["a0", "a1"],
        ("4-3-2", "small", "[0.5, 1]"): ["a2", "a3"],
    }
    assert list(found.groupby(GROUP, sort=False).groups) == list(members)
    assert found["layer"].drop_duplicates().tolist() == ["input", "0", "2"]
    rows = found.set_index([*GROUP, "layer", "quantity"])
    for key, names in members.items():
        weights = [recorded[name][1][2] for name in names]
        for layer in ("input", "0", "2"):
            values = {
                "strength": np.concatenate([strengths(w)[layer] for w in weights]),
                "fluctuation": np.array([strengths(w)[layer].std() for w in weights]),
            }
            if layer != "input":
                values["weights"] = np.concatenate([w[layer].ravel() for w in weights])
            for quantity, expected in values.items():
                row = rows.loc[(*key, layer, quantity)]
                assert row["networks"] == len(names)
                if len(expected) > 1:
                    for column, value in summary(expected).items():
                        assert row[column] == pytest.approx(value, rel=1e-9, abs=1e-9), column
                deviations = [
                    np.concatenate([w["0"].ravel(), w["2"].ravel()]).std() for w in weights
                ]
                assert row["weight_std"] == pytest.approx(np.mean(deviations), rel=1e-9)
                steps = population.runs.set_index("run").loc[names, "step"].mean()
                assert row["steps"] == steps
    assert ("4-3-2", "small", "[0, 0.5)", "input", "weights") not in rows.index


def test_initialisations_are_pooled_only_when_asked(populate):
    population = cnt.open_population(populate(*SMALL, *LARGE))
    apart = population.ensemble(bins=1)
    assert apart.groups["initialisation"].tolist() == ["large", "small"]
    assert apart.groups["networks"].tolist() == [2, 4]
    pooled = population.ensemble(bins=1, pool_initialisations=True)
    assert pooled.groups["initialisation"].tolist() == ["pooled"]
    assert pooled.groups["networks"].tolist() == [6]
    assert "6 networks in 1 groups by accuracy" in repr(pooled)


def test_an_initialisation_that_nobody_recorded_is_said(populate):
    root = populate("plain")
    with cnt.Recorder(nn.Linear(2, 1), (1, 2), to=root / "bare") as recorder:
        recorder.snapshot(0, accuracy=0.5)
    population = cnt.open_population(root)
    with pytest.warns(cnt.CntWarning, match="no run was recorded with its initialisation") as told:
        found = population.ensemble(bins=1)
    assert told[0].filename == __file__
    assert set(found.networks["initialisation"]) == {"not recorded"}


def test_architectures_are_never_pooled(populate):
    found = cnt.open_population(populate("a2", "wide")).ensemble(bins=1).groups
    assert found["architecture"].tolist() == ["4-3-2", "4-5-2"]
    assert found["networks"].tolist() == [1, 1]


def test_architectures_of_the_same_sizes_are_told_apart(populate):
    root = populate("a2")
    populate("a3")
    other = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with cnt.Recorder(other, (1, 4), to=root / "z") as recorder:
        recorder.snapshot(0, accuracy=0.75, initialisation="small")
    found = cnt.open_population(root).ensemble(bins=1).groups
    assert found["architecture"].tolist() == ["4-3-2", "4-3-2 (2)"]
    assert found["networks"].tolist() == [2, 1]


def test_a_network_with_nan_leaves_its_bin_alone(populate, recorded):
    ensemble = cnt.open_population(populate("a2", "a3", "lost")).ensemble(bins=[0.5, 1])
    assert ensemble.networks.set_index("run")["finite"].to_dict() == {
        "a2": True,
        "a3": True,
        "lost": False,
    }
    assert ensemble.groups[["networks", "not_finite"]].values.tolist() == [[2, 1]]
    assert (ensemble.layers["not_finite"] == 1).all()
    rows = ensemble.layers.set_index(["layer", "quantity"])
    expected = np.concatenate([strengths(recorded[n][1][2])["0"] for n in ("a2", "a3")])
    assert rows.loc[("0", "strength"), "mean"] == pytest.approx(expected.mean())
    assert "1 not finite" in repr(ensemble)
    alone = cnt.open_population(ensemble.snapshots[2].run.path).ensemble(bins=1)
    assert alone.groups["not_finite"].tolist() == [1]
    assert alone.layers.empty


def test_bins_are_tenths_of_shares_and_of_the_range_of_other_numbers(populate):
    population = cnt.open_population(populate(*SMALL))
    found = population.ensemble().networks
    assert found["bin"].tolist() == ["[0.1, 0.2)", "[0.4, 0.5)", "[0.7, 0.8)", "[0.9, 1]"]
    assert found["low"].tolist() == pytest.approx([0.1, 0.4, 0.7, 0.9])
    steps = population.ensemble(2, by="step").networks  # 1, 8, 15 and 22
    assert steps["bin"].tolist() == ["[1, 11.5)"] * 2 + ["[11.5, 22]"] * 2
    edges = population.ensemble([0.15, 0.45, 0.75]).networks["bin"].tolist()
    assert edges == ["[0.15, 0.45)", "[0.45, 0.75]", "[0.45, 0.75]", "outside"]


def test_a_run_without_accuracy_is_in_a_bin_of_its_own(populate):
    ensemble = cnt.open_population(populate("a0", "a2", "plain")).ensemble(bins=2)
    assert ensemble.networks["bin"].tolist() == ["[0, 0.5)", "[0.5, 1]", "unknown"]
    assert ensemble.networks["initialisation"].tolist() == ["small", "small", "unknown"]


def test_what_is_in_no_bin_is_not_compared(populate):
    ensemble = cnt.open_population(populate(*SMALL)).ensemble(bins=[0, 0.5, 0.8])
    assert ensemble.networks["bin"].tolist()[-1] == "outside"
    assert len(ensemble.divergences("0")) == 1


def test_epochs_of_an_ensemble(populate):
    root = populate("a1", "a2")
    with cnt.Recorder(nn.Linear(2, 1), (1, 2), to=root / "begun") as recorder:
        recorder.snapshot(0, accuracy=0.3, initialisation="small")
    population = cnt.open_population(root)
    first = population.ensemble(bins=2, epoch=0).networks
    assert first["accuracy"].tolist() == [0.1, 0.1, 0.3]
    with pytest.warns(cnt.CntWarning, match=r"1 of 3 runs .*begun: it has no epoch 2"):
        assert len(population.ensemble(epoch=2).networks) == 2
    every = population.ensemble(bins=1, epoch="all")
    assert every.networks["epoch"].tolist() == [0, 2, 0, 2, 0]
    assert every.networks["initialisation"].tolist() == ["small"] * 5
    assert every.groups[["networks", "runs"]].values.tolist() == [[4, 2], [1, 1]]
    for epoch, said in ((5, "no run has the epoch 5"), ("lst", "epoch='lst'")):
        with pytest.raises(cnt.InputRefused, match=said):
            population.ensemble(epoch=epoch)


def test_what_is_damaged_later_is_left_out_too(populate):
    root = populate(*SMALL)
    for name, file in (("a0", "layers.parquet"), ("a1", "neurons.parquet")):
        path = root / name / "epochs" / "epoch=0002" / file
        path.write_bytes(path.read_bytes()[:-1])
    population = cnt.open_population(root)
    with pytest.warns(cnt.CntWarning, match="1 of 4 runs are left out"):
        ensemble = population.ensemble(bins=1)
    with pytest.warns(cnt.CntWarning, match="left out: .*neurons.parquet was altered"):
        found = ensemble.layers.set_index(["layer", "quantity"])["networks"]
    assert found[("0", "strength")] == 2
    assert found[("0", "weights")] == 3


def test_values_are_all_there_is(populate, recorded):
    ensemble = cnt.open_population(populate("a0", "a3")).ensemble(bins=2)
    found = ensemble.values("2", "weights")
    for name in ("a0", "a3"):
        own = found[found["run"] == name]["value"]
        np.testing.assert_array_equal(own, recorded[name][1][2]["2"].ravel())
    assert found.columns.tolist() == [*GROUP, "run", "path", "epoch", "value"]
    assert ensemble.values("input")["value"].tolist() == pytest.approx(
        [s for n in ("a0", "a3") for s in strengths(recorded[n][1][2])["input"]]
    )


def test_divergences_between_bins(populate, recorded):
    ensemble = cnt.open_population(populate(*SMALL, *LARGE)).ensemble(bins=[0, 0.5, 0.8, 1])
    found = ensemble.divergences("2", kind="wasserstein")
    assert found[["initialisation", "bin", "other"]].values.tolist() == [
        ["large", "[0, 0.5)", "[0.8, 1]"],
        ["small", "[0, 0.5)", "[0.5, 0.8)"],
        ["small", "[0, 0.5)", "[0.8, 1]"],
        ["small", "[0.5, 0.8)", "[0.8, 1]"],
    ]
    own = {name: strengths(recorded[name][1][2])["2"] for name in SMALL}
    expected = scipy.stats.wasserstein_distance(np.concatenate([own["a0"], own["a1"]]), own["a2"])
    assert found["value"].tolist()[1] == pytest.approx(expected)
    assert found[["runs", "runs_other"]].values.tolist() == [[1, 1], [2, 1], [2, 1], [1, 1]]
    sure = ensemble.divergences("2", kind="wasserstein", bootstrap=40)
    assert sure["value"].tolist() == found["value"].tolist()
    single = sure.iloc[[0, 3]]
    assert single["floor"].tolist() == pytest.approx(single["value"].tolist()), "one run each"
    assert (sure["low"] <= sure["value"]).all()
    assert (sure["value"] <= sure["high"]).all()


def test_runs_are_the_unit_also_over_all_epochs(populate):
    population = cnt.open_population(populate("a1", "a2"))
    ensemble = population.ensemble([0, 0.5, 1], epoch="all")  # both epochs of a1 are in the first
    found = ensemble.divergences("0", "fluctuation", kind="wasserstein", bootstrap=30)
    assert found[["runs", "runs_other"]].values.tolist() == [[2, 1]]


def test_runs_that_keep_no_weights(populate):
    population = cnt.open_population(populate("a2", "light"))
    ensemble = population.ensemble(bins=[0.5, 1])
    rows = ensemble.layers.set_index(["layer", "quantity"])["networks"]
    assert rows[("0", "weights")] == 1
    assert rows[("0", "strength")] == rows[("0", "fluctuation")] == 2
    assert len(ensemble.values("0")) == 6
    assert np.isfinite(ensemble.networks["weight_std"]).all()
    with pytest.raises(cnt.InputRefused, match="light holds no weights") as refusal:
        ensemble.values("0", "weights")
    assert "keep_weights=False" in refusal.value.why
    assert population.individual("light").shape == (3, 3)
    with pytest.raises(cnt.InputRefused, match="light holds no weights"):
        population.individual("light", quantity="weights")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "acuracy"}, "did you mean accuracy"),
        ({"by": "initialisation"}, "cannot be binned by 'initialisation'"),
        ({"by": "optimiser"}, "is 'adam'"),
        ({"bins": 0}, "bins=0"),
        ({"bins": True}, "bins=True"),
        ({"bins": [1.0, 0.0]}, "rising"),
    ],
)
def test_what_an_ensemble_refuses(populate, options, said):
    root = populate("a0")
    with cnt.Recorder(nn.Linear(2, 1), (1, 2), to=root / "b") as recorder:
        recorder.snapshot(0, accuracy=0.5, optimiser="adam")
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.open_population(root).ensemble(**options)
    assert said in str(refusal.value)


def test_what_has_no_values_is_refused(populate):
    ensemble = cnt.open_population(populate("a0", "lost")).ensemble(bins=1)
    for layer, quantity, said in (
        ("00", "strength", "did you mean 0"),
        ("input", "weights", "known: 0, 2"),
        ("0", "strenght", "did you mean strength"),
    ):
        with pytest.raises(cnt.InputRefused) as refusal:
            ensemble.values(layer, quantity)
        assert said in str(refusal.value)
    with pytest.raises(cnt.InputRefused, match="no two bins"):
        ensemble.divergences("0")


def test_what_does_not_fit_in_memory_is_refused(populate, monkeypatch):
    ensemble = cnt.open_population(populate("a0")).ensemble()
    monkeypatch.setattr("cntgraph.populations.ensemble.available_memory", lambda: 100)
    with pytest.raises(cnt.InputRefused, match="do not fit in memory"):
        _ = ensemble.layers


# -- one network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jensen-shannon", "wasserstein", "symmetric-kl"])
def test_layers_of_one_network(populate, recorded, kind):
    population = cnt.open_population(populate("a0", "a1"))
    found = population.individual("a1", 2, kind=kind)
    assert found.index.tolist() == found.columns.tolist() == ["input", "0", "2"]
    own = strengths(recorded["a1"][1][2])
    for one in own:
        for other in own:
            expected = 0.0 if one == other else cnt.divergence(own[one], own[other], kind)
            assert found.loc[one, other] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(found, found.T)
    pd.testing.assert_frame_equal(found, population.individual("a1", kind=kind))
    assert not np.allclose(found, population.individual("a1", 0, kind=kind))


def test_layers_without_trained_links_are_left_out(tmp_path):
    pools = nn.MaxPool1d(2), nn.AvgPool1d(2)  # what lies between them has no trained link
    model = nn.Sequential(nn.Conv1d(1, 2, 3, padding=1), *pools, nn.Flatten(), nn.Linear(4, 2))
    with cnt.Recorder(model, (1, 1, 8), to=tmp_path / "run") as recorder:
        recorder.snapshot(0)
    population = cnt.open_population(tmp_path)
    graph = population["run"].to_igraph(0)
    linked = [vertex["layer"] for vertex in graph.vs if vertex.degree()]
    found = population.individual("run")
    assert found.index.tolist() == list(dict.fromkeys(linked))
    assert len(found) < len(set(graph.vs["layer"]))
    weights = population.individual("run", quantity="weights")
    assert weights.index.tolist() == ["0", "4"]


def test_weights_of_one_network(populate, recorded):
    population = cnt.open_population(populate("a1"))
    found = population.individual("a1", quantity="weights", bins=5)
    own = recorded["a1"][1][2]
    assert found.columns.tolist() == ["0", "2"]
    assert found.loc["0", "2"] == pytest.approx(cnt.divergence(own["0"], own["2"], bins=5))


def test_how_sure_it_is(populate, recorded):
    population = cnt.open_population(populate("a1"))
    found = population.individual("a1", kind="kolmogorov-smirnov", bootstrap=30, seed=2)
    assert found[["layer", "other"]].values.tolist() == [["input", "0"], ["input", "2"], ["0", "2"]]
    own = strengths(recorded["a1"][1][2])
    expected = cnt.divergence(own["input"], own["0"], "kolmogorov-smirnov", 30, 2)
    first = found.iloc[0][["value", "low", "high", "floor"]].tolist()
    assert first == pytest.approx([expected.value, expected.low, expected.high, expected.floor])


def test_epochs_of_one_layer(populate, recorded):
    population = cnt.open_population(populate("a1"))
    found = population.over_epochs("a1", "0", kind="wasserstein")
    assert found.index.tolist() == found.columns.tolist() == [0, 2]
    both = (strengths(recorded["a1"][1][epoch])["0"] for epoch in (0, 2))
    assert found.loc[0, 2] == pytest.approx(scipy.stats.wasserstein_distance(*both), rel=1e-6)
    table = population.over_epochs("a1", "2", quantity="weights", bootstrap=10)
    assert table[["epoch", "other"]].values.tolist() == [[0, 2]]
    with pytest.raises(cnt.InputRefused, match="no strength of a layer 'fc'"):
        population.over_epochs("a1", "fc")


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ("lost", {}, "strength of input in the run lost at epoch 2 holds 1 NaN"),
        ("a1", {"epoch": 1}, "epoch 1 is not in the run a1"),
        ("a1", {"epoch": "all"}, "give 'last' or a number"),
        ("a1", {"quantity": "fluctuation"}, "one number a layer"),
        ("a1", {"quantity": "weight"}, "did you mean weights"),
        ("a1", {"kind": "kl"}, "no divergence 'kl'"),
    ],
)
def test_what_an_individual_analysis_refuses(populate, run, options, said):
    population = cnt.open_population(populate("a1", "lost"))
    with pytest.raises(cnt.InputRefused) as refusal:
        population.individual(run, **options)
    assert said in str(refusal.value)


# -- baselines ------------------------------------------------------------------------------------


def test_correlations_are_scipys_with_an_exact_p(populate, recorded):
    population = cnt.open_population(populate(*SMALL, *LARGE, "lost"))
    found = population.correlations()
    rows = found.set_index(["initialisation", "layer", "quantity"]).sort_index()
    names = list(SMALL)
    accuracy = [RUNS[name][2] for name in names]
    quantities = {
        "fluctuation": lambda w, layer: strengths(w)[layer].std(),
        "weight_std": lambda w, layer: w[layer].std() if layer in w else np.nan,
    }
    for layer in ("input", "0", "2"):
        for quantity, of in quantities.items():
            values = {e: [of(recorded[n][1][e], layer) for n in names] for e in (0, 2)}
            if np.isnan(values[2]).any():
                assert ("small", layer, quantity) not in rows.index
                continue
            growth = np.divide(values[2], values[0])
            for name, x in ((quantity, values[2]), (f"{quantity}_growth", growth)):
                row = rows.loc[("small", layer, name)]
                assert row["spearman"] == pytest.approx(scipy.stats.spearmanr(x, accuracy)[0])
                exact = scipy.stats.permutation_test(
                    (x,),
                    lambda v: scipy.stats.spearmanr(v, accuracy)[0],
                    permutation_type="pairings",
                ).pvalue
                assert row["p"] == pytest.approx(exact)
                assert row["networks"] == 4, "the one with NaN is not there"
    assert rows.loc[("small", "(all)", "steps"), "spearman"] == pytest.approx(1)
    assert rows.loc[("small", "(all)", "steps"), "p"] == pytest.approx(2 / 24)
    assert ("small", "(all)", "weight_std") in rows.index
    assert rows.loc["large", "spearman"].isna().all(), "two networks say nothing"
    pooled = population.correlations(pool_initialisations=True)
    assert (pooled["networks"] == 6).all()


def test_correlations_at_the_first_epoch_have_no_growth(populate):
    population = cnt.open_population(populate(*SMALL))
    found = population.correlations(epoch=0)
    assert set(found["quantity"]) == {"fluctuation", "weight_std", "steps"}
    assert found["spearman"].isna().all(), "the accuracy is the same for all"
    with pytest.raises(cnt.InputRefused, match="not independent"):
        population.correlations(epoch="all")


def test_correlations_of_many_networks_are_scipys():
    from cntgraph.populations.correlations import _spearman

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30))
    x[3] = np.nan
    expected = scipy.stats.spearmanr(np.delete(x, 3), np.delete(y, 3))
    assert _spearman(x, y) == pytest.approx((*expected, 29))
