"""The library on a server whose own language is Cypher 25, and on the release before: same rows."""

from __future__ import annotations

import pandas as pd
import pytest
from stored import answers, exported

from cntgraph.database import Library, connect

pytestmark = pytest.mark.neo4j

NAME = "asked in two languages"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return exported(folder, "lenet", 2, measures=("pagerank",), shuffles=2, name=NAME)


@pytest.fixture(scope="module")
def given(run):
    values = [((7 * place) % 11 - 5) / 5 for place in range(run.wiring.neuron_count)]
    return {
        **{"run": NAME, "other": NAME, "epoch": 1, "other_epoch": 0, "first": 0, "last": 1},
        **{"layer": "fc2", "index": 1, "by": "strength_in", "values": values},
    }


def opened(server):
    return connect(server.uri, user=server.user, password=server.password)


@pytest.fixture(scope="module")
def expected(server, run, given):
    """What the session's server says in Cypher 5, its default."""
    with opened(server) as db:
        db.load(run)
        assert language(db) == "CYPHER 5"
        yield answers(db, given)
        db.delete(run)


def language(db, to=None):
    """The language of texts that do not name theirs, after it was set."""
    with db.connection.driver.session(database="system") as session:
        if to is not None:
            session.run(f"ALTER DATABASE neo4j SET DEFAULT LANGUAGE {to}").consume()
        asked = "SHOW DATABASES YIELD name, defaultLanguage AS has WHERE name = 'neo4j' RETURN has"
        return session.run(asked).single()["has"]


@pytest.fixture(scope="module")
def in_25(server, expected, given):
    with opened(server) as db:
        assert language(db, to="CYPHER 25") == "CYPHER 25"
        try:
            yield answers(db, given)
        finally:
            assert language(db, to="CYPHER 5") == "CYPHER 5"


@pytest.mark.parametrize("name", Library().queries)
def test_rows_do_not_depend_on_the_default_language(expected, in_25, name):
    assert len(expected[name]) or name in MAYBE_NONE
    pd.testing.assert_frame_equal(in_25[name], expected[name], rtol=1e-12)


MAYBE_NONE = {"dead_channels", "prunable_neurons", "inactive_neurons", "skip_paths"}
