"""The page `docs/operators.md`: what becomes of every operator, from the handlers' declarations.

    python -m cntgraph.tracing.catalogue > docs/operators.md

Tests compare the page with what this writes, and every row with a network that is traced.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from cntgraph.network.expressions import POINTWISE, REINDEXING
from cntgraph.tracing import kinds
from cntgraph.tracing.interpreting import SHAPE_ONLY
from cntgraph.tracing.kinds.registry import DECLARED, Made, made
from cntgraph.tracing.modules import MODULES

__all__ = ["Family", "Row", "families", "makes", "page"]

ACTIVATION = made("diagonal identity")
JOIN = made("opaque data")

INTRODUCTION = """\
# What becomes of an operator

A model is exported by PyTorch to a graph of PyTorch's own operators, and each of them becomes one
of these:

- **Links of kind `weight`**: a sum over a trained parameter. It makes a layer and a link for
  every weight, which names the parameter and the element. Strength is made of these alone.
- **Links that carry values**: `fixed` (the factors belong to the architecture: an average, an
  interpolation), `identity` (a skip connection), `scale` (a factor for each neuron: the weight of
  a norm), `select` (one of several is handed on: a maximum), `data` (what an opaque join reads).
- **Another wiring**: what only moves values (a view, a concatenation, a padding) says where links
  come from, and makes neither neurons nor links.
- **An activation**: an attribute of the layer that it is applied to. What is applied to an input,
  or to a layer that others read as well, is a layer of its own by `identity` links.
- **An opaque join**: a layer that the operator itself computes from all that it reads, by `data`
  links without weights: activities multiplied by each other, statistics of activities, and every
  operator that is not on this page.
- **A constant**: what no input reaches is computed from the parameters.

Blocks are dense, convolution, diagonal, fixed or opaque. A row says every block that an operator
may make: `mul` is a diagonal of `scale` links where one side is constant, and an opaque join of
two activities. `network.coverage` says of each parameter whether it is `used` by a block,
`folded` into one, or `unmapped`, with the operator that read it and the line of your code.
`cntgraph.verify` compares the network with the module in float64, by operators and again by
summing every link, so all of this can be held against your own model.

`python -m cntgraph.tracing.catalogue > docs/operators.md` writes this page, and the test of each
row traces it.
"""

HANDLED = {
    "Products": kinds.products,
    "Convolutions": kinds.trained,
    "Tokens and tables": kinds.embedding,
    "Recurrent networks": kinds.recurrent,
    "Normalisation": kinds.norms,
    "Element by element": kinds.elementwise,
    "Pooling": kinds.pooling,
    "Reductions": kinds.reductions,
    "Resampling": kinds.resampling,
    "Values moved to known places": kinds.moving,
}


@dataclass(frozen=True)
class Row:
    """What becomes of something, the blocks that it may make, and the test that shows it."""

    name: str
    becomes: str
    makes: tuple[Made, ...]
    kind: str = "operator"
    layers: tuple[str, ...] = ()

    @property
    def test(self) -> str:
        """The test of this row."""
        return f"tests/test_operators.py::test_{self.kind}[{self.name}]"


@dataclass(frozen=True)
class Family:
    """A table of the page: what its rows have in common, and the rows."""

    title: str
    text: str
    rows: tuple[Row, ...]


def makes(operator: str) -> set[Made]:
    """The blocks that an operator may make, by its name.

    >>> sorted(makes("max_pool2d"))
    [('opaque', 'data'), ('opaque', 'select')]
    """
    if operator in SHAPE_ONLY:
        return set()
    found = {pair for declared in DECLARED.get(operator, ()) for pair in declared.makes}
    if operator in POINTWISE:
        found.update(ACTIVATION)
    known = operator in DECLARED or operator in POINTWISE
    return found if known and operator not in REINDEXING else found.union(JOIN)


def families() -> Iterator[Family]:
    """The tables of the page, in its order."""
    yield Family(
        "Modules",
        "Layers are named by the path of the module: beside `norm` itself there may be\n"
        "`norm.statistics`. Functions of `torch.nn.functional` become what their modules become.",
        tuple(Row(m.name, m.becomes, made(m.makes), "module", m.layers) for m in MODULES),
    )
    for title, module in HANDLED.items():
        text = _markdown(inspect.getdoc(module) or "").strip()
        yield Family(title, text, tuple(_handled(module.__name__)))
    yield Family(
        "What only moves values",
        "These run as they are on the ids of neurons. A cast of real numbers to integers or truth\n"
        "values, and a padding by a number other than zero, are opaque joins.",
        _alike(REINDEXING, "the same neurons, elsewhere", JOIN),
    )
    yield Family(
        "Activations",
        "Functions of one neuron each; more are above, element by element. PyTorch 2.15 exports\n"
        "`hardshrink` and `softshrink` as comparisons and choices, which are opaque joins.",
        _alike(POINTWISE - DECLARED.keys(), "an activation", ACTIVATION),
    )
    yield Family(
        "What takes a shape alone",
        "Constants even where they are given activities.",
        _alike(SHAPE_ONLY, "a constant", ()),
    )
    yield _others()
    yield _refused()


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([INTRODUCTION, *map(_table, families())])


def _handled(module: str) -> Iterator[Row]:
    """The operators that the handlers of a module know, in the module's order."""
    for name, several in DECLARED.items():
        for declared in several:
            if declared.handler.__module__ == module:
                yield Row(name, _markdown(declared.becomes).rstrip("."), declared.makes)


