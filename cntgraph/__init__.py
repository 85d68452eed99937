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
    from cntgraph.comparing import compare, persistent, risers, stability
    from cntgraph.database import Database, LoadReport, connect
    from cntgraph.measures import (
        Divergence,
        activity,
        against_null,
        balanced,
        divergence,
        layers,
        measure,
        measures,
        null_model,
        strength,
    )
    from cntgraph.network import Network
    from cntgraph.populations import Population, open_population
    from cntgraph.runs import Recorder, Run, export, open_run
    from cntgraph.tracing import Verification, trace, verify

__version__ = "0.1.0"

__all__ = [
    "CntError",
    "CntWarning",
    "Database",
    "DatabaseError",
    "DegenerateMeasure",
    "Divergence",
    "InputRefused",
    "LoadReport",
    "ModelRefused",
    "Network",
    "Population",
    "Recorder",
    "Run",
    "RunDamaged",
    "Verification",
    "activity",
    "against_null",
    "balanced",
    "callbacks",
    "compare",
    "connect",
    "divergence",
    "export",
    "layers",
    "measure",
    "measures",
    "null_model",
    "open_population",
    "open_run",
    "persistent",
    "risers",
    "stability",
    "strength",
    "trace",
    "verify",
]

# Names are found when they are first used, so that importing the package costs nothing.
_HOMES = {
    "Database": "cntgraph.database",
    "Divergence": "cntgraph.measures",
    "LoadReport": "cntgraph.database",
    "Network": "cntgraph.network",
    "Population": "cntgraph.populations",
    "Recorder": "cntgraph.runs",
    "Run": "cntgraph.runs",
    "Verification": "cntgraph.tracing",
    "activity": "cntgraph.measures",
    "against_null": "cntgraph.measures",
    "balanced": "cntgraph.measures",
    "compare": "cntgraph.comparing",
    "connect": "cntgraph.database",
    "divergence": "cntgraph.measures",
    "export": "cntgraph.runs",
    "layers": "cntgraph.measures",
    "measure": "cntgraph.measures",
    "measures": "cntgraph.measures",
    "null_model": "cntgraph.measures",
    "open_population": "cntgraph.populations",
    "open_run": "cntgraph.runs",
    "persistent": "cntgraph.comparing",
    "risers": "cntgraph.comparing",
    "stability": "cntgraph.comparing",
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
