"""A Cypher prompt on the same server as everything else, which can read and nothing more.

A statement ends with a semicolon and may run over several lines; a line that begins with a colon
is a command. On a terminal there are history and completion; from a pipe the same words are read
until the first error.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.output import note, save, table, write
from cntgraph.cli.parameters import literal, pair
from cntgraph.cli.queries import OwnQueries
from cntgraph.cli.statements import statements
from cntgraph.cli.terminal import prompt
from cntgraph.errors import CntError, CntWarning, InputRefused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database import Database

__all__ = ["shell"]

_FORMATS = ("csv", "json", "parquet")
_HELP = """\
MATCH ... RETURN ...;          Cypher, ended by a semicolon; it may read, and nothing else
:query NAME KEY=VALUE ...      a question of the library
:queries                       what the library asks
:param NAME VALUE              a parameter $NAME for what follows: a number, a text, a JSON list
:params                        the parameters that are set
:export FILE                   the last result as .csv, .json or .parquet
:help                          this
:exit                          leave, as Ctrl-D does
"""


def shell(
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, help="A result is cut after so many; 0: never.")
    ] = 1_000,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0, help="A query is ended after so many; 0: never.")
    ] = 30.0,
    queries: OwnQueries = None,
) -> None:
    """Open a Cypher prompt on the database.

    :help lists its commands. From a pipe: printf 'RETURN 1 AS one;' | cntgraph shell
    """
    from cntgraph.database import connect

    with connect() as database, warnings.catch_warnings():
        warnings.simplefilter("ignore", CntWarning)  # a cut result is told in our own words
        limited = database.within(seconds=seconds or None, rows=rows or None)
        if queries is not None:
            limited = limited.with_queries(queries)
        for name in limited.library.replaced:
            note(f"{name} is that of {queries}, not the library's")
        conversation = Conversation(limited)
        if sys.stdin.isatty():
            note(f"{database.uri}, read-only; :help says more, Ctrl-D leaves")
            _at_a_terminal(conversation)
        else:
            for text in statements(sys.stdin):
                conversation.answer(text)
                if conversation.ended:
                    break


class Conversation:
    """What has been set and found so far, and how a statement is answered."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.parameters: dict[str, Any] = {}
        self.found: pd.DataFrame | None = None
        self.ended = False
        self.commands: dict[str, Callable[[list[str]], None]] = {
            ":query": self._query,
            ":queries": self._queries,
            ":param": self._param,
            ":params": self._params,
            ":export": self._export,
            ":help": lambda words: write(_HELP),
            ":exit": self._exit,
        }

    def answer(self, text: str) -> None:
        """Carry out a command or a statement, and show what it gives."""
        if not text.startswith(":"):
            self._show(self.database.cypher(text, **self.parameters))
            return
        try:
            name, *words = shlex.split(text)
        except ValueError as error:
            raise InputRefused(f"{text!r} cannot be read", why=str(error)) from error
        if name not in self.commands:
            raise InputRefused(f"no command {name}", why=did_you_mean(name, self.commands))
        self.commands[name](words)

    def _query(self, words: list[str]) -> None:
        name, *given = _expect(words, 1, ":query NAME KEY=VALUE ...", more=True)
        values = self.database.library.parsed(name, dict(pair(text) for text in given))
        self._show(self.database.query(name, **values))

    def _queries(self, words: list[str]) -> None:
        _expect(words, 0, ":queries")
        table(self.database.queries()[["name", "title", "parameters"]])

    def _param(self, words: list[str]) -> None:
        name, *value = _expect(words, 2, ":param NAME VALUE", more=True)
        self.parameters[name.rstrip(":")] = literal(" ".join(value))

    def _params(self, words: list[str]) -> None:
        _expect(words, 0, ":params")
        write("".join(f"{name}  {value!r}\n" for name, value in self.parameters.items()))

    def _export(self, words: list[str]) -> None:
        (file,) = _expect(words, 1, ":export FILE")
        path = Path(file).expanduser()
        form = path.suffix.removeprefix(".").lower()
        if form not in _FORMATS:
            raise InputRefused(
                f"{path} has the suffix {path.suffix!r}", fix=f"end it in .{', .'.join(_FORMATS)}"
            )
        if self.found is None:
            raise InputRefused("there is no result to export yet", fix="ask something first")
        save(self.found, path, form)
        note(f"{path}: {len(self.found):,} rows")

    def _exit(self, words: list[str]) -> None:
        self.ended = True

    def _show(self, found: pd.DataFrame) -> None:
        self.found = found
        table(found)
        cut = " and more: cut here" if found.attrs.get("truncated") else ""
        note(f"{len(found):,} row{'' if len(found) == 1 else 's'}{cut}")


def _expect(words: list[str], count: int, usage: str, *, more: bool = False) -> list[str]:
    if len(words) == count or (more and len(words) > count):
        return words
    raise InputRefused(f"{len(words)} words given", fix=usage)


def _at_a_terminal(conversation: Conversation) -> None:
    """Ask until the end; an error is told, and the next statement asked for."""
    ask = prompt(conversation.database, conversation.commands)
    while not conversation.ended:
        try:
            for text in statements(ask("cntgraph> ").splitlines(keepends=True)):
                conversation.answer(text)
        except EOFError:
            return
        except KeyboardInterrupt:
            continue
        except CntError as error:
            note(f"error: {error}")
