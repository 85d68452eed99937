"""Distances and the paths that take them: closeness, harmonic centrality, betweenness."""

from __future__ import annotations

__all__: list[str] = []
