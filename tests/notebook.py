"""A notebook, run from top to bottom."""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient


def printed_by(path, login, folder, monkeypatch):
    """What every cell shows, as text; ``login`` is the environment that names the server."""
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IPYTHONDIR", str(folder))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return [str(output) for cell in notebook.cells for output in cell.get("outputs", [])]
