"""A query is a file whose comments say its title, its parameters and its columns.

A file reads, and pastes into Neo4j Browser, as it is::

    // Strongest neurons of an epoch
    //
    // What it answers, in a few lines.
    //
    // parameters
    //   run     string                        name of the run
    //   epoch   int
    //   layer   string   = null               only this layer
    //   by      string   = "strength"         one of strength, strength_in, strength_out
    // columns
    //   layer     string
    //   *others   list                       a list of {name, value}: a column each
    // instead
    //   strong_neurons_by      where by      the query that answers when `by` is given
    MATCH ...

A parameter without a default must be given; one whose default is null may be null. A default is
JSON; the type ``list`` is a list of numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cntgraph.database.reading import TOKEN
from cntgraph.errors import InputRefused, did_you_mean

__all__ = ["Column", "Parameter", "Query", "read_query"]

_TYPES: Mapping[str, type] = {
    "int": int,
    "float": float,
    "string": str,
    "boolean": bool,
    "list": list,
}
_REQUIRED = object()
_SECTIONS = ("parameters", "columns", "instead")

_KINDS = "|".join(_TYPES)
_PARAMETER = re.compile(rf"(\w+) +({_KINDS})(?: += +(.+?))?(?: {{2,}}(.*))?")
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
        if value is None and self.default is None:
            return None
        if self.kind == "list":
            return _numbers(query, self.name, value)
        value = value.item() if hasattr(value, "item") else value
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
        read: Mapping[str, Callable[[str], Any]]
        read = {"int": int, "float": float, "string": str, "list": json.loads}
        try:
            value = read[self.kind](text)
        except (KeyError, ValueError):
            raise InputRefused(f"{query}: {self.name}={text} is not of type {self.kind}") from None
        return self.typed(query, value)


def _numbers(query: str, name: str, value: Any) -> list[float]:
    """A flat list of finite numbers, of an array of any shape in the order of its elements."""
    import numpy as np

    refusal = InputRefused(f"{query}: {name} is not a list of numbers")
    try:
        array = np.asarray(value.detach().cpu().double() if hasattr(value, "detach") else value)
    except (TypeError, ValueError):  # lists of several lengths
        raise refusal from None
    if array.dtype.kind not in "biuf":
        raise refusal
    found: list[float] = array.astype(np.float64).reshape(-1).tolist()
    if not all(map(math.isfinite, found)):
        raise InputRefused(f"{query}: {name} holds numbers that are NaN or infinite")
    return found


@dataclass(frozen=True)
class Column:
    """A column of a query; a spread one holds lists of {name, value} that become columns."""

    name: str
    kind: str
    meaning: str = ""
    spread: bool = False


@dataclass(frozen=True)
class Query:
    """One question: what its file says of it, and its text."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    instead: tuple[tuple[str, str], ...]
    text: str
    path: Path
    own: bool  # of the user's, not of ours

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

    @property
    def browser_parameters(self) -> str:
        """The command by which Neo4j Browser sets the parameters, examples where none is given.

        >>> from cntgraph.database.queries import Library
        >>> Library().find("runs").browser_parameters
        ''
        >>> Library().find("strong_neurons_in_layer").browser_parameters
        ':params {run: "...", epoch: 0, layer: "...", top: 20}'
        """
        empty = {"int": "0", "float": "0.0", "string": '"..."', "boolean": "true", "list": "[]"}
        values = [
            f"{p.name}: {empty[p.kind] if p.required else json.dumps(p.default)}"
            for p in self.parameters
        ]
        return f":params {{{', '.join(values)}}}" if values else ""


