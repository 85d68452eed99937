"""The library's answers are those of NumPy, pandas and igraph on the run itself."""

from __future__ import annotations

import itertools
import math

import igraph
import numpy as np
import pandas as pd
import pytest
import torch
from models import Dense
from stored import exported, links_sent

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A perceptron and a convolutional network with padding, pooling, concatenation and a skip."""
    folder = tmp_path_factory.mktemp("runs")
    mlp = exported(folder / "mlp", "dense", 3, measures=("pagerank",), name="asked: mlp")
    cnn = exported(folder / "cnn", "lenet", 2, name="asked: cnn")
    skips = exported(folder / "skips", "shuffled", 1, name="asked: skips")
    return {"mlp": mlp, "cnn": cnn, "skips": skips}


@pytest.fixture(scope="module")
def db(server, runs):
    with connect(server.uri, user=server.user, password=server.password) as database:
        for run in runs.values():
            database.load(run)
        yield database
        for run in runs.values():
            database.delete(run)


def ranked(table, column, count):
    """The rows with the largest |value|, equal ones by neuron."""
    order = np.lexsort((table["neuron"], -table[column].abs()))
    return table.iloc[order[:count]].reset_index(drop=True)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("top", [1, 7, 100])
def test_strong_neurons_are_the_largest_strengths(db, runs, name, top):
    found = db.query("strong_neurons", run=runs[name].name, epoch=1, top=top)
    expected = ranked(runs[name].neurons(1), "strength", top)
    pd.testing.assert_frame_equal(found, expected[list(found)], check_dtype=False)
    assert found.dtypes["neuron"] == found.dtypes["index"] == "int64"


@pytest.mark.parametrize(("name", "layer"), [("mlp", "fc.1"), ("cnn", "conv2"), ("cnn", "fc3")])
def test_strong_neurons_of_a_layer(db, runs, name, layer):
    found = db.query("strong_neurons", run=runs[name].name, epoch=0, layer=layer, top=5)
    states = runs[name].neurons(0)
    expected = ranked(states[states["layer"] == layer], "strength", 5)
    pd.testing.assert_frame_equal(found, expected[list(found)], check_dtype=False)


@pytest.mark.parametrize("by", ["strength_in", "strength_absolute", "degree_out"])
@pytest.mark.parametrize("layer", [None, "conv2"])
def test_strong_neurons_by_another_strength(db, runs, by, layer):
    run = runs["cnn"]
    found = db.query("strong_neurons", run=run.name, epoch=1, by=by, layer=layer)
    states = run.neurons(1)
    expected = ranked(states if layer is None else states[states["layer"] == layer], by, 20)
    np.testing.assert_array_equal(found["neuron"], expected["neuron"])
    np.testing.assert_array_equal(found["value"], expected[by])


def test_strength_over_epochs_is_one_neurons(db, runs):
    found = db.query("strength_over_epochs", run=runs["mlp"].name, layer="fc.0", index=3)
    states = runs["mlp"].neurons()
    expected = states[(states["layer"] == "fc.0") & (states["index"] == 3)]
    assert found["epoch"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found["strength"], expected["strength"])


@pytest.mark.parametrize(("first", "last"), [(0, 1), (0, 2), (2, 0)])
def test_risers_changed_most(db, runs, first, last):
    run = runs["mlp"]
    found = db.query("risers", run=run.name, first=first, last=last, top=6)
    both = run.neurons(first).merge(run.neurons(last), on="neuron", suffixes=("_first", "_last"))
    both["change"] = both["strength_last"] - both["strength_first"]
    expected = ranked(both, "change", 6)
    assert found["neuron"].tolist() == expected["neuron"].tolist()
    for column in ("strength_first", "strength_last", "change"):
        np.testing.assert_array_equal(found[column], expected[column])


def test_layer_fluctuation_is_the_runs(db, runs):
    found = db.query("layer_fluctuation", run=runs["cnn"].name)
    expected = runs["cnn"].layers()
    pd.testing.assert_frame_equal(found, expected[list(found)], check_dtype=False)


@pytest.mark.parametrize("name", ["mlp", "cnn", "skips"])
@pytest.mark.parametrize("top", [1, 15, 1000])
def test_strongest_links_are_the_largest_weights(db, runs, name, top):
    run = runs[name]
    found = db.query("strongest_links", run=run.name, epoch=0, top=top)
    links = links_sent(run.network(0), ("weight",))
    order = np.lexsort((links["target"], links["source"], -links["weight"].abs()))
    expected = links.iloc[order[:top]]
    neurons = run.network(0).neurons().set_index("neuron")
    np.testing.assert_array_equal(found["weight"], expected["weight"])
    for end in ("source", "target"):
        there = neurons.loc[expected[end]]
        assert found[f"{end}_layer"].tolist() == there["layer"].tolist()
        assert found[f"{end}_index"].tolist() == there["index"].tolist()


def all_paths(network):
    """Neurons, product and weakest link of every path from inputs to outputs, by brute force."""
    onward = {}
    for link in links_sent(network).itertuples():
        if link.kind != "data":
            onward.setdefault(link.source, []).append(link)
    kinds = {layer.name: layer.kind for layer in network.layers}
    names = network.neurons()
    kind = [kinds[layer] for layer in names["layer"]]
    label = [
        f"{row.layer}[{row.index_}]"
        for row in names.rename(columns={"index": "index_"}).itertuples()
    ]

    def walk(neuron, path, product, weakest):
        if kind[neuron] == "output":
            yield [label[n] for n in path], product, weakest
        for link in onward.get(neuron, ()):
            size = abs(link.weight) if link.kind == "weight" else math.inf
            yield from walk(
                link.target, [*path, link.target], product * link.weight, min(weakest, size)
            )

    for neuron, of_kind in enumerate(kind):
        if of_kind == "input":
            yield from walk(neuron, [neuron], 1.0, math.inf)


@pytest.mark.parametrize(("name", "top"), [("mlp", 1), ("mlp", 40), ("skips", 10), ("skips", 300)])
def test_strong_paths_are_the_best_of_all_paths(db, runs, name, top):
    found = db.query("strong_paths", run=runs[name].name, epoch=0, top=top)
    every = sorted(all_paths(runs[name].network(0)), key=lambda p: -abs(p[1]))
    every = [path for path in every if path[1] != 0]
    assert len(found) == min(top, len(every))
    np.testing.assert_allclose(found["product"].abs(), [abs(p[1]) for p in every[:top]], rtol=1e-12)
    known = {tuple(path): (product, weakest) for path, product, weakest in every}
    for row in found.itertuples():
        product, weakest = known[tuple(row.path)]
        assert row.product == pytest.approx(product, rel=1e-12)
        assert row.weakest == weakest
    assert found["path"].map(tuple).is_unique or name == "skips"


def test_strong_paths_run_through_pooling(db, runs):
    run = runs["cnn"]
    found = db.query("strong_paths", run=run.name, epoch=0, top=5)
    layers = [layer.name for layer in run.network(0).layers]
    for path in found["path"]:
        along = [step.rpartition("[")[0] for step in path]
        assert along == sorted(along, key=layers.index)
        assert (along[0], along[-1]) == (layers[0], layers[-1])
        assert any("pool" in layer for layer in along)
    best = best_product(run.network(0))
    assert found["product"].abs()[0] == pytest.approx(best, rel=1e-12)


def best_product(network):
    """|product| of the strongest path by igraph's shortest paths, all of one length here."""
    links = links_sent(network)
    links = links[links["weight"] != 0]
    ends = list(zip(links["source"], links["target"], strict=True))
    graph = igraph.Graph(network.neuron_count, ends, directed=True)
    size = np.abs(links["weight"].to_numpy())
    lengths = list(np.log(size.max()) + 1 - np.log(size))
    places = {layer.kind: range(layer.first, layer.last) for layer in network.layers}
    outputs = list(places["output"])
    found = (
        graph.get_shortest_paths(source, outputs, weights=lengths, output="epath")
        for source in places["input"]
    )
    return max(float(np.prod(size[path])) for paths in found for path in paths if path)


