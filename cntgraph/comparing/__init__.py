"""The epochs of a run side by side: which neurons stay strong, and what other measures say."""

from cntgraph.comparing.agreement import compare
from cntgraph.comparing.epochs import persistent, risers, stability

__all__ = ["compare", "persistent", "risers", "stability"]
