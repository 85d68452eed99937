"""A server that cannot be reached or entered is told apart, soon, and without the password."""

from __future__ import annotations

import http.server
import pickle
import socket
import threading
import traceback

import pandas as pd
import pytest
from proxy import Proxy

import cntgraph as cnt
from cntgraph.database import attending, connect, connection, dialling
from cntgraph.database.attending import Silent, attended

SECRET = "s3cret-and-long"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("URI", "USERNAME", "PASSWORD", "DATABASE"):
        monkeypatch.delenv(f"NEO4J_{name}", raising=False)


@pytest.fixture
def listening():
    """A port where something listens that never says a word."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        yield silent.getsockname()[1]


@pytest.fixture
def closed():
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return port


def refusal(uri, kind=cnt.DatabaseError, **given):
    """The error, after a look for the password in all that a user could see of it."""
    with pytest.raises(kind) as refused:
        connect(uri, **given)
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value)
    assert SECRET not in shown
    assert pickle.loads(pickle.dumps(refused.value)).what == refused.value.what
    return refused.value


@pytest.mark.parametrize(
    ("uri", "what", "fix"),
    [
        ("http://db.example:7474", "the address of Neo4j's web pages", "bolt://db.example:7687"),
        ("https://db.example/browser", "web pages", "bolt://db.example:7687"),
        ("bolt://db.example:7474", "web pages", "bolt://db.example:7687"),
        ("neo4j+s://db.example:7473", "web pages", "bolt://db.example:7687"),
        ("db.example", "'db.example' is not a URI", "did you mean bolt://db.example:7687?"),
        ("db.example:7688", "is not a URI", "did you mean bolt://db.example:7688?"),
        ("blot://db.example", "has the scheme 'blot'", "bolt://db.example"),
        ("bolt://", "names no host", "bolt://"),
        ("bolt://db.example:port", "has no usable port", ""),
    ],
)
def test_an_address_that_cannot_be_one_is_corrected(uri, what, fix):
    error = refusal(uri, cnt.InputRefused, password=SECRET)
    assert what in error.what
    assert fix in error.fix


@pytest.mark.parametrize("uri", [f"http://u:{SECRET}@h", f"u:{SECRET}@h", f"blot://u:{SECRET}@h"])
def test_a_password_in_an_address_is_not_repeated(uri):
    refusal(uri, cnt.InputRefused)


@pytest.mark.parametrize("scheme", ["bolt", "neo4j", "bolt+s", "neo4j+ssc"])
def test_nothing_listens(scheme, closed):
    error = refusal(f"{scheme}://127.0.0.1:{closed}", password=SECRET)
    assert f"no Neo4j answers at {scheme}://127.0.0.1:{closed}" in error.what
    assert "refused" in error.why


@pytest.mark.parametrize("scheme", ["bolt", "neo4j", "bolt+ssc"])
def test_something_listens_and_is_silent(scheme, listening, monkeypatch):
    monkeypatch.setattr(dialling, "SECONDS", 0.2)
    monkeypatch.setattr(dialling, "_HANDSHAKE", 0.2)
    error = refusal(f"{scheme}://127.0.0.1:{listening}", password=SECRET)
    assert "says nothing" in error.what


def test_a_host_that_is_not_known():
    error = refusal("bolt://no-such-host.invalid:7687", password=SECRET)
    assert "the host of bolt://no-such-host.invalid:7687 is not known" in error.what


def test_the_port_of_something_else():
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def handle_one_request(self):
            self.rfile.read(4)
            self.wfile.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        error = refusal(f"bolt://127.0.0.1:{served.server_port}", password=SECRET)
        served.shutdown()
    assert "answers in HTTP" in error.what


# -- attended calls


@pytest.fixture
def soon(monkeypatch):
    """A silence is noticed at once."""
    monkeypatch.setattr(attending, "_SILENCE", 0.1)
    monkeypatch.setattr(attending, "_GREETING", 0.5)


@pytest.fixture
def forever():
    """Work that lasts until the test is over."""
    over = threading.Event()
    yield over.wait
    over.set()


def test_a_silence_is_noticed_within_ten_seconds():
    assert attending._SILENCE + attending._GREETING < 10


@pytest.mark.parametrize("scheme", ["bolt", "neo4j", "bolt+ssc"])
def test_a_call_to_a_server_that_greets_nobody_is_given_up(scheme, listening, soon, forever):
    with pytest.raises(Silent, match="no answer for"):
        attended(forever, connection.Address(f"{scheme}://127.0.0.1:{listening}"))


def test_a_call_to_a_server_that_is_gone_is_given_up(closed, soon, forever):
    with pytest.raises(Silent):
        attended(forever, connection.Address(f"bolt://127.0.0.1:{closed}"))


def test_a_long_call_is_let_be_while_the_server_greets(soon):
    greeted = threading.Event()

    def greet(server):
        for _ in range(3):
            with server.accept()[0] as guest:
                assert guest.recv(20).startswith(b"\x60\x60\xb0\x17")
                guest.sendall(bytes(4))
        greeted.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, args=[server], daemon=True).start()
        place = connection.Address(f"bolt://127.0.0.1:{server.getsockname()[1]}")
        assert attended(lambda: greeted.wait(60), place)


def test_what_a_call_raises_is_raised(closed):
    place = connection.Address(f"bolt://127.0.0.1:{closed}")
    assert attended(lambda: 7, place) == 7
    with pytest.raises(KeyError, match="mine"):
        attended(lambda: {}["mine"], place)


@pytest.mark.neo4j
def test_a_query_into_a_black_hole_ends(server, monkeypatch):
    knocks = []
    greet = attending._greet
    monkeypatch.setattr(attending, "_greet", lambda place: knocks.append(greet(place)))
    with Proxy(int(server.uri.rpartition(":")[2])) as proxy:
        uri = f"bolt://127.0.0.1:{proxy.port}"
        with connect(uri, user=server.user, password=server.password) as db:
            monkeypatch.setattr(attending, "_SILENCE", 0.1)
            long = "UNWIND range(1, 3000000) AS x RETURN count(toString(x)) AS n"
            assert db.within(seconds=None).cypher(long)["n"].item() == 3_000_000
            assert knocks  # it was long enough for that, and was not cut
            proxy.arm(silent_after=0)
            monkeypatch.setattr(attending, "_GREETING", 0.5)
            for ask in (db.cypher, db.connection.rows):
                with pytest.raises(cnt.DatabaseError, match="then says nothing"):
                    ask("RETURN 1 AS x")


@pytest.mark.neo4j
def test_a_connection_that_died_between_two_queries_is_replaced(server, monkeypatch):
    """A router forgot it while nobody asked anything: no reset comes, and no answer."""
    monkeypatch.setattr(attending, "_SILENCE", 0.3)
    monkeypatch.setattr(attending, "_GREETING", 0.7)
    with Proxy(int(server.uri.rpartition(":")[2])) as proxy:
        uri = f"bolt://127.0.0.1:{proxy.port}"
        with connect(uri, user=server.user, password=server.password) as db:
            for ask in (db.cypher, db.connection.rows, db.connection.change):
                ask("RETURN 1 AS x")
                proxy.deafen()
                assert pd.DataFrame(ask("RETURN 2 AS x"))["x"].tolist() == [2]


@pytest.mark.neo4j
def test_a_wrong_password_is_tried_once(server):
    error = refusal(server.uri, user=server.user, password=SECRET)
    assert f"{server.uri} does not let user 'neo4j' in" in error.what
    assert "NEO4J_PASSWORD" in error.fix
    connect(server.uri, user=server.user, password=server.password).close()


@pytest.mark.neo4j
def test_no_login(server):
    assert "a login without user and password" in refusal(server.uri).what


@pytest.mark.neo4j
def test_a_database_that_is_not_there(server):
    given = {"user": server.user, "password": server.password, "database": "lenet"}
    assert "has no database 'lenet'" in refusal(server.uri, **given).what


@pytest.mark.neo4j
def test_tls_where_there_is_none(server):
    uri = server.uri.replace("bolt://", "bolt+s://")
    error = refusal(uri, user=server.user, password=SECRET)
    assert "does not speak TLS" in error.what
    assert server.uri in error.fix


@pytest.mark.neo4j
def test_arguments_come_before_the_environment(server, monkeypatch, closed):
    monkeypatch.setenv("NEO4J_URI", f"bolt://127.0.0.1:{closed}")
    monkeypatch.setenv("NEO4J_USERNAME", server.user)
    monkeypatch.setenv("NEO4J_PASSWORD", server.password)
    monkeypatch.setenv("NEO4J_DATABASE", "neo4j")
    with connect(server.uri) as db:
        assert db.cypher("RETURN 1 AS x")["x"].item() == 1
        assert repr(db) == f"<Database {server.uri} neo4j>"
        assert server.password not in f"{db.__dict__!r} {db.connection!r} {db.connection.place!r}"
    with pytest.raises(cnt.DatabaseError, match=f"answers at bolt://127.0.0.1:{closed}"):
        connect()


@pytest.mark.neo4j
def test_user_and_password_in_the_address(server):
    inside = server.uri.replace("://", f"://{server.user}:{server.password}@")
    with connect(inside) as db:
        assert db.uri == server.uri


@pytest.mark.neo4j
def test_without_an_address_it_is_the_local_server(server, local_environment, monkeypatch):
    for name, value in local_environment.items():
        monkeypatch.setenv(name, value)
    with connect() as db:
        assert db.uri == server.uri
