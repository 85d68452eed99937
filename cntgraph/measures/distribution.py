"""How a neuron shares its strength out among its links: disparity, entropy, balance."""

from __future__ import annotations

__all__: list[str] = []
