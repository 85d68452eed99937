"""Parameters as they are typed: ``key=value``, a value being JSON or else a text."""

from __future__ import annotations

import json
from typing import Any

import typer

__all__ = ["literal", "pair"]


def pair(text: str) -> tuple[str, str]:
    """``key=value`` as two words."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise typer.BadParameter(f"{text!r} is not key=value", param_hint="KEY=VALUE")
    return key, value


def literal(text: str) -> Any:
    """A parameter of a query of the user's own: JSON where it is JSON, else a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
