"""What may be asked, and what an answer looks like."""

from __future__ import annotations

import pytest

import cntgraph as cnt
from cntgraph.database import connect

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module")
def db(server):
    with connect(server.uri, user=server.user, password=server.password) as database:
        yield database


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("CREATE (:Bad)", "it does more than read"),
        ("LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line", "LOAD CSV reads files"),
        ("CALL db.stats.collect('QUERIES')", "it calls the procedure db.stats.collect"),
        ("SHOW SETTINGS", "it is a command to the server (ShowSettings)"),
        (
            "TERMINATE TRANSACTION 'neo4j-transaction-1'",
            "it is a command to the server (TerminateTransactions)",
        ),
    ],
)
def test_a_refusal_says_what_was_seen(db, text, why):
    with pytest.raises(cnt.DatabaseError, match="only reading is allowed") as refused:
        db.cypher(text)
    assert why in refused.value.why


@pytest.mark.parametrize(
    "text",
    [
        "RETURN 1 AS x",
        "RETURN 1 AS x;",
        "CYPHER 5 RETURN 1 AS x",
        "CYPHER 25 RETURN 1 AS x",
        "// LOAD CSV is but a remark\nRETURN 'CREATE (n)' AS x",
        "WITH 'LOAD CSV FROM x' AS x RETURN x",
        "CALL db.labels() YIELD label RETURN count(label) AS x",
        "SHOW INDEXES YIELD name RETURN count(name) AS x",
        "CALL () { RETURN 1 AS x } RETURN x",
        "RETURN date('2026-01-01') AS x",
        "RETURN duration.between(date('2026-01-01'), date('2026-02-01')).months AS x",
        "RETURN [y IN [1] | COLLECT { CALL db.labels() YIELD label RETURN label }] AS x",
        "RETURN [y IN ['LOAD CSV FROM'] | y + 'CALL dbms.components()'] AS x",
        "WITH 1 AS call UNWIND [call] AS csv RETURN [load IN [csv] | (call)] AS x",
    ],
)
def test_reading_is_allowed(db, text):
    assert len(db.cypher(text)["x"]) == 1


def test_columns_have_the_types_of_their_values(db):
    found = db.cypher(
        """
        UNWIND [
          {i: 1, f: 1.5, s: 'a', b: true, m: 1, n: null, mixed: 1, big: 9007199254740993},
          {i: 2, f: null, s: null, b: false, m: null, n: null, mixed: 2.5, big: null}
        ] AS r
        RETURN r.i AS i, r.f AS f, r.s AS s, r.b AS b, r.m AS m, r.n AS n,
               r.mixed AS mixed, r.big AS big
        """
    )
    assert found.dtypes.astype(str).to_dict() == {
        "i": "int64",
        "f": "float64",
        "s": "str",
        "b": "bool",
        "m": "Int64",
        "n": "object",
        "mixed": "float64",
        "big": "Int64",
    }
    assert found["big"][0] == 2**53 + 1


def test_nothing_found_is_an_empty_frame_with_columns(db):
    found = db.cypher("MATCH (n:Nobody) RETURN n.a AS a, n.b AS b")
    assert list(found) == ["a", "b"]
    assert found.empty


def test_parameters_of_any_name_and_value(db):
    odd = {
        "text": "it's",
        "self": 1,
        "seconds": 2.5,
        "rows": [1, 2],
        "limit": None,
        "timeout": True,
    }
    names = ", ".join(f"${name} AS {name}" for name in odd)
    (row,) = db.cypher(f"RETURN {names}", **odd).to_dict("records")
    assert row == odd


def test_injection_through_a_parameter_is_a_value(db):
    odd = "x}) DETACH DELETE n //"
    assert db.cypher("RETURN $x AS x", x=odd)["x"].item() == odd


def test_a_cut_answer_says_so(db):
    few = db.within(rows=10)
    with pytest.warns(cnt.CntWarning, match="cut after 10 rows"):
        found = few.cypher("UNWIND range(1, 11) AS i RETURN i")
    assert (len(found), found.attrs["truncated"]) == (10, True)
    whole = few.cypher("UNWIND range(1, 10) AS i RETURN i")
    assert (len(whole), whole.attrs["truncated"]) == (10, False)
    with pytest.warns(cnt.CntWarning, match="cut after 10,000 rows"):
        assert len(db.cypher("UNWIND range(1, 20000) AS i RETURN i")) == 10_000
    assert len(db.within(rows=None).cypher("UNWIND range(1, 20000) AS i RETURN i")) == 20_000


def test_a_query_that_runs_on_is_ended(db):
    endless = "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN sum(a * b) AS s"
    with pytest.raises(cnt.DatabaseError, match="ran too long") as ended:
        db.within(seconds=0.5).cypher(endless)
    assert "within" in ended.value.fix


@pytest.mark.parametrize("text", ["", "RETURN", "MATCH (n) RETURN m", "RETURN $missing"])
def test_what_is_not_cypher_fails_with_the_servers_reason(db, text):
    with pytest.raises(cnt.DatabaseError) as failed:
        db.cypher(text)
    assert failed.value.why
