"""Verbs that look at a model or at a checkpoint and write nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cntgraph.cli.models import aside, example, load_model, shapes
from cntgraph.cli.output import answer, note, print_json, records, size, table
from cntgraph.errors import InputRefused

__all__ = ["Input", "Json", "Model", "inspect", "verify"]


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
    try:
        return shapes(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no shape: give 1,28,28 (without the batch), several joined by ';'"
        ) from None


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="package.module:callable or path/file.py:callable; it gives the model.",
        show_default=False,
    ),
]
Input = Annotated[
    Any,
    typer.Option(
        "--input",
        parser=_shapes,
        metavar="SHAPE",
        help="Shape of the input without its batch: 1,28,28; several joined by ';'.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def verify(
    model: Model,
    input: Input,
    samples: Annotated[int, typer.Option(min=1, help="Random inputs to compare on.")] = 3,
    json: Json = False,
) -> None:
    """Prove that the network computes what the model computes.

    Its forward is done by operators and again by summing every link, on random inputs.
    """
    from cntgraph.tracing import verify as compare

    module = load_model(model)
    with aside():
        found = compare(module, example(input), samples=samples)
    values = {
        "passed": found.passed,
        "error_operators": found.error_operators,
        "error_links": found.error_links,
        "largest_output": found.largest_output,
        "samples": found.samples,
        "links": found.link_count,
    }
    if json:
        print_json(values)
    else:
        errors = {k: f"{v:.1e}" for k, v in values.items() if isinstance(v, float)}
        answer({**values, **errors, "links": f"{found.link_count:,}"})
    if not found.passed:
        raise InputRefused(
            f"the network of {model} does not compute what the model computes",
            why=f"the outputs differ by {found.error_operators:.1e} by operators"
            + ("" if found.error_links is None else f" and {found.error_links:.1e} by links"),
            fix="do not trust its links; report the model's code",
        )


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint, or a Hugging Face folder.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Show what is in a checkpoint; nothing in it is executed."""
    from cntgraph.checkpoints import inspect as look

    found = look(file)
    about = {name: found.attrs.get(name) for name in ("format", "epoch", "metrics", "notes")}
    if json:
        print_json({"file": str(file), **about, "tensors": records(found)})
        return
    for name, value in about.items():
        for line in value if isinstance(value, list | tuple) else [value]:
            if line not in (None, "", {}):
                note(f"{name}: {line}")
    frame = found.assign(shape=["x".join(map(str, s)) or "scalar" for s in found["shape"]])
    table(frame[["name", "dtype", "shape", "elements", "nan", "inf", "minimum", "maximum"]])
    total = f"{int(found['elements'].sum()):,} numbers, {size(int(found['bytes'].sum()))}"
    note(f"{len(found)} tensors, {total}")
