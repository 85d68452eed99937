"""Neural persistence: how a block falls into one piece as links are added by size."""

from __future__ import annotations

__all__: list[str] = []
