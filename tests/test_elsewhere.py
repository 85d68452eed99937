"""A server that is somebody else's: each refusal of it is said in its own words."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import neo4j
import pytest
from stored import exported

import cntgraph as cnt
from cntgraph.database import connect, running
from cntgraph.database import home as homes
from cntgraph.database import server as local
from cntgraph.database.connection import Connection
from cntgraph.database.health import state
from cntgraph.database.releases import VERSION
from cntgraph.database.schema import SCHEMA
from cntgraph.database.translating import translated

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


def encrypting(place):
    return state(replace(place, uri=encrypted(place.uri)))


@pytest.fixture(scope="module")
def guarded(new_home, tmp_path_factory, local_environment):
    """A server that speaks TLS alone, by a certificate of its own making, on a read-only store.

    The store is a copy: a new one would have to be written.
    """
    folder = tmp_path_factory.mktemp("guarded")
    home = folder / "data" / new_home.name
    shutil.copytree(new_home, home)
    homes.keep(home, homes.Record(VERSION))
    signed_by_itself(home / "certificates" / "bolt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNTGRAPH_HOME", str(folder))
        patch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
        written = homes.settings
        patch.setattr(homes, "settings", lambda *given: written(*given) + GUARDED)
        patch.setattr(running, "state", encrypting)
        try:
            yield local.start(heap="512m", page_cache="64m")
        finally:
            local.stop()


GUARDED = """\
server.bolt.tls_level=REQUIRED
dbms.ssl.policy.bolt.enabled=true
dbms.ssl.policy.bolt.client_auth=NONE
server.databases.read_only=neo4j
"""


def signed_by_itself(folder):
    folder.mkdir(parents=True)
    openssl = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost".split()
    made = ["-keyout", str(folder / "private.key"), "-out", str(folder / "public.crt")]
    subprocess.run([*openssl, *made], check=True, capture_output=True)


def encrypted(uri, scheme="bolt+ssc"):
    return f"{scheme}://{uri.partition('://')[2]}"


def entered(server, scheme, **given):
    return connect(
        encrypted(server.uri, scheme), user=server.user, password=server.password, **given
    )


@pytest.mark.parametrize("scheme", ["bolt+ssc", "neo4j+ssc"])
@pytest.mark.parametrize("database", [None, "neo4j"])
def test_tls_by_a_certificate_that_is_trusted_by_the_scheme(guarded, scheme, database):
    with entered(guarded, scheme, database=database) as db:
        assert db.connection.rows("RETURN 1 AS one") == [{"one": 1}]


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+s"])
def test_a_certificate_that_nobody_signed(guarded, scheme):
    with pytest.raises(cnt.DatabaseError, match="nobody known here has signed") as refused:
        entered(guarded, scheme)
    assert refused.value.fix.endswith(encrypted(guarded.uri, f"{scheme}sc"))


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_a_server_that_wants_tls(guarded, scheme):
    with pytest.raises(cnt.DatabaseError, match="no Neo4j answers") as refused:
        entered(guarded, scheme)
    assert f"if the server wants TLS: {encrypted(guarded.uri, scheme + '+s')}" in refused.value.fix


def test_a_database_that_can_only_be_read(guarded, run):
    with entered(guarded, "bolt+ssc") as db:
        with pytest.raises(cnt.DatabaseError, match="can only be read") as refused:
            db.load(run)
        assert "server.databases.read_only" in refused.value.fix
        assert db.query("runs").empty


# -- rights


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("runs") / "rights", "dense", 1, name="rights")


def forbidding(asked):
    """What a server with roles says to whom it does not let; Community has no roles."""

    def define(connection, statement):
        asked.append(statement)
        error = neo4j.exceptions.Neo4jError._basic_hydrate(
            neo4j_code="Neo.ClientError.Security.Forbidden",
            message="Schema operation 'create_constraint' is not allowed for user 'ada'",
        )
        with translated(connection.place):
            raise error

    return define


def test_a_user_without_the_right_to_create_constraints(server, run, monkeypatch):
    asked = []
    with connect(server.uri, user=server.user, password=server.password) as db:
        for name, statement in SCHEMA.items():
            what = "CONSTRAINT" if " CONSTRAINT " in statement else "INDEX"
            db.connection.change(f"DROP {what} {name} IF EXISTS")
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "define", forbidding(asked))
            with pytest.raises(cnt.DatabaseError, match="create constraints and ind") as refused:
                db.load(run)
        for statement in SCHEMA.values():
            assert f"{statement};" in refused.value.why
            db.connection.change(statement)  # as one who may would
        db.connection.rows("CALL db.awaitIndexes(300)")
        assert len(asked) == 1, "it is not tried again"
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "define", forbidding(asked))
            assert db.load(run).epochs == (0,)
        assert len(asked) == 1, "with all there, nothing is asked for"
        db.delete("rights")
