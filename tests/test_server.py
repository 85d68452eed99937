"""The local server: one Neo4j, whole jars, a private password, gone when it is stopped."""

import dataclasses
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
from cntgraph.database import server as local
from cntgraph.database.process import Process


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
    # whoever runs the tests in the background may have left Ctrl-C ignored
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    code += "from cntgraph.database import server; print(server.start().pid)"
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
    """On another port, where somebody took its own meanwhile."""
    query(here, "CREATE (:Kept)")
    Process.of(here.pid).kill()
    assert not local.status().running
    assert not local.stop()

    with socket.create_server(("127.0.0.1", int(here.uri.rpartition(":")[2]))):
        again = local.start()
    assert again.password == here.password
    assert again.uri != here.uri
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
