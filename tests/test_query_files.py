"""The files of the library, and those of a user's own folder: what they promise and are held to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stored import exported

import cntgraph as cnt
from cntgraph.cli.terminal import completions
from cntgraph.database import Library, connect
from cntgraph.database.queries import folder

OURS = Library().queries
REQUIRED = {
    "strong_neurons": "layer index neuron strength strength_in strength_out",
    "strength_over_epochs": "epoch strength",
    "risers": "layer index strength_first strength_last change",
    "layer_fluctuation": "epoch layer fluctuation weight_std",
    "strongest_links": "source_layer source_index target_layer target_index weight",
    "strong_paths": "path product weakest",
    "neighbourhood": "direction layer index weight",
    "compare_measures": "layer index strength rank_strength",
    "rank_stability": "epoch previous shared",
    "stored_against_recomputed": "layer largest_difference",
    "runs": "name epochs neurons links status",
}
HIDDEN = """\
// Neurons of hidden layers
//
// Those of a layer with a strength above a bound.
//
// parameters
//   run    string
//   epoch  int
//   above  float = -1e9      the bound
//   kind   string = "hidden"
// columns
//   layer     string
//   strength  float
MATCH (:Run {name: $run})-[:HAS_LAYER]->(l:Layer {kind: $kind})-[:HAS_NEURON]->(:Neuron)
      -[:HAS_STATE]->(n:NeuronState {epoch: $epoch})
