"""The page of operators, `docs/operators.md`, written from the handlers' own declarations.

    python -m cntgraph.tracing.catalogue > docs/operators.md

A test compares the page with what is written here, and every row with a network that is traced.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cntgraph.network.expressions import POINTWISE, REINDEXING
from cntgraph.tracing.interpreting import SHAPE_ONLY
from cntgraph.tracing.kinds.modules import MODULES
from cntgraph.tracing.kinds.registry import DECLARED, Made, made

__all__ = ["Row", "families", "makes", "page"]

PROOF = "tests/test_operators.py"
ACTIVATION = made("diagonal identity")
JOIN = made("opaque data")

INTRODUCTION = """\
# What becomes of an operator

This page is written by `python -m cntgraph.tracing.catalogue > docs/operators.md`, and a test holds
every row of it against a network that is traced.

A model is exported by PyTorch to a graph of its own operators, and each of them becomes one of these:

- **Links of kind `weight`**: a sum over a trained parameter. It makes a layer, and a link for every weight;
  the link names the parameter and the element. Strength is made of these alone.
- **Links that carry values**: `fixed` (the factors belong to the architecture: an average, an
  interpolation), `identity` (a skip connection), `scale` (a factor for each neuron: a norm's weight),
  `select` (one of these is handed on: a maximum), `data` (what an opaque join reads).
- **Nothing but another wiring**: what only moves values (a view, a concatenation, a padding) changes which
  neuron a link comes from, and makes neither neurons nor links.
- **An activation**: an attribute of the layer that it is applied to. Where that layer is read by others
  too, or is an input, it is a layer of its own, one `identity` link for each neuron.
- **An opaque join**: a layer that is computed by the operator itself from all that it reads, by `data`
  links without weights: activities that are multiplied by each other, statistics of activities, and every
  operator that this page does not name.
- **A constant**: what no input reaches is computed from the parameters.

Blocks are dense, convolution, diagonal, fixed or opaque. `network.coverage` says of every parameter whether
it is `used` by a block, `folded` into one, or `unmapped`, with the operator that read it and the line of
your code. `cntgraph.verify` compares the network with the module in float64, by operators and again by
summing every link, so what is said here can be held against your own model.
"""

HEADINGS = {
    "products": "Products",
    "trained": "Convolutions",
    "embedding": "Tokens and tables",
    "recurrent": "Recurrent networks",
    "norms": "Normalisation",
    "elementwise": "Element by element",
    "pooling": "Pooling",
    "reductions": "Reductions",
    "resampling": "Resampling",
    "moving": "Places that are known",
}

OTHERS = {
    "any other operator": "an opaque join of all that it reads; a parameter that it reads is unmapped, "
    "with the operator and the line",
    "any other operator without inputs": "a constant that is computed from the parameters",
}
REFUSED = {
    "an operator of your own": "PyTorch has no meaning for it that could be kept: write it in tensor "
    "operators",
    "a shape that depends on values": "the network would be another one for every input: use a mask",
    "weights that are complex": "a link has one real weight: split them with `torch.view_as_real`",
    "a random draw": "the network would be another one at every call: draw only while training",
}


@dataclass(frozen=True)
class Row:
    """A name, what it becomes, the blocks that it may make, and the test that shows it."""

    name: str
    becomes: str
    makes: tuple[Made, ...]
    test: str


@dataclass(frozen=True)
class Family:
    """A table of the page: what its names have in common, then a row for each."""

    title: str
    text: str
    rows: tuple[Row, ...]


def makes(operator: str) -> set[Made]:
    """The blocks that an operator may make, by its name.

    >>> sorted(makes("avg_pool2d"))
    [('fixed', 'fixed')]
    """
    found = {pair for declared in DECLARED.get(operator, ()) for pair in declared.makes}
    if operator in POINTWISE:
        found.update(ACTIVATION)
    if operator in SHAPE_ONLY:
        return set()
    return found if operator in DECLARED or operator in POINTWISE else set(JOIN)


def families() -> Iterator[Family]:
    """The tables of the page, in its order."""
    yield Family(
        "Modules of `torch.nn`",
        "Layers are named after the path of the module: `fc.statistics` is `fc` and `.statistics`. "
        "Functions of `torch.nn.functional` become what their modules become.",
        tuple(
            Row(f"{m.name}", f"{m.becomes}|{_layers(m.layers)}", made(m.makes), _test("module", m.name))
            for m in MODULES
        ),
    )
    for stem, title in HEADINGS.items():
        yield Family(title, _text_of(stem), tuple(_handled(stem)))
    yield Family(
        "What only moves values",
        "These run as they are on the ids of neurons, and no link is made. A cast of real numbers to integers "
        "or truth values and a padding with a number other than zero are opaque joins.",
        tuple(Row(n, "the same neurons, elsewhere", JOIN, _test("operator", n)) for n in _sorted(REINDEXING)),
    )
    yield Family(
        "Activations",
        "A function of each neuron is an attribute of its layer.",
        tuple(
            Row(n, "an activation", ACTIVATION, _test("operator", n))
            for n in _sorted(POINTWISE - DECLARED.keys())
        ),
    )
    yield Family(
        "What takes a shape alone",
        "These are constants even where they are given activities.",
        tuple(Row(n, "a constant", (), _test("operator", n)) for n in _sorted(SHAPE_ONLY)),
    )
    others = (Row(n, b, JOIN if "without" not in n else (), _test("other", n)) for n, b in OTHERS.items())
    yield Family("Everything else", "", tuple(others))
    refused = (Row(n, b, (), _test("refused", n)) for n, b in REFUSED.items())
    yield Family(
        "What is refused",
        "`ModelRefused` says what, why, the line of your code, and what mends it.",
        tuple(refused),
    )


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *(line for family in families() for line in _table(family))])


def _table(family: Family) -> Iterator[str]:
    modules, refused = "torch.nn" in family.title, "refused" in family.title
    yield f"## {family.title}\n"
    if family.text:
        yield f"{family.text}\n"
    columns = ["what", "becomes" if not refused else "why, and what to do", "layers", "blocks and links", "test"]
    shown = [c for c in columns if (modules or c != "layers") and (not refused or "blocks" not in c)]
    yield f"| {' | '.join(shown)} |"
    yield f"|{' --- |' * len(shown)}"
    for row in family.rows:
        known = row.name in DECLARED or "operator" in row.test
        name = f"`{row.name}`" if known else row.name
        cells = [name, *row.becomes.split("|")]
        yield f"| {' | '.join([*cells, *([] if refused else [_blocks(row.makes)]), f'`{row.test}`'])} |"
    yield ""


def _handled(stem: str) -> Iterator[Row]:
    """The operators that the handlers of a module know, in the module's order."""
    for name, several in DECLARED.items():
        for declared in several:
            if declared.handler.__module__.rpartition(".")[2] == stem:
                becomes = _markdown(declared.becomes).rstrip(".")
                yield Row(name, becomes, declared.makes, _test("operator", name))


def _text_of(stem: str) -> str:
    module = sys.modules[f"{__package__}.kinds.{stem}"]
    return _markdown(inspect.getdoc(module) or "").strip()


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _blocks(pairs: Iterable[Made]) -> str:
    """``dense `weight`, `fixed`; opaque `data` ``."""
    links: dict[str, list[str]] = {}
    for block, link in pairs:
        links.setdefault(block, []).append(f"`{link}`")
    return "; ".join(f"{block} {', '.join(found)}" for block, found in links.items()) or "none"


def _layers(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" if name else "its own" for name in names) or "none"


def _test(kind: str, name: str) -> str:
    return f"{PROOF}::test_{kind}[{name}]"


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda n: n.strip("_"))


if __name__ == "__main__":
    sys.stdout.write(page())
