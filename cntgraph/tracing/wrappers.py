"""What stands around the user's own module and is not part of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["unwrapped"]

_INNER = {
    "OptimizedModule": "_orig_mod",
    "DataParallel": "module",
    "DistributedDataParallel": "module",
}


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module, out of `torch.compile` and `DataParallel`."""
    while type(model).__name__ in _INNER:
        inner: nn.Module | None = getattr(model, _INNER[type(model).__name__], None)
        if inner is None:
            break
        model = inner
    return model
