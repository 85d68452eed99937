"""What is loaded is the run, bit by bit and once, whatever happened on the way."""

from __future__ import annotations

import itertools
import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from models import Dense, build
from stored import (
    assert_same_bits,
    everything_of,
    exported,
    links_sent,
    links_there,
    node_count,
    states_there,
)

import cntgraph as cnt
from cntgraph.database import connect
from cntgraph.errors import LoadInterrupted

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def db(server):
    with connect(server.uri, user=server.user, password=server.password) as database:
        yield database


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    """A run of three epochs, never changed by a test."""
    folder = tmp_path_factory.mktemp("runs") / "mlp of the load tests"
    return exported(folder, "dense", 3, measures=("pagerank",))


@pytest.fixture
def name(request, db):
    """A name for one test, whose run goes afterwards."""
    yield request.node.name
    if request.node.name in db.query("runs")["name"].tolist():
        db.delete(request.node.name)


class Stop(BaseException):
    """What a progress callback raises to end a load at that moment."""


def stop_at(call):
    calls = itertools.count(1)

    def progress(done, total):
        if next(calls) == call:
            raise Stop

    return progress


# dense, convolution, permuted and joined inputs, positions side by side, all kinds of carrying
WIRINGS = ("dense", "residual", "lenet", "sequence", "shuffled", "attention")


@pytest.mark.parametrize("model", WIRINGS)
def test_every_link_arrives_bit_for_bit(db, name, tmp_path, model):
    run = exported(tmp_path / "run", model)
    report = db.load(run, name=name)
    network = run.network(0)
    found, sent = links_there(db, name, 0), links_sent(network)
    assert found.drop(columns="weight").equals(sent.drop(columns="weight"))
    assert_same_bits(found, sent)
    assert (report.neurons, report.links) == (network.neuron_count, network.link_count)
    assert (report.epochs, report.skipped, report.kept) == ((0,), (), 1.0)


@pytest.mark.parametrize("model", ["residual", "attention"])
def test_every_neuron_has_its_strengths_measures_bias_and_scale(db, name, tmp_path, model):
    run = exported(tmp_path / "run", model, measures=("pagerank",))
    db.load(run, name=name, links="none")
    found, sent = states_there(db, name, 0), run.neurons(0)
    for column in sent.columns.drop(["epoch", "neuron", "layer", "index"]):
        np.testing.assert_array_equal(found[column], sent[column])
    assert found["layer"].tolist() == sent["layer"].tolist()
    assert found["index"].tolist() == sent["index"].tolist()
    np.testing.assert_array_equal(found["magnitude"], sent["strength"].abs())
    network = run.network(0)
    for layer in network.layers:
        here = found[layer.first : layer.last]
        for part in ("bias", "gain", "shift", "value"):
            expression = getattr(layer, part)
            if expression is None:
                assert part not in here or here[part].isna().all()
            else:
                value = expression.evaluate(network.weights, torch.float64)
                expected = value.expand(layer.traced).reshape(-1).numpy()
                np.testing.assert_array_equal(here[part], expected)


def test_layers_neurons_and_epochs_are_described(db, name, tmp_path):
    model, example = build("lenet")
    with cnt.Recorder(model, example, to=tmp_path / "run") as recorder:
        recorder.snapshot(4, accuracy=0.5, note='it\'s "odd"', best=True, status="mine")
    run = cnt.open_run(tmp_path / "run")
    db.load(run, name=name, links="none")
    network = run.network(4)
    layers = db.cypher(
        "MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer) RETURN l.name AS name, l.kind AS kind, "
        "l.size AS size, l.shape AS shape, l.activation AS activation ORDER BY l.index",
        run=name,
    )
    layers = layers.astype(object).where(layers.notna(), None)
    for row, layer in zip(layers.itertuples(index=False), network.layers, strict=True):
        assert row == (layer.name, layer.kind, layer.size, list(layer.shape), layer.activation)
    neurons = db.within(rows=None).cypher(
        "MATCH (:Layer)-[:HAS_NEURON]->(n:Neuron {run: $run}) RETURN n.neuron AS neuron, "
        "n.layer AS layer, n.index AS index, n.channel AS channel, n.y AS y, n.x AS x "
        "ORDER BY neuron",
        run=name,
    )
    for column, expected in network.neurons().items():
        assert neurons[column].tolist() == expected.tolist()
    (snapshot,) = db.cypher("MATCH (x:Snapshot {run: $run}) RETURN properties(x) AS x", run=name)[
        "x"
    ]
    recorded = {"accuracy": 0.5, "note": 'it\'s "odd"', "best": True, "metric_status": "mine"}
    assert recorded.items() <= snapshot.items()
    assert (snapshot["epoch"], snapshot["status"], snapshot["kept"]) == (4, "complete", 0.0)


