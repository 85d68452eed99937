"""A network is layers of neurons joined by blocks; an epoch is the same network with other weights.

Neuron ids run from 0 in layer order and never change within a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused, did_you_mean
from cntgraph.network.blocks import LINK_KINDS, Block, LinkBatch
from cntgraph.network.geometry import Index, decode, encode
from cntgraph.network.layers import Layer

if TYPE_CHECKING:
    import igraph
    import networkx
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import scipy.sparse
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from cntgraph.network.expressions import Expression

__all__ = ["Network", "Output"]


@dataclass(frozen=True, eq=False)
class Output:
    """One tensor that the model returns: its shape and, for each place, a neuron or -1."""

    shape: tuple[int, ...]
    neurons: Index


class Network:
    """A trained network as layers and blocks, with the weights they are bound to.

    Made by `cntgraph.trace` or read from a run; never changed afterwards.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        blocks: Sequence[Block],
        outputs: Sequence[Output],
        weights: Mapping[str, Tensor],
        *,
        coverage: Sequence[Mapping[str, Any]] = (),
        batch_norm: str = "raw",
        kept: float = 1.0,
        resolution: str = "neuron",
    ) -> None:
        self.layers: tuple[Layer, ...] = tuple(layers)
        self.blocks: tuple[Block, ...] = tuple(blocks)
        self.outputs: tuple[Output, ...] = tuple(outputs)
        self.weights: Mapping[str, Tensor] = weights
        self.batch_norm = batch_norm
        self.kept = kept
        self.resolution = resolution
        self._coverage = tuple(dict(row) for row in coverage)

    def __repr__(self) -> str:
        path = " -> ".join(f"{layer.name}({layer.size})" for layer in self.layers[:8])
        more = f" ... {len(self.layers)} layers" if len(self.layers) > 8 else ""
        return f"<Network {path}{more}: {self.neuron_count:,} neurons, {self.link_count:,} links>"

    @property
    def neuron_count(self) -> int:
        """Number of neurons."""
        return self.layers[-1].last if self.layers else 0

    @cached_property
    def link_count(self) -> int:
        """Number of trained links, counted without listing them; a zero weight is a link."""
        return sum(b.link_count for b in self.blocks if b.link_kind == "weight")

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """What became of every parameter: columns parameter, elements, status, blocks, reason.

        ``status`` is used (a block or bias holds it), folded (a batch norm) or unmapped.
        """
        import pandas as pd

        columns = ["parameter", "elements", "status", "blocks", "reason"]
        return pd.DataFrame(list(self._coverage), columns=columns)

    def layer(self, name: str) -> Layer:
        """The layer of that name."""
        found = self._by_name.get(name)
        if found is None:
            raise InputRefused(f"no layer {name!r}", why=did_you_mean(name, self._by_name))
        return found

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _blocks_into(self) -> dict[str, list[Block]]:
        into: dict[str, list[Block]] = {layer.name: [] for layer in self.layers}
        for block in self.blocks:
            into[block.target].append(block)
        return into

    # -- other weights ------------------------------------------------------------------------

    @cached_property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of the model's tensors that the network is computed from."""
        names: dict[str, None] = {}
        for block in self.blocks:
            names |= dict.fromkeys(block.parameters)
        for layer in self.layers:
            for part in (
                layer.bias,
                layer.gain,
                layer.shift,
                layer.value,
                layer.function,
                layer.join,
            ):
                names |= dict.fromkeys(part.parameters if part is not None else ())
        return tuple(names)

    def with_weights(self, state_dict: Mapping[str, Tensor]) -> Network:
        """The same topology with the weights of a state dict, which are copied.

        Tensors that the network does not use are ignored; a missing one, or one of another
        shape, raises `InputRefused`.
        """
        missing = [name for name in self.tensor_names if name not in state_dict]
        if missing:
            raise InputRefused(
                f"the weights lack {_some(missing)}",
                why=f"they hold {_some(list(state_dict))}",
                fix="give the state dict of the model that was traced",
            )
        wrong = [
            f"{name} is {tuple(state_dict[name].shape)}, not {tuple(old.shape)}"
            for name, old in self.weights.items()
            if name in state_dict and state_dict[name].shape != old.shape
        ]
        if wrong:
            raise InputRefused(
                f"the weights have another shape: {_some(wrong)}",
                fix="trace the model these weights belong to",
            )
        return self.bound_to({n: t.detach().clone() for n, t in state_dict.items()})

    def bound_to(self, weights: Mapping[str, Tensor]) -> Network:
        """The same topology over this very mapping of tensors, neither checked nor copied."""
        return self.with_parts(self.layers, self.blocks, weights)

    def with_parts(
        self, layers: Sequence[Layer], blocks: Sequence[Block], weights: Mapping[str, Tensor]
    ) -> Network:
        """The same wiring with other expressions of weights and biases; nothing is checked."""
        blocks = [replace(block, weights=weights) for block in blocks]
        network = Network(
            layers,
            blocks,
            self.outputs,
            weights,
            coverage=self._coverage,
            batch_norm=self.batch_norm,
            kept=self.kept,
            resolution=self.resolution,
        )
        network.topology = self.topology
        for old, new in zip(self.blocks, blocks, strict=True):
            if "link_count" in old.__dict__:
                new.__dict__["link_count"] = old.link_count
        return network

    def to(self, device: torch.device | str) -> Network:
        """The same network with its weights on a device; measures run where the weights are."""
        return self.bound_to({name: t.to(device) for name, t in self.weights.items()})

    def bias(self, layer: Layer) -> NDArray[np.float64] | None:
        """The bias of each of a layer's neurons, or None if it has none."""
        return self._spread(layer, layer.bias)

    def gain(self, layer: Layer) -> NDArray[np.float64] | None:
        """The factor a batch norm gives each neuron's trained sum, or None."""
        return self._spread(layer, layer.gain)

    def shift(self, layer: Layer) -> NDArray[np.float64] | None:
        """What is added to each neuron after the gain, or None."""
        return self._spread(layer, layer.shift)

    def _spread(self, layer: Layer, part: Expression | None) -> NDArray[np.float64] | None:
        import torch

        if part is None:
            return None
        value = part.evaluate(self.weights, torch.float64).detach().to(torch.float64)
        spread: NDArray[np.float64] = value.expand(layer.traced).reshape(-1).cpu().numpy()
        return spread

    @cached_property
    def topology(self) -> dict[str, Any]:
        """What depends on the wiring alone, shared by all epochs of it."""
        return {}

    def filtered(self, links: str) -> Network:
        """The network with fewer trained links; `kept` is their share of the total |weight|.

        ``"top:K"`` keeps the K strongest links into and the K strongest out of every neuron,
        ``"backbone:ALPHA"`` those that the disparity filter finds significant at either end
        (Serrano, Boguna and Vespignani, 2009), ``"above:X"`` those with |weight| > X and
        ``"nonzero"`` those that are not exactly zero. Links that carry values stay.
        """
        from cntgraph.network.filtering import filtered_blocks

        blocks, kept = filtered_blocks(self, links)
        coverage, norm = self._coverage, self.batch_norm
        return Network(
            self.layers,
            blocks,
            self.outputs,
            self.weights,
            coverage=coverage,
            batch_norm=norm,
            kept=kept * self.kept,
            resolution=self.resolution,
        )

    def by_channel(self, reduce: str = "sum") -> Network:
        """The same network whose neurons are channels, with one link for each kernel.

        A layer of shape (channels, height, width) becomes one of shape (channels,); the link from
        one channel to another weighs the ``sum``, ``mean``, ``l1`` (sum of sizes) or ``l2``
        (square root of the sum of squares) of the distinct trained weights that join them: the
        taps of a convolution, the weights from all positions of a channel to a unit of a dense
        layer. Channels that no weight joins have no link. ``element`` of a link is the first
        element of its kernel. A channel's bias is that of its neurons, on average where they
        differ. Links that carry values go on doing so: an identity weighs 1, a scale its factor,
        pooling what a mean neuron of the channel receives. Weights are reduced in float64, and
        `with_weights` gives the same channels with another epoch's.

        Where no reshape splits a channel, every trained weight is in one kernel. So the sum of a
        block's links is the sum of its distinct weights, with ``l1`` of their sizes, with ``l2``
        squared of their squares; and over all channels strength in equals strength out. With
        ``sum`` the in-strength of a channel is that of each of its neurons that every tap
        reaches: of all of them in a dense layer and in a convolution without padding or with
        circular padding, of inner ones where zeros are padded. A transposed convolution shares
        its taps out among the positions of a stride, whose in-strengths add up to the channel's.
        The out-strength towards a dense layer that reads each neuron once is the sum of those of
        the channel's neurons.

        >>> import torch, cntgraph as cnt
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3))
        >>> network = cnt.trace(model, (1, 3, 16, 16)).by_channel()
        >>> network.neuron_count, network.link_count
        (15, 56)

        Another ``reduce`` raises `InputRefused`, as does a block in which a reshape mixes channels
        and positions and which has too many links to look at one by one.
        """
        from cntgraph.network.resolution import by_channel

        return by_channel(self, reduce)

    # -- the function -------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The model's outputs, by operators; inputs as traced, a batch of any size."""
        values = {layer.name: value for layer, _, value in self.propagate(*inputs)}
        batch = max((len(v) for v in values.values()), default=1)
        return tuple(self._output(o, values, batch) for o in self.outputs)

    def propagate(self, *inputs: Tensor) -> Iterator[tuple[Layer, Tensor, Tensor]]:
        """Every layer with its sums and its values, (batch, size) each, in the order of layers.

        The sums are what the activation is applied to; of an input, a constant or a join, they are
        the values themselves.
        """
        values = {n: self._encoded(self.layer(n), x) for n, x in self.samples(*inputs).items()}
        batch = max((len(v) for v in values.values()), default=1)
        for layer in self.layers:
            z = values.get(layer.name)
            if z is None:
                z, values[layer.name] = self._values(layer, values, batch)
            yield layer, z, values[layer.name]

    def samples(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What each input layer is given, by its name: all samples on a first axis."""
        if self.resolution != "neuron":
            raise InputRefused(
                "a network of channels computes nothing",
                why="a kernel that was reduced to one weight has lost its positions",
                fix="call forward of the network it was made from",
            )
        layers = [layer for layer in self.layers if layer.kind == "input"]
        if len(inputs) != len(layers):
            raise InputRefused(f"{len(inputs)} inputs given, the network has {len(layers)}")
        return {a.name: _batched(a, x) for a, x in zip(layers, inputs, strict=True)}

    def _encoded(self, layer: Layer, samples: Tensor) -> Tensor:
        if layer.join is None:
            return samples.reshape(len(samples), -1)
        try:
            encoded = _each(layer.join, [samples], self.weights, len(samples))
        except RuntimeError as refused:
            raise InputRefused(
                f"input {layer.name} cannot be encoded",
                why=f"it holds values from {samples.min()} to {samples.max()}, the network knows "
                f"words from 0 to {layer.traced[-1] - 1}",
                fix="give words of the vocabulary that the model was traced with",
            ) from refused
        return encoded.to(_floating(self.weights.values()))

    def _values(self, layer: Layer, values: dict[str, Tensor], batch: int) -> tuple[Tensor, Tensor]:
        """What a layer's activation is applied to, and what comes out of it."""
        blocks = self._blocks_into[layer.name]
        if layer.value is not None:
            like = _floating([*values.values(), *self.weights.values()])
            constant = layer.value.evaluate(self.weights, like)
            spread = constant.reshape(1, -1).expand(batch, -1)
            return spread, spread
        if layer.join is not None:
            z = self._join(layer, blocks, values, batch)
        else:
            z = self._sum(layer, blocks, values, batch)
        return z, self.activate(layer, z)

    def _sum(
        self, layer: Layer, blocks: list[Block], values: dict[str, Tensor], batch: int
    ) -> Tensor:
        """The pre-activation of a layer, (batch, size): what the trained links bring is affine."""
        trained = [b.forward(values[b.source]) for b in blocks if b.link_kind == "weight"]
        carried = [b.forward(values[b.source]) for b in blocks if b.link_kind != "weight"]
        if trained or not carried or layer.bias is not None:
            silent = [self._zeros(values, batch, layer.size)]  # where all it reads is zero
            return _total([self._affine(layer, _total(trained or silent)), *carried])
        return self._affine(layer, _total(carried))

    def _zeros(self, values: dict[str, Tensor], *shape: int) -> Tensor:
        import torch

        like = _floating([*values.values(), *self.weights.values()])
        home = next((v.device for v in values.values()), None)
        return torch.zeros(shape, dtype=like, device=home)

    def _affine(self, layer: Layer, z: Tensor) -> Tensor:
        shape = (len(z), *layer.traced)
        for part, join in ((layer.bias, "add"), (layer.gain, "mul"), (layer.shift, "add")):
            if part is not None:
                y = z.reshape(shape)
                value = part.evaluate(self.weights, z.dtype)
                z = (y + value if join == "add" else y * value).reshape(len(z), -1)
        return z

    def _join(
        self, layer: Layer, blocks: list[Block], values: dict[str, Tensor], batch: int
    ) -> Tensor:
        assert layer.join is not None
        operands: list[Tensor] = []
        for k, shape in enumerate(layer.operands):
            parts = [b.gather(values[b.source]) for b in blocks if b.operand == k]
            if not parts:  # a constant zero
                parts = [self._zeros(values, 1, math.prod(shape))]
            operands.append(_total(parts).reshape(-1, *shape))
        return _each(layer.join, operands, self.weights, batch)

    def activate(self, layer: Layer, z: Tensor) -> Tensor:
        """The activation of a layer applied to its sums, (batch, size)."""
        import torch

        for portion in layer.portions:
            places = torch.from_numpy(portion.places).to(z.device)
            z = z.index_copy(1, places, portion.function([z[:, places]], self.weights))
        if layer.function is None:
            return z
        if layer.function.pointwise:
            return layer.function([z], self.weights)
        return _each(layer.function, [z.reshape(-1, *layer.traced)], self.weights, len(z))

    def _output(self, output: Output, values: dict[str, Tensor], batch: int) -> Tensor:
        import torch

        like = next(iter(values.values()))
        flat = like.new_zeros(batch, len(output.neurons))
        for layer in self.layers:
            at = (output.neurons >= layer.first) & (output.neurons < layer.last)
            if at.any():
                index = torch.from_numpy(output.neurons[at] - layer.first).to(like.device)
                picked = values[layer.name][:, index]
                flat = flat.to(torch.promote_types(flat.dtype, picked.dtype))
                flat[:, torch.from_numpy(at).to(like.device)] = picked.to(flat.dtype)
        if output.shape and output.shape[0] == 1:
            return flat.reshape(batch, *output.shape[1:])
        return flat.reshape(output.shape) if batch == 1 else flat.reshape(batch, *output.shape)

    # -- neurons and links --------------------------------------------------------------------

    def neurons(self) -> pd.DataFrame:
        """A row per neuron in id order: neuron, layer, index, channel, y, x.

        A coordinate that means nothing for a layer is missing.
        """
        import numpy as np
        import pandas as pd

        table = self.identities()
        places = [layer.coordinates() for layer in self.layers]
        for column in ("channel", "y", "x"):
            known = [
                place.get(column, np.full(layer.size, -1))
                for place, layer in zip(places, self.layers, strict=True)
            ]
            values = np.concatenate(known) if known else np.zeros(0, dtype=np.int64)
            table[column] = pd.arrays.IntegerArray(values.astype(np.int64), values < 0)
        return table

    def identities(self) -> pd.DataFrame:
        """The first columns of `neurons`: neuron, layer, index."""
        import numpy as np
        import pandas as pd

        table: pd.DataFrame | None = self.topology.get("identities")
        if table is None:  # labels cost pandas more time than the sums cost the processor
            sizes = [layer.size for layer in self.layers]
            first = np.repeat(np.asarray([a.first for a in self.layers], dtype=np.int64), sizes)
            neuron = np.arange(self.neuron_count, dtype=np.int64)
            names = _repeated([layer.name for layer in self.layers], sizes)
            columns = {"neuron": neuron, "layer": names, "index": neuron - first}
            table = self.topology["identities"] = pd.DataFrame(columns, copy=False)
        return table.assign()  # a copy, made when it has to be

    def links(
        self,
        kinds: Sequence[str] = ("weight",),
        batch: int = 1_000_000,
        *,
        block: str | None = None,
        layer: str | None = None,
        neuron: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The links of these kinds in batches of constant memory, at most ``batch`` at a time.

        Columns source, target (neuron ids), weight (float64), kind, parameter (name) and element
        (flat index into that parameter). All links, or those of one ``block``, those into one
        ``layer`` (by their names), or those into and out of one ``neuron`` (by its id).

        >>> import torch, cntgraph as cnt
        >>> network = cnt.trace(torch.nn.Linear(3, 2), (1, 3))
        >>> sum(found.num_rows for found in network.links(neuron=4))
        3
        """
        chosen = self._chosen(self.carrying_blocks(kinds), block, layer, neuron)
        return (
            _record_batch(b, found)
            for b in chosen
            for found in (b.links(batch) if neuron is None else b.links_of(neuron))
        )

    def _chosen(
        self, blocks: Iterable[Block], block: str | None, layer: str | None, neuron: int | None
    ) -> Iterable[Block]:
        """The blocks of these that a block's, a layer's or a neuron's links can be in."""
        if sum(x is not None for x in (block, layer, neuron)) > 1:
            raise InputRefused("links of a block, a layer and a neuron at once", fix="give one")
        if block is not None:
            names = [b.name for b in self.blocks]
            if block not in names:
                raise InputRefused(f"no block {block!r}", why=did_you_mean(block, names))
            return [b for b in blocks if b.name == block]
        if layer is not None:
            target = self.layer(layer).name
            return [b for b in blocks if b.target == target]
        if neuron is not None and not 0 <= neuron < self.neuron_count:
            raise InputRefused(f"no neuron {neuron}", why=f"ids run to {self.neuron_count - 1}")
        return blocks

    def carrying_blocks(self, kinds: Sequence[str]) -> Iterator[Block]:
        """The blocks whose links are of these kinds."""
        _known_kinds(kinds)
        return (block for block in self.blocks if block.link_kind in kinds)

    # -- ways out -----------------------------------------------------------------------------

    def to_igraph(self, kinds: Sequence[str] = ("weight",)) -> igraph.Graph:
        """The explicit directed graph for igraph; see `cntgraph.graphs`."""
        from cntgraph.graphs import to_igraph

        return to_igraph(self, kinds)

    def to_networkx(self, kinds: Sequence[str] = ("weight",)) -> networkx.DiGraph[int]:
        """The explicit directed graph for NetworkX; see `cntgraph.graphs`."""
        from cntgraph.graphs import to_networkx

        return to_networkx(self, kinds)

    def to_scipy(self, kinds: Sequence[str] = ("weight",)) -> scipy.sparse.csr_array:
        """The weight matrix (source, target) as CSR float64; see `cntgraph.graphs`."""
        from cntgraph.graphs import to_scipy

        return to_scipy(self, kinds)

    # -- storage ------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The topology as JSON values, without weights; `from_json` reads it."""
        return {
            "batch_norm": self.batch_norm,
            "resolution": self.resolution,
            "neurons": self.neuron_count,
            "links": self.link_count,
            "layers": [layer.to_json() for layer in self.layers],
            "blocks": [block.to_json() for block in self.blocks],
            "outputs": [
                {"shape": list(o.shape), "neurons": encode(o.neurons)} for o in self.outputs
            ],
            "coverage": [dict(row) for row in self._coverage],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Network:
        """The network that `to_json` described, bound to weights."""
        layers = [Layer.from_json(layer) for layer in data["layers"]]
        blocks = [Block.from_json(block, weights) for block in data["blocks"]]
        outputs = [Output(tuple(o["shape"]), decode(o["neurons"])) for o in data["outputs"]]
        return Network(
            layers,
            blocks,
            outputs,
            weights,
            coverage=data["coverage"],
            batch_norm=data["batch_norm"],
            resolution=data.get("resolution", "neuron"),
        )


def _known_kinds(kinds: Sequence[str]) -> None:
    if isinstance(kinds, str):
        raise InputRefused(f"kinds={kinds!r} is one word", fix=f"give a tuple: kinds=({kinds!r},)")
    for kind in kinds:
        if kind not in LINK_KINDS:
            raise InputRefused(f"no links of kind {kind!r}", why=did_you_mean(kind, LINK_KINDS))


def _parameters(block: Block, links: LinkBatch) -> pa.Array:
    """The name of the parameter behind each link; empty where it is no element of one."""
    import numpy as np
    import pyarrow as pa

    names = [*block.parameters, ""]
    which, count = links.parameter, len(links.source)
    if isinstance(which, int) or (count and (which == which[0]).all()):
        first = which if isinstance(which, int) else int(which[0])
        return pa.repeat(pa.scalar(names[first]), count)
    return pa.array(np.asarray(names, dtype=object)[which], pa.string())


def _record_batch(block: Block, links: LinkBatch) -> pa.RecordBatch:
    import pyarrow as pa

    count = len(links.source)
    columns = {
        "source": links.source,
        "target": links.target,
        "weight": links.weight,
        "kind": pa.repeat(pa.scalar(block.link_kind), count),
        "parameter": _parameters(block, links),
        "element": links.element,
    }
    return pa.RecordBatch.from_pydict(columns)


def _repeated(words: list[str], counts: list[int]) -> pd.Series[str]:
    """Each word as often as its count says; written as Arrow's own bytes, since a million Python
    strings would cost more than all the sums of a network."""
    import numpy as np
    import pyarrow as pa

    raw = [word.encode("utf-8", "surrogatepass") for word in words]
    offsets = np.zeros(sum(counts) + 1, dtype=np.int64)
    np.cumsum(np.repeat([len(r) for r in raw], counts), out=offsets[1:])
    data = b"".join(r * count for r, count in zip(raw, counts, strict=True))
    made = pa.LargeStringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data)
    )
    column: pd.Series[str] = made.to_pandas()
    return column


def _floating(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """The type of the first of these that are no integers."""
    return next((t.dtype for t in tensors if t.is_floating_point()), None)


def _batched(layer: Layer, x: Tensor) -> Tensor:
    """The samples of an input, each of the shape it was traced with."""
    traced = layer.traced if layer.join is None else layer.operands[0]
    if not _fits(tuple(x.shape), traced):
        raise InputRefused(
            f"input {layer.name} has the shape {tuple(x.shape)}, traced was {traced}",
            fix="give that shape, or a batch of it on a first axis",
        )
    return x.reshape(-1, *traced)


def _fits(given: tuple[int, ...], traced: tuple[int, ...]) -> bool:
    """True for the traced shape, a batch of it, and either with the axes of a sample run flat."""
    sample = traced[1:] if traced[:1] == (1,) else traced
    flat = (math.prod(traced),)
    return given in (traced, sample, flat) or given[1:] in (traced, sample, flat)


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _each(call: Any, operands: list[Tensor], weights: Mapping[str, Tensor], batch: int) -> Tensor:
    """A call traced with a batch of one, applied to each sample of a batch."""
    import torch

    samples = [call([o[i % len(o)] for o in operands], weights).reshape(-1) for i in range(batch)]
    return torch.stack(samples)


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
