"""What holds for every measure that is declared, whoever wrote it."""

from __future__ import annotations

import functools
import re

import numpy as np
import pandas as pd
import pytest
import torch
from models import Dense
from torch import nn

import cntgraph as cnt
from cntgraph.measures.catalogue import MEASURES, in_order
from cntgraph.measures.declaring import LENGTHS, LEVELS, SIGNS
from cntgraph.measures.measure import plan
from cntgraph.network.blocks import LINK_KINDS

NAMES = sorted(MEASURES)
OWN = {"neuron": ["neuron", "layer", "index"], "block": ["source", "target"], "network": []}
# Found by a search with ties: neurons in another order are searched in another order.
SEARCHED = {"community", "participation", "within_module_z", "modularity", "normalised_cut"}


class Skipping(nn.Module):
    """A skip connection that adds, one that concatenates, and a batch norm between."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(10, 3)
        self.norm = nn.BatchNorm1d(5)

    def forward(self, x):
        early = torch.relu(self.first(x))
        late = torch.relu(self.norm(self.second(early)) + early)
        return self.last(torch.cat([early, late], 1))


def pooled():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    )


def single():
    return nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))


def traced(model, example):
    torch.manual_seed(len(example))
    return cnt.trace(model(), example)


def weighing(network, change):
    """The same network with every weight changed."""
    return network.with_weights({name: change(t.clone()) for name, t in network.weights.items()})


def with_entry(value):
    def change(w):
        if w.ndim > 1:
            w.view(-1)[0] = value
        return w

    return change


NETWORKS = {
    "mlp": lambda: traced(Dense, (1, 3, 4)),
    "pooled": lambda: traced(pooled, (1, 1, 6, 6)),
    "skipping": lambda: traced(Skipping, (1, 6)),
    "filtered": lambda: NETWORKS["mlp"]().filtered("top:2"),
    "channels": lambda: NETWORKS["pooled"]().by_channel(),
}
HARD = {
    "nan": lambda: weighing(network("mlp"), with_entry(float("nan"))),
    "infinite": lambda: weighing(network("skipping"), with_entry(float("inf"))),
    "zero": lambda: weighing(network("mlp"), torch.zeros_like),
    "equal": lambda: weighing(network("mlp"), torch.ones_like),
    "single neurons": lambda: traced(single, (1, 1)),
    "no link left": lambda: network("pooled").filtered("above:1e9"),
    "disconnected": lambda: network("mlp").filtered("above:0.25"),
    "untrained": lambda: traced(lambda: nn.Sequential(nn.ReLU(), nn.AvgPool1d(2)), (1, 1, 6)),
    "half precision": lambda: weighing(network("skipping"), torch.Tensor.bfloat16),
}


@functools.cache
def network(name):
    return (NETWORKS | HARD)[name]()


def asked(given, *names, **options):
    """The table, or None if the measure says that it says nothing; nothing else is allowed."""
    try:
        return cnt.measure(given, *names, **options)
    except cnt.DegenerateMeasure as said:
        refusal = said
    assert names[0] in refusal.what, "it says which measure"
    assert refusal.why, "it says why"
    assert refusal.fix, "it says what says more"
    return None


@functools.cache
def available(name, level):
    """The measures of a level that say something on a network."""
    names = [m.name for m in in_order() if m.level == level]
    return tuple(n for n in names if asked(network(name), n) is not None)


# -- declarations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_declaration_says_everything(name):
    measure = MEASURES[name]
    for part in ("formula", "sees", "leave", "reference"):
        assert getattr(measure, part).strip(), f"{name} has no {part}"
    for part in ("formula", "sees", "leave", "reference", "igraph", "degenerate"):
        text = getattr(measure, part)
        assert "  " not in text, f"two spaces: {text}"
        assert text == text.strip()
        assert not text.endswith("."), f"{part} stands in a table: {text}"
        assert text.count("$") % 2 == 0, f"unbalanced mathematics: {text}"
    assert re.search(r"\b(1[89]|20)\d\d\b", measure.reference), "an author and a year"
    assert measure.cost.text
    assert measure.summary.endswith("."), f"no sentence on one line: {measure.summary!r}"
    assert measure.summary[0].isupper()


@pytest.mark.parametrize("name", NAMES)
def test_conventions_are_known_words(name):
    measure = MEASURES[name]
    assert measure.level in LEVELS
    assert measure.signs
    assert set(measure.signs) <= set(SIGNS)
    assert set(measure.lengths) <= set(LENGTHS)
    assert measure.kinds
    assert set(measure.kinds) <= set(LINK_KINDS)
    assert name.isidentifier()
    assert name == name.lower()


def test_the_table_of_measures():
    assert cnt.measures().equals(cnt.measures()), "a function, though a package has its name"
    found = cnt.measures()
    wanted = "name, level, sign, length, kinds, igraph, cost, reference, degenerate".split(", ")
    assert list(found.columns) == wanted
    assert sorted(found["name"]) == NAMES
    assert found["name"].tolist() == [m.name for m in in_order()]
    for row in found.to_dict("records"):
        measure = MEASURES[row["name"]]
        assert row["sign"].split(", ") == list(measure.signs)
        assert tuple(filter(None, row["length"].split(", "))) == measure.lengths
        assert row["cost"] == measure.cost.text


# -- tables ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("given", [*NETWORKS, *HARD])
@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_numbers_or_a_reason(name, given):
    measure, over = MEASURES[name], network(given)
    for sign in measure.signs:
        found = asked(over, name, sign=sign)
        if found is not None:
            assert_is_table(found, measure, over)


def assert_is_table(found, measure, over):
    own = OWN[measure.level]
    assert list(found.columns)[: len(own) + 1] == [*own, measure.name]
    rest = found.columns[len(own) :]
    assert all(c == measure.name or c.startswith(measure.name + "_") for c in rest)
    assert all(pd.api.types.is_numeric_dtype(found[c]) for c in rest), found.dtypes
    if measure.level == "neuron":
        pd.testing.assert_frame_equal(found[own], over.identities())
    elif measure.level == "block":
        joined = {(b.source, b.target) for b in over.carrying_blocks(measure.kinds)}
        pairs = list(zip(found["source"], found["target"], strict=True))
        assert set(pairs) <= joined
        assert len(set(pairs)) == len(pairs)
    else:
        assert len(found) == 1


@pytest.mark.parametrize("given", NETWORKS)
@pytest.mark.parametrize("level", LEVELS)
def test_something_can_be_said_of_every_network(given, level):
    assert available(given, level)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("given", ["mlp", "skipping", "filtered"])
def test_together_they_are_what_they_are_apart(given, level):
    names = available(given, level)
    own = OWN[level]
    for order in (names, names[::-1]):
        together = cnt.measure(network(given), *order)
        apart = [cnt.measure(network(given), n).drop(columns=own) for n in order]
        pd.testing.assert_frame_equal(
            together.drop(columns=own), pd.concat(apart, axis=1), rtol=1e-9, atol=1e-12
        )
        assert list(together.columns[: len(own)]) == own


@pytest.mark.parametrize("level", LEVELS)
def test_neurons_may_stand_in_any_order(level):
    straight = network("mlp")
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    weights = dict(straight.weights)
    weights["fc.0.weight"] = weights["fc.0.weight"][order]
    weights["fc.0.bias"] = weights["fc.0.bias"][order]
    weights["fc.1.weight"] = weights["fc.1.weight"][:, order]
    turned = straight.with_weights(weights)
    names = [n for n in available("mlp", level) if n not in SEARCHED]
    before, after = cnt.measure(straight, *names), cnt.measure(turned, *names)
    if level == "neuron":
        hidden = straight.layer("fc.0")
        place = np.arange(straight.neuron_count)
        place[hidden.first : hidden.last] = hidden.first + order.numpy()
        before = before.iloc[place].reset_index(drop=True)
        assert set(before["layer"]) == set(after["layer"])
    for name in before.columns[len(OWN[level]) :]:
        np.testing.assert_allclose(
            after[name], before[name], rtol=1e-6, atol=1e-9, err_msg=f"{name} hangs on the order"
        )


@pytest.mark.parametrize("level", LEVELS)
def test_a_run_gives_the_tables_of_its_epochs(tmp_path, level):
    torch.manual_seed(5)
    model = Dense((6, 4, 3))
    with cnt.Recorder(model, (1, 6), to=tmp_path / "run") as recorder:
        for epoch in (0, 3):
            recorder.snapshot(epoch)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.5).add_(0.01)
    run = cnt.open_run(tmp_path / "run")
    names = [n for n in available("mlp", level) if n not in TOO_SMALL]
    whole = cnt.measure(run, *names)
    assert whole.columns[0] == "epoch"
    assert list(dict.fromkeys(whole["epoch"])) == [0, 3]
    for epoch in (0, 3):
        part = whole[whole["epoch"] == epoch].drop(columns="epoch").reset_index(drop=True)
        pd.testing.assert_frame_equal(part, cnt.measure(run.network(epoch), *names), rtol=1e-9)


def pruned_at(tmp_path, epochs):
    """A run whose weights are positive except at some epochs, where a third of them is not."""
    torch.manual_seed(5)
    model = Dense((6, 4, 3))
    with torch.no_grad():
        for layer in model.fc:
            layer.weight.abs_()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    with cnt.Recorder(model, (1, 6), to=tmp_path / "run") as recorder:
        for epoch in range(3):
            model.load_state_dict(kept)
            if epoch in epochs:
                with torch.no_grad():
                    model.fc[0].weight[::2, ::3].neg_()
            recorder.snapshot(epoch)
    return cnt.open_run(tmp_path / "run")


def test_a_measure_that_says_nothing_at_some_epochs_is_nan_there(tmp_path):
    run = pruned_at(tmp_path, {1})
    with pytest.warns(cnt.CntWarning, match="degree is NaN at epoch 0, 2: it has one value"):
        found = cnt.measure(run, "degree", "disparity_out", sign="positive")
    there = found["epoch"] == 1
    assert found.loc[~there, "degree"].isna().all()
    expected = cnt.measure(run.network(1), "degree", sign="positive")["degree"]
    assert found.loc[there, "degree"].tolist() == expected.tolist()
    inputs = found["layer"] == "image"
    assert found.loc[inputs, "disparity_out"].notna().all()


def test_a_measure_that_says_nothing_at_any_epoch_is_refused(tmp_path):
    with pytest.raises(cnt.DegenerateMeasure, match="degree says nothing"):
        cnt.measure(pruned_at(tmp_path, {}), "disparity_out", "degree", sign="positive")


TOO_SMALL = {"normalised_cut"}  # more clusters than a network of 13 neurons has


@pytest.mark.parametrize("kinds", [("weight",), ("weight", "identity", "fixed", "scale")])
def test_strengths_are_of_the_kinds_that_are_asked_for(kinds):
    torch.manual_seed(3)
    network = cnt.trace(Skipping(), (1, 6))
    found = cnt.measure(network, "strength", "strength_in", "strength_out", "strength_absolute",
                        kinds=kinds)  # fmt: skip
    graph = network.to_igraph(kinds)
    for name, mode in (("strength", "all"), ("strength_in", "in"), ("strength_out", "out")):
        np.testing.assert_allclose(found[name], graph.strength(mode=mode, weights="weight"), 1e-9)
    sizes = np.abs(graph.es["weight"]).tolist()
    np.testing.assert_allclose(found["strength_absolute"], graph.strength(weights=sizes), 1e-9)
    if kinds == ("weight",):
        pd.testing.assert_frame_equal(found, cnt.strength(network)[list(found)])


# -- refusals -------------------------------------------------------------------------------------


def refused(*names, **options):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.measure(network("mlp"), *names, **options)
    assert not isinstance(refusal.value, cnt.DegenerateMeasure)
    return str(refusal.value)


@pytest.mark.parametrize("name", NAMES)
def test_conventions_that_a_measure_lacks_are_refused(name):
    measure = MEASURES[name]
    for sign in set(SIGNS[1:]) - set(measure.signs):  # the first is everybody's default
        said = refused(name, sign=sign)
        assert name in said
        assert measure.signs[0] in said
    for length in set(LENGTHS) - set(measure.lengths):
        if measure.lengths:
            assert measure.lengths[0] in refused(name, length=length)
    assert "did you mean negative" in refused(name, sign="negatve")
    assert "did you mean inverse" in refused(name, length="invers")
    assert "did you mean weight" in refused(name, kinds=("weigth",))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_names_and_options_are_refused(name):
    misspelt = name[:-2] + "qq" if len(name) > 5 else name + "q"
    assert name in refused(misspelt) or "known" in refused(misspelt)
    assert "'nosuch'" in refused(name, nosuch=1)
    for option in MEASURES[name].options:
        assert option in refused(name, **{option + "x": 1}), "did you mean"


def test_what_a_name_is_taken_for():
    assert "did you mean participation?" in refused("particpation")
    assert "known: " in refused("zzzzzzzz")
    assert "no measure was named" in refused()


def test_two_levels_are_two_tables():
    assert "in two calls" in refused("pagerank", "modularity")
    assert "modularity per network" in refused("pagerank", "modularity")


@pytest.mark.parametrize("name", NAMES)
def test_what_takes_hours_says_so_and_how_to_go_on(name):
    said = refused(name, hours=0)
    assert "hours" in said
    assert "filtered" in said
    hint = re.search(r"hours=([\d.]+)", said)
    assert hint, said
    asked(network("mlp"), name, hours=float(hint[1]))


@pytest.mark.parametrize("level", LEVELS)
def test_a_plan_computes_nothing(level):
    names = [m.name for m in in_order() if m.level == level]
    empty = network("no link left")
    found = plan(network("pooled"), *names)
    assert list(found.columns) == ["name", "links", "seconds", "bytes", "cost"]
    assert found["name"].tolist() == names
    assert (found["seconds"] > 0).all()
    assert (found["bytes"] > 0).all()
    trained = [n for n in names if MEASURES[n].kinds == ("weight",)]
    links = found.set_index("name")["links"]
    assert set(links[trained]) <= {network("pooled").link_count}
    assert len(plan(empty, *names)) == len(names), "also where a measure would be refused"


def test_a_plan_grows_with_the_links():
    names = [m.name for m in in_order() if m.level == "neuron"]
    small, large = (plan(traced(lambda n=n: Dense((n, n, n)), (1, n)), *names) for n in (4, 16))
    assert (large["seconds"] > small["seconds"]).all()
    assert (large["bytes"] >= small["bytes"]).all()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("katz", "alpha", "0.1"),
        ("katz", "alpha", True),
        ("harmonic", "samples", 2.5),
        ("persistence", "normalised", 1),
        ("rich_club", "among", None),
    ],
)
def test_an_option_of_another_type_is_refused(name, option, value):
    network = cnt.trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), (1, 3))
    with pytest.raises(cnt.InputRefused, match=f"{option}=.* of {name}") as refusal:
        cnt.measure(network, name, **{option: value})
    assert "by default" in refusal.value.why


def test_an_option_of_numpy_is_a_number():
    network = cnt.trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), (1, 3))
    found = cnt.measure(network, "katz", "harmonic", alpha=np.float32(1), samples=np.int64(0))
    assert list(found)[-2:] == ["katz", "harmonic"]
