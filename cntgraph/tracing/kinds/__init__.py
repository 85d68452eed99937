"""What each operator becomes: one handler a family, found by the operator's name.

This is the room for a new kind of block: a module here whose handlers register themselves.
"""

from __future__ import annotations

from cntgraph.tracing.kinds import (
    elementwise,
    embedding,
    moving,
    norms,
    pooling,
    products,
    recurrent,
    reductions,
    resampling,
    trained,
)
from cntgraph.tracing.kinds.registry import HANDLERS

__all__ = [
    "HANDLERS",
    "elementwise",
    "embedding",
    "moving",
    "norms",
    "pooling",
    "products",
    "recurrent",
    "reductions",
    "resampling",
    "trained",
]
