"""The command as a user types it: answers on stdout alone, one exit status for each way to end."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import igraph
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli import models, output
from cntgraph.cli.entry import app

VERBS = (
    "demo export load query queries layers measure measures compare graph verify inspect doctor "
    "shell db"
).split()

NETS = """
import torch
from torch import nn

print("the user's file prints")

class Net(nn.Module):
    def __init__(self, hidden=7):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, hidden), nn.Linear(hidden, 3)

    def forward(self, image):
        print("forward prints")
        return self.fc2(torch.relu(self.fc1(image.flatten(1))))

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 2), nn.Linear(3, 2)

    def forward(self, x, y):
        return self.a(x) + self.b(y)

def build():
    return Net()

ready = Net(5)

def fails():
    table = {}
    return table["weights"]

def leaves():
    raise SystemExit(0)

def number():
    return 3

def interrupted():
    import os, signal
    os.kill(os.getpid(), signal.SIGINT)

def terminated():
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)

def deaf():
    import os, signal, threading
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        threading.Event().wait()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of the user's own, with the file of their model."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    for name in [n for n in sys.modules if n.startswith("nets")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Checkpoints of epochs 2 and 10, as a training script leaves them, and the run of them."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "nets.py").write_text(NETS)
    (folder / "checkpoints").mkdir()
    torch.manual_seed(1)
    for epoch in (10, 2):
        state = {
            "fc1.weight": torch.randn(7, 12),
            "fc1.bias": torch.randn(7),
            "fc2.weight": torch.randn(3, 7),
            "fc2.bias": torch.randn(3),
        }
        kept = {"epoch": epoch, "state_dict": state, "accuracy": epoch / 20}
        torch.save(kept, folder / "checkpoints" / f"epoch_{epoch}.pt")
    found = run("export", "nets.py:build", "checkpoints", "--input", "3,4", "--to", "runs/mine",
                "--measures", "pagerank", "--json", cwd=folder)  # fmt: skip
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["epochs"] == [2, 10]
    assert (document["run"], document["neurons"], document["links"]) == ("mine", 22, 105)
    assert "the user's file prints" in found.stderr
    return folder


def run(*words, environment=None, stdin=None, **options):
    """The command in a process of its own."""
    root = str(Path(cnt.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "cntgraph", *map(str, words)],
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def invoke(*words, stdin=None):
    """The command in this process; errors of ours are raised."""
    found = CliRunner().invoke(app, [str(word) for word in words], input=stdin)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


# -- the command itself


def test_help_names_every_verb_and_loads_nothing_heavy():
    heavy = "torch pandas numpy igraph networkx neo4j matplotlib pyarrow sklearn scipy".split()
    code = (
        "import sys\n"
        "from cntgraph.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print(*(set(sys.modules) & {set(heavy)}), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stderr.strip() == ""
    for verb in VERBS:
        assert f"\n  {verb} " in found.stdout
    listed = found.stdout.partition("Commands:")[2].splitlines()
    assert all(len(line) <= 80 and not line.endswith("...") for line in listed)


ROOT = Path(cnt.__file__).parents[1]


def test_the_version_is_the_packages():
    assert invoke("--version").stdout == f"cntgraph {cnt.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["verfy"],
        ["verify", "nets.py:build"],
        ["verify", "nets.py:build", "--input", "3,"],
        ["verify", "nets.py:build", "--input", "3,0"],
        ["query", "strong_neurons", "run"],
        ["query", "strong_neurons", "--format", "xml"],
        ["query", "runs", "--format", "parquet"],
        ["load", "a", "b", "--name", "c"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(words):
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 2
    assert found.stdout == ""


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        ("cntgraph.errors.InputRefused('no', fix='do')", 3, "error: no\n  fix: do\n"),
        ("cntgraph.errors.DatabaseError('no')", 4, "error: no\n"),
        ("cntgraph.errors.LoadInterrupted('cut', fix='x')", 5, "cntgraph load 'my run'"),
        ("KeyError('w')", 70, "report it with what this prints: cntgraph --debug load 'my run'"),
        ("MemoryError()", 3, "memory"),
        ("BrokenPipeError()", 70, "this is a bug"),
    ],
)
def test_every_way_to_end_has_its_status(raised, status, said):
    code = (
        "import cntgraph.errors, cntgraph.cli.entry as entry\n"
        f"def app(*words, **more): raise {raised}\n"
        "entry.app = app\n"
        "entry.main(['load', 'my run'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert found.returncode == status
    assert said in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_debug_shows_the_traceback_wherever_it_stands(here):
    for words in (["--debug", "layers", "none"], ["layers", "none", "--debug"]):
        found = run(*words, cwd=here)
        assert found.returncode == 3
        assert "Traceback" in found.stderr
        assert "there is no run none" in found.stderr


@pytest.mark.parametrize(("model", "status"), [("interrupted", 130), ("terminated", 143)])
def test_a_signal_stops_it(here, model, status):
    found = run("export", f"nets.py:{model}", "c", "--input", "3,4", "--to", "r", cwd=here)
    assert found.returncode == status
    assert found.stderr.endswith("stopped; the same command goes on where it stopped\n")
    assert found.stdout == ""


def test_a_signal_stops_it_even_where_nothing_listens(here):
    assert run("verify", "nets.py:deaf", "--input", "3,4", cwd=here).returncode == 143


def test_a_reader_that_has_enough_ends_it_quietly(trained):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "cntgraph", "layers", str(trained / "runs" / "mine")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")


# -- the user's model


def test_a_model_is_found_in_a_file_or_a_package(here):
    (here / "zoo").mkdir()
    (here / "zoo" / "__init__.py").write_text("")
    (here / "zoo" / "small.py").write_text(NETS)
    for name in ("nets.py:build", "nets.py:Net", "nets.py:ready", "nets:build", "zoo.small:build"):
        assert type(models.load_model(name)).__name__ == "Net"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets.py", "names no callable"),
        ("nts.py:build", "did you mean nets.py"),
        ("nowhere/nets.py:build", "no Python file is in"),
        ("nts:build", "no module 'nts'"),
        ("nets.py:bild", "did you mean build?"),
        ("nets.py:fails", 'return table["weights"]'),
        ("nets.py:Pair.a", "no 'Pair.a'"),
        ("nets.py:number", "a value of type int, not a torch.nn.Module"),
        ("nets.py:leaves", "SystemExit"),
        ("broken.py:build", "broken.py:1: def build(:"),
        ("lost.py:build", "lost.py:1: import not_there_at_all"),
    ],
)
def test_a_model_that_cannot_be_had_is_refused_with_the_reason(here, name, said):
    (here / "broken.py").write_text("def build(:\n")
    (here / "lost.py").write_text("import not_there_at_all\n")
    with pytest.raises(cnt.InputRefused) as refusal:
        models.load_model(name)
    assert said in str(refusal.value)


