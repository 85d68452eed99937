"""What researchers ask beyond the first questions: answers against pandas on real runs."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from models import Dense, build
from sklearn.datasets import load_digits
from stored import exported, links_sent
from torch import nn

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


def trained(folder, name):
    """A perceptron in three epochs of a training on real digits."""
    torch.manual_seed(1)
    digits = load_digits()
    images = torch.tensor(digits.images[:500], dtype=torch.float32).flatten(1) / 16
    labels = torch.tensor(digits.target[:500])
    model = nn.Sequential(nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 10))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    with cnt.Recorder(
        model,
        (1, 64),
        to=folder,
        name=name,
        measures=("pagerank", "disparity_in"),
        shuffles=5,
    ) as recorder:
        for epoch in range(3):
            recorder.snapshot(epoch)
            for batch in torch.randperm(500).split(50):
                optimiser.zero_grad()
                nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimiser.step()
    return cnt.open_run(folder)


def half_dead(folder):
    """A convolution of which two channels died, and two units that nothing depends on."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.Tanh())
    model = model.append(nn.Linear(5, 2))
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[0].weight[3] *= 1e-6
        model[5].weight[:, 2] = 1e-5
        model[5].weight[:, 0] = 2e-5
    return cnt.export(model, {0: model.state_dict()}, (1, 1, 4, 4), to=folder, name="half dead")


def skips_and_pools(folder):
    """A residual network in which the way through pooling is far stronger than that by a skip."""
    model, example = build("residual")
    with torch.no_grad():
        model.fc.weight *= 50
    return cnt.export(model, {0: model.state_dict()}, example, to=folder, name="library: skips")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {
        "mlp": trained(folder / "mlp", "library: mlp"),
        "other": exported(folder / "other", "dense", 1, name="library: other"),
        "same": exported(folder / "same", "dense", 2, name="library: same"),
        "skips": skips_and_pools(folder / "skips"),
        "dead": half_dead(folder / "dead"),
        "narrow": cnt.export(
            narrow := Dense((5, 4, 1)), {0: narrow.state_dict()}, (1, 5), to=folder / "narrow"
        ),
    }


@pytest.fixture(scope="module")
def db(server, runs):
    with connect(server.uri, user=server.user, password=server.password) as database:
        for run in runs.values():
            database.load(run)
        yield database
        for run in runs.values():
            database.delete(run)


def links_of(run, epoch):
    """Trained links with the layers and indices of their ends."""
    network = run.network(epoch)
    names = network.neurons().set_index("neuron")
    links = links_sent(network, kinds=("weight",))
    for end in ("source", "target"):
        links[f"{end}_layer"] = names["layer"].loc[links[end]].to_numpy()
        links[f"{end}_index"] = names["index"].loc[links[end]].to_numpy()
    return links


def test_partners_over_epochs(db, runs):
    run = runs["mlp"]
    found = db.query("partners_over_epochs", run=run.name, layer="0", index=4, top=3)
    rows = []
    for epoch in range(3):
        links = links_of(run, epoch)
        for direction, here, there in (("in", "target", "source"), ("out", "source", "target")):
            mine = links[(links[f"{here}_layer"] == "0") & (links[f"{here}_index"] == 4)]
            best = mine.iloc[np.lexsort((mine[there], -mine["weight"].abs()))[:3]]
            values = best[[f"{there}_layer", f"{there}_index", "weight"]].to_numpy().tolist()
            rows += [[epoch, direction, rank, *row] for rank, row in enumerate(values, 1)]
    assert found.to_numpy().tolist() == rows