@pytest.mark.parametrize(
    ("name", "layer", "index"), [("mlp", "fc.1", 2), ("cnn", "conv2", 17), ("skips", "b", 0)]
)
def test_neighbourhood_is_what_igraph_finds_incident(db, runs, name, layer, index):
    network = runs[name].network(0)
    layer = layer if layer in {each.name for each in network.layers} else network.layers[1].name
    found = db.query(
        "neighbourhood", run=runs[name].name, epoch=0, layer=layer, index=index, top=1000
    )
    neuron = network.layer(layer).first + index
    links = links_sent(network)
    into, out = links[links["target"] == neuron], links[links["source"] == neuron]
    assert len(found) == len(into) + len(out) > 0
    for direction, expected, end in (("in", into, "source"), ("out", out, "target")):
        here = found[found["direction"] == direction]
        others = [
            network.layer(row.layer).first + row.index_
            for row in here.rename(columns={"index": "index_"}).itertuples()
        ]
        there = zip(others, here["weight"], here["kind"], strict=True)
        assert sorted(there) == sorted(
            zip(expected[end], expected["weight"], expected["kind"], strict=True)
        )
    assert found["weight"].abs().is_monotonic_decreasing
    few = db.query("neighbourhood", run=runs[name].name, epoch=0, layer=layer, index=index, top=2)
    pd.testing.assert_frame_equal(few, found.head(2))