def test_several_inputs_are_joined_by_a_semicolon(here):
    document = json.loads(invoke("verify", "nets.py:Pair", "--input", "4; 3", "--json").stdout)
    assert document["passed"] is True
    assert document["links"] == 14


def test_verify_ends_with_3_where_the_network_computes_something_else(here, monkeypatch):
    from cntgraph import tracing

    wrong = tracing.Verification(0.5, 1e-16, 1.0, 3, 105)
    monkeypatch.setattr(tracing, "verify", lambda *given, **options: wrong)
    found = CliRunner().invoke(app, ["verify", "nets.py:build", "--input", "3,4", "--json"])
    assert json.loads(found.stdout)["passed"] is False
    assert isinstance(found.exception, cnt.InputRefused)
    assert "5.0e-01 by operators" in str(found.exception)


# -- what is written


def test_a_plan_writes_nothing(trained, monkeypatch):
    monkeypatch.chdir(trained)
    words = ["export", "nets.py:build", "checkpoints", "--input", "3,4", "--to", "runs/other"]
    planned = json.loads(invoke(*words, "--plan", "--json").stdout)
    assert planned["epochs"] == [2, 10]
    assert (planned["neurons"], planned["links"]) == (22, 105)
    assert planned["bytes"] > 0
    assert not (trained / "runs" / "other").exists()


def test_finished_epochs_are_not_done_twice(trained, monkeypatch):
    monkeypatch.chdir(trained)
    before = {p: p.stat().st_mtime_ns for p in (trained / "runs" / "mine").rglob("*.parquet")}
    files = sorted(map(str, (trained / "checkpoints").iterdir()))
    invoke("export", "nets.py:build", *files, "--input", "3,4", "--to", "runs/mine",
           "--measures", "pagerank")  # fmt: skip
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_layers_prints_what_the_run_holds(trained):
    folder = trained / "runs" / "mine"
    document = json.loads(invoke("layers", folder, "--json").stdout)
    expected = cnt.open_run(folder).layers()
    assert [row["fluctuation"] for row in document["layers"]] == expected["fluctuation"].tolist()
    assert document["layers"][0]["weight_std"] is None, "no weights lead into the input"
    last = invoke("layers", folder, "--epoch", "last").stdout.splitlines()
    assert last[0].split()[:3] == ["epoch", "layer", "size"]
    assert [line.split()[:3] for line in last[1:]] == [
        ["10", "image", "12"],
        ["10", "fc1", "7"],
        ["10", "fc2", "3"],
    ]


