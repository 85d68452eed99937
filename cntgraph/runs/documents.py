"""JSON that says when it was touched: written in one way only, and with a hash of itself."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cntgraph.errors import InputRefused, RunDamaged

__all__ = ["VERSION", "listed", "opened", "read_metrics", "sealed", "sha256", "write_metrics"]

VERSION = 1  # of the folder's format; what a reader meets above this it refuses

Metric = bool | int | float | str | None


def sha256(data: bytes) -> str:
    """The hash by which a file is known."""
    return hashlib.sha256(data).hexdigest()


def listed(data: bytes, rows: int | None = None) -> dict[str, Any]:
    """What the receipt and the manifest say of a file."""
    counted = {} if rows is None else {"rows": rows}
    return {"bytes": len(data), **counted, "sha256": sha256(data)}


def sealed(kind: str, content: Mapping[str, Any], *, indent: int | None = 1) -> bytes:
    """A document of this kind, with the format's version and a hash over all the rest."""
    text = _text({"format": kind, "version": VERSION, **content}, indent)
    seal = _text({"sha256": sha256(text)}, indent)
    # the hash is the last of its entries: encoding a long manifest twice would cost twice
    end = 2 if indent is None else 3
    return text[:-end] + b"," + seal[1:]


def opened(kind: str, data: bytes, path: Path, *, indent: int | None = 1) -> dict[str, Any]:
    """The content of a document that `sealed` wrote, or `RunDamaged` naming its file."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RunDamaged(f"{path} is damaged", why=f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != kind:
        raise RunDamaged(f"{path} is damaged", why=f"it is not the file of a {kind}")
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        raise RunDamaged(
            f"{path} has format version {version}",
            why=f"this cntgraph reads versions up to {VERSION}",
            fix="pip install --upgrade cntgraph",
        )
    seal = document.pop("sha256", None)
    untouched = version == VERSION and seal == sha256(_text(document, indent))
    if not untouched or data != _text({**document, "sha256": seal}, indent):
        raise RunDamaged(
            f"{path} was altered after its export",
            why="its content does not have the hash that it states",
            fix="export the run again, or bring the file back from a copy",
        )
    return document


def _text(document: Mapping[str, Any], indent: int | None) -> bytes:
    # ASCII, so that a name of any characters survives every tool and locale
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(document, indent=indent, separators=separators, allow_nan=False)
    return text.encode("ascii") + b"\n"


def write_metrics(metrics: Mapping[str, Any]) -> bytes:
    """What was recorded, as JSON; numbers that JSON lacks are written ``{"float": "nan"}``."""
    content = {str(name): _encoded(str(name), value) for name, value in metrics.items()}
    return _text(content, 1)


def read_metrics(data: bytes) -> dict[str, Metric]:
    """What `write_metrics` wrote."""
    content = json.loads(data)
    return {
        name: float(value["float"]) if isinstance(value, dict) else value
        for name, value in content.items()
    }


def _encoded(name: str, value: Any) -> Any:
    if not isinstance(value, (bool, int, float, str, type(None))) and _is_scalar(value):
        value = value.item()
    if isinstance(value, float):
        value = float(value)  # NumPy's float64 is one, and writes itself differently
        return value if math.isfinite(value) else {"float": str(value)}
    if not isinstance(value, (bool, int, str, type(None))):
        raise InputRefused(
            f"the metric {name!r} is of type {type(value).__name__}",
            why="a metric is one number, one text or None",
            fix=f"record float({name}) or str({name})",
        )
    return value


def _is_scalar(value: Any) -> bool:
    """True for a number of NumPy's or a tensor of one element."""
    return callable(getattr(value, "item", None)) and math.prod(getattr(value, "shape", (0,))) == 1
