"""Examples in docstrings give what they show, and pages are what they are generated from."""

from __future__ import annotations

import doctest
import importlib
import itertools
import math
import pkgutil
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

import cntgraph
import cntgraph as cnt
from cntgraph.measures import page, pictures
from cntgraph.measures.catalogue import MEASURES

DOCS = Path(__file__).parents[1] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
MODULES = [m.name for m in pkgutil.walk_packages(cntgraph.__path__, "cntgraph.")]


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_examples_of(name):
    found = doctest.testmod(importlib.import_module(name), extraglobs={"cnt": cntgraph})
    assert found.failed == 0


# -- the page of measures -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured():
    """What the generator writes, by path."""
    return page.files()


def test_the_page_of_measures_is_up_to_date(measured):
    """Written anew by: python -m cntgraph.measures.page."""
    for name, text in measured.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, name
    drawn = {f"pictures/{path.name}" for path in (DOCS / "pictures").iterdir()}
    assert drawn == measured.keys() - {"measures.md"}


def test_every_measure_has_its_section_and_every_link_leads_somewhere(measured):
    text = measured["measures.md"]
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(MEASURES)
    assert set(re.findall(r"\]\(#(.+?)\)", text)) == set(headings)
    assert set(re.findall(r"\]\((pictures/.+?)\)", text)) == measured.keys() - {"measures.md"}
    assert '\\"' not in text
    assert "{sampled}" not in text


def test_pictures_are_small_and_show_the_values(measured):
    for name in MEASURES:
        svg = measured.get(f"pictures/{name}.svg")
        if svg is None:
            assert "No picture" in pictures.picture(MEASURES[name]).caption
            continue
        assert len(svg) < 6000
        drawn = ElementTree.fromstring(svg)
        assert drawn.find(f"{SVG}title").text == name
        assert len(drawn.findall(f"{SVG}circle")) == 4 + 5 + 4 + 3
        assert drawn.findall(f".//{SVG}text")


@pytest.mark.parametrize("name", ["pagerank", "balance", "strength"])
def test_the_area_of_a_neuron_is_its_value(measured, name):
    drawn = ElementTree.fromstring(measured[f"pictures/{name}.svg"])
    values = cnt.measure(pictures.small(False, ""), name)[name].tolist()
    radii = [float(c.get("r")) for c in drawn.findall(f"{SVG}circle")]
    for (a, r), (b, q) in itertools.combinations(zip(values, radii, strict=True), 2):
        if abs(abs(a) - abs(b)) > 0.05 * max(map(abs, values)):
            assert (r > q) == (abs(a) > abs(b))
    shown = [float(t.text) for t in drawn.findall(f".//{SVG}text")]
    assert all(math.isclose(*pair, rel_tol=5e-3) for pair in zip(values, shown, strict=True))
    filled = [c.get("fill") == pictures.INK for c in drawn.findall(f"{SVG}circle")]
    assert filled == [value > 0 for value in values]