def test_inspect_says_what_a_checkpoint_holds(trained):
    file = trained / "checkpoints" / "epoch_10.pt"
    document = json.loads(invoke("inspect", file, "--json").stdout)
    assert (document["epoch"], document["metrics"]) == (10, {"accuracy": 0.5})
    assert [t["name"] for t in document["tensors"]][:2] == ["fc1.weight", "fc1.bias"]
    assert document["tensors"][0]["shape"] == [7, 12]
    assert "7x12" in invoke("inspect", file).stdout


def test_what_was_chosen_in_a_checkpoint_is_said(here):
    state = {
        f"module.{name}": t for name, t in models.load_model("nets.py:Net").state_dict().items()
    }
    torch.save({"epoch": 4, "state_dict": state}, "last.pt")
    words = ["export", "nets.py:Net", "last.pt", "--input", "3,4", "--to", "run"]
    found = invoke(*words, "--json")
    assert any("'module' was taken off" in said for said in json.loads(found.stdout)["notes"])
    assert "note: " in found.stderr
    assert json.loads(invoke("layers", "run", "--json").stdout)["layers"][0]["epoch"] == 4


def test_a_shape_that_does_not_fit_is_told_as_the_command_takes_it(here):
    with pytest.raises(cnt.ModelRefused) as refusal:
        invoke("verify", "nets.py:Net", "--input", "3,5")
    assert "nets.py:" in refusal.value.why
    assert "--input the shape that the model takes, without its batch" in refusal.value.fix


@pytest.mark.parametrize("suffix", ["graphml", "pickle", "parquet", "csv"])
def test_a_graph_file_holds_the_links(trained, tmp_path, suffix):
    folder, to = trained / "runs" / "mine", tmp_path / f"net.{suffix}"
    document = json.loads(invoke("graph", folder, "--epoch", "2", "--to", to, "--json").stdout)
    assert (document["neurons"], document["links"], document["epoch"]) == (22, 105, 2)
    neurons = cnt.open_run(folder).neurons(2)
    if suffix in ("graphml", "pickle"):
        graph = igraph.Graph.Read(str(to), format=suffix)
        assert graph.vs["layer"] == neurons["layer"].tolist()
        np.testing.assert_allclose(graph.vs["pagerank"], neurons["pagerank"], rtol=1e-12)
        strength = graph.strength(mode="all", weights="weight")
    else:
        links = pd.read_parquet(to) if suffix == "parquet" else pd.read_csv(to)
        assert list(links) == ["source", "target", "weight", "kind", "parameter", "element"]
        ends = [np.bincount(links[end], links["weight"], 22) for end in ("source", "target")]
        strength = sum(ends)
    np.testing.assert_allclose(strength, neurons["strength"], atol=1e-12)
    assert os.listdir(tmp_path) == [to.name]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epoch", "3", "--to", "x.csv"], "it holds 2, 10"),
        (["--epoch", "2", "--to", "x.xls"], ".graphml, .parquet, .csv, .pickle"),
        (["--epoch", "2", "--to", "no/where.csv"], "No such file"),
    ],
)
def test_a_graph_that_cannot_be_written_is_refused(trained, monkeypatch, words, said):
    monkeypatch.chdir(trained)
    with pytest.raises(cnt.InputRefused) as refusal:
        invoke("graph", "runs/mine", *words)
    assert said in str(refusal.value)


def test_a_file_that_fails_half_way_is_not_there(tmp_path):
    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(FloatingPointError), output.beside(tmp_path / "out.csv") as part:
        _half_of(part)
    assert (tmp_path / "out.csv").read_text() == "before"
    assert os.listdir(tmp_path) == ["out.csv"]


def _half_of(part):
    part.write_text("half")
    raise FloatingPointError


# -- what is printed


def test_json_has_neither_nan_nor_types_of_others():
    value = {
        "a": float("nan"),
        "b": np.float32(0.5),
        "c": [pd.NA, np.int64(3), float("-inf")],
        "d": Path("x"),
        "e": np.array([True]),
        3: None,
    }
    assert output.jsonable(value) == {
        "a": None, "b": 0.5, "c": [None, 3, None], "d": "x", "e": [True], "3": None,
    }  # fmt: skip


