"""Hostile Cypher through every door: nothing is written, nothing outside the graph is read."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain

import hostile
import pytest
from stored import exported
from typer.testing import CliRunner

import cntgraph as cnt
from cntgraph.cli.entry import app
from cntgraph.cli.shell import Conversation
from cntgraph.cli.statements import statements
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j

SECRET = "nobody is to read this"
RUN = "asked by strangers"


@pytest.fixture(scope="module")
def db(server, tmp_path_factory):
    run = exported(tmp_path_factory.mktemp("runs") / "run", "dense", 2, name=RUN)
    with connect(server.uri, user=server.user, password=server.password) as database:
        database.load(run)
        yield database
        database.delete(run)


# -- what they want


@pytest.fixture(scope="module")
def listener():
    """The URL of a server on this machine, and who called it."""
    called = []

    class Heard(BaseHTTPRequestHandler):
        def do_GET(self):
            called.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SECRET.encode())

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Heard) as heard:
        thread = threading.Thread(target=heard.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{heard.server_port}/", called
        heard.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def aimed(listener, tmp_path_factory):
    """A text with its targets in place."""
    canary = tmp_path_factory.mktemp("canary") / "secret.csv"
    canary.write_text(SECRET)
    return lambda text: text.replace("CANARY", canary.as_uri()).replace("LISTENER", listener[0])


NODES = "MATCH (n) RETURN elementId(n) AS id, labels(n) AS labels, properties(n) AS p ORDER BY id"
LINKS = "MATCH ()-[k]->() RETURN elementId(k) AS id, type(k) AS t, properties(k) AS p ORDER BY id"
SCHEMA = (
    "SHOW INDEXES YIELD name, state, type, labelsOrTypes, properties RETURN * ORDER BY name",
    "SHOW CONSTRAINTS YIELD name, type, labelsOrTypes, properties RETURN * ORDER BY name",
    "CALL db.labels() YIELD label RETURN * ORDER BY label",
    "CALL db.relationshipTypes() YIELD relationshipType AS t RETURN * ORDER BY t",
    "CALL db.propertyKeys() YIELD propertyKey AS key RETURN * ORDER BY key",
)
USERS = (
    "SHOW USERS YIELD user, passwordChangeRequired, suspended RETURN * ORDER BY user",
    "SHOW DATABASES YIELD name, access, requestedStatus, options RETURN * ORDER BY name",
)


def checksum(db):
    """Of all that is there: nodes, relationships, properties, schema, names, users, databases."""
    found = hashlib.sha256()
    for name, texts in ((None, (NODES, LINKS, *SCHEMA)), ("system", USERS)):
        with db.connection.driver.session(database=name) as session:
            for record in chain.from_iterable(session.run(text) for text in texts):
                found.update(repr(sorted(record.data().items(), key=str)).encode())
    return found.hexdigest()


@pytest.fixture(scope="module")
def before(db):
    return checksum(db)


# -- the doors


def ask(db, text, folder):
    return db.cypher(text)


def pipe(db, text, folder):
    """``cntgraph query -``."""
    done = CliRunner().invoke(app, ["query", "-"], input=text)
    if done.exception is not None:
        raise done.exception
    return done.output


def shell(db, text, folder):
    conversation = Conversation(db)
    for one in statements(text.splitlines(keepends=True)):
        conversation.answer(one)


def own(db, text, folder):
    """A query of a folder of the user's own, below a header."""
    (folder / "mine.cypher").write_text(f"// Mine\n{text}", encoding="utf-8", newline="")
    return db.with_queries(folder).query("mine")


DOORS = [ask, pipe, shell, own]


@pytest.fixture
def doors(db, neo4j_environment, monkeypatch, tmp_path):
    for name, value in neo4j_environment.items():
        monkeypatch.setenv(name, value)
    return [(door, lambda text, door=door: door(db, text, tmp_path)) for door in DOORS]


@pytest.mark.parametrize("text", hostile.REFUSED)
def test_it_is_refused_at_every_door(db, before, doors, aimed, listener, text, capsys):
    for door, enter in doors:
        with pytest.raises(cnt.CntError) as refused:
            enter(aimed(text))
        assert refused.value.why, door
    assert checksum(db) == before
    assert listener[1] == []
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err


@pytest.mark.parametrize("text", hostile.REACHING + hostile.CALLS)
def test_it_is_refused_before_the_server_has_to(db, aimed, text):
    """A server elsewhere may allow what the settings of ours forbid."""
    with pytest.raises(cnt.DatabaseError, match="only reading is allowed"):
        db.cypher(aimed(text))


@pytest.mark.parametrize(
    ("text", "how"),
    [(text, "ended") for text in hostile.ENDLESS] + [(t, "cut") for t in hostile.WITHIN_ONE_ROW],
)
def test_what_does_not_end_is_ended(db, before, text, how):
    with pytest.raises(cnt.DatabaseError, match=f"{how} because it ran too long") as ended:
        db.within(seconds=0.3).cypher(text)
    assert "within" in ended.value.fix
    assert len(db.query("runs"))
    assert checksum(db) == before


def test_a_giant_answer_is_cut_and_said(db, doors, capsys):
    text = "UNWIND range(1, 10000000) AS i RETURN i, 'x' AS x"
    with pytest.warns(cnt.CntWarning, match="cut after 10,000 rows"):
        assert len(db.cypher(text)) == 10_000
    done = CliRunner().invoke(app, ["query", "-", "--format", "csv"], input=text)
    assert done.stdout.count("\n") == 10_001
    assert "cut after 10,000 rows" in done.stderr


@pytest.mark.parametrize("text", hostile.INJECTIONS)
def test_a_value_is_but_a_value(db, before, doors, tmp_path, text):
    assert db.cypher("RETURN $x AS x", x=text)["x"].item() == text
    assert db.cypher("RETURN $value AS x", value={text: [text]})["x"].item() == {text: [text]}
    for given in ({"run": text, "epoch": 0}, {"run": RUN, "epoch": 0, "layer": text}):
        with pytest.raises(cnt.InputRefused, match=r"no run|no layer"):
            db.query("strong_neurons", **given)
    with pytest.raises(cnt.InputRefused, match="is not known"):
        db.query("strong_neurons", run=RUN, epoch=0, by=text)
    assert db.query("strong_neurons_by", run=RUN, epoch=0, by="strength_in").shape[0] == 20
    with pytest.raises(cnt.InputRefused):
        db.evaluate(text, 0, [[0.0] * 12])
    assert checksum(db) == before


@pytest.mark.parametrize("text", hostile.INJECTIONS)
def test_a_name_of_a_parameter_is_but_a_name(db, before, text):
    """Whatever it is called, what is not used is not looked at."""
    assert db.cypher("RETURN 1 AS x", **{text: 1})["x"].item() == 1
    with pytest.raises(cnt.InputRefused, match="no parameter"):
        db.query("runs", **{text: 1})
    assert checksum(db) == before


@pytest.mark.parametrize("text", hostile.INJECTIONS[:-1])
def test_a_run_of_a_hostile_name_is_a_run(db, tmp_path, text):
    run = exported(tmp_path / "run", "dense", 1)
    before = checksum_of_others(db)
    db.load(run, name=text)
    found = db.query("strong_neurons", run=text, epoch=0, top=5)
    assert found["neuron"].tolist() == run.neurons(0)["strength"].abs().nlargest(5).index.tolist()
    db.delete(text)
    assert checksum_of_others(db) == before


def checksum_of_others(db):
    """Of the runs: names and numbers of the database may have become more."""
    return db.query("runs").to_csv(), db.query("strong_neurons", run=RUN, epoch=1).to_csv()
