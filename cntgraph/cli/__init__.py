"""The command ``cntgraph``: thin verbs over the library, their answers and their exit status."""

from cntgraph.cli.entry import main

__all__ = ["main"]
