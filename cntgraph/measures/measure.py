"""Measures are asked for by name, and those of one call come as one table.

A measure that follows paths walks the trained links and the carrying ones; what it does with the
sign of a weight it says itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.measures.pagerank import pagerank, pagerank_backward
from cntgraph.network import Network

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NEURON_MEASURES", "measure"]

NEURON_MEASURES: dict[str, Callable[..., Any]] = {
    "pagerank": pagerank,
    "pagerank_backward": pagerank_backward,
}


def measure(
    network: Network, *names: str, kinds: Sequence[str] | None = None, **options: Any
) -> pd.DataFrame:
    """Measures of every neuron: columns neuron, layer, index and one of each name, in id order.

    ``pagerank`` and ``pagerank_backward`` sum to 1, take weights absolute and follow trained and
    carrying links (``kinds=`` says otherwise); their option is ``damping=0.85``.

    >>> import torch, cntgraph as cnt
    >>> network = cnt.trace(torch.nn.Linear(2, 1), (1, 2))
    >>> list(cnt.measure(network, "pagerank").columns)
    ['neuron', 'layer', 'index', 'pagerank']

    Raises `InputRefused` for an unknown name or option.
    """
    if not names:
        raise InputRefused("no measure was named", why=f"known: {', '.join(NEURON_MEASURES)}")
    for name in names:
        if name not in NEURON_MEASURES:
            raise InputRefused(f"no measure {name!r}", why=did_you_mean(name, NEURON_MEASURES))
    if unknown := sorted(set(options) - {"damping"}):
        raise InputRefused(
            f"{names[0]} has no option {unknown[0]!r}", why=did_you_mean(unknown[0], ["damping"])
        )
    if kinds is not None:
        options["kinds"] = kinds
    table = network.neurons()[["neuron", "layer", "index"]]
    return table.assign(**{name: NEURON_MEASURES[name](network, **options) for name in names})
