"""What several test files share: one real Neo4j server for the whole session."""

import shutil
from contextlib import contextmanager

import pytest

from cntgraph.database import home as homes
from cntgraph.database import server as local
from cntgraph.database.jars import user_folder


@pytest.fixture(scope="session", autouse=True)
def quick_compiler():
    """Java's quick compiler alone: most of what a server does in its first minute is to compile.

    A start takes two thirds of the time; those of commands, in processes of their own, are as a
    user has them.
    """
    options = homes.java_options

    def quick(*given):
        return ["-XX:TieredStopAtLevel=1", *options(*given)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(homes, "java_options", quick)
        yield


@pytest.fixture(scope="session")
def local_environment(tmp_path_factory):
    """Where the session's server is the local server: data of its own, the user's own jars."""
    return {
        "CNTGRAPH_HOME": str(tmp_path_factory.mktemp("cntgraph")),
        "CNTGRAPH_CACHE": str(user_folder("cache")),
    }


@pytest.fixture(scope="session")
def started(local_environment, tmp_path_factory):
    with _set(local_environment):
        running = local.start()
    copy = tmp_path_factory.mktemp("copy") / running.home.name
    beside = shutil.ignore_patterns("server.json", "logs", "*_lock")
    shutil.copytree(running.home, copy, ignore=beside)
    yield running, copy
    with _set(local_environment):
        local.stop()


@pytest.fixture(scope="session")
def server(started):
    """A running server, started once and stopped at the end."""
    return started[0]


@pytest.fixture(scope="session")
def new_home(started):
    """Its home as it was before anything was loaded, without the mark: for others to copy."""
    return started[1]


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