def test_a_table_shows_names_of_any_characters_in_one_line(capsys):
    names = ["plain", "two\nlines", "\x1b[31mred", "[bold]x[/]", "层[3]"]
    output.table(pd.DataFrame({"layer": names, "strength": [1.5, -20.25, 0.0, float("nan"), 3]}))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "two\\nlines" in lines[2]
    assert "\\x1b[31mred" in lines[3]
    assert "[bold]x[/]" in lines[4]
    assert lines[2].endswith("-20.250")
    assert lines[4].endswith("nan")


def test_a_table_keeps_to_the_terminal_and_names_what_it_leaves_out(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.table(pd.DataFrame({f"column_{i}": [i] for i in range(5)}))
    told = capsys.readouterr()
    assert told.out.split() == ["column_0", "column_1", "column_2", "0", "1", "2"]
    assert "\x1b" not in told.out
    assert "no room for 2 more columns: column_3, column_4" in told.err


# -- the database


@pytest.fixture
def loaded(trained, neo4j_environment, monkeypatch):
    """The run in the session's server, which the command finds as a user's would."""
    monkeypatch.chdir(trained)
    for name, value in neo4j_environment.items():
        monkeypatch.setenv(name, value)
    document = json.loads(invoke("load", "runs/mine", "--json").stdout)
    assert set(document["runs"][0]["epochs"]) | set(document["runs"][0]["skipped"]) == {2, 10}
    return trained


@pytest.mark.neo4j
def test_a_load_is_done_once(loaded):
    found = invoke("load", "runs/mine", "--epochs", "2,last", "--json")
    (report,) = json.loads(found.stdout)["runs"]
    assert (report["epochs"], report["skipped"], report["links"]) == ([], [2, 10], 0)
    assert "2 were there" in found.stderr


@pytest.mark.neo4j
def test_an_export_can_load_at_once(loaded):
    found = invoke("export", "nets.py:build", "checkpoints/epoch_2.pt", "--input", "3,4",
                   "--to", "runs/at-once", "--load", "--json")  # fmt: skip
    report = json.loads(found.stdout)["loaded"]
    assert (report["run"], report["epochs"], report["links"]) == ("at-once", [2], 105)


@pytest.mark.neo4j
def test_the_strongest_neurons_are_those_of_igraph(loaded):
    found = invoke("query", "strong_neurons", "run=mine", "epoch=10", "top=5", "--json")
    document = json.loads(found.stdout)
    assert document["truncated"] is False
    assert document["columns"][:4] == ["layer", "index", "neuron", "strength"]
    graph = cnt.open_run("runs/mine").to_igraph(10)
    strength = np.array(graph.strength(mode="all", weights="weight"))
    order = np.argsort(-abs(strength))[:5]
    assert [row["neuron"] for row in document["rows"]] == order.tolist()
    given = [row["strength"] for row in document["rows"]]
    np.testing.assert_allclose(given, strength[order], atol=1e-12)


@pytest.mark.neo4j
def test_all_formats_hold_the_same_rows(loaded, tmp_path):
    words = ["query", "strong_neurons", "run=mine", "epoch=2", "top=4"]
    rows = json.loads(invoke(*words, "--format", "json").stdout)
    assert isinstance(rows, list)
    csv = pd.read_csv(io.StringIO(invoke(*words, "--format", "csv").stdout))
    assert csv.to_dict("records") == rows
    for suffix in ("csv", "json", "parquet"):
        found = invoke(*words, "--out", tmp_path / f"rows.{suffix}")
        assert found.stdout == ""
    assert pd.read_parquet(tmp_path / "rows.parquet").to_dict("records") == rows
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert pd.read_csv(tmp_path / "rows.csv").to_dict("records") == rows
    shown = invoke(*words).stdout.splitlines()
    assert shown[0].split()[:3] == ["layer", "index", "neuron"]
    assert len(shown) == 5


@pytest.mark.neo4j
def test_cypher_comes_from_stdin_and_a_cut_result_says_so(loaded):
    cypher = "MATCH (n:NeuronState {run: $run, epoch: $epoch}) RETURN n.neuron AS n ORDER BY n"
    words = ["query", "-", "run=mine", "epoch=2", "--json"]
    document = json.loads(invoke(*words, stdin=cypher).stdout)
    assert [row["n"] for row in document["rows"]] == list(range(22))
    found = invoke(*words, "--rows", "3", stdin=cypher)
    assert json.loads(found.stdout) == {
        "columns": ["n"],
        "rows": [{"n": 0}, {"n": 1}, {"n": 2}],
        "truncated": True,
    }
    assert "cut after 3 rows" in found.stderr


@pytest.mark.neo4j
def test_cypher_that_writes_is_refused_with_4(loaded):
    found = run("query", "-", stdin="CREATE (:Neuron)", cwd=loaded)
    assert found.returncode == 4
    assert "only reading is allowed" in found.stderr
    assert found.stdout == ""


@pytest.mark.neo4j
def test_a_query_is_refused_before_a_server_is_looked_for(monkeypatch):
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:1")
    for words, said in (
        (["strong_neuron"], "did you mean strong_neurons"),
        (["strong_neurons", "run=a"], "needs epoch"),
        (["strong_neurons", "run=a", "epoch=two"], "epoch=two is not of type int"),
        (["strong_neurons", "run=a", "epoch=2", "tops=3"], "did you mean top?"),
    ):
        with pytest.raises(cnt.InputRefused) as refusal:
            invoke("query", *words)
        assert said in str(refusal.value)


def test_no_server_ends_with_4(trained):
    found = run("query", "runs", "--json", environment={"NEO4J_URI": "bolt://me:pw@127.0.0.1:1"})
    assert found.returncode == 4
    assert found.stdout == ""
    assert "bolt://127.0.0.1:1" in found.stderr
    assert "pw" not in found.stderr


def test_a_load_plan_asks_no_server(trained, monkeypatch):
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:1")
    monkeypatch.chdir(trained)
    for choice, links in (("all", 210), ("none", 0), ("top:1", None)):
        words = ["load", "runs/mine", "--plan", "--links", choice, "--json"]
        (plan,) = json.loads(invoke(*words).stdout)["runs"]
        assert (plan["run"], plan["epochs"], plan["neurons"]) == ("mine", [2, 10], 44)
        assert plan["bytes"] > 0
        assert plan["seconds"] > 0
        assert plan["links"] == links if links is not None else 0 < plan["links"] < 210


def test_the_library_is_listed():
    document = json.loads(invoke("queries", "--json").stdout)
    rows = {row["name"]: row for row in document["queries"]}
    assert rows["strong_neurons"]["parameters"].startswith("run, epoch")
    assert "strong_neurons " in invoke("queries").stdout


@pytest.mark.neo4j
def test_status_says_where_the_server_is_and_what_it_holds(loaded, server, local_environment):
    found = run("db", "status", "--json", environment=local_environment)
    document = json.loads(found.stdout)
    assert set(document) >= set(
        "running uri version pid home password_file size_bytes runs".split()
    )
    assert (document["running"], document["uri"]) == (True, server.uri)
    assert "mine" in [row["name"] for row in document["runs"]]
    assert server.password not in found.stdout + found.stderr


def test_a_server_that_was_never_started_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path / "home"))
    document = json.loads(invoke("db", "status", "--json").stdout)
    assert (document["running"], document["uri"], document["runs"]) == (False, None, [])
    assert json.loads(invoke("db", "stop", "--json").stdout) == {"stopped": False}