@pytest.mark.parametrize("top", [3, 100])
def test_compare_measures_ranks_as_pandas_does(db, runs, top):
    run = runs["mlp"]
    found = db.query("compare_measures", run=run.name, epoch=2, top=top)
    states = run.neurons(2)
    states["rank_strength"] = states["strength"].abs().rank(method="min", ascending=False)
    states["rank_pagerank"] = states["pagerank"].rank(method="min", ascending=False)
    expected = ranked(states, "strength", top)
    assert list(found)[-2:] == ["pagerank", "rank_pagerank"]
    pd.testing.assert_frame_equal(found, expected[list(found)], check_dtype=False)
    assert found.dtypes["rank_pagerank"] == found.dtypes["rank_strength"] == "int64"


def test_a_run_without_measures_is_compared_by_strength_alone(db, runs):
    found = db.query("compare_measures", run=runs["cnn"].name, epoch=0, top=3)
    assert list(found) == ["layer", "index", "neuron", "strength", "rank_strength"]


def test_rank_stability_counts_those_that_stay(db, runs):
    run = runs["mlp"]
    found = db.query("rank_stability", run=run.name, top=9)
    strongest = [set(ranked(run.neurons(e), "strength", 9)["neuron"]) for e in range(3)]
    shared = [len(a & b) for a, b in itertools.pairwise(strongest)]
    assert found.to_dict("list") == {"epoch": [1, 2], "previous": [0, 1], "shared": shared}


@pytest.mark.parametrize("name", ["mlp", "cnn", "skips"])
def test_stored_strengths_are_the_sums_of_the_links(db, runs, name):
    found = db.query("stored_against_recomputed", run=runs[name].name, epoch=0)
    network = runs[name].network(0)
    assert found["layer"].tolist() == [layer.name for layer in network.layers]
    assert found["largest_difference"].max() < 1e-9
    graph = network.to_igraph()
    strength = graph.strength(mode="all", weights="weight")
    np.testing.assert_allclose(runs[name].neurons(0)["strength"], strength, atol=1e-9)


def test_links_that_were_not_loaded_are_a_difference(db, runs):
    run = runs["mlp"]
    db.load(run, name="some links", epochs=[1], links="top:2")
    try:
        found = db.query("stored_against_recomputed", run="some links", epoch=1)
        kept = cnt.strength(run.network(1).filtered("top:2"))
        difference = (run.neurons(1)["strength"] - kept["strength"]).abs()
        expected = difference.groupby(kept["layer"], sort=False).max()
        assert found["layer"].tolist() == expected.index.tolist()
        np.testing.assert_allclose(found["largest_difference"], expected, atol=1e-12)
        assert expected.max() > 0.1
    finally:
        db.delete("some links")


def test_runs_are_counted(db, runs):
    found = db.query("runs").set_index("name")
    assert found.index.is_monotonic_increasing
    for run in runs.values():
        network, epochs = run.network(0), len(run.epochs)
        row = found.loc[run.name]
        assert (row["epochs"], row["neurons"], row["links"]) == (
            epochs,
            network.neuron_count,
            network.link_count,
        )
        assert (row["status"], row["loaded"]) == ("complete", epochs * network.link_count)


