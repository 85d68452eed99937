"""How a neuron's weight is spread over its links: evenly, on a few of them, or on one sign.

All of it follows from sums over the links into and out of a neuron, so no link is listed: the
blocks sum a function of their weights at both ends, convolutions kernel by kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.measures.declaring import declared
from cntgraph.measures.steps import Values, of_sign
from cntgraph.network import Block
from cntgraph.network.expressions import literal
from cntgraph.network.operators import Dense

if TYPE_CHECKING:
    from torch import Tensor

    from cntgraph.measures.weighted import Weighted

__all__ = ["signed_sums", "sums_of_blocks"]

IN, OUT = 0, 1
Entries = Callable[["Tensor"], "Tensor"]
Sums = tuple[NDArray[np.float64], NDArray[np.float64]]


def _declared(
    formula: str, sees: str, leave: str, reference: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return declared(
        level="neuron",
        signs=("absolute", "positive", "negative"),
        cost="sums",
        formula=formula,
        sees=sees,
        leave=leave,
        reference=reference,
    )


DISPARITY = "Barthelemy et al. 2005; Almaas et al. 2004"


@_declared(
    r"$Y^{in}_k = \sum_i \left(\frac{|w_{ik}|}{\sum_h |w_{hk}|}\right)^2$, "
    r"from $1/k^{in}$ (all links alike) to 1 (one link has all the weight)",
    "neurons that read a few of their inputs and hardly look at the rest",
    "degrees differ, as at the border of a convolution or after a filter: its least value is one "
    "over the degree, so compare `effective_degree_in`, or neurons of equal degree",
    DISPARITY,
)
def disparity_in(graph: Weighted) -> Values:
    """Disparity of the incoming links: the sum of the squared shares of the neuron's weight.

    A share is |w| over the sum of |w| of all the links into the neuron (the positive or the
    negative part with ``sign="positive"`` or ``"negative"``). NaN where nothing comes in: at
    inputs, and at neurons whose links all weigh zero. 1 where only one link does, as everywhere
    after a layer of one neuron. Parallel links have shares of their own.

    Source: Barthelemy, Barrat, Pastor-Satorras and Vespignani, 2005; Almaas, Kovacs, Vicsek,
    Oltvai and Barabasi, 2004.
    """
    return _disparity(graph, IN)


@_declared(
    r"$Y^{out}_k = \sum_j \left(\frac{|w_{kj}|}{\sum_h |w_{kh}|}\right)^2$, "
    r"from $1/k^{out}$ (all links alike) to 1 (one link has all the weight)",
    "neurons that speak to a few of the neurons that could hear them",
    "the next layer has one neuron (1 at every neuron), or degrees differ: compare "
    "`effective_degree_out`",
    DISPARITY,
)
def disparity_out(graph: Weighted) -> Values:
    """Disparity of the outgoing links: the sum of the squared shares of the neuron's weight.

    NaN where nothing goes out, at outputs for example; 1 in front of a layer of one neuron.

    Source: Barthelemy et al., 2005; Almaas et al., 2004.
    """
    return _disparity(graph, OUT)


@_declared(
    r"$1/Y^{in}_k$, from 1 to $k^{in}$",
    "how many inputs a neuron reads in effect; its degree only where all its links weigh the same",
    "one or two links are much stronger than a mass of weak ones: squares forget the mass, "
    "`entropy_in` counts it",
    DISPARITY,
)
def effective_degree_in(graph: Weighted) -> Values:
    """Effective in-degree: the number of equal links with the same disparity.

    NaN where nothing comes in.
    """
    return _inverse(_disparity(graph, IN))


@_declared(
    r"$1/Y^{out}_k$, from 1 to $k^{out}$",
    "to how many neurons a neuron speaks in effect",
    "a mass of weak links matters beside a few strong ones: see `entropy_out`",
    DISPARITY,
)
def effective_degree_out(graph: Weighted) -> Values:
    """Effective out-degree: the number of equal links with the same disparity.

    NaN where nothing goes out.
    """
    return _inverse(_disparity(graph, OUT))


@_declared(
    r"$H^{in}_k = -\sum_i p_{ik} \ln p_{ik}$ with $p_{ik} = |w_{ik}| / \sum_h |w_{hk}|$, in nats, "
    r"from 0 (one link) to $\ln k^{in}$ (all alike)",
    "neurons that read widely; $e^H$ is another effective degree, kinder to weak links",
    "degrees differ: the largest value is the logarithm of the degree",
    "Shannon 1948",
)
def entropy_in(graph: Weighted) -> Values:
    """Shannon entropy of the shares of the incoming links, in nats (natural logarithm).

    A link of weight zero adds nothing. NaN where nothing comes in.

    Source: Shannon, 1948.
    """
    return _entropy(graph, IN)


@_declared(
    r"$H^{out}_k = -\sum_j p_{kj} \ln p_{kj}$ with $p_{kj} = |w_{kj}| / \sum_h |w_{kh}|$, "
    r"in nats, from 0 (one link) to $\ln k^{out}$ (all alike)",
    "neurons that speak widely",
    "the next layer has one neuron (0 at every neuron), or degrees differ",
    "Shannon 1948",
)
def entropy_out(graph: Weighted) -> Values:
    """Shannon entropy of the shares of the outgoing links, in nats (natural logarithm).

    NaN where nothing goes out.

    Source: Shannon, 1948.
    """
    return _entropy(graph, OUT)


@declared(
    level="neuron",
    signs=("signed",),
    cost="sums",
    formula=r"$\frac{s^+_k - s^-_k}{s^+_k + s^-_k}$, with $s^+_k$ the sum of the positive weights "
    r"of all links of $k$, in and out, and $s^-_k$ the size of the sum of the negative ones",
    sees="neurons whose links pull one way: 1 all positive, -1 all negative, 0 as much of either",
    leave="it matters how strongly they pull: that is `strength`, of which this is the part that "
    "does not change when all weights of a neuron are multiplied by the same number",
    igraph='strength(weights="weight") divided by strength(weights=[abs(w) for w in '
    'graph.es["weight"]])',
    reference="Rubinov and Sporns 2011",
)
def balance(graph: Weighted) -> Values:
    """Balance of signs: signed over absolute strength, from -1 to 1.

    NaN where a neuron has no links, or only links of weight zero.

    Source: Rubinov and Sporns, 2011 (strengths of positive and of negative weights apart).
    """
    sums = signed_sums(graph).sum(0)
    return _quotient(sums[0] + sums[1], sums[0] - sums[1])


@declared(
    level="neuron",
    signs=("signed",),
    cost="sums",
    formula=r"$s^{in}_k - s^{out}_k = \sum_i w_{ik} - \sum_j w_{kj}$",
    sees="neurons that are driven more than they drive; the difference keeps the sign of both",
    leave="inputs have no incoming links and outputs no outgoing ones: there it is one of the two "
    "with its sign; compare neurons within a hidden layer",
    igraph='strength(mode="in", weights="weight") less strength(mode="out", weights="weight")',
    reference="Rubinov and Sporns 2011",
)
def net_strength(graph: Weighted) -> Values:
    """Incoming less outgoing strength, signed: 0 where a neuron has no links."""
    with np.errstate(invalid="ignore"):
        into, out = signed_sums(graph).sum(1)
        found: Values = into - out
    return found


# -- sums at both ends of every link ----------------------------------------------------------


def _disparity(graph: Weighted, end: int) -> Values:
    total = _sizes(graph)[end]
    with np.errstate(over="ignore"):
        return _quotient(_sums(graph, "squares", lambda w: w * w)[end], total * total)


def _entropy(graph: Weighted, end: int) -> Values:
    """ln s - (sum of w ln w) / s, which is the entropy of the shares w / s."""
    import torch

    total = _sizes(graph)[end]
    logarithms = _sums(graph, "logarithms", lambda w: torch.xlogy(w, w))[end]
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Values = np.log(total) - _quotient(logarithms, total)
        return np.maximum(found, 0.0)  # of one link it is zero but for rounding


def _sizes(graph: Weighted) -> Values:
    """The weights under the sign, summed at targets and at sources: (2, neurons)."""
    if graph.sign != "absolute":
        return _sums(graph, "sizes", lambda w: w)
    both = signed_sums(graph)  # read off the weights as they are stored
    with np.errstate(invalid="ignore"):
        sizes: Values = both[:, 0] - both[:, 1]
    return sizes


def _sums(graph: Weighted, name: str, f: Entries) -> Values:
    """``f`` of the weights under the sign, summed at targets and at sources: (2, neurons)."""
    key = f"sums of {name}"
    if key not in graph.shared:
        found = (_block_sums(b, lambda w: f(of_sign(w, graph.sign))) for b in graph.blocks)
        graph.shared[key] = _added(graph, found).sum(1)
    summed: Values = graph.shared[key]
    return summed


def signed_sums(graph: Weighted) -> NDArray[np.float64]:
    """The positive and the negative weights summed, (in/out, positive/negative, neuron)."""
    return _added(graph, sums_of_blocks(graph))


def sums_of_blocks(graph: Weighted) -> list[Sums]:
    """The positive and the negative weights of each block summed at its targets and sources.

    Two arrays for each of `Weighted.blocks`, (2, targets) and (2, sources), positive sums first.
    """
    if "sums of blocks" not in graph.shared:
        graph.shared["sums of blocks"] = [_block_sums(block, None) for block in graph.blocks]
    found: list[Sums] = graph.shared["sums of blocks"]
    return found


def _added(graph: Weighted, found: Iterable[Sums]) -> NDArray[np.float64]:
    sums = np.zeros((2, 2, graph.neuron_count))
    with np.errstate(invalid="ignore"):
        for step, (into, out) in zip(graph.steps, found, strict=True):
            sums[IN, :, step.target] += into
            sums[OUT, :, step.source] += out
    return sums


def _block_sums(block: Block, f: Entries | None) -> Sums:
    """Positive and negative values of ``f`` summed at each target and each source.

    Those of a dense layer are summed in one go, whatever their sign: they are added up anyway.
    """
    import torch

    if block.kind == "opaque":  # its links all weigh the same, and its join has no sums
        weight = block.operator.entries(block.tensor.detach().double())[0]
        value = weight if f is None else f(weight)
        parts = torch.stack([value.clamp(min=0), value.clamp(max=0)])[:, None].cpu()
        into, out = (parts * count for count in block.counts())
    elif f is None:
        into, out = block.sums()
    else:
        value = f(block.tensor.detach().to(torch.float64))
        plain = isinstance(block.operator, Dense) and block.operator.copies == 1
        if plain and block.inputs is None:
            ends = value.sum(1), value.sum(0)
            into, out = (torch.stack([sums, torch.zeros_like(sums)]) for sums in ends)
        else:
            into, out = replace(block, weight=literal(value)).sums()
    return into.cpu().numpy(), out.cpu().numpy()


def _inverse(value: Values) -> Values:
    return _quotient(np.ones_like(value), value)


def _quotient(value: Values, by: Values) -> Values:
    """A quotient that is NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore"):
        return np.divide(value, by, out=np.full_like(value, np.nan), where=by != 0)
