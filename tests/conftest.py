"""What several test files share: one real Neo4j server for the whole session."""

from contextlib import contextmanager

import pytest

from cntgraph.database import server as local
from cntgraph.database.jars import user_folder


@pytest.fixture(scope="session")
def local_environment(tmp_path_factory):
    """Where the session's server is the local server: data of its own, the user's own jars."""
    return {
        "CNTGRAPH_HOME": str(tmp_path_factory.mktemp("cntgraph")),
        "CNTGRAPH_CACHE": str(user_folder("cache")),
    }


@pytest.fixture(scope="session")
def server(local_environment):
    """A running server, started once and stopped at the end."""
    with _set(local_environment):
        running = local.start()
    yield running
    with _set(local_environment):
        local.stop()


@pytest.fixture(scope="session")
def neo4j_environment(server):
    """The variables by which a command finds the session's server."""
    return {
        "NEO4J_URI": server.uri,
        "NEO4J_USERNAME": server.user,
        "NEO4J_PASSWORD": server.password,
    }


@contextmanager
def _set(environment):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield
