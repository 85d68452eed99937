"""Tables of nodes and relationships, streamed into Parquet files as Neo4j's importer reads them.

A header is a property's name and nothing else, so that values pass as they are: a type behind a
colon would have every number made a text and parsed again. ``:ID`` is the number by which
relationships find the node, and no property: the property ``id`` is a column of its own. A list
needs its type, as in ``shape:long[]``. What is missing is a Parquet null. The importer reads a file
in one thread, so that long tables are many files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["END", "ID", "START", "Columns", "Tables", "of_frame", "of_rows"]

ID, START, END = ":ID", ":START_ID", ":END_ID"

_GROUP_ROWS = 250_000  # in memory here, and in the importer's
_FILE_ROWS = 1_000_000

Columns = Mapping[str, Any]


@dataclass
class _Table:
    """One label or type: rows are kept until they are a row group, then written."""

    name: str
    folder: Path
    files: dict[str, int] = field(default_factory=dict)  # their rows
    waiting: list[pa.Table] = field(default_factory=list)
    count: int = 0  # of the rows that wait
    writer: pq.ParquetWriter | None = None
    room: int = 0  # rows that the open file still takes

    def add(self, batch: pa.Table) -> None:
        if self.waiting and self.waiting[0].schema != batch.schema:
            self.flush()
        self.waiting.append(batch)
        self.count += len(batch)
        if self.count >= _GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        if not self.count:
            self.waiting.clear()
            return
        rows = pa.concat_tables(self.waiting)
        writer = self._open(rows.schema)
        writer.write_table(rows, row_group_size=_GROUP_ROWS)
        self.files[next(reversed(self.files))] += len(rows)
        self.room -= len(rows)
        self.waiting.clear()
        self.count = 0

    def _open(self, schema: pa.Schema) -> pq.ParquetWriter:
        import pyarrow.parquet as pq

        if self.writer is not None and self.room > 0 and self.writer.schema == schema:
            return self.writer
        self.close()
        name = f"{self.name}-{len(self.files) + 1:05d}.parquet"
        # dictionaries make weights larger and slower
        self.writer = pq.ParquetWriter(
            self.folder / name, schema, compression="zstd", use_dictionary=False
        )
        self.files[name] = 0
        self.room = _FILE_ROWS
        return self.writer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Tables:
    """The tables of a graph in a folder, each begun by its first rows; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._nodes: dict[str, _Table] = {}
        self._relationships: dict[str, _Table] = {}

    def nodes(self, label: str, rows: pa.Table) -> None:
        """Add nodes; a column of theirs is `ID`."""
        self._add(self._nodes, label, rows)

    def relationships(self, kind: str, columns: Columns) -> None:
        """Add relationships; two of their columns are `START` and `END`."""
        import pyarrow as pa

        self._add(self._relationships, kind, pa.table(dict(columns)))

    def _add(self, tables: dict[str, _Table], name: str, rows: pa.Table) -> None:
        if name not in tables:
            tables[name] = _Table(name, self.folder)
        if len(rows):
            tables[name].add(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for table in (*self._nodes.values(), *self._relationships.values()):
            if kind is None:
                table.flush()
            table.close()

    @property
    def files(self) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
        """Of labels, then of relationship types: the files and their rows."""
        nodes, relationships = (
            {name: dict(table.files) for name, table in tables.items() if table.files}
            for tables in (self._nodes, self._relationships)
        )
        return nodes, relationships


def of_frame(frame: pd.DataFrame) -> pa.Table:
    """The rows of a frame, its column `id` as `ID` too; NaN is missing, as a database has it."""
    import pyarrow as pa

    named = frame.assign(**{ID: frame["id"]})
    return pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None)


def of_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of plain values, an `id` as `ID` too; a property that no row has makes no column."""
    import pyarrow as pa

    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    if "id" in columns:
        columns[ID] = columns["id"]
    return pa.table(
        {_header(n, column): _typed(column) for n, column in columns.items() if _holds(column)}
    )


def _holds(column: pa.Array) -> bool:
    import pyarrow as pa

    return not pa.types.is_null(column.type)


def _typed(column: pa.Array) -> pa.Array:
    """The column; lists of which none has an element could be of anything, and are of texts."""
    import pyarrow as pa

    if pa.types.is_list(column.type) and pa.types.is_null(column.type.value_type):
        return column.cast(pa.list_(pa.string()))
    return column


def _header(name: str, column: pa.Array) -> str:
    import pyarrow as pa

    if not pa.types.is_list(column.type):
        return name
    return f"{name}:{'long' if pa.types.is_integer(column.type.value_type) else 'string'}[]"
