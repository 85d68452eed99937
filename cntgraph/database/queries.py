"""The library: questions by their names, ours and beside them those of the user's own folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.database.headers import Query, read_query
from cntgraph.errors import InputRefused, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Library"]


@dataclass(frozen=True)
class Library:
    """What may be asked by name; in ``own``, a folder, every ``NAME.cypher`` is a query too.

    A query of the user's own takes the place of ours of the same name. The folder is read when it
    is asked, so that a query can be changed between two questions.
    """

    own: Path | None = None

    @property
    def queries(self) -> dict[str, Query]:
        """Every query by its name."""
        return dict(sorted({**_ours(), **self._own()}.items()))

    @property
    def replaced(self) -> list[str]:
        """The names that both have."""
        return sorted(_ours().keys() & self._own().keys())

    def find(self, name: str) -> Query:
        """The query of that name, those that ask for Graph Data Science as ``gds/NAME``."""
        known = self.queries | _for_plugins()
        if name not in known:
            raise InputRefused(
                f"no query {name!r}",
                why=did_you_mean(name, known),
                fix="cntgraph queries lists them; db.cypher(text) asks anything else",
            )
        return known[name]

    def chosen(self, query: Query, values: Mapping[str, Any]) -> tuple[Query, dict[str, Any]]:
        """The query that answers for these values, with those that it takes."""
        defaults = {p.name: p.default for p in query.parameters}
        # ours know nothing of a query that took the place of one of them
        known = self.queries if query.own else _ours()
        for name, parameter in query.instead:
            if values[parameter] != defaults[parameter]:
                other = known[name]
                return other, {p.name: values[p.name] for p in other.parameters}
        return query, dict(values)

    def parsed(self, name: str, given: Mapping[str, str]) -> dict[str, Any]:
        """Parameters that were typed as text, as the query's header types them.

        >>> Library().parsed("strong_neurons", {"run": "lenet", "epoch": "3"})
        {'run': 'lenet', 'epoch': 3}
        """
        known = {parameter.name: parameter for parameter in self.find(name).parameters}
        return {
            key: known[key].parsed(name, text) if key in known else text
            for key, text in given.items()
        }

    def listing(self) -> pd.DataFrame:
        """name, title, parameters, columns: a row per query."""
        import pandas as pd

        rows = [
            {
                "name": query.name,
                "title": query.title,
                "parameters": ", ".join(map(str, query.parameters)),
                "columns": ", ".join(column.name for column in query.columns),
            }
            for query in (self.queries | _for_plugins()).values()
        ]
        return pd.DataFrame(rows, columns=["name", "title", "parameters", "columns"])

    def _own(self) -> dict[str, Query]:
        return {} if self.own is None else _read_own(self.own)


def folder() -> Path:
    """Where our files are: inside an installed package, beside it in a checkout."""
    inside = Path(__file__).parents[1] / "queries"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "queries"


@cache
def _ours() -> dict[str, Query]:
    return {path.stem: read_query(path) for path in sorted(folder().glob("*.cypher"))}


@cache
def _for_plugins() -> dict[str, Query]:
    """Ours that need a plugin of the server, by the name of its folder and their own."""
    files = sorted(folder().glob("*/*.cypher"))
    found = (replace(read_query(path), name=f"{path.parent.name}/{path.stem}") for path in files)
    return {query.name: query for query in found}


def _read_own(folder: Path) -> dict[str, Query]:
    if not folder.is_dir():
        raise InputRefused(
            f"{folder} is not a folder", why="a folder of queries holds files NAME.cypher"
        )
    found = {path.stem: read_query(path, own=True) for path in sorted(folder.glob("*.cypher"))}
    if not found:
        raise InputRefused(f"{folder} holds no query", why="a query is a file NAME.cypher")
    for query in found.values():
        _check_instead(query, {**_ours(), **found})
    return found


def _check_instead(query: Query, known: Mapping[str, Query]) -> None:
    """Refuse a query that another is to answer which is not there, or asks for more than it has."""
    names = {parameter.name for parameter in query.parameters}
    for name, _ in query.instead:
        if name not in known:
            raise InputRefused(f"{query.path}: no query {name!r}", why=did_you_mean(name, known))
        lacking = [p.name for p in known[name].parameters if p.name not in names]
        if lacking:
            raise InputRefused(
                f"{query.path}: {name} cannot answer instead",
                why=f"it has the parameter {lacking[0]}, which {query.name} has not",
            )
