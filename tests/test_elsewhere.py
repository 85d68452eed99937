"""A server that is somebody else's: each refusal of it is said in its own words."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from contextlib import suppress

import neo4j
import pytest

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


def told(server, user, password, database=None):
    with pytest.raises(cnt.DatabaseError) as refused:
        connect(server.uri, user=user, password=password, database=database)
    assert password not in str(refused.value)
    return refused.value


def test_a_password_that_must_be_changed_first(server):
    login = (server.user, server.password)
    with neo4j.GraphDatabase.driver(server.uri, auth=login) as driver:
        driver.execute_query("CREATE USER ada SET PASSWORD 'first-secret'", database_="system")
        try:
            error = told(server, "ada", "first-secret")
            assert "wants user 'ada' to choose another password first" in error.what
            assert "ALTER CURRENT USER" in error.fix
        finally:
            driver.execute_query("DROP USER ada", database_="system")


def test_routing_on_a_single_server(server):
    uri = server.uri.replace("bolt", "neo4j", 1)
    with connect(uri, user=server.user, password=server.password) as db:
        assert db.connection.rows("RETURN 1 AS one") == [{"one": 1}]


@pytest.fixture(scope="module")
def encrypted(server, tmp_path_factory):
    """The server behind TLS with a certificate that it signed itself; the host and port of that."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split()
    command = [*openssl, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    inner = ("127.0.0.1", int(server.uri.rpartition(":")[2]))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=accept, args=(listener, context, inner), daemon=True).start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def accept(listener, context, inner):
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # closed
            return
        with suppress(OSError):  # a client that trusts nobody, or does not speak TLS
            outside, inside = context.wrap_socket(client, server_side=True), socket.socket()
            inside.connect(inner)
            for here, there in ((outside, inside), (inside, outside)):
                threading.Thread(target=pump, args=(here, there), daemon=True).start()


def pump(here, there):
    with suppress(OSError):
        while data := here.recv(65536):
            there.sendall(data)
        there.shutdown(socket.SHUT_RDWR)


def test_a_certificate_that_nobody_signed(server, encrypted):
    with pytest.raises(cnt.DatabaseError, match="nobody known here has signed") as refused:
        connect(f"bolt+s://{encrypted}", user=server.user, password=server.password)
    assert refused.value.fix.endswith(f"bolt+ssc://{encrypted}")
    with connect(f"bolt+ssc://{encrypted}", user=server.user, password=server.password) as db:
        assert db.connection.rows("RETURN 1 AS one") == [{"one": 1}]


def test_a_server_that_wants_tls(server, encrypted):
    with pytest.raises(cnt.DatabaseError, match="no Neo4j answers") as refused:
        connect(f"bolt://{encrypted}", user=server.user, password=server.password)
    assert f"if the server wants TLS: bolt+s://{encrypted}" in refused.value.fix