def test_reset_asks_first(tmp_path, monkeypatch):
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path / "home"))
    with pytest.raises(cnt.InputRefused) as refusal:
        invoke("db", "reset")
    assert "cntgraph db reset --yes" in str(refusal.value)
    assert json.loads(invoke("db", "reset", "--yes", "--json").stdout) == {"reset": True}


# -- the doctor


def test_the_doctor_finds_a_sound_machine_sound(tmp_path, monkeypatch):
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path))
    monkeypatch.delenv("NEO4J_URI", raising=False)
    found = invoke("doctor", "--json")
    document = json.loads(found.stdout)
    names = {check["name"] for check in document["checks"]}
    assert {"cntgraph", "torch", "igraph", "neo4j", "java", "server", "memory"} <= names
    assert document["ok"] is True, document
    assert found.exit_code == 0


def test_the_doctor_says_what_is_broken_and_what_mends_it(monkeypatch):
    monkeypatch.setenv("NEO4J_URI", "http://127.0.0.1:7474")
    found = invoke("doctor")
    assert found.exit_code == 3
    (problem,) = [line for line in found.stdout.splitlines() if line.startswith("problem")]
    assert "NEO4J_URI" in problem
    assert "fix: use bolt://127.0.0.1:7687" in found.stdout


def test_a_pickled_graph_is_igraphs_own(trained, tmp_path):
    to = tmp_path / "net.pkl"
    invoke("graph", trained / "runs" / "mine", "--epoch", "first", "--to", to)
    assert isinstance(pickle.loads(to.read_bytes()), igraph.Graph)