def test_steady_neurons(db, runs):
    run = runs["mlp"]
    found = db.query("steady_neurons", run=run.name, among=30, top=5)
    states = run.neurons()
    strong = [
        set(table.iloc[np.lexsort((table["neuron"], -table["strength"].abs()))[:30]]["neuron"])
        for _, table in states.groupby("epoch")
    ]
    always = set.intersection(*strong)
    assert always, "some are strong all the time"
    spans = states[states["neuron"].isin(always)].groupby("neuron")["strength"]
    expected = (spans.max() - spans.min()).sort_values(kind="stable").head(5)
    assert found["neuron"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(found["change"], expected)
    np.testing.assert_allclose(found["mean"], spans.mean().loc[found["neuron"]])


def test_flow_between_layers(db, runs):
    for name in ("mlp", "skips"):
        links = links_of(runs[name], 0)
        pairs = links.groupby(["source_layer", "target_layer"], sort=False)["weight"]
        found = db.query("flow_between_layers", run=runs[name].name, epoch=0)
        order = [layer.name for layer in runs[name].wiring.layers]
        places = [
            (order.index(to), order.index(of))
            for of, to in zip(found["source_layer"], found["target_layer"], strict=True)
        ]
        assert places == sorted(places)
        found = found.set_index(["source_layer", "target_layer"]).loc[list(pairs.groups)]
        assert len(found) == len(pairs)
        np.testing.assert_array_equal(found["links"], pairs.count())
        for column, value in (
            ("total", pairs.sum()),
            ("positive", pairs.agg(lambda w: w.clip(lower=0).sum())),
            ("negative", pairs.agg(lambda w: w.clip(upper=0).sum())),
            ("absolute", pairs.agg(lambda w: w.abs().sum())),
        ):
            np.testing.assert_allclose(found[column], value, atol=1e-12)


def test_dead_channels(db, runs):
    found = db.query("dead_channels", run="half dead", epoch=0)
    assert found[["layer", "channel", "neurons"]].to_numpy().tolist() == [["0", 1, 4], ["0", 3, 4]]
    kernels = runs["dead"].network(0).weights["0.weight"].abs().amax((1, 2, 3))
    np.testing.assert_allclose(found["largest"], kernels[[1, 3]])
    assert len(db.query("dead_channels", run="half dead", epoch=0, below=1e9)) == 4


def test_prunable_neurons(db, runs):
    found = db.query("prunable_neurons", run="half dead", epoch=0)
    assert found[["layer", "index"]].to_numpy().tolist() == [["3", 2], ["3", 0]]
    np.testing.assert_allclose(found["largest_out"], [1e-5, 2e-5], rtol=1e-6)
    states = runs["dead"].neurons(0).set_index("neuron")
    expected = states["strength_absolute"].loc[found["neuron"]]
    np.testing.assert_array_equal(found["strength_absolute"], expected)


def test_what_is_carried_on_is_not_prunable(db, runs):
    run = runs["skips"]
    found = db.query("prunable_neurons", run=run.name, epoch=0, below=1e9, top=10_000)
    network = run.network(0)
    hidden = [
        neuron
        for layer in network.layers
        if layer.kind == "hidden"
        for neuron in range(layer.first, layer.last)
    ]
    links = links_sent(network)
    carried = set(links[links["kind"] != "weight"]["source"])
    assert carried
    assert sorted(found["neuron"]) == [n for n in hidden if n not in carried]


def test_shared_strong_neurons(db, runs):
    asked = {"run": "library: same", "epoch": 1, "other": "library: other", "other_epoch": 0}
    found = db.query("shared_strong_neurons", **asked, top=4)
    tables = [runs["same"].neurons(1), runs["other"].neurons(0)]
    rows = []
    for layer in dict.fromkeys(tables[0]["layer"]):
        tops = []
        for table in tables:
            here = table[table["layer"] == layer]
            order = np.lexsort((here["neuron"], -here["strength"].abs()))[:4]
            tops.append(set(here.iloc[order]["index"]))
        shared = len(tops[0] & tops[1])
        rows.append([layer, len(tops[0]), shared, shared / len(tops[0] | tops[1])])
    assert found.to_numpy().tolist() == rows
    itself = db.query("shared_strong_neurons", **{**asked, "other": asked["run"], "other_epoch": 1})
    assert (itself["jaccard"] == 1).all()


def test_measure_correlations(db, runs):
    run = runs["mlp"]
    found = db.query("measure_correlations", run=run.name, epoch=2)
    states = run.neurons(2)
    pairs = list(zip(found["layer"], found["measure"], strict=True))
    order = [layer.name for layer in run.wiring.layers]
    assert pairs == sorted(pairs, key=lambda pair: (order.index(pair[0]), pair[1]))
    assert {measure for _, measure in pairs} == {"pagerank", "disparity_in"}
    for row in found.itertuples():
        here = states[(states["layer"] == row.layer) & states[row.measure].notna()]
        assert row.neurons == len(here)
        for column, value in (
            ("strength", row.with_strength),
            ("strength_absolute", row.with_absolute),
        ):
            expected = here[column].corr(here[row.measure])
            np.testing.assert_allclose(value, expected, atol=1e-7)


def test_fluctuation_above_null(db, runs):
    run = runs["mlp"]
    found = db.query("fluctuation_above_null", run=run.name)
    table = run.layers().rename(columns=lambda name: name.removeprefix("fluctuation_"))
    expected = table[table["null"].notna()].reset_index(drop=True)
    assert len(expected) == 9
    pd.testing.assert_frame_equal(found, expected[list(found)], check_dtype=False)
    middle = expected["z"].median()
    some = db.query("fluctuation_above_null", run=run.name, above=middle)
    above = expected[expected["z"] > middle].reset_index(drop=True)
    assert 0 < len(above) < len(expected)
    pd.testing.assert_frame_equal(some, above[list(some)], check_dtype=False)


def test_fluctuation_without_a_null_is_explained(db, runs):
    with pytest.raises(cnt.InputRefused, match="exported without shuffles") as refused:
        db.query("fluctuation_above_null", run="half dead")
    assert "--shuffles 20" in refused.value.fix
    assert db.query("fluctuation_above_null", run=runs["mlp"].name, above=1e9).empty


def test_sign_flips(db, runs):
    run = runs["mlp"]
    found = db.query("sign_flips", run=run.name, top=1000)
    by_neuron = run.neurons().pivot(index="neuron", columns="epoch", values="strength")
    flips = (np.sign(by_neuron).diff(axis=1).abs() == 2).sum(axis=1)
    swing = by_neuron.max(axis=1) - by_neuron.min(axis=1)
    table = pd.DataFrame({"flips": flips, "swing": swing})[flips > 0]
    order = np.lexsort((table.index, -table["swing"], -table["flips"]))
    assert found["neuron"].tolist() == table.index[order].tolist()
    assert len(found), "some do"
    np.testing.assert_array_equal(found["strength_last"], by_neuron[2].loc[found["neuron"]])


@pytest.mark.parametrize("name", ["mlp", "skips", "narrow"])
def test_dominated_neurons(db, runs, name):
    run = runs[name]
    found = db.query("dominated_neurons", run=run.name, epoch=0, top=7)
    rows = []
    for direction, end in (("in", "target"), ("out", "source")):
        for neuron, w in links_of(run, 0).groupby(end)["weight"]:
            share = w.abs() / w.abs().sum()
            if len(w) > 1:
                rows.append((neuron, direction, (share**2).sum(), share.max(), len(w)))
    table = pd.DataFrame(rows, columns=["neuron", "direction", "disparity", "share", "links"])
    table = table.sort_values("disparity", ascending=False).head(7)
    np.testing.assert_allclose(found["disparity"], table["disparity"])
    np.testing.assert_allclose(found["effective_degree"], 1 / table["disparity"])
    np.testing.assert_allclose(found["largest_share"], table["share"])
    assert found["links"].tolist() == table["links"].tolist()


def test_skip_paths(db, runs):
    run = runs["skips"]
    found = db.query("skip_paths", run=run.name, epoch=0, top=12)
    network = run.network(0)
    trained_links, skips = (
        links_sent(network, ("weight",)),
        links_sent(network, ("identity", "scale")),
    )
    into = {n: t[["source", "weight"]].to_numpy() for n, t in trained_links.groupby("target")}
    out = {n: t[["target", "weight"]].to_numpy() for n, t in trained_links.groupby("source")}
    products = [
        w * skip.weight * v
        for skip in skips.itertuples()
        for (_, w), (_, v) in itertools.product(into.get(skip.source, ()), out.get(skip.target, ()))
    ]
    expected = sorted(np.abs(products), reverse=True)[:12]
    np.testing.assert_allclose(found["product"].abs(), expected)
    assert {len(path) for path in found["path"]} == {4}