def read_query(path: Path, *, own: bool = False) -> Query:
    """The query in a file; `InputRefused` names the line of a header that cannot be read."""
    text = _text(path)
    title, description, sections = _sections(path, text)
    parameters = tuple(_parameter(path, *line) for line in sections["parameters"])
    columns = tuple(_column(path, *line) for line in sections["columns"])
    instead = tuple(_instead(path, *line, parameters) for line in sections["instead"])
    _refuse_twice(path, sections["parameters"], [p.name for p in parameters])
    _refuse_twice(path, sections["columns"], [c.name for c in columns])
    _refuse_undeclared(path, text, parameters)
    return Query(path.stem, title, description, parameters, columns, instead, text, path, own)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputRefused(f"{path} cannot be read", why=why) from error


_Line = tuple[int, str]


def _sections(path: Path, text: str) -> tuple[str, str, dict[str, list[_Line]]]:
    """The title, the description, and the numbered lines of the other parts of the header."""
    found: dict[str, list[_Line]] = {name: [] for name in _SECTIONS}
    head: list[str] = []
    section = None
    for number, line in _header(text):
        if line in found:
            section = line
        elif section is None:
            head.append(line)
        elif line:
            found[section].append((number, line))
    if not head or not head[0]:
        raise _unreadable(path, 1, "no title", "the first line of a query is: // what it asks")
    return head[0], "\n".join(head[1:]).strip(), found


def _header(text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("//"):
            return
        yield number, line.removeprefix("//").strip()


def _parameter(path: Path, number: int, line: str) -> Parameter:
    form = f"a parameter reads: NAME TYPE = DEFAULT  MEANING, TYPE one of {', '.join(_TYPES)}"
    name, kind, default, meaning = _matched(_PARAMETER, path, number, line, form)
    if default is None:
        return Parameter(name, kind, meaning=meaning or "")
    try:
        value = json.loads(default)
        return Parameter(
            name, kind, Parameter(name, kind, None).typed(path.stem, value), meaning or ""
        )
    except (ValueError, InputRefused):
        why = f"the default is not JSON of the type {kind}: text in double quotes, null for none"
        raise _unreadable(path, number, repr(line), why) from None


def _column(path: Path, number: int, line: str) -> Column:
    form = "a column reads: NAME TYPE  MEANING"
    name, kind, meaning = _matched(_COLUMN, path, number, line, form)
    return Column(name.lstrip("*"), kind, meaning or "", spread=name.startswith("*"))


def _instead(
    path: Path, number: int, line: str, parameters: Sequence[Parameter]
) -> tuple[str, str]:
    form = "an alternative reads: QUERY where PARAMETER"
    query, parameter = _matched(_INSTEAD, path, number, line, form)
    optional = [p.name for p in parameters if not p.required]
    if parameter not in optional:
        why = f"{parameter} is not a parameter with a default"
        raise _unreadable(path, number, repr(line), why)
    return query, parameter


def _matched(
    pattern: re.Pattern[str], path: Path, number: int, line: str, form: str
) -> tuple[Any, ...]:
    found = pattern.fullmatch(line)
    if found is None:
        raise _unreadable(path, number, repr(line), form)
    return found.groups()


def _refuse_twice(path: Path, lines: Sequence[_Line], names: Sequence[str]) -> None:
    for place, (number, line) in enumerate(lines):
        if names[place] in names[:place]:
            raise _unreadable(path, number, repr(line), f"{names[place]} is declared twice")


def _refuse_undeclared(path: Path, text: str, parameters: Sequence[Parameter]) -> None:
    """Refuse a parameter that the text uses and the header does not declare."""
    declared = [parameter.name for parameter in parameters]
    before = ""
    for token in TOKEN.finditer(text):
        name = token[0].strip("`")
        if before == "$" and name not in declared:
            number = text.count("\n", 0, token.start()) + 1
            why = f"the header declares {', '.join(declared) or 'no parameters'}"
            raise _unreadable(path, number, f"${name} is not declared", why)
        before = token[0]


def _unreadable(path: Path, number: int, what: str, why: str) -> InputRefused:
    return InputRefused(
        f"{path}, line {number}: {what}",
        why=why,
        fix="cntgraph queries --show strong_neurons is an example",
    )
