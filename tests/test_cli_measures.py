"""The verbs that measure, as a user types them: the numbers are those of Python's calls."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from stored import exported
from torch import nn
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli.entry import app
from cntgraph.measures import plan


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("runs") / "mine", "dense", 3, measures=("pagerank",))


def invoke(*words):
    """The command in this process; errors of ours are raised."""
    found = CliRunner().invoke(app, [str(word) for word in words])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def document(*words):
    """The one JSON document that a command prints."""
    found = invoke(*words, "--json")
    assert found.exit_code == 0
    return json.loads(found.stdout)


def process(*words, **options):
    command = [sys.executable, "-m", "cntgraph", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **options
    )


def test_a_measure_of_every_epoch(run):
    found = document("measure", run.path, "pagerank", "balance")
    assert (found["run"], found["measures"]) == ("mine", ["pagerank", "balance"])
    pd.testing.assert_frame_equal(
        pd.DataFrame(found["rows"]), cnt.measure(run, "pagerank", "balance"), check_dtype=False
    )


@pytest.mark.parametrize(("epoch", "number"), [("1", 1), ("first", 0), ("last", 2)])
def test_one_epoch_alone(run, epoch, number):
    found = pd.DataFrame(document("measure", run.path, "pagerank", "--epoch", epoch)["rows"])
    assert found.pop("epoch").unique().tolist() == [number]
    expected = cnt.measure(run.network(number), "pagerank")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_conventions_and_options_are_handed_on(run):
    words = ("--option", "damping=0.5", "--option", 'kinds=["weight"]')
    found = document("measure", run.path, "pagerank", "--epoch", "0", *words)
    expected = cnt.measure(run.network(0), "pagerank", damping=0.5, kinds=["weight"])
    assert [row["pagerank"] for row in found["rows"]] == expected["pagerank"].tolist()
    found = document("measure", run.path, "assortativity", "--epoch", "0", "--sign", "signed")
    expected = cnt.measure(run.network(0), "assortativity", sign="signed")
    assert [row["assortativity"] for row in found["rows"]] == expected["assortativity"].tolist()


def test_the_longest_link_is_that_of_all_epochs(run):
    whole = cnt.measure(run, "harmonic", length="log").query("epoch == 0")
    found = document("measure", run.path, "harmonic", "--length", "log", "--epoch", "0")
    # where the strongest link starts it is infinite, which JSON does not know
    expected = [v if math.isfinite(v) else None for v in whole["harmonic"]]
    assert [row["harmonic"] for row in found["rows"]] == expected


def test_fewer_links_make_a_measure_say_something(run):
    with pytest.raises(cnt.DegenerateMeasure):
        invoke("measure", run.path, "degree", "--epoch", "0")
    found = document("measure", run.path, "degree", "--epoch", "0", "--links", "top:2")
    expected = cnt.measure(run.network(0).filtered("top:2"), "degree")["degree"]
    assert [row["degree"] for row in found["rows"]] == expected.tolist()


def test_the_first_of_each_epoch(run):
    found = pd.DataFrame(document("measure", run.path, "strength", "--top", 4)["rows"])
    values = cnt.measure(run, "strength")
    for epoch, rows in values.groupby("epoch"):
        largest = rows.reindex(rows["strength"].abs().sort_values(ascending=False).index).head(4)
        assert found.loc[found["epoch"] == epoch, "neuron"].tolist() == largest["neuron"].tolist()
    by_value = document("measure", run.path, "balance", "--top", 3, "--epoch", 0)["rows"]
    largest = cnt.measure(run.network(0), "balance").nlargest(3, "balance")
    assert [row["neuron"] for row in by_value] == largest["neuron"].tolist()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_a_file_holds_all_rows(run, tmp_path, suffix):
    file = tmp_path / f"ranks{suffix}"
    found = invoke("measure", run.path, "pagerank", "--out", file)
    assert found.stdout == ""
    read = {".csv": pd.read_csv, ".parquet": pd.read_parquet, ".json": pd.read_json}[suffix]
    expected = cnt.measure(run, "pagerank")
    pd.testing.assert_frame_equal(read(file), expected, check_dtype=False, rtol=1e-12)


def test_a_pipe_is_given_every_row_and_a_terminal_the_first(run):
    piped = invoke("measure", run.path, "pagerank").stdout.splitlines()
    assert len(piped) == 1 + 3 * run.wiring.neuron_count
    assert piped[0].split() == ["epoch", "neuron", "layer", "index", "pagerank"]
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "cntgraph", "measure", str(run.path), "pagerank"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    with subprocess.Popen(
        words, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment
    ) as shown:
        told = shown.stderr.read()
        assert shown.wait(120) == 0
    os.close(theirs)
    lines = os.read(ours, 100_000).decode().splitlines()
    os.close(ours)
    assert len(lines) == 21
    best = cnt.measure(run.network(2), "pagerank").nlargest(20, "pagerank")["neuron"]
    assert [int(line.split()[1]) for line in lines[1:]] == best.tolist()
    assert "20 of 87 rows: those of epoch 2 with most pagerank" in told


def test_a_plan_computes_nothing(run):
    found = document("measure", run.path, "pagerank", "community", "--plan")
    expected = plan(run.network(2), "pagerank", "community")
    assert found["epochs"] == [0, 1, 2]
    assert [row["links"] for row in found["measures"]] == expected["links"].tolist()
    assert found["seconds"] == pytest.approx(3 * expected["seconds"].sum())
    shown = invoke("measure", run.path, "degree", "--plan")  # which says nothing on this network
    assert "seconds an epoch" in shown.stdout
    assert "162" in shown.stdout


def test_the_list_is_that_of_python_and_fits_a_page():
    found = document("measures")
    assert [row["name"] for row in found["measures"]] == cnt.measures()["name"].tolist()
    lines = invoke("measures").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    named = {line.split()[0] for line in lines if not line.startswith(" ")}
    assert named == set(cnt.measures()["name"])


def test_compare_is_pythons(run):
    found = document("compare", run.path, "pagerank", "--epoch", "last", "--top", 2)
    expected = cnt.compare(run, "pagerank", epochs=[2], top=2)
    shown = pd.DataFrame(found["rows"]).astype({"pearson": float})
    pd.testing.assert_frame_equal(shown, expected, check_dtype=False, rtol=1e-12)
    assert invoke("compare", run.path).stdout.splitlines()[0].split() == list(expected.columns)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pagernk",), "did you mean pagerank"),
        (("pagerank", "assortativity"), "pagerank and assortativity in one call"),
        (("pagerank", "--epoch", "7"), "it holds 0, 1, 2"),
        (("pagerank", "--sign", "signed"), "its sign is absolute"),
        (("pagerank", "--option", "dampin=1"), "did you mean damping"),
        (("pagerank", "--links", "best"), "is not a filter"),
        (("pagerank", "--out", "ranks.xls"), "ends in .csv, .parquet, .json"),
        (("pagerank", "--plan", "--sign", "loud"), "sign='loud'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_what_is_refused(run, words, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        invoke("measure", run.path, *words)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "words",
    [
        ("measure",),
        ("measure", "RUN"),
        ("measure", "RUN", "pagerank", "--option", "damping"),
        ("measure", "RUN", "pagerank", "--option", "sign=signed"),
        ("measure", "RUN", "assortativity", "--top", "3"),
        ("measure", "RUN", "pagerank", "--top", "0"),
        ("compare", "RUN", "--top", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(run, words):
    found = invoke(*(run.path if word == "RUN" else word for word in words))
    assert (found.exit_code, found.stdout) == (2, "")


def test_a_refusal_ends_with_3_and_one_note_is_told(run):
    found = process("measure", run.path, "degree")
    assert (found.returncode, found.stdout) == (3, "")
    assert "degree says nothing on this network" in found.stderr
    assert "fix:" in found.stderr
    found = process("compare", run.path, "community", "--json")
    assert (found.returncode, found.stdout) == (3, "")


def test_an_export_of_what_says_nothing_writes_nothing(tmp_path):
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    for given in ({}, {"name": "x"}):
        with pytest.raises(cnt.DegenerateMeasure, match="degree says nothing"):
            cnt.export(model, {0: model.state_dict()}, (1, 4), to=tmp_path / "run",
                       measures=("pagerank", "degree"), **given)  # fmt: skip
        assert not (tmp_path / "run").exists()
    for name, said in [("assortativity", "no measure 'assortativity' of neurons"), ("x", "known")]:
        with pytest.raises(cnt.InputRefused, match=said):
            cnt.export(model, {0: model.state_dict()}, (1, 4), to=tmp_path / "run", measures=[name])
        assert not (tmp_path / "run").exists()


def test_every_measure_of_neurons_that_says_something_can_be_stored(tmp_path):
    """Their values come back as they are, whole numbers as whole numbers."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    network = cnt.trace(model, (1, 4))
    stored = []
    for name in cnt.measures().query("level == 'neuron'")["name"]:
        try:
            cnt.measure(network, name)
        except cnt.DegenerateMeasure:
            continue
        stored.append(name)
    assert len(stored) >= 10
    run = cnt.export(model, {0: model.state_dict()}, (1, 4), to=tmp_path / "run", measures=stored)
    found, expected = run.neurons(0), cnt.measure(network, *stored)
    for name in stored:
        assert found[name].dtype.kind == expected[name].dtype.kind
        np.testing.assert_array_equal(found[name], expected[name])
