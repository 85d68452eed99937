"""Examples in docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import cntgraph

MODULES = [m.name for m in pkgutil.walk_packages(cntgraph.__path__, "cntgraph.")]


@pytest.mark.parametrize("name", [n for n in MODULES if not n.endswith("__main__")])
def test_examples_of(name):
    found = doctest.testmod(importlib.import_module(name), extraglobs={"cnt": cntgraph})
    assert found.failed == 0
