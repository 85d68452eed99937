"""What only says something after a filter: degrees, cores, rich clubs, triangles."""

from __future__ import annotations

__all__: list[str] = []
