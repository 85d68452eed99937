"""A prompt on a terminal: history, several lines, and the words of a database to complete."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cntgraph.cli.statements import complete
from cntgraph.errors import CntError

if TYPE_CHECKING:
    from cntgraph.database import Database, Library

__all__ = ["being_typed", "completions", "known_words", "prompt"]

_KEYWORDS = (
    "MATCH WHERE RETURN ORDER BY LIMIT WITH AS AND OR NOT IN IS NULL DISTINCT OPTIONAL UNWIND "
    "count( sum( avg( min( max( abs( collect( DESC"
).split()


def prompt(database: Database, commands: Iterable[str]) -> Callable[[str], str]:
    """What asks for a statement, with history in the user's folder and words to complete."""
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

    words = known_words(database, commands)

    class Words(Completer):
        def get_completions(self, document: Document, event: Any) -> Iterator[Completion]:
            text = document.text_before_cursor
            typed = being_typed(text)
            found = completions(text, database.library, words)
            yield from (Completion(w, -len(typed)) for w in found if w.startswith(typed))

    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)),
        completer=Words(),
        key_bindings=keys,
        multiline=True,
        complete_while_typing=False,
    )
    return session.prompt


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


def known_words(database: Database, commands: Iterable[str]) -> list[str]:
    """Labels, types and properties of this database, names of queries, commands and keywords."""
    known = []
    for call, column in (
        ("db.labels() YIELD label AS word", ":{}"),
        ("db.relationshipTypes() YIELD relationshipType AS word", ":{}"),
        ("db.propertyKeys() YIELD propertyKey AS word", "{}"),
    ):
        words = database.cypher(f"CALL {call} RETURN word")["word"]
        known += [column.format(word) for word in words]
    return [*commands, *sorted(known), *_KEYWORDS]
