"""Hubs and authorities: the leading singular vectors of a block."""

from __future__ import annotations

__all__: list[str] = []
