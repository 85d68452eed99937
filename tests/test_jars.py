"""The jars of Neo4j: pinned, fetched once, whole or not there."""

import dataclasses
import hashlib
import http.server
import re
import threading
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cntgraph import errors
from cntgraph.database import jars


def test_the_lock_file_pins_every_artifact():
    lock = Path(jars.__file__).with_name(f"neo4j-{jars.VERSION}.lock").read_text()
    assert "http" not in "".join(line for line in lock.splitlines() if line.startswith("#"))
    assert "://" not in lock
    lines = [line for line in lock.splitlines() if not line.startswith("#")]
    part = r"[A-Za-z0-9_.-]+"
    shape = rf"(server|import|gds) {part}:{part}:{part}(:{part})? [0-9a-f]{{64}} [1-9][0-9]*"
    assert [line for line in lines if not re.fullmatch(shape, line)] == []
    server, offline = jars.pinned("server"), jars.pinned("import")
    assert (len(server), len(offline), len(jars.pinned("gds"))) == (225, 4, 141)
    names = [jar.name for jar in server + offline]
    assert len(set(names)) == len(names)


class Repository:
    """A Maven repository on a port of this machine, which remembers what was asked of it."""

    def __init__(self, folder):
        self.folder, self.asked = folder, []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                if not self.path.endswith(".sha1"):
                    asked.append(self.path.rpartition("/")[2])

        self.http = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(Handler, directory=folder)
        )
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def publish(self, name, content):

        jar = jars.Jar(
            "org.example", name, "1.0", "", hashlib.sha256(content).hexdigest(), len(content)
        )
        path = self.folder / "org" / "example" / name / "1.0" / jar.name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return jar


@pytest.fixture
def repository(tmp_path, monkeypatch):
    from jgo.maven import _core

    repository = Repository(tmp_path / "repository")
    address = f"http://127.0.0.1:{repository.http.server_port}"
    monkeypatch.setitem(_core.DEFAULT_REMOTE_REPOS, "central", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield repository
    repository.http.shutdown()
    repository.http.server_close()


@pytest.fixture
def three(repository):
    return [repository.publish(name, name.encode() * 1000) for name in ("one", "two", "three")]


def test_jars_are_fetched_once_and_told(repository, three, tmp_path, capsys):
    folder = tmp_path / "cache" / "lib"
    paths = jars.fetch(three, folder)
    assert [path.read_bytes()[:3] for path in paths] == [b"one", b"two", b"thr"]
    assert sorted(folder.iterdir()) == sorted(paths)
    assert "3 files" in capsys.readouterr().err
    assert jars.fetch(three, folder) == paths
    assert len(repository.asked) == 3
    assert capsys.readouterr().err == ""
    assert sorted(path.name for path in folder.parent.iterdir()) == ["fetch.lock", "lib"]


def test_whole_jars_need_no_lock_as_a_shared_cache_may_be_read_only(three, tmp_path):
    folder = tmp_path / "cache" / "lib"
    paths = jars.fetch(three, folder, progress=lambda done, total: None)
    (folder.parent / "fetch.lock").unlink()
    (folder.parent / "fetch.lock").mkdir()
    assert jars.fetch(three, folder) == paths


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "gone"])
def test_a_damaged_jar_is_fetched_again_and_no_other(repository, three, tmp_path, damage):
    folder = tmp_path / "cache" / "lib"
    path = jars.fetch(three, folder, progress=lambda done, total: None)[1]
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        other = {"flipped": b"T" + whole[1:], "cut": whole[:-1], "longer": whole + b"t"}[damage]
        path.write_bytes(other)
    repository.asked.clear()
    jars.fetch(three, folder, progress=lambda done, total: None)
    assert path.read_bytes() == whole
    assert repository.asked == ["two-1.0.jar"]


def test_a_fetch_goes_on_where_it_was_killed(repository, three, tmp_path):
    folder = tmp_path / "cache" / "lib"

    def killed(done, total):
        (folder.parent / "fetching" / "org").mkdir(parents=True, exist_ok=True)
        if done >= three[0].size + three[1].size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jars.fetch(three, folder, progress=killed)
    repository.asked.clear()
    told = []
    jars.fetch(three, folder, progress=lambda done, total: told.append((done, total)))
    assert repository.asked == ["three-1.0.jar"]
    assert told == [(three[2].size, three[2].size)]


def test_what_a_killed_fetch_wrote_half_is_not_taken_for_the_whole(repository, three, tmp_path):
    folder = tmp_path / "cache" / "lib"
    half = folder.parent / "fetching" / "org" / "example" / "one" / "1.0" / "one-1.0.jar"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"one")
    (path, *_) = jars.fetch(three, folder, progress=lambda done, total: None)
    assert three[0].is_whole(path)


def test_a_file_that_is_not_the_pinned_one_is_refused(repository, three, tmp_path):
    folder = tmp_path / "cache" / "lib"
    forged = dataclasses.replace(three[1], sha256="0" * 64)
    with pytest.raises(errors.DatabaseError, match=r"two-1\.0\.jar did not arrive") as caught:
        jars.fetch([three[0], forged, three[2]], folder, progress=lambda done, total: None)
    assert "0" * 64 in caught.value.why
    assert [path.name for path in folder.iterdir()] == ["one-1.0.jar"]


@pytest.mark.parametrize("fault", ["no such artifact", "nothing listens"])
def test_without_a_network_the_error_names_the_ways_out(
    repository, three, tmp_path, fault, monkeypatch
):
    missing = dataclasses.replace(three[0], artifact="four")
    if fault == "nothing listens":
        repository.http.shutdown()
        repository.http.server_close()
    with pytest.raises(errors.DatabaseError, match=r"four-1\.0\.jar did not arrive") as caught:
        jars.fetch([missing], tmp_path / "cache" / "lib", progress=lambda done, total: None)
    assert "NEO4J_URI" in caught.value.fix
    assert caught.value.exit_status == 4


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_jar_is_whole_exactly_when_its_bytes_are(tmp_path_factory, pinned, found):

    path = tmp_path_factory.getbasetemp() / "some.jar"
    path.write_bytes(found)
    jar = jars.Jar("g", "a", "1", "", hashlib.sha256(pinned).hexdigest(), len(pinned))
    assert jar.is_whole(path) == (pinned == found)


@pytest.mark.parametrize(
    ("home", "cache", "kind", "expected"),
    [
        ("/h", None, "data", "/h/data"),
        ("/h", None, "cache", "/h/cache"),
        ("/h", "/c", "cache", "/c"),
        ("/h", "/c", "data", "/h/data"),
        (None, "/c", "cache", "/c"),
    ],
)
def test_two_variables_move_the_folders(monkeypatch, home, cache, kind, expected):
    for name, value in (("CNTGRAPH_HOME", home), ("CNTGRAPH_CACHE", cache)):
        monkeypatch.delenv(name, raising=False)
        if value:
            monkeypatch.setenv(name, value)
    assert jars.user_folder(kind) == Path(expected)
