"""The Cypher prompt: what is read as a statement, what it answers, from a pipe and a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import exported

from cntgraph.cli.shell import Conversation
from cntgraph.cli.statements import complete, statements
from cntgraph.cli.terminal import being_typed, known_words
from cntgraph.database import connect

STATEMENT = st.lists(
    st.sampled_from(
        ["RETURN 1", "'a;b'", '"c;\\"d;"', "`e;f`", "// g;\n", "/* h; */", "\n", " n.x ", "$y"]
    ),
    min_size=1,
).map(lambda parts: "RETURN " + " ".join(parts))


@given(st.lists(STATEMENT))
def test_statements_end_at_semicolons_outside_of_strings_names_and_comments(texts):
    text = "".join(f"{one}\n;\n" for one in texts)
    assert list(statements(text.splitlines(keepends=True))) == [one.strip() for one in texts]


@given(STATEMENT)
def test_a_statement_is_complete_with_its_semicolon(text):
    assert not complete(text)
    assert complete(f"{text}\n;")
    assert complete(f"{text}\n; // done;")


def test_commands_are_lines():
    text = ":param a 1\nRETURN\n  $a AS a;\n:export x.csv;\n// only a comment;\nRETURN 2"
    found = list(statements(text.splitlines(keepends=True)))
    assert found == [
        ":param a 1",
        "RETURN\n  $a AS a",
        ":export x.csv",
        "// only a comment;\nRETURN 2",
    ]
    assert list(statements(["// nothing\n", "/* at; all */\n"])) == []


@pytest.fixture(scope="module")
def environment(neo4j_environment, local_environment, server, tmp_path_factory):
    """Where a command finds the session's server, with a run in it."""
    run = exported(tmp_path_factory.mktemp("runs") / "run", "dense", name="asked in a shell")
    with connect(server.uri, user=server.user, password=server.password) as db:
        db.load(run)
        yield {**os.environ, **neo4j_environment, **local_environment, "NO_COLOR": "1"}
        db.delete(run)


def said(text, environment, folder):
    command = [sys.executable, "-m", "cntgraph", "shell"]
    return subprocess.run(
        command,
        input=text,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.neo4j
def test_from_a_pipe(environment, tmp_path):
    text = """
    :param least 0.0
    MATCH (n:NeuronState {run: 'asked in a shell'}) // of one epoch
    WHERE n.magnitude >= $least
    RETURN n.layer AS layer, count(*) AS neurons ORDER BY layer;
    :export neurons.parquet
    :query runs
    :params
    """
    found = said(text, environment, tmp_path)
    assert found.returncode == 0, found.stderr
    table = pd.read_parquet(tmp_path / "neurons.parquet")
    assert dict(table.itertuples(index=False)) == {"fc.0": 8, "fc.1": 6, "fc.2": 3, "image": 12}
    assert "fc.1" in found.stdout
    assert "asked in a shell" in found.stdout
    assert "least  0.0" in found.stdout
    assert "4 rows" in found.stderr


@pytest.mark.neo4j
@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("CREATE (n:X);\nRETURN 1 AS after;", 4, "only reading is allowed"),
        (":quer runs\nRETURN 1 AS after;", 3, "did you mean :query"),
        (":export x.csv\nRETURN 1 AS after;", 3, "no result to export yet"),
        ("RETURN 1 AS one;\n:export x.xls", 3, "'.xls'"),
        (":param alone", 3, ":param NAME VALUE"),
        (":query strong_neuron", 3, "did you mean strong_neurons"),
        (":param 'open", 3, "No closing quotation"),
    ],
)
def test_a_pipe_ends_at_the_first_error(environment, tmp_path, text, status, message):
    found = said(text, environment, tmp_path)
    assert found.returncode == status
    assert message in found.stderr
    assert "after" not in found.stdout


def at_a_terminal(environment, *dialogue):
    """Everything shown while, whenever the next of the words is there, the next keys are typed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(sys.executable, [sys.executable, "-m", "cntgraph", "shell"], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    shown, from_here = "", 0
    for waited, typed in (*dialogue, (None, "")):
        while waited is None or waited not in shown[from_here:]:
            assert select.select([terminal], [], [], 60)[0], f"no {waited!r} in {shown!r}"
            try:
                more = os.read(terminal, 4096)
            except OSError:  # the terminal is gone with the process
                more = b""
            if not more:
                break
            shown += more.decode(errors="replace")
        from_here = len(shown)
        os.write(terminal, typed.encode()) if typed else None
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown


@pytest.mark.neo4j
def test_at_a_terminal(environment, tmp_path):
    """A statement of two lines, an error that ends nothing; what Tab and the arrow up bring."""
    environment = {**environment, "TERM": "xterm", "CNTGRAPH_HOME": str(tmp_path)}
    at_a_terminal(
        environment,
        ("cntgraph>", "RETURN 6 *\r7 AS product;\r"),
        ("1 row", "RETURN nothing;\r"),
        ("error:", ":exit\r"),
    )
    history = (tmp_path / "data" / "shell_history").read_text()
    assert re.search(r"RETURN 6 \*\n\+7 AS product;", history)
    shown = at_a_terminal(
        environment,
        ("cntgraph>", "MATCH (n:NeuronSt\t"),
        ("ate", " {run: 'asked in a shell'}) RETURN sum(n.degree_o\t"),
        ("ut", ");\r"),
        ("1 row", ":query stored_ag\t"),
        ("recomputed", " run='asked in a shell' epoch=0\r"),
        ("4 rows", UP * 5 + "\r"),
        ("1 row", ":exit\r"),
    )
    assert {"162", "42"} <= set(shown.split())


UP = "\x1b[A"


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("MATCH (n:Neu", ":Neu"),
        ("MATCH (n)-[k:LI", ":LI"),
        ("MATCH (n:Neuron) WHERE n.stre", "stre"),
        ("RETURN coun", "coun"),
        ("MATCH (n) ", ""),
        (":par", ":par"),
        (":query stron", "stron"),
        (":query strong_neurons by=stren", "by=stren"),
        ("", ""),
    ],
)
def test_what_is_completed_is_the_last_name(text, typed):
    assert being_typed(text) == typed


@pytest.mark.neo4j
def test_the_words_of_a_prompt_are_those_of_the_database(environment, server):
    with connect(server.uri, user=server.user, password=server.password) as db:
        words = known_words(db, Conversation(db).commands)
    expected = {":NeuronState", ":Layer", ":LINK", ":HAS_STATE", "strength", "largest_out"}
    assert expected | {":query", ":param", ":export", "MATCH", "LIMIT"} <= set(words)