def test_layer_states_are_the_runs_layers(db, name, mlp):
    db.load(mlp, name=name, links="none")
    found = db.cypher(
        "MATCH (:Layer)-[:HAS_STATE]->(s:LayerState {run: $run}) RETURN properties(s) AS s",
        run=name,
    )["s"]
    by_place = {(s["epoch"], s["layer"]): s for s in found}
    assert len(by_place) == len(mlp.layers())
    for row in mlp.layers().drop(columns=["kind", "size"]).to_dict("records"):
        there = by_place[row["epoch"], row["layer"]]
        for column, value in row.items():
            missing = isinstance(value, float) and math.isnan(value)
            assert there.get(column) == (None if missing else value)


def test_the_second_load_writes_nothing(db, name, mlp):
    db.load(mlp, name=name, epochs=[0])
    before, nodes = everything_of(db, name), node_count(db)
    report = db.load(mlp, name=name, epochs=[0])
    assert (report.neurons, report.links, report.epochs) == (0, 0, ())
    assert (report.skipped, report.kept) == ((0,), 1.0)
    assert (everything_of(db, name), node_count(db)) == (before, nodes)


def test_epochs_are_added_to_those_that_are_there(db, name, mlp):
    db.load(mlp, name=name, epochs=[2])
    report = db.load(mlp.path, name=name)
    assert (report.epochs, report.skipped) == ((0, 1), (2,))
    assert report.links == 2 * mlp.network(0).link_count


@pytest.mark.parametrize("call", [1, 2, 5])
def test_a_load_that_was_cut_goes_on_and_ends_like_any_other(db, name, mlp, call):
    with pytest.raises(Stop):
        db.load(mlp, name=name, epochs=[0, 1], sessions=1, progress=stop_at(call))
    cut = db.query("runs").set_index("name").loc[name]
    assert (cut["status"], cut["epochs"]) == ("loading", 0 if call < 5 else 1)
    report = db.load(mlp, name=name, epochs=[0, 1])
    assert report.links < 2 * mlp.network(0).link_count or call == 1
    try:
        db.load(mlp, name="clean", epochs=[0, 1])
        there, clean = everything_of(db, name), everything_of(db, "clean")
        assert str(there).replace(name, "") == str(clean).replace("clean", "")
    finally:
        db.delete("clean")


def test_queries_see_no_epoch_that_is_still_loading(db, name, mlp):
    with pytest.raises(Stop):
        db.load(mlp, name=name, progress=stop_at(1))
    with pytest.raises(cnt.InputRefused, match=r"epoch 0 of .* is not in the database"):
        db.query("strong_neurons", run=name, epoch=0)


def test_two_loads_of_a_run_at_once_are_one(db, server, name, tmp_path):
    run = exported(tmp_path / "run", "lenet")

    def load(_):
        with connect(server.uri, user=server.user, password=server.password) as own:
            return own.load(run, name=name)

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(load, range(2)))
    assert sum(report.links for report in reports) == run.network(0).link_count
    assert_same_bits(links_there(db, name, 0), links_sent(run.network(0)))


