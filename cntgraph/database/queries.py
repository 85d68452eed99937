"""The library: one question a file, whose comments say its title, parameters and columns.

A file of ``queries/`` reads, and pastes into Neo4j Browser, as it is::

    // Strongest neurons of an epoch
    //
    // What it answers, in a few lines.
    //
    // parameters
    //   run    string                        name of the run
    //   epoch  int
    //   layer  string   = null               only this layer
    //   by     string   = "strength"         one of strength, strength_in, strength_out
    // columns
    //   layer     string
    //   *others   list                       a list of {name, value}: a column each
    // instead
    //   strong_neurons_by      where by      the query that answers when `by` is given
    MATCH ...

A parameter without a default must be given; one whose default is null may be null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Column", "Parameter", "Query", "find_query", "library", "listing", "parse_parameters"]

_TYPES: Mapping[str, type] = {"int": int, "float": float, "string": str, "boolean": bool}
_REQUIRED = object()

_PARAMETER = re.compile(r"(\w+) +(int|float|string|boolean)(?: += (\S+))?(?: {2,}(.*))?")
_COLUMN = re.compile(r"(\*?\w+) +(\w+)(?: {2,}(.*))?")
_INSTEAD = re.compile(r"(\w+) +where (\w+)(?: {2,}.*)?")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a query, as its header declares it."""

    name: str
    kind: str
    default: Any = _REQUIRED
    meaning: str = ""

    @property
    def required(self) -> bool:
        """True if there is no default."""
        return self.default is _REQUIRED

    @property
    def choices(self) -> tuple[str, ...]:
        """The values it may have, where the header lists them."""
        listed = re.match(r"one of ([\w, ]+)", self.meaning)
        return tuple(listed[1].replace(",", " ").split()) if listed else ()

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={json.dumps(self.default)}"

    def typed(self, query: str, value: Any) -> Any:
        """The value as the query takes it, or `InputRefused`."""
        value = value.item() if hasattr(value, "item") else value
        if value is None and self.default is None:
            return None
        wanted = _TYPES[self.kind]
        if self.kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise InputRefused(f"{query}: {self.name}={value!r} is not of type {self.kind}")
        if self.choices and value not in self.choices:
            why = did_you_mean(str(value), self.choices)
            raise InputRefused(f"{query}: {self.name}={value!r} is not known", why=why)
        return value

    def parsed(self, query: str, text: str) -> Any:
        """The value that a text stands for: ``3``, ``true``, ``null`` where that is the default."""
        if text == "null" and self.default is None:
            return None
        if self.kind == "boolean" and text in ("true", "false"):
            return text == "true"
        try:
            value = {"int": int, "float": float, "string": str}[self.kind](text)
        except (KeyError, ValueError):
            raise InputRefused(f"{query}: {self.name}={text} is not of type {self.kind}") from None
        return self.typed(query, value)


@dataclass(frozen=True)
class Column:
    """A column of a query; a spread one holds lists of {name, value} that become columns."""

    name: str
    kind: str
    meaning: str = ""
    spread: bool = False


@dataclass(frozen=True)
class Query:
    """One file of the library."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    instead: tuple[tuple[str, str], ...]
    text: str

    def bound(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters by name: those given, checked, and the defaults of the others."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                why = did_you_mean(name, known) if known else "it has no parameters"
                raise InputRefused(f"{self.name} has no parameter {name!r}", why=why)
        missing = [p.name for p in self.parameters if p.required and p.name not in given]
        if missing:
            raise InputRefused(
                f"{self.name} needs {' and '.join(missing)}",
                why=f"its parameters are {', '.join(map(str, self.parameters))}",
                fix=f"cntgraph query {self.name} {' '.join(f'{m}=...' for m in missing)}",
            )
        return {
            name: p.typed(self.name, given[name]) if name in given else p.default
            for name, p in known.items()
        }

    def chosen(self, values: Mapping[str, Any]) -> tuple[Query, dict[str, Any]]:
        """The query that answers for these values, with those that it takes."""
        defaults = {p.name: p.default for p in self.parameters}
        for name, parameter in self.instead:
            if values[parameter] != defaults[parameter]:
                other = find_query(name)
                return other, {p.name: values[p.name] for p in other.parameters}
        return self, dict(values)


def folder() -> Path:
    """Where the files are: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parents[1] / "queries"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "queries"


@cache
def library() -> dict[str, Query]:
    """Every query by its name."""
    files = sorted(folder().glob("*.cypher"))
    return {path.stem: _read(path.stem, path.read_text(encoding="utf-8")) for path in files}


def find_query(name: str) -> Query:
    """The query of that name."""
    found = library().get(name)
    if found is None:
        raise InputRefused(
            f"no query {name!r}",
            why=did_you_mean(name, library()),
            fix="cntgraph queries lists them; db.cypher(text) asks anything else",
        )
    return found


def parse_parameters(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Parameters that were typed as text, as the query's header types them.

    >>> parse_parameters("strong_neurons", {"run": "lenet", "epoch": "3"})
    {'run': 'lenet', 'epoch': 3}
    """
    query = find_query(name)
    known = {parameter.name: parameter for parameter in query.parameters}
    return {
        key: known[key].parsed(name, text) if key in known else text for key, text in given.items()
    }


def listing() -> pd.DataFrame:
    """name, title, parameters, columns: a row per query."""
    import pandas as pd

    rows = [
        {
            "name": query.name,
            "title": query.title,
            "parameters": ", ".join(map(str, query.parameters)),
            "columns": ", ".join(column.name for column in query.columns),
        }
        for query in library().values()
    ]
    return pd.DataFrame(rows, columns=["name", "title", "parameters", "columns"])


def _read(name: str, text: str) -> Query:
    sections = _sections(text)
    title, *rest = sections["description"]
    return Query(
        name,
        title,
        "\n".join(rest).strip(),
        tuple(_parameter(name, line) for line in sections["parameters"]),
        tuple(_column(name, line) for line in sections["columns"]),
        tuple(_matched(_INSTEAD, name, line)[:2] for line in sections["instead"]),
        text,
    )


def _sections(text: str) -> dict[str, list[str]]:
    """The lines of the header by what they are about."""
    found: dict[str, list[str]] = {
        "description": [],
        "parameters": [],
        "columns": [],
        "instead": [],
    }
    section = "description"
    for line in _header(text):
        if line in found:
            section = line
        elif line or section == "description":
            found[section].append(line)
    return found


def _header(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if not line.startswith("//"):
            return
        yield line.removeprefix("//").strip()


def _parameter(query: str, line: str) -> Parameter:
    name, kind, default, meaning = _matched(_PARAMETER, query, line)
    value = _REQUIRED if default is None else json.loads(default)
    return Parameter(name, kind, value, meaning or "")


def _column(query: str, line: str) -> Column:
    name, kind, meaning = _matched(_COLUMN, query, line)
    return Column(name.lstrip("*"), kind, meaning or "", spread=name.startswith("*"))


def _matched(pattern: re.Pattern[str], query: str, line: str) -> tuple[Any, ...]:
    found = pattern.fullmatch(line)
    if found is None:
        raise InputRefused(f"queries/{query}.cypher: the header line {line!r} cannot be read")
    return found.groups()
