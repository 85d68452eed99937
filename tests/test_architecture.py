"""The shape of the code itself: floors, public names, format, lint and types."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import cntgraph

PACKAGE = Path(cntgraph.__file__).parent
ROOT = Path(__file__).parent.parent
FLOORS = {
    "errors": 1,
    "checkpoints": 2,
    "network": 2,
    "graphs": 3,
    "tracing": 3,
    "measures": 4,
    "runs": 5,
    "callbacks": 6,
    "comparing": 6,
    "database": 6,
    "populations": 6,
    "views": 6,
    "demo": 7,
    "cli": 8,
    "__main__": 9,
}
# Ways out that hang on the network itself, so that network.to_igraph() reads as it should.
DOORS = {("network/network.py", "graphs")}


def imports(path):
    """Every floor that a module names in an import, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cntgraph"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [a.name.split(".") for a in node.names if a.name.startswith("cntgraph.")]
            names = [parts[1] for parts in found]
        else:
            continue
        yield from (name for name in names if name in FLOORS)


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_look_down(path):
    inside = path.relative_to(PACKAGE).as_posix()
    own = inside.split("/")[0].removesuffix(".py")
    for other in imports(path):
        allowed = other == own or FLOORS[other] < FLOORS[own] or (inside, other) in DOORS
        assert allowed, f"{inside} on floor {FLOORS[own]} imports {other} on {FLOORS[other]}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_opens_with_a_sentence(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "a module says first what it is"


def test_public_names_are_there_and_documented():
    assert sorted(cntgraph.__all__) == cntgraph.__all__
    assert dir(cntgraph) == cntgraph.__all__
    for name in cntgraph.__all__:
        assert getattr(cntgraph, name).__doc__, f"{name} has no docstring"


def test_importing_the_package_costs_nothing():
    heavy = "{'torch', 'pandas', 'numpy', 'igraph'}"
    code = f"import sys, cntgraph; print(*sorted(set(sys.modules) & {heavy}))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == ""


@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
    ],
    ids=" ".join,
)
def test_chores(command):
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a checkout")
    command = [sys.executable, "-m", *command]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
