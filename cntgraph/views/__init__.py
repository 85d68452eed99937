"""A run as a picture: matplotlib figures that belong to nobody's global state."""

from cntgraph.views.strength import strength_figure

__all__ = ["strength_figure"]
