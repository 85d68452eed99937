"""Files become weights here, and nothing in a file is executed on the way."""

from cntgraph.checkpoints.dense import plain
from cntgraph.checkpoints.epochs import find
from cntgraph.checkpoints.inspecting import inspect
from cntgraph.checkpoints.matching import match
from cntgraph.checkpoints.reading import Checkpoint, read

__all__ = ["Checkpoint", "find", "inspect", "match", "plain", "read"]