# -- parameters


@pytest.mark.parametrize(
    ("name", "given", "what", "why"),
    [
        ("strong_neuron", {}, "no query 'strong_neuron'", "did you mean strong_neurons"),
        ("strong_neurons", {"run": "x"}, "needs epoch", "run, epoch, layer=null, top=20"),
        ("strong_neurons", {"run": "x", "epoch": 0, "tops": 3}, "no parameter 'tops'", "top?"),
        ("strong_neurons", {"run": "x", "epoch": "0"}, "epoch='0' is not of type int", ""),
        ("strong_neurons", {"run": "x", "epoch": True}, "epoch=True is not of type int", ""),
        ("strong_neurons", {"run": None, "epoch": 0}, "run=None is not of type string", ""),
        (
            "strong_neurons",
            {"run": "x", "epoch": 0, "by": "strenght"},
            "by='strenght'",
            "did you mean strength",
        ),
        ("strong_neurons", {"run": "asked: mlq", "epoch": 0}, "no run 'asked: mlq'", "asked: mlp"),
        ("strong_neurons", {"run": "asked: mlp", "epoch": 9}, "epoch 9 of", "it holds 0, 1, 2"),
        (
            "strong_neurons",
            {"run": "asked: mlp", "epoch": 0, "layer": "fc1"},
            "no layer 'fc1'",
            "did you mean fc.1",
        ),
        ("risers", {"run": "asked: mlp", "first": 0, "last": 7}, "epoch 7 of", "it holds 0, 1, 2"),
        ("runs", {"top": 3}, "no parameter 'top'", "it has no parameters"),
    ],
)
def test_a_wrong_question_is_answered_with_the_right_one(db, name, given, what, why):
    with pytest.raises(cnt.InputRefused) as refused:
        db.query(name, **given)
    assert what in refused.value.what
    assert why in refused.value.why


def test_numbers_of_numpy_are_numbers(db, runs):
    found = db.query("strong_neurons", run=runs["mlp"].name, epoch=np.int64(1), top=np.int32(2))
    assert len(found) == 2


def test_an_empty_answer_has_its_columns_and_their_types(db, runs):
    found = db.query("strong_neurons", run=runs["mlp"].name, epoch=0, top=0)
    assert found.dtypes.astype(str).to_dict() == {
        "layer": "str",
        "index": "int64",
        "neuron": "int64",
        "strength": "float64",
        "strength_in": "float64",
        "strength_out": "float64",
    }


def test_a_skip_beside_a_trained_link_is_a_path_of_its_own(db, tmp_path):
    class Beside(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.b(torch.relu(self.a(x) + x))

    torch.manual_seed(1)
    model = Beside()
    run = cnt.export(model, {0: model.state_dict()}, (1, 3), to=tmp_path / "beside")
    db.load(run)
    try:
        found = db.query("strong_paths", run="beside", epoch=0, top=100)
        every = sorted((abs(p[1]) for p in all_paths(run.network(0))), reverse=True)
        np.testing.assert_allclose(found["product"].abs(), every, rtol=1e-12)
        assert len(every) == 3 * 3 * 2 + 3 * 2
    finally:
        db.delete("beside")


def test_dead_inputs_begin_no_path(db, tmp_path):
    model = Dense((4, 3, 2))
    model.fc[0].weight.data[:, 1] = 0
    run = cnt.export(model, {0: model.state_dict()}, (1, 4), to=tmp_path / "dead")
    db.load(run)
    try:
        found = db.query("strong_paths", run="dead", epoch=0, top=100)
        assert len(found) == 3 * 3 * 2
        assert not found["path"].map(lambda path: path[0].endswith("[1]")).any()
    finally:
        db.delete("dead")


def test_a_question_about_links_where_none_were_loaded(db, runs):
    db.load(runs["mlp"], name="no links", links="none")
    try:
        with pytest.raises(cnt.InputRefused, match="was loaded without links") as refused:
            db.query("strong_paths", run="no links", epoch=0)
        assert "--links all" in refused.value.fix
        assert len(db.query("strong_neurons", run="no links", epoch=0)) == 20
    finally:
        db.delete("no links")
