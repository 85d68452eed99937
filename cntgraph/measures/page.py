"""The page `docs/measures.md` and its pictures, from the declarations of the measures.

    python -m cntgraph.measures.page

writes them into the folder docs, or another that is named. Tests compare what is there with what
this writes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from cntgraph.measures.catalogue import in_order
from cntgraph.measures.declaring import TRAINED, Measure
from cntgraph.measures.pictures import picture
from cntgraph.measures.prose import INTRODUCTION

__all__ = ["files", "write"]

PICTURES = "pictures"
TITLES = {
    "strengths": "Sums at a neuron",
    "distribution": "How weight is spread over the links",
    "correlations": "Neighbours",
    "flows": "Flow",
    "spectra": "Hubs and authorities",
    "distances": "Distances",
    "motifs": "Squares and motifs",
    "persistence": "Persistence",
    "communities": "Communities",
    "cuts": "Cuts",
    "cores": "Cores",
    "triangles": "Triangles",
    "wiring": "Wiring",
}


def files() -> dict[str, str]:
    """The page and its pictures: the text of each by its path in the folder of documents."""
    drawn = {one.name: picture(one) for one in in_order()}
    texts = {f"{PICTURES}/{name}.svg": found.svg for name, found in drawn.items() if found.svg}
    captions = {name: found.caption for name, found in drawn.items()}
    sampled = _and([f"`{one.name}`" for one in in_order() if "samples" in one.options])
    parts = [INTRODUCTION.replace("{sampled}", sampled), _overview(in_order())]
    for family, several in groupby(in_order(), _family):
        parts.append(f"## {TITLES.get(family, family.capitalize())}\n")
        parts += [_section(one, captions[one.name], texts) for one in several]
    return {"measures.md": "\n".join(parts), **texts}


def write(folder: Path) -> None:
    """Write the page and its pictures, and remove the pictures of measures that are gone."""
    texts = files()
    (folder / PICTURES).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for old in (folder / PICTURES).glob("*.svg"):
        if f"{PICTURES}/{old.name}" not in texts:
            old.unlink()


def _family(one: Measure) -> str:
    return one.compute.__module__.rpartition(".")[2]


def _overview(measures: Sequence[Measure]) -> str:
    head = ["measure", "per", "what it sees", "sign", "length", "links", "cost"]
    rows = [
        [
            f"[`{one.name}`](#{one.name})",
            one.level,
            one.sees,
            ", ".join(one.signs),
            ", ".join(one.lengths),
            _followed(one),
            re.split("[:,;]", one.cost.text)[0],
        ]
        for one in measures
    ]
    lines = [head, ["---"] * len(head), *([_cell(text) for text in row] for row in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"## All of them\n\n{table}\n"


def _section(one: Measure, caption: str, texts: dict[str, str]) -> str:
    return f"### {one.name}\n\n" + "\n\n".join(_paragraphs(one, caption, texts)) + "\n"


def _paragraphs(one: Measure, caption: str, texts: dict[str, str]) -> Iterator[str]:
    said = inspect.getdoc(one.compute) or ""
    yield _markdown(said.partition("\n\nSource:")[0].partition("\n\nSources:")[0])
    yield f"**Formula.** {_mathematics(one.formula)}"
    path = f"{PICTURES}/{one.name}.svg"
    if path in texts:
        yield f"![{one.name} on the small network]({path})" + (
            f"\n\n{_sentence(caption)}" if caption else ""
        )
    else:
        yield caption
    yield "\n".join(f"- **{name}**: {text}" for name, text in _facts(one) if text)


def _facts(one: Measure) -> Iterator[tuple[str, str]]:
    yield "It sees", _mathematics(_markdown(one.sees))
    yield "Per", one.level
    yield "Convention", _convention(one)
    yield "Options", ", ".join(f"`{name}={value!r}`" for name, value in one.options.items())
    yield "Cost", one.cost.text
    yield "Leave it", _mathematics(_markdown(one.leave))
    yield "Refused", _mathematics(_markdown(one.degenerate))
    yield "In igraph", _code(one.igraph)
    yield "Source", one.reference


def _convention(one: Measure) -> str:
    parts = [f"sign {_or(one.signs)}"]
    if one.lengths:
        parts.append(f"length {_or(one.lengths)}")
    return "; ".join([*parts, f"{_followed(one)} links"])


def _and(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _or(words: Sequence[str]) -> str:
    return " or ".join(f"`{word}`" for word in words)


def _followed(one: Measure) -> str:
    return "trained" if one.kinds == TRAINED else "carrying"


def _mathematics(text: str) -> str:
    """Formulas between dollars and backticks: there Markdown leaves backslashes alone."""
    return re.sub(r"\$([^$]+)\$", r"$`\1`$", text)


def _markdown(text: str) -> str:
    return text.replace("``", "`")


def _code(text: str) -> str:
    return f"`{text}`" if text and "`" not in text else text


def _cell(text: str) -> str:
    return _mathematics(_markdown(text)).replace("|", "\\|")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
