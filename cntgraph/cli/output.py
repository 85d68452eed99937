"""What a verb says: its answer alone on stdout, everything else on stderr.

An answer is one JSON document with ``--json``, else tables for reading. Colours are for terminals;
a table on a terminal keeps to its width and names the columns that it leaves out.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

__all__ = [
    "answer",
    "beside",
    "jsonable",
    "note",
    "print_json",
    "records",
    "save",
    "size",
    "stages",
    "table",
    "write",
]

_ENDLESS = 100_000  # the width of what no terminal shows
_WIDEST = 48  # characters of a text column before it is folded on a terminal


def note(text: str) -> None:
    """A line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def write(text: str) -> None:
    """Text on stdout; a reader that has enough (``| head``) ends the command quietly."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def print_json(document: Any) -> None:
    """The one JSON document of a verb; what is not a finite number is null."""
    write(json.dumps(jsonable(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def answer(values: Mapping[str, Any]) -> None:
    """Named values, one a line, in a column."""
    width = max(map(len, values))
    write("".join(f"{name:<{width}}  {_plain(value)}\n" for name, value in values.items()))


def table(frame: pd.DataFrame) -> None:
    """A frame for reading: numbers aligned, as many columns as the terminal has room for."""
    width = None if sys.stdout.isatty() else _ENDLESS
    cells = {str(name): _column(frame[name]) for name in frame.columns}
    shown = _fitting(cells, _console(width).width)
    write(_rendered(frame, {name: cells[name] for name in shown}, width))
    left_out = [name for name in cells if name not in shown]
    if left_out:
        note(f"no room for {len(left_out)} more columns: {', '.join(left_out)}")


def _rendered(frame: pd.DataFrame, cells: Mapping[str, list[str]], width: int | None) -> str:
    from rich.table import Table
    from rich.text import Text

    head = "" if os.environ.get("NO_COLOR") else "bold"
    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=head)
    for name in cells:
        right = frame[name].dtype.kind in "iuf"
        grid.add_column(Text(_line(name)), justify="right" if right else "left", overflow="fold")
    for row in zip(*cells.values(), strict=True):
        grid.add_row(*(Text(cell) for cell in row))
    console = _console(width)
    with console.capture() as captured:
        console.print(grid)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as objects of JSON values."""
    columns = {str(name): [jsonable(v) for v in frame[name].tolist()] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def save(frame: pd.DataFrame, path: Path, form: str) -> None:
    """A frame as a csv, json, parquet or text file, whole or not at all."""
    with beside(path) as part:
        if form == "parquet":
            frame.to_parquet(part, index=False)
        elif form == "csv":
            frame.to_csv(part, index=False)
        elif form == "table":
            cells = {str(name): _column(frame[name]) for name in frame.columns}
            part.write_text(_rendered(frame, cells, _ENDLESS), encoding="utf-8")
        else:
            rows = json.dumps(records(frame), indent=2, ensure_ascii=False, allow_nan=False)
            part.write_text(rows + "\n", encoding="utf-8")


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A file to write to that takes the place of ``path`` when it is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.touch(exist_ok=True)
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    except OSError as error:
        raise InputRefused(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            fix="give the path of a file in a folder that is there and is yours",
        ) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """What a long verb is doing, and the share of it that is done: a bar, or a line a stage."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0)
            yield lambda what, share: bar.update(task, description=what, completed=share)
        return
    told: list[str] = []

    def tell(what: str, share: float) -> None:
        if what not in told:
            told.append(what)
            note(what)

    yield tell


def size(count: float) -> str:
    """Bytes for reading: ``1.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def jsonable(value: Any) -> Any:
    """The same as JSON values: NaN and infinities null, everything unknown by its text."""
    if hasattr(value, "tolist") and not isinstance(value, str):  # NumPy's scalars and arrays
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [jsonable(item) for item in value]
    return None if type(value).__name__ in ("NAType", "NaTType") else str(value)


def _console(width: int | None) -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def _fitting(cells: Mapping[str, list[str]], width: int) -> list[str]:
    from rich.cells import cell_len

    shown: list[str] = []
    used = 0
    for name, column in cells.items():
        used += min(_WIDEST, max(map(cell_len, [name, *column]))) + 2
        if used - 2 > width and shown:
            break
        shown.append(name)
    return shown


def _column(values: pd.Series[Any]) -> list[str]:
    if values.dtype.kind == "f":
        form = _number_form([v for v in values.tolist() if math.isfinite(v)])
        return [format(v, form) if math.isfinite(v) else str(v) for v in values.tolist()]
    return [_plain(value) for value in values.tolist()]


def _number_form(values: list[float]) -> str:
    """Five digits of the largest number, the same decimals for the whole column."""
    largest = max(map(abs, values), default=0.0)
    if largest == 0 or (largest < 1e9 and all(v == int(v) for v in values)):
        return ".0f"
    if not 1e-4 <= largest < 1e7:
        return ".2e"
    return f".{min(6, max(1, 4 - math.floor(math.log10(largest))))}f"


def _plain(value: Any) -> str:
    value = jsonable(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " -> ".join(map(_plain, value))
    return _line(str(value))


def _line(text: str) -> str:
    """Text of others without what moves the cursor or breaks the line."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
