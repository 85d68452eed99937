"""Many small modules side by side, so that one trace serves a test of each of them."""

from __future__ import annotations

import torch
from torch import nn

import cntgraph as cnt


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Branches(nn.Module):
    """Each module on an input of its own; ``cases`` maps a name to (module or function, shape)."""

    def __init__(self, cases):
        super().__init__()
        modules = {n: f if isinstance(f, nn.Module) else Function(f) for n, (f, _) in cases.items()}
        self.branch = nn.ModuleDict(modules)
        self.example = tuple(torch.zeros(shape) for _, shape in cases.values())

    def forward(self, *x):
        return [module(given) for module, given in zip(self.branch.values(), x, strict=True)]


def uneven(model):
    """The model with weights and statistics that are neither zero nor one."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return model


def traced(cases):
    """The branches and their network."""
    model = uneven(Branches(cases))
    return model, cnt.trace(model, model.example)


def of(network, name):
    """Names of the layers that a branch made, without what precedes them."""
    start = f"branch.{name}"
    found = [a.name for a in network.layers if a.name == start or a.name.startswith(f"{start}.")]
    return [name.removeprefix(start) for name in found]
