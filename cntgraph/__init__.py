"""Trained PyTorch networks as explicit weighted digraphs of neurons.

>>> import cntgraph as cnt
>>> network = cnt.trace(model, (1, 784))        # doctest: +SKIP
>>> cnt.strength(network)                       # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cntgraph.errors import (
    CntError,
    CntWarning,
    DatabaseError,
    DegenerateMeasure,
    InputRefused,
    ModelRefused,
    RunDamaged,
)

if TYPE_CHECKING:
    from cntgraph import callbacks
    from cntgraph.database import Database, LoadReport, connect
    from cntgraph.measures import layers, measure, measures, strength
    from cntgraph.network import Network
    from cntgraph.runs import Recorder, Run, export, open_run
    from cntgraph.tracing import Verification, trace, verify

__version__ = "0.1.0"

__all__ = [
    "CntError",
    "CntWarning",
    "Database",
    "DatabaseError",
    "DegenerateMeasure",
    "InputRefused",
    "LoadReport",
    "ModelRefused",
    "Network",
    "Recorder",
    "Run",
    "RunDamaged",
    "Verification",
    "callbacks",
    "connect",
    "export",
    "layers",
    "measure",
    "measures",
    "open_run",
    "strength",
    "trace",
    "verify",
]

# Names are found when they are first used, so that importing the package costs nothing.
_HOMES = {
    "Database": "cntgraph.database",
    "LoadReport": "cntgraph.database",
    "Network": "cntgraph.network",
    "Recorder": "cntgraph.runs",
    "Run": "cntgraph.runs",
    "Verification": "cntgraph.tracing",
    "connect": "cntgraph.database",
    "export": "cntgraph.runs",
    "layers": "cntgraph.measures",
    "measure": "cntgraph.measures",
    "measures": "cntgraph.measures",
    "open_run": "cntgraph.runs",
    "strength": "cntgraph.measures",
    "trace": "cntgraph.tracing",
    "verify": "cntgraph.tracing",
}


def __getattr__(name: str) -> Any:
    if name == "callbacks":
        return importlib.import_module("cntgraph.callbacks")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cntgraph' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
