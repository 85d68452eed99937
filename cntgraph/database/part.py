"""A part of what is loaded is items in an order that never changes; any stretch is a transaction.

Parts are numbered, and how far one has come is a number of items, so where a load goes on does
not depend on how large its transactions were before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Part", "Portion", "Stretch"]

Stretch = Callable[[int, int], tuple[dict[str, Any], int]]


@dataclass(frozen=True)
class Part:
    """Some items of one kind: the Cypher that writes a stretch of them, and its parameters.

    ``stretch(first, most)`` gives the parameters for the items from the place ``first`` on, and
    how many of them those are: one at least, ``most`` at most.
    """

    text: str
    kind: Literal["neurons", "links", "carried"]
    size: int
    stretch: Stretch = field(repr=False)


@dataclass
class Portion:
    """Which portion of a part fits into a transaction; halved when the server's memory is short.

    Sessions share it: what was too much for one of them is too much for all.
    """

    divisor: int = 1

    smallest = 256  # a part of links is then written by fifty, and memory is not what is short

    def of(self, size: int) -> int:
        """Number of items of a transaction where a whole part has ``size``."""
        return max(1, size // self.divisor)

    def halve(self, failed: int) -> bool:
        """Halve it, unless another session did so since; False where it is as small as it gets."""
        if failed >= self.smallest:
            return False
        self.divisor = max(self.divisor, 2 * failed)
        return True
