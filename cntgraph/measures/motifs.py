"""Small patterns: squares, butterflies, bifans and diamonds."""

from __future__ import annotations

__all__: list[str] = []
