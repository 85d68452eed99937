"""Verbs that look at a model or at a checkpoint and write nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from cntgraph.cli.models import Shape, aside, example, load_model, shapes
from cntgraph.cli.output import answer, note, print_json, records, size, table
from cntgraph.errors import InputRefused

__all__ = ["Input", "Json", "Model", "Trust", "inspect", "verify"]


def _shapes(text: str) -> tuple[Shape, ...]:
    try:
        return shapes(text)
    except ValueError as error:
        why = "" if "invalid literal" in str(error) else f" ({error})"
        raise typer.BadParameter(
            f"{text!r} is no shape{why}: give 1,28,28 (without the batch), several joined by ';', "
            "16:int for tokens"
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
        help="Shape of the input without its batch: 1,28,28; several joined by ';'. "
        "16:int for 16 tokens, 16:bool for a mask.",
        show_default=False,
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Read a .pt2 of your own; pickles in it may be run.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def verify(
    model: Model,
    input: Input,
    samples: Annotated[int, typer.Option(min=1, help="Random inputs to compare on.")] = 3,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="Prove the epochs of this run folder.", show_default=False
        ),
    ] = None,
    epochs: Annotated[
        str, typer.Option(metavar="LIST", help="0,5,last: these of the run; by default all.")
    ] = "",
    json: Json = False,
) -> None:
    """Prove that the network computes what the model computes.

    Its forward is done by operators and again by summing every link, on random inputs.

    With --run, the network of each epoch of a run against the model with that epoch's weights.
    """
    if run is not None:
        _verify_run(model, input, run, epochs, samples, json=json)
        return
    if epochs:
        raise typer.BadParameter("the epochs of which run? give --run too", param_hint="--epochs")
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


def _verify_run(
    model: str, input: Any, folder: Path, epochs: str, samples: int, *, json: bool
) -> None:
    from cntgraph.cli.runs import epoch_of
    from cntgraph.runs import open_run

    run = open_run(folder)
    chosen = [epoch_of(run, part.strip()) for part in epochs.split(",")] if epochs else None
    module = load_model(model)
    with aside():
        found = run.verify(module, example(input), epochs=chosen, samples=samples)
    passed = bool(found["passed"].all())
    if json:
        print_json(
            {"run": run.name, "passed": passed, "samples": samples, "epochs": records(found)}
        )
    else:
        measured = ("error_operators", "error_links", "largest_output")
        table(found.assign(**{name: found[name].map(_short) for name in measured}))
    if not passed:
        failed = found.loc[~found["passed"].astype(bool), "epoch"].tolist()
        raise InputRefused(
            f"{run.name!r} does not compute what {model} computes with the same weights",
            why=f"the outputs differ at epochs {', '.join(map(str, failed))}",
            fix="see that this is the code the run was exported from; else do not trust its links",
        )


def _short(value: Any) -> str:
    return "not listed" if value is None or math.isnan(value) else f"{value:.1e}"


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint, or a Hugging Face folder.", show_default=False)
    ],
    trust: Trust = False,
    json: Json = False,
) -> None:
    """Show what is in a checkpoint; nothing in it is executed."""
    from cntgraph.checkpoints import inspect as look

    if trust:
        note(f"trusted: {file}")
    found = look(file, trust=trust)
    about = {name: found.attrs[name] for name in ("format", "epoch", "metrics", "notes")}
    inside = {name: found.attrs[name] for name in ("beside", "prefixes")}
    if json:
        print_json({"file": str(file), **about, **inside, "tensors": records(found)})
        return
    if inside["prefixes"]:
        about["prefixes"] = f"{', '.join(inside['prefixes'])}: taken off if the model has them not"
    about["beside the weights"] = [f"{name}: {said}" for name, said in inside["beside"].items()]
    for name, value in about.items():
        for line in value if isinstance(value, list | tuple) else [value]:
            if line not in (None, "", {}):
                note(f"{name}: {line}")
    frame = found.assign(shape=["x".join(map(str, s)) or "scalar" for s in found["shape"]])
    table(frame[["name", "dtype", "shape", "elements", "nan", "inf", "minimum", "maximum"]])
    total = f"{int(found['elements'].sum()):,} numbers, {size(int(found['bytes'].sum()))}"
    note(f"{len(found)} tensors, {total}")
