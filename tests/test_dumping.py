"""A database in a file and back: nothing is lost on the way, and nothing when it fails."""

from __future__ import annotations

import pytest

import cntgraph as cnt
from cntgraph.database import connect, dumping
from cntgraph.database import server as local

pytestmark = pytest.mark.neo4j


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory, local_environment):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNTGRAPH_HOME", str(tmp_path_factory.mktemp("dumped")))
        patch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
        yield
        local.stop()


def kept(change=None):
    """What the database holds, after a change to it."""
    server = local.start(heap="512m", page_cache="64m")
    with connect(server.uri, user=server.user, password=server.password) as db:
        if change:
            db.connection.change(change)
        rows = db.connection.rows("MATCH (n:Kept) RETURN n.value AS value ORDER BY value")
    return [row["value"] for row in rows]


def test_there_and_back(tmp_path):
    file = tmp_path / "a dump"
    with pytest.raises(cnt.InputRefused, match="no data"):
        dumping.dump(file)
    assert kept("CREATE (:Kept {value: 1})") == [1]
    before = local.status()
    assert dumping.dump(file) == file.stat().st_size > 0
    after = local.status()
    assert after.running, "it runs again"
    assert (after.uri, after.home) == (before.uri, before.home)
    assert after.pid != before.pid
    with pytest.raises(cnt.InputRefused, match="is there already"):
        dumping.dump(file)

    assert kept("CREATE (:Kept {value: 2})") == [1, 2]
    broken = tmp_path / "broken"
    broken.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(cnt.DatabaseError, match="load failed"):
        dumping.restore(broken)
    assert kept() == [1, 2]
    assert local.status().pid == after.pid, "nothing stopped for it"

    dumping.restore(file)
    assert local.status().running, "it runs again"
    assert kept() == [1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a dump", "broken"]
    assert not (local.status().home / "restoring").exists()
