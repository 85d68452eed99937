"""The notebooks run from top to bottom, and nothing that they print is kept in the repository."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from notebook import printed_by

# What a reader must have seen by the end of each.
SHOWN = {
    "1-first-network": ("passed", "image/png", "strength_first"),
    "3-graph-data-science": ("skipped: ",),  # the session's server has no plugin
    "2-measures-and-populations": (
        "refused: ",
        "fluctuation_excess",
        "rank_path_score",
        "weight_std",
    ),
}
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_output_is_committed(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not any(cell.get("outputs") for cell in cells)
    assert all(cell.get("execution_count") is None for cell in cells)


@pytest.mark.neo4j
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path, neo4j_environment, monkeypatch, tmp_path):
    text = str(printed_by(path, neo4j_environment, tmp_path, monkeypatch))
    assert [word for word in SHOWN[path.stem] if word not in text] == []
