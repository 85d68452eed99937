"""The kinds of block: each is linear in its input, and can list its links."""

from __future__ import annotations

from typing import Any

from cntgraph.errors import InputRefused
from cntgraph.network.geometry import Axis, Pattern
from cntgraph.network.operators.channels import Convolution, Dense
from cntgraph.network.operators.diagonal import Diagonal
from cntgraph.network.operators.listed import Fixed, Opaque, Sparse
from cntgraph.network.operators.operator import Columns, Operator

__all__ = [
    "Columns",
    "Convolution",
    "Dense",
    "Diagonal",
    "Fixed",
    "Opaque",
    "Operator",
    "Sparse",
    "operator_from_json",
]


def operator_from_json(data: dict[str, Any]) -> Operator:
    """The operator that `to_json` described."""
    fields = {k: v for k, v in data.items() if k != "kind"}
    match data.get("kind"):
        case "dense":
            return Dense(**fields)
        case "convolution":
            return Convolution(**{**fields, "axes": tuple(Axis(**a) for a in fields["axes"])})
        case "diagonal":
            return Diagonal(tuple(fields["shape"]))
        case "fixed":
            return Fixed(Pattern.from_json(fields["pattern"]))
        case "sparse":
            return Sparse(Pattern.from_json(fields["pattern"]))
        case "opaque":
            pattern = fields["pattern"]
            found = None if pattern is None else Pattern.from_json(pattern)
            return Opaque(fields["size"], fields["outputs"], found, fields.get("parts", 1))
        case unknown:
            raise InputRefused(f"a block of kind {unknown!r} is not known to this version")