def _alike(names: Iterable[str], becomes: str, pairs: tuple[Made, ...]) -> tuple[Row, ...]:
    return tuple(Row(n, becomes, pairs) for n in sorted(names, key=lambda n: n.strip("_")))


def _others() -> Family:
    joined = (
        "an opaque join of all that it reads; a parameter among that is unmapped, with the "
        "operator and the line"
    )
    constant = "a constant, computed from the parameters"
    rows = (
        Row("any other operator", joined, JOIN, "other"),
        Row("any other operator without inputs", constant, (), "other"),
    )
    return Family("Everything else", "Nothing is left out in silence.", rows)


def _refused() -> Family:
    fixes = {
        "an operator of your own": "it is no function of PyTorch's: write it with tensor operators",
        "a shape that depends on values": "every input would have a network of its own: use a mask",
        "weights that are complex": "a link has one real weight: split them, `torch.view_as_real`",
        "a random draw": "every call would be another function: draw only while training",
    }
    return Family(
        "What is refused",
        "`ModelRefused` says what it was, why, the line of your code, and what mends it.",
        tuple(Row(name, becomes, (), "refused") for name, becomes in fixes.items()),
    )


def _table(family: Family) -> str:
    kind = family.rows[0].kind
    first = "module" if kind == "module" else "operator"
    why = "why" if kind == "refused" else "becomes"
    columns: dict[str, Callable[[Row], str]] = {
        first: lambda row: f"`{row.name}`" if kind == "operator" else row.name,
        why: lambda row: row.becomes,
        "its layers": lambda row: _layers(row.layers),
        "blocks and links": lambda row: _blocks(row.makes),
        "test": lambda row: f"`{row.test}`",
    }
    if kind != "module":
        del columns["its layers"]
    if kind == "refused":
        del columns["blocks and links"]
    cells = [[cell(row) for cell in columns.values()] for row in family.rows]
    lines = [list(columns), ["---"] * len(columns), *cells]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## {family.title}\n\n{family.text}\n\n{table}\n"


def _blocks(pairs: Iterable[Made]) -> str:
    """The links by the kind of block: one says dense, and then weight and fixed."""
    links: dict[str, list[str]] = {}
    for block, link in pairs:
        links.setdefault(block, []).append(f"`{link}`")
    return "; ".join(f"{block} {', '.join(found)}" for block, found in links.items()) or "none"


def _layers(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" if name else "itself" for name in names) or "none"


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
