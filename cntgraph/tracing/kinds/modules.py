"""What a module of PyTorch becomes, told by example: the layers it makes and the links into them.

These are no rules: a module becomes what its operators become, and every row is held against the
network of a small model.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MODULES", "Module"]


class Module(NamedTuple):
    """A module, what it becomes, its layers by the end of their names, and the blocks into them."""

    name: str
    becomes: str
    layers: tuple[str, ...]
    makes: str


NORM = "diagonal scale, opaque data"
STEP = (".l0.t0.gates", ".l0.t0.cell", ".l0.t0.hidden")
SELF = ("",)

MODULES = (
    Module("Linear", "a dense block at every position", SELF, "dense weight"),
    Module("Conv1d, Conv2d, Conv3d", "a convolution of any stride, padding, dilation and groups", SELF, "convolution weight"),
    Module("ConvTranspose1d, ConvTranspose2d, ConvTranspose3d", "the adjoint of a convolution", SELF, "convolution weight"),
    Module("Bilinear", "linear in one input where the other is constant; of two activities a join, its weight unmapped", SELF, "opaque data"),
    Module("Embedding", "a neuron for each word at each position, one of them on, and a dense block from them; tokens that nothing else reads are those neurons", SELF, "dense weight"),
    Module("EmbeddingBag", "embeddings, and the fixed links of a sum or a mean (`select` for a maximum)", ("", "#2"), "dense weight, fixed fixed"),
)
