"""Graph Data Science in the local server: its answers are igraph's on the same links."""

from __future__ import annotations

from pathlib import Path

import igraph
import numpy as np
import pytest
from notebook import printed_by
from stored import exported, links_sent

import cntgraph as cnt
from cntgraph.database import Library, connect
from cntgraph.database import server as local
from cntgraph.database.jars import pinned
from cntgraph.database.releases import RELEASES
from cntgraph.database.settings import Options, settings
from cntgraph.network import LINK_KINDS

CARRYING = tuple(kind for kind in LINK_KINDS if kind != "data")
SIGNS = {"absolute": 0, "positive": 1, "negative": -1}

real = pytest.mark.neo4j


@pytest.fixture(scope="module")
def gds(tmp_path_factory, local_environment):
    """A local server of its own with the plugin; the session's server has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNTGRAPH_HOME", str(tmp_path_factory.mktemp("gds")))
        patch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
        try:
            yield local.start(gds=True, heap="768m", page_cache="64m")
        finally:
            local.stop()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("runs") / "gds", "lenet", 1, name="gds")


@pytest.fixture(scope="module")
def db(gds, run):
    with connect(gds.uri, user=gds.user, password=gds.password) as database:
        database.load(run)
        yield database.within(rows=None)


def graph_of(run, sign, kinds=CARRYING):
    """The links of one sign as igraph has them, weights absolute."""
    network = run.network(0)
    links = links_sent(network, kinds)
    if SIGNS[sign]:
        links = links[links["weight"] * SIGNS[sign] > 0]
    ends = links[["source", "target"]].to_numpy().tolist()
    graph = igraph.Graph(network.neuron_count, ends, directed=True)
    graph.es["weight"] = links["weight"].abs().tolist()
    return graph


def asked(db, name, column, **given):
    found = db.query(f"gds/{name}", run="gds", epoch=0, **given).sort_values("neuron")
    assert found["neuron"].tolist() == list(range(len(found)))
    return found[column]


EVERY = 2_000  # more than the network has neurons


@real
@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    ("orientation", "mode"), [("NATURAL", "out"), ("REVERSE", "in"), ("UNDIRECTED", "all")]
)
def test_degree(db, run, sign, orientation, mode):
    found = asked(db, "degree", "degree", sign=sign, orientation=orientation, top=EVERY)
    expected = graph_of(run, sign, ("weight",)).strength(mode=mode, weights="weight")
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@real
@pytest.mark.parametrize("sign", SIGNS)
def test_pagerank(db, run, sign):
    found = asked(db, "pagerank", "pagerank", sign=sign, top=EVERY)
    expected = graph_of(run, sign).pagerank(weights="weight", damping=0.85)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@real
def test_pagerank_is_the_measure_of_that_name(db, run):
    found = asked(db, "pagerank", "pagerank", top=EVERY)
    expected = cnt.measure(run.network(0), "pagerank")["pagerank"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@real
@pytest.mark.parametrize("sign", ["absolute", "negative"])
def test_betweenness(db, run, sign):
    found = asked(db, "betweenness", "betweenness", sign=sign, top=EVERY)
    expected = graph_of(run, sign).betweenness(directed=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@real
def test_leiden_finds_what_igraphs_leiden_does(db, run):
    found = asked(db, "leiden", "community").astype("category").cat.codes.tolist()
    graph = graph_of(run, "absolute").as_undirected(mode="each")
    own = graph.community_leiden("modularity", weights="weight", n_iterations=10)
    best = graph.modularity(own, weights="weight")
    assert graph.modularity(found, weights="weight") == pytest.approx(best, abs=0.05)
    assert best > 0.1


@real
def test_fastrp_is_the_same_for_the_same_seed(db, run):
    first, again = (asked(db, "fastrp", "embedding", size=8, seed=7).tolist() for _ in range(2))
    other = asked(db, "fastrp", "embedding", size=8, seed=8).tolist()
    assert np.shape(first) == (run.network(0).neuron_count, 8)
    assert first == again != other


@real
@pytest.mark.parametrize("undirected", [False, True])
def test_a_projection_stays_until_it_is_dropped(db, run, undirected):
    found = db.query("gds/project", run="gds", epoch=0, graph="mine", undirected=undirected)
    try:
        links = run.network(0).link_count * (2 if undirected else 1)
        assert found.to_numpy().tolist() == [["mine", run.network(0).neuron_count, links]]
        assert projected(db) == ["mine"]
    finally:
        db.connection.rows("CALL gds.graph.drop('mine') YIELD graphName RETURN graphName")


@real
@pytest.mark.parametrize("name", ["pagerank", "project"])
def test_an_epoch_that_is_not_there(db, name):
    more = {"graph": "mine"} if name == "project" else {}
    with pytest.raises(cnt.InputRefused, match="epoch 7 of 'gds' is not in the database"):
        db.query(f"gds/{name}", run="gds", epoch=7, **more)


@real
@pytest.mark.parametrize("name", ["betweenness", "degree", "fastrp", "leiden", "pagerank"])
def test_what_a_failure_left_is_dropped_by_the_next_question(db, name):
    with pytest.raises(cnt.DatabaseError, match="embeddingDimension"):
        db.query("gds/fastrp", run="gds", epoch=0, size=-1)
    assert len(projected(db)) == 1, "it may be at work yet: ten minutes are left to it"
    query = Library().find(f"gds/{name}")
    assert "'PT10M'" in query.text
    given = query.bound({"run": "gds", "epoch": 0})
    assert db.connection.rows(query.text.replace("'PT10M'", "'PT0S'"), **given)
    assert projected(db) == []


def projected(db):
    rows = db.connection.rows("CALL gds.graph.list() YIELD graphName RETURN graphName AS name")
    return [row["name"] for row in rows]


@real
def test_anybodys_cypher_calls_no_procedure_of_the_plugin(db):
    for text in (
        "CALL gds.graph.export('x', {dbName: 'y'}) YIELD dbName RETURN dbName",
        "CALL gds.graph.list() YIELD graphName RETURN graphName",
        "RETURN gds.version()",
    ):
        with pytest.raises(cnt.DatabaseError):
            db.cypher(text)


@real
def test_a_running_server_with_the_plugin_is_found_by_a_plain_start(gds, monkeypatch):
    monkeypatch.setenv("CNTGRAPH_HOME", str(gds.home.parents[1]))
    assert local.start() == gds


@real
@pytest.mark.parametrize("name", ["pagerank", "project"])
def test_a_server_without_it_is_named_with_the_remedy(server, run, name):
    with connect(server.uri, user=server.user, password=server.password) as plain:
        more = {"graph": "mine"} if name == "project" else {}
        with pytest.raises(cnt.DatabaseError, match="without Graph Data Science") as refused:
            plain.query(f"gds/{name}", run="gds", epoch=0, **more)
    assert "cntgraph db start --gds" in refused.value.fix


# -- without a server


def test_only_the_flag_admits_its_procedures():
    for release in RELEASES:
        lines = settings(release, 1, Options()).splitlines()
        assert "dbms.security.procedures.allowlist=db.*,dbms.*" in lines
        assert "gds" not in "".join(lines)
    with_it = settings(RELEASES[0], 1, Options(gds=True))
    assert "procedures.allowlist=db.*,dbms.*,gds.*\n" in with_it


def test_a_release_without_it_says_so(tmp_path, monkeypatch, local_environment):
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path))
    monkeypatch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
    assert not pinned("gds", RELEASES[1])
    with pytest.raises(cnt.DatabaseError, match=r"no Graph Data Science for Neo4j .*5\.26"):
        local.start(neo4j="5.26", gds=True)


def test_its_queries_are_found_and_listed():
    library = Library()
    names = [name for name in library.listing()["name"] if name.startswith("gds/")]
    assert sorted(names) == [
        f"gds/{name}"
        for name in ("betweenness", "degree", "fastrp", "leiden", "pagerank", "project")
    ]
    assert all(library.find(name).name == name for name in names)
    assert not set(names) & set(library.queries)


@real
def test_the_notebook_shows_every_answer_and_that_of_the_client(gds, monkeypatch, tmp_path):
    path = Path(__file__).parent.parent / "notebooks" / "3-graph-data-science.ipynb"
    names = "NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD"
    login = dict(zip(names, (gds.uri, gds.user, gds.password), strict=True))
    printed = printed_by(path, login, tmp_path, monkeypatch)
    assert [text for text in printed if "skipped:" in text] == []
    assert any("nodeId" in text for text in printed)  # the client's own name for a neuron
