"""Shortest paths by sweeps: from each source layer after layer, in the order of ids.

Layers are in topological order, so a distance is final when its layer's turn comes, and no queue
is needed. `adjacency` lists the links, `sweeping` walks them, `sweeps` shares the sources out among
threads; `chains` are sources that need no sweep of their own, and `sampling` bounds what is left
open where only some are swept.
"""

from __future__ import annotations

__all__: list[str] = []