def other_weights(folder, name="mlp", sizes=(12, 8, 6, 3), epochs=(0,)):
    torch.manual_seed(7)
    model = Dense(sizes)
    states = {epoch: Dense(sizes).state_dict() for epoch in epochs}
    return cnt.export(model, states, (1, *((3, 4) if sizes[0] == 12 else sizes[:1])), to=folder)


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({}, "epoch 0 has other weights"),
        ({"sizes": (12, 9, 3)}, "its network is another: 29 neurons, 162 links"),
        ({"epochs": (1,)}, "it has an epoch 0, which .* does not have"),
    ],
)
def test_another_run_of_the_name_is_refused_unless_replaced(
    db, name, mlp, tmp_path, difference, reason
):
    db.load(mlp, name=name, epochs=[0])
    before = everything_of(db, name)
    other = other_weights(tmp_path / "other", **difference)
    with pytest.raises(cnt.InputRefused) as refused:
        db.load(other, name=name)
    assert refused.match("holds another run") or name in refused.value.what
    assert re.search(reason, refused.value.why)
    assert everything_of(db, name) == before
    report = db.load(other, name=name, replace=True)
    assert report.epochs == tuple(difference.get("epochs", (0,)))
    epoch = report.epochs[0]
    assert_same_bits(links_there(db, name, epoch), links_sent(other.network(epoch)))
    assert db.query("runs").set_index("name").loc[name, "epochs"] == 1


def test_replace_writes_the_epochs_anew_and_leaves_the_others(db, name, mlp):
    db.load(mlp, name=name, epochs=[0, 1])
    before = everything_of(db, name)
    report = db.load(mlp, name=name, epochs=[1], replace=True)
    assert (report.epochs, report.skipped) == ((1,), ())
    assert report.links == mlp.network(1).link_count
    assert everything_of(db, name) == before


def test_a_choice_of_links(db, name, mlp):
    report = db.load(mlp, name=name, epochs=[0], links="top:2")
    few = mlp.network(0).filtered("top:2")
    assert report.kept == pytest.approx(few.kept)
    assert report.links == few.link_count < mlp.network(0).link_count
    assert_same_bits(links_there(db, name, 0), links_sent(few))
    found = states_there(db, name, 0)
    np.testing.assert_array_equal(found["strength"], mlp.neurons(0)["strength"])
    with pytest.raises(cnt.InputRefused, match="is loaded with links='top:2'"):
        db.load(mlp, name=name, epochs=[0], links="all")
    assert db.load(mlp, name=name, epochs=[0], links="all", replace=True).kept == 1.0
    assert_same_bits(links_there(db, name, 0), links_sent(mlp.network(0)))


def test_links_come_later_where_none_were_loaded(db, name, mlp):
    assert db.load(mlp, name=name, links="none").links == 0
    assert db.load(mlp, name=name, epochs=[2]).epochs == (2,)
    assert db.load(mlp, name=name, links="none").skipped == (0, 1, 2)
    assert len(links_there(db, name, 2)) == mlp.network(2).link_count


@pytest.mark.parametrize("links", ["some", "top:0", "top:", "backbone:", "all "])
def test_an_unknown_choice_of_links_is_refused(db, mlp, links):
    with pytest.raises(cnt.InputRefused, match="is no choice of links"):
        db.load(mlp, links=links)


@pytest.mark.parametrize("epochs", [[3], [True], ["0"]])
def test_an_epoch_that_the_run_does_not_have_is_refused(db, mlp, epochs):
    with pytest.raises(cnt.InputRefused, match="is not in"):
        db.load(mlp, epochs=epochs)


def test_delete_takes_all_of_a_run_and_nothing_else(db, name, mlp, tmp_path):
    db.load(mlp, name="another")
    kept, nodes = everything_of(db, "another"), node_count(db)
    db.load(exported(tmp_path / "run", "lenet"), name=name)
    assert node_count(db) > nodes
    db.delete(name)
    assert (everything_of(db, "another"), node_count(db)) == (kept, nodes)
    db.delete("another")
    with pytest.raises(cnt.InputRefused, match="there is no run 'another'"):
        db.delete("another")


NAMES = [
    "it's",
    'a "quoted" run',
    "back`tick",
    "n}) DETACH DELETE n //",
    "šířka 神経 🧠",
    "a\nb",
    "$x",
]


@pytest.mark.parametrize("odd", NAMES)
def test_a_name_is_a_value_and_nothing_more(db, mlp, odd):
    nodes = node_count(db)
    db.load(mlp, name=odd, epochs=[0])
    assert len(links_there(db, odd, 0)) == mlp.network(0).link_count
    assert odd in db.query("runs")["name"].tolist()
    assert len(db.query("strong_neurons", run=odd, epoch=0)) == 20
    db.delete(odd)
    assert node_count(db) == nodes


