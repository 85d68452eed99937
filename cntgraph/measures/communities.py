"""Groups of neurons that hold together: Leiden, modularity, participation, cuts."""

from __future__ import annotations

__all__: list[str] = []
