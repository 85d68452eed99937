"""A text of Cypher is cut into statements and commands where a reader would cut it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["complete", "statements"]


def statements(lines: Iterable[str]) -> Iterator[str]:
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