def test_layers_of_any_name(db, name, tmp_path):
    odd = [
        each for each in NAMES if '"' not in each and "\n" not in each
    ]  # PyTorch takes no others
    model = torch.nn.Sequential()
    for each in odd:
        model.add_module(each, torch.nn.Linear(3, 3))
    run = cnt.export(model, {0: model.state_dict()}, (1, 3), to=tmp_path / "run")
    db.load(run, name=name)
    assert_same_bits(links_there(db, name, 0), links_sent(run.network(0)))
    for each in odd:
        assert len(db.query("strength_over_epochs", run=name, layer=each, index=1)) == 1


def test_not_a_number_is_missing_and_said(db, name, tmp_path):
    model = Dense((4, 3, 2))
    model.fc[0].weight.data[1, 2] = math.nan
    model.fc[1].weight.data[0, 0] = math.inf
    with pytest.warns(cnt.CntWarning, match="NaN or infinite"):
        run = cnt.export(model, {0: model.state_dict()}, (1, 4), to=tmp_path / "run")
    db.load(run, name=name)
    found = links_there(db, name, 0)
    assert found["weight"].isna().sum() == 1
    assert np.isinf(found["weight"]).sum() == 1
    states = states_there(db, name, 0)
    lost = run.neurons(0)["strength"].isna()
    assert lost.any()
    assert states["strength"].isna().tolist() == lost.tolist()
    assert states["magnitude"].isna().tolist() == lost.tolist()
    assert states["has_nan"].fillna(False).astype(bool).tolist() == lost.tolist()
    ranked = db.query("strong_neurons", run=name, epoch=0, top=100)
    assert sorted(ranked["neuron"]) == np.flatnonzero(~lost).tolist()
    assert len(db.query("strongest_links", run=name, epoch=0, top=100)) == len(found) - 1


METRICS = {
    "large": 2**62,
    "huge": 2**70,
    "small": -(2**63),
    "third": 1 / 3,
    "nothing": None,
    "lost": math.nan,
    "endless": math.inf,
    "empty": "",
    "val/loss}) DETACH DELETE n": 0.5,
    "flag": False,
}


def test_what_was_recorded_comes_back(db, name, tmp_path):
    model, example = build("dense")
    with cnt.Recorder(model, example, to=tmp_path / "run") as recorder:
        recorder.snapshot(0, **METRICS)
    db.load(tmp_path / "run", name=name, links="none")
    (found,) = db.cypher("MATCH (x:Snapshot {run: $run}) RETURN properties(x) AS x", run=name)["x"]
    for metric, value in METRICS.items():
        lost = value is None or (isinstance(value, float) and math.isnan(value))
        expected = None if lost else "1180591620717411303424" if metric == "huge" else value
        assert found.get(metric) == expected
        assert type(found.get(metric)) is type(expected)


def test_an_altered_run_is_refused_and_its_epoch_stays_unseen(db, name, tmp_path):
    run = exported(tmp_path / "run", "dense", 2)
    weights = run.path / "epochs" / "epoch=0001" / "weights.safetensors"
    if not weights.exists():
        (weights,) = run.path.glob("epochs/*1/weights.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(cnt.RunDamaged, match="altered"):
        db.load(run.path, name=name, sessions=1)
    seen = db.query("runs").set_index("name").loc[name]
    assert seen["epochs"] == 1


@pytest.mark.parametrize(
    "damage",
    [
        "MATCH (:NeuronState {run: $run})-[k:LINK]->() WITH k LIMIT 1 DELETE k",
        "MATCH (:NeuronState {run: $run})-[k:LINK]->() WITH k LIMIT 1 SET k.weight = 9",
        "MATCH (n:NeuronState {run: $run}) WITH n LIMIT 1 SET n.strength = n.strength + 1e-6",
    ],
)
def test_a_load_that_did_not_arrive_as_sent_says_so(db, name, mlp, damage):
    def progress(done, total):
        if done == total:
            db.connection.change(damage, run=name)

    with pytest.raises(cnt.DatabaseError, match="did not arrive as it was sent") as error:
        db.load(mlp, name=name, epochs=[0], progress=progress)
    assert not isinstance(error.value, LoadInterrupted)
    assert db.query("runs").set_index("name").loc[name, "epochs"] == 0
    db.load(mlp, name=name, epochs=[0])
    assert_same_bits(links_there(db, name, 0), links_sent(mlp.network(0)))
