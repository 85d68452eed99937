"""Activations as Cypher: what `Layer.activation` names, as an expression of ``z``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from cntgraph.errors import InputRefused

__all__ = ["activated"]

# A positive series without cancellation: erf x = 2/sqrt(pi) e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!!
_ERF = """CASE WHEN abs({x}) > 6.0 THEN sign({x}) ELSE 2.0 / sqrt(pi()) * exp(-(({x}) ^ 2))
  * reduce(e = [{x}, {x}], n IN range(1, 150) |
      [e[0] * 2.0 * ({x}) ^ 2 / (2 * n + 1), e[1] + e[0] * 2.0 * ({x}) ^ 2 / (2 * n + 1)])[1] END"""
_TANH = (
    "CASE WHEN {x} >= 0 THEN (1 - exp(-2.0 * ({x}))) / (1 + exp(-2.0 * ({x}))) "
    "ELSE (exp(2.0 * ({x})) - 1) / (exp(2.0 * ({x})) + 1) END"
)
_SIGMOID = "CASE WHEN {x} >= 0 THEN 1 / (1 + exp(-({x}))) ELSE exp({x}) / (1 + exp({x})) END"
# log(1 + e^x) without overflow
_SOFTPLUS = "(CASE WHEN {x} > 0 THEN {x} ELSE 0.0 END + log(1 + exp(-abs({x}))))"
_CLIP = "CASE WHEN z < {low} THEN {low} WHEN z > {high} THEN {high} ELSE z END"


def _gelu(approximate: str = "none") -> str:
    if approximate == "tanh":
        inner = "sqrt(2 / pi()) * (z + 0.044715 * z ^ 3)"
        return f"0.5 * z * (1 + {_TANH.format(x=inner)})"
    return f"0.5 * z * (1 + {_ERF.format(x='z / sqrt(2.0)')})"


def _softplus(beta: str = "1", threshold: str = "20") -> str:
    steep = f"z * {_number(beta)}"
    soft = f"{_SOFTPLUS.format(x=steep)} / {_number(beta)}"
    return f"CASE WHEN {steep} > {_number(threshold)} THEN z ELSE {soft} END"


def _elu(alpha: str = "1", scale: str = "1", slope: str = "1") -> str:
    low = f"{_number(alpha)} * (exp(z * {_number(slope)}) - 1)"
    return f"{_number(scale)} * CASE WHEN z > 0 THEN z ELSE {low} END"


_POINTWISE: dict[str, Callable[..., str]] = {
    "relu": lambda: "CASE WHEN z <= 0 THEN 0.0 ELSE z END",
    "leaky_relu": lambda slope="0.01": f"CASE WHEN z > 0 THEN z ELSE z * {_number(slope)} END",
    "hardtanh": lambda low="-1", high="1": _CLIP.format(low=_number(low), high=_number(high)),
    "relu6": lambda: _CLIP.format(low="0.0", high="6.0"),
    "elu": _elu,
    "selu": lambda: _elu("1.6732632423543772848170429916717", "1.0507009873554804934193349852946"),
    "celu": lambda alpha="1": _elu(alpha, "1", f"{1 / float(alpha)!r}"),
    "gelu": _gelu,
    "silu": lambda: f"z * {_SIGMOID.format(x='z')}",
    "sigmoid": lambda: _SIGMOID.format(x="z"),
    "log_sigmoid": lambda: f"-{_SOFTPLUS.format(x='(-z)')}",
    "tanh": lambda: _TANH.format(x="z"),
    "softplus": _softplus,
    "mish": lambda: f"z * {_TANH.format(x=_SOFTPLUS.format(x='z'))}",
    "hardsigmoid": lambda: _CLIP.format(low="0.0", high="1.0").replace("z", "(z / 6 + 0.5)"),
    "hardswish": lambda: "z * " + _CLIP.format(low="0.0", high="1.0").replace("z", "(z / 6 + 0.5)"),
    "neg": lambda: "-z",
    "abs": lambda: "abs(z)",
    "exp": lambda: "exp(z)",
    "sqrt": lambda: "sqrt(z)",
    "square": lambda: "z * z",
    "sin": lambda: "sin(z)",
    "cos": lambda: "cos(z)",
}
_ACROSS = {
    "softmax": "exp(v - high) / total",
    "log_softmax": "v - high - log(total)",
}
_SOFTMAX = """
WITH $values AS values
WITH values, reduce(m = values[0], v IN values | CASE WHEN v > m THEN v ELSE m END) AS high
WITH values, high, reduce(t = 0.0, v IN values | t + exp(v - high)) AS total
RETURN [v IN values | %s] AS found
"""
_CALL = re.compile(r"_?(\w+?)_?(?:\((.*)\))?")


_PORTION = re.compile(r"(\w+(?:\([^)]*\))?)\[(\d+):(\d+)\](?:, |$)")


def activated(activation: str | None, shape: Sequence[int], layer: str) -> tuple[str, str]:
    """The activation as an expression of ``z``, and a query over the layer's values or nothing.

    >>> activated("leaky_relu(0.1)", (3,), "fc")
    ('CASE WHEN z > 0 THEN z ELSE z * 0.1 END', '')
    """
    if activation is None:
        return "z", ""
    name, words = _called(activation)
    if name in _ACROSS and len(shape) == 1 and words and words[0] in ("1", "-1"):
        return "z", _SOFTMAX % _ACROSS[name]
    try:
        if activation.endswith("]"):
            return _by_portions(activation), ""
        return _POINTWISE[name](*words), ""
    except (KeyError, TypeError, ValueError):
        raise InputRefused(
            f"layer {layer!r} cannot be computed in the database",
            why=f"its activation {activation} has no formula in Cypher here",
            fix="run.network(epoch).forward(inputs) computes it by operators",
        ) from None


def _called(text: str) -> tuple[str, list[str]]:
    """``leaky_relu(0.1)`` as its name and its arguments, those with a name by their value."""
    found = _CALL.fullmatch(text)
    if found is None:
        return text, []
    words = [word.partition("=")[2] or word for word in (found[2] or "").split(", ") if word]
    return found[1], words


def _by_portions(activation: str) -> str:
    """``sigmoid[0:8], tanh[8:12]``: neurons of a range have an activation of their own."""
    parts = _PORTION.findall(activation)
    if "".join(f"{name}[{a}:{b}], " for name, a, b in parts) != f"{activation}, ":
        raise ValueError(activation)
    cases = []
    for name, first, last in parts:
        called, words = _called(name)
        expression = _POINTWISE[called](*words)
        cases.append(f"WHEN {first} <= t.index < {last} THEN {expression}")
    return f"CASE {' '.join(cases)} ELSE z END"


def _number(text: str) -> str:
    """A number as Cypher reads it; anything else is no number."""
    return repr(float(text))
