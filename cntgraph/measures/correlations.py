"""Whether strong neurons are linked to strong ones."""

from __future__ import annotations

__all__: list[str] = []
