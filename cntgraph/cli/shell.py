"""A Cypher prompt on the same server as everything else, which can read and nothing more.

A statement ends with a semicolon and may run over several lines; a line that begins with a colon
is a command. On a terminal there are history and completion; from a pipe the same words are read
until the first error.
"""

from __future__ import annotations

import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cntgraph.cli.output import note, save, table, write
from cntgraph.cli.parameters import literal, pair
from cntgraph.cli.queries import OwnQueries
from cntgraph.errors import CntError, CntWarning, InputRefused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.database import Database, Library

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


def statements(lines: Iterator[str] | Any) -> Iterator[str]:
    """Commands and statements of a text, without their semicolons, one after the other."""
    pending = ""
    for line in lines:
        if not pending.strip() and line.lstrip().startswith(":"):
            yield line.strip().rstrip(";")
            continue
        pending += line
        *whole, pending = _split(pending)
        yield from (text.strip() for text in whole if _says(text))
    if _says(pending):
        yield pending.strip()


def complete(text: str) -> bool:
    """True if what was typed is a command, or a statement with its semicolon."""
    return text.lstrip().startswith(":") or not _says(_split(text)[-1])


def _says(text: str) -> bool:
    """True if there is more in it than space and comments."""
    from cntgraph.database.reading import TOKEN

    words = (token[0] for token in TOKEN.finditer(text))
    return any(not (len(w) > 1 and w.startswith(("//", "/*"))) for w in words)


def _split(text: str) -> list[str]:
    """The text cut at its semicolons, but not within strings, names or comments."""
    from cntgraph.database.reading import TOKEN

    parts = [""]
    end = 0
    for token in TOKEN.finditer(text):
        parts[-1] += text[end : token.start()]
        end = token.end()
        if token[0] == ";":
            parts.append("")
        else:
            parts[-1] += token[0]
    parts[-1] += text[end:]
    return parts


def _at_a_terminal(conversation: Conversation) -> None:
    """Ask until the end; an error is told, and the next statement asked for."""
    session = _session(conversation)
    while not conversation.ended:
        try:
            for text in statements(session.prompt("cntgraph> ").splitlines(keepends=True)):
                conversation.answer(text)
        except EOFError:
            return
        except KeyboardInterrupt:
            continue
        except CntError as error:
            note(f"error: {error}")


def _session(conversation: Conversation) -> Any:
    """A prompt with history in the user's folder and the words of this database to complete."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings

    from cntgraph.database.jars import user_folder

    history = user_folder("data") / "shell_history"
    history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: Any) -> None:
        buffer = event.current_buffer
        if complete(buffer.text):
            buffer.validate_and_handle()
        else:
            buffer.insert_text("\n")

    known = _words(conversation)

    class Words(Completer):
        def get_completions(self, document: Document, event: Any) -> Iterator[Completion]:
            text = document.text_before_cursor
            typed = being_typed(text)
            words = completions(text, conversation.database.library, known)
            yield from (Completion(w, -len(typed)) for w in words if w.startswith(typed))

    return PromptSession(
        history=FileHistory(str(history)),
        completer=Words(),
        key_bindings=keys,
        multiline=True,
        complete_while_typing=False,
    )


_KEYWORDS = (
    "MATCH WHERE RETURN ORDER BY LIMIT WITH AS AND OR NOT IN IS NULL DISTINCT OPTIONAL UNWIND "
    "count( sum( avg( min( max( abs( collect( DESC"
).split()


def being_typed(text: str) -> str:
    """The part of a text that a completion replaces: of Cypher a name, with its colon a label.

    >>> being_typed("MATCH (n:Neuron"), being_typed("RETURN n.stre"), being_typed(":query x by=st")
    (':Neuron', 'stre', 'by=st')
    """
    found = re.search(r"\S*$" if text.lstrip().startswith(":") else r":?\w*$", text)
    return found[0] if found else ""


def completions(text: str, library: Library, words: list[str]) -> list[str]:
    """What the last word of a text may be: after ``:query NAME`` the parameters of that query.

    >>> from cntgraph.database import Library
    >>> completions(":query strong_neurons_by run=lenet top=3 b", Library(), [])[:3]
    ['epoch=', 'layer=', 'by=strength']
    """
    head, *before = (text + "|").split()[:-1] or [""]
    if head != ":query":
        return words
    try:
        known = library.queries
    except CntError:  # a query of the user's own that cannot be read is told when it is asked
        return words
    if not before:
        return list(known)
    given = {word.partition("=")[0] for word in before[1:]}
    left = known[before[0]].parameters if before[0] in known else ()
    return [
        f"{parameter.name}={value}"
        for parameter in left
        if parameter.name not in given
        for value in parameter.choices or ("",)
    ]


def _words(conversation: Conversation) -> list[str]:
    """Labels, types and properties of this database, names of queries, commands and keywords."""
    known = []
    for call, column in (
        ("db.labels() YIELD label AS word", ":{}"),
        ("db.relationshipTypes() YIELD relationshipType AS word", ":{}"),
        ("db.propertyKeys() YIELD propertyKey AS word", "{}"),
    ):
        words = conversation.database.cypher(f"CALL {call} RETURN word")["word"]
        known += [column.format(word) for word in words]
    return [*conversation.commands, *sorted(known), *_KEYWORDS]