WHERE n.strength > $above
RETURN l.name AS layer, n.strength AS strength ORDER BY n.neuron
"""


# -- ours


def test_the_library_holds_what_was_promised():
    found = Library().listing().set_index("name")
    for name, columns in REQUIRED.items():
        declared = found.loc[name, "columns"].split(", ")
        assert set(columns.split()) <= set(declared)
        assert found.loc[name, "title"]


@pytest.mark.parametrize("name", OURS)
def test_a_header_describes_the_text_below_it(name):
    query = OURS[name]
    for parameter in query.parameters:
        assert f"${parameter.name}" in query.text.partition("\nMATCH")[2]
    body = query.text.rpartition("\nRETURN ")[2]
    for column in query.columns:
        assert column.name in body
    assert query.title
    assert not query.title.endswith(".")


@pytest.fixture(scope="module")
def db(server, tmp_path_factory):
    run = exported(tmp_path_factory.mktemp("runs") / "run", "dense", 1, name="asked by files")
    with connect(server.uri, user=server.user, password=server.password) as database:
        database.load(run)
        yield database
        database.delete(run)


@pytest.mark.neo4j
@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("version", ["5", "25"])
def test_every_query_is_planned_in_both_cyphers_and_only_reads(db, name, version):
    summary = explained(db, f"CYPHER {version} EXPLAIN {OURS[name].text}")
    assert summary.query_type == "r"
    told = [(s.classification, s.status_description) for s in summary.gql_status_objects]
    assert not [each for each in told if each[0] == "DEPRECATION"]
    assert [each for each in told if "parameter missing" in each[1]] or name == "runs"


@pytest.mark.neo4j
@pytest.mark.parametrize("name", ["strong_neurons", "strong_neurons_in_layer", "rank_stability"])
def test_rankings_are_read_in_the_order_of_an_index(db, name):
    operators = list(flat(explained(db, f"EXPLAIN {OURS[name].text}").plan))
    kinds = {kind for kind, _ in operators}
    assert "NodeIndexSeek" in kinds
    assert any("magnitude IS NOT NULL" in details for _, details in operators)
    assert "Top" not in kinds
    assert "NodeByLabelScan" not in kinds or name == "rank_stability"
    if name != "rank_stability":
        assert "Sort" not in kinds


def explained(db, text):
    told = {"notifications_min_severity": "WARNING"}  # of deprecations too
    with db.connection.driver.session(default_access_mode="READ", **told) as session:
        return session.run(text).consume()


def flat(plan):
    yield plan["operatorType"].partition("@")[0], plan["args"].get("Details", "")
    for child in plan.get("children", ()):
        yield from flat(child)


# -- parameters


def test_parameters_typed_on_a_command_line():
    typed = {"run": "3", "epoch": "-3", "layer": "null", "top": "5", "by": "strength_in"}
    assert Library().parsed("strong_neurons", typed) == {
        "run": "3",
        "epoch": -3,
        "layer": None,
        "top": 5,
        "by": "strength_in",
    }
    with pytest.raises(cnt.InputRefused, match="epoch=three is not of type int"):
        Library().parsed("strong_neurons", {"epoch": "three"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (":query strong_neuro", sorted(OURS)),
        (":query neighbourhood ", ["run=", "epoch=", "layer=", "index=", "top="]),
        (":query neighbourhood run=a layer=b ep", ["epoch=", "index=", "top="]),
        (":query runs ", []),
        (":query nobody ", []),
        ("MATCH ", ["of the database"]),
        ("", ["of the database"]),
    ],
)
def test_what_a_prompt_completes(text, expected):
    assert completions(text, Library(), ["of the database"]) == expected


def listed(values, tmp_path):
    write(tmp_path, "q", "// q\n// parameters\n//   v  list = [1]\nRETURN $v AS v")
    return Library(tmp_path).find("q").bound({"v": values})["v"]


def test_a_list_of_numbers_may_be_an_array(tmp_path):
    for values in ([1, 2.5], (1, 2.5), np.array([[1.0], [2.5]]), torch.tensor([1.0, 2.5])):
        assert listed(values, tmp_path) == [1.0, 2.5]
    assert Library(tmp_path).parsed("q", {"v": "[1, 2.5]"}) == {"v": [1.0, 2.5]}
    for values in ("12", [1, "x"], [1, None], [float("nan")], {"a": 1}, [[1], [2, 3]]):
        with pytest.raises(cnt.InputRefused, match="q: v "):
            listed(values, tmp_path)
    with pytest.raises(cnt.InputRefused, match="v=1,2 is not of type list"):
        Library(tmp_path).parsed("q", {"v": "1,2"})


# -- a folder of the user's own


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.cypher").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.neo4j
def test_own_queries_are_asked_beside_ours(db, tmp_path):
    mine = db.with_queries(write(tmp_path / "mine", "hidden", HIDDEN))
    found = mine.query("hidden", run="asked by files", epoch=0, above=0)
    states = db.query("strong_neurons", run="asked by files", epoch=0, top=1000)
    expected = states[states["layer"].isin(["fc.0", "fc.1"]) & (states["strength"] > 0)]
    assert sorted(found["strength"]) == sorted(expected["strength"])
    assert len(mine.query("runs"))
    assert set(mine.queries()["name"]) - set(db.queries()["name"]) == {"hidden"}
    with pytest.raises(cnt.InputRefused, match="no query 'hidden'"):
        db.query("hidden", run="asked by files", epoch=0)
    with pytest.raises(cnt.InputRefused, match="above='1' is not of type float"):
        mine.query("hidden", run="asked by files", epoch=0, above="1")
    with pytest.raises(cnt.InputRefused, match="no run 'asked by file'"):
        mine.query("hidden", run="asked by file", epoch=0)
    assert mine.query("hidden", run="asked by files", epoch=0, kind="none").empty


@pytest.mark.neo4j
def test_an_own_query_is_held_to_reading(db, tmp_path):
    folder = write(tmp_path, "writes", "// w\nCREATE (n:Bad) RETURN n.x AS x")
    write(folder, "reaches", "// r\nLOAD CSV FROM 'file:///etc/passwd' AS l RETURN l")
    mine = db.with_queries(folder)
    for name in ("writes", "reaches"):
        with pytest.raises(cnt.DatabaseError, match="only reading is allowed"):
            mine.query(name)


@pytest.mark.neo4j
def test_an_own_query_of_the_same_name_is_asked_and_said(db, tmp_path):
    write(tmp_path, "runs", "// Mine\nRETURN 'mine' AS name")
    with pytest.warns(cnt.CntWarning, match="runs: .* has one of its own"):
        mine = db.with_queries(tmp_path)
    assert mine.query("runs")["name"].tolist() == ["mine"]


@pytest.mark.neo4j
def test_ours_are_answered_by_ours(db, tmp_path):
    write(tmp_path, "strong_neurons_in_layer", "// Mine\nRETURN 1 AS x")
    with pytest.warns(cnt.CntWarning):
        mine = db.with_queries(tmp_path)
    found = mine.query("strong_neurons", run="asked by files", epoch=0, layer="fc.1")
    assert len(found) == 6


@pytest.mark.neo4j
def test_another_of_them_may_answer_instead(db, tmp_path):
    head = "// parameters\n//   run string\n//   top int = 1\n"
    write(tmp_path, "first", f"// F\n{head}// instead\n//   second where top\nRETURN 1 AS x")
    write(tmp_path, "second", "// S\n// parameters\n//   top int\nRETURN $top AS x")
    mine = db.with_queries(tmp_path)
    assert mine.query("first", run="any")["x"].item() == 1
    assert mine.query("first", run="any", top=5)["x"].item() == 5


@pytest.mark.neo4j
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("// q\n// columns\n//   y  int\nRETURN 1 AS x", "declares the column 'y'"),
        ("// q\n// columns\n//   *x  list\nRETURN 1 AS x", "does not hold lists"),
        ("// q\n// columns\n//   *x  list\nRETURN [{name: 'a'}] AS x", "does not hold lists"),
    ],
)
def test_an_answer_that_is_not_what_its_header_says(db, tmp_path, text, message):
    mine = db.with_queries(write(tmp_path, "q", text))
    with pytest.raises(cnt.InputRefused, match=message) as refused:
        mine.query("q")
    assert str(tmp_path / "q.cypher") in refused.value.what


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("MATCH (n) RETURN n", 1, "first line"),
        ("//\nRETURN 1", 1, "first line"),
        ("", 1, "first line"),
        ("// t\n// parameters\n//   run strng\nRETURN 1", 3, "TYPE one of int"),
        ("// t\n//\n// parameters\n//   run\nRETURN 1", 4, "NAME TYPE"),
        ("// t\n// parameters\n//   top int = ten\nRETURN 1", 3, "JSON of the type int"),
        ('// t\n// parameters\n//   top int = "10"\nRETURN 1', 3, "JSON of the type int"),
        ("// t\n// parameters\n//   top int\n//   top int\nRETURN 1", 4, "declared twice"),
        ("// t\n// columns\n//   a int\n//   a int\nRETURN 1", 4, "declared twice"),
        ("// t\n// columns\n//   a\nRETURN 1", 3, "NAME TYPE  MEANING"),
        ("// t\n// parameters\n//   run string\nMATCH (n)\nRETURN $rum", 5, "declares run"),
        ("// t\nRETURN '$a', // $b\n `$c`, $d", 3, "declares no parameters"),
        ("// t\n// parameters\n// a int\n// instead\n// runs where a\nRETURN 1", 5, "default"),
        ("// t\n// instead\n// runs where\nRETURN 1", 3, "QUERY where PARAMETER"),
    ],
)
def test_a_bad_header_is_refused_with_file_and_line(tmp_path, text, line, why):
    write(tmp_path, "bad", text)
    with pytest.raises(cnt.InputRefused) as refused:
        Library(tmp_path).find("runs")
    assert refused.value.what.startswith(f"{tmp_path / 'bad.cypher'}, line {line}: ")
    assert why in refused.value.why
    assert "--show" in refused.value.fix


@pytest.mark.parametrize(
    ("of", "message"),
    [("nobody where a", "no query 'nobody'"), ("neighbourhood where a", "cannot answer instead")],
)
def test_an_alternative_that_cannot_be(tmp_path, of, message):
    write(tmp_path, "q", f"// q\n// parameters\n//   a int = 1\n// instead\n//   {of}\nRETURN 1")
    with pytest.raises(cnt.InputRefused, match=message):
        Library(tmp_path).find("q")


def test_a_folder_that_is_none_of_queries(tmp_path):
    for path, message in ((tmp_path / "not there", "is not a folder"), (tmp_path, "no query")):
        with pytest.raises(cnt.InputRefused, match=message):
            Library(path).find("runs")
    (tmp_path / "q.cypher").write_bytes(b"// \xff\n")
    with pytest.raises(cnt.InputRefused, match="cannot be read") as refused:
        Library(tmp_path).find("runs")
    assert refused.value.why == "it is not UTF-8"


@given(st.text())
def test_any_text_is_a_query_or_is_refused(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    (folder / "any.cypher").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        said = Library(folder).find("any").title
    except cnt.InputRefused as refused:
        said = refused.what if str(folder / "any.cypher") in refused.what else ""
    shutil.rmtree(folder)
    assert said


# -- the command


def run(*words, environment=None, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "cntgraph", *map(str, words)],
        env={**os.environ, **(environment or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_query_is_printed_as_it_pastes_into_neo4j_browser():
    found = run("queries", "--show", "strong_neurons")
    assert found.stdout == (folder() / "strong_neurons.cypher").read_text()
    assert ':params {run: "...", epoch: 0, layer: null, top: 20, by: "strength"}' in found.stderr
    unknown = run("queries", "--show", "strong_neuron")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "did you mean strong_neurons" in unknown.stderr


@pytest.mark.neo4j
def test_own_queries_of_the_command(db, neo4j_environment, tmp_path):
    write(tmp_path / "mine", "runs", "// Mine\n// columns\n//   name string\nRETURN 'me' AS name")
    shown = run("queries", "--queries", "mine", cwd=tmp_path)
    assert "runs                       Mine" in shown.stdout
    assert "not the library's: runs" in shown.stderr
    text = (tmp_path / "mine" / "runs.cypher").read_text()
    assert run("queries", "--show", "runs", "--queries", "mine", cwd=tmp_path).stdout == text
    asked = run("query", "runs", "--queries", "mine", environment=neo4j_environment, cwd=tmp_path)
    assert re.fullmatch(r"name\s+me\s+", asked.stdout), asked.stderr
    assert "asked mine/runs.cypher, not the library's runs" in asked.stderr
