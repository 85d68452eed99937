"""Measures are asked for by name, and those of one call come as one table."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cntgraph.errors import CntWarning, DegenerateMeasure, InputRefused, did_you_mean
from cntgraph.measures.catalogue import MEASURES
from cntgraph.measures.declaring import Measure, found_in
from cntgraph.measures.weighted import Weighted, largest_weight
from cntgraph.network import Network

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Snapshots", "measure", "measured", "plan"]

HOUR = 3600.0

_Refused = dict[str, DegenerateMeasure]  # by the name of the measure that says nothing


class Snapshots(Protocol):
    """A network at several epochs, as a `Run` is."""

    @property
    def epochs(self) -> pd.DataFrame:
        """A row per epoch; the column ``epoch`` numbers them."""

    def network(self, epoch: int) -> Network:
        """The network of an epoch."""


def measure(
    network: Network | Snapshots,
    *names: str,
    sign: str = "absolute",
    length: str = "inverse",
    kinds: Sequence[str] | None = None,
    hours: float = 1.0,
    **options: Any,
) -> pd.DataFrame:
    """Measures by name: a row per neuron, per pair of layers, or one row for the network.

    The names of one call are of one level. Measures of neurons have the columns neuron, layer,
    index and one of each name, in id order; those of blocks source, target (layers) and one of
    each name; those of networks one of each name. `cnt.measures()` lists them all. Given a run
    instead of a network, the table has all its epochs and a first column ``epoch``; at an epoch
    where a measure says nothing (`coreness` before anything was pruned) its values are NaN, and a
    `CntWarning` names measure, epoch and reason.

    ``sign`` says what becomes of a weight's sign: ``absolute``, or ``signed``, ``positive`` or
    ``negative`` (the part of that sign) where the measure knows them. ``length`` says how long a
    link is where distances matter: ``inverse`` (1/w), ``log`` (-log(w/max w), the maximum taken
    over all epochs of a run), ``weight`` (w) or ``unit`` (1); a link of weight zero leads nowhere.
    ``kinds`` are the kinds of links that are followed: unless said otherwise trained ones where
    links are summed at a neuron, and carrying ones too where paths are followed. What else a
    measure takes (``damping`` of pagerank) are ``options``. What is estimated to take longer than
    ``hours`` is refused before it starts.

    >>> import torch, cntgraph as cnt
    >>> network = cnt.trace(torch.nn.Linear(2, 1), (1, 2))
    >>> list(cnt.measure(network, "pagerank").columns)
    ['neuron', 'layer', 'index', 'pagerank']

    Raises `DegenerateMeasure` where a measure says nothing on this network, or at no epoch of the
    run, and `InputRefused` for an unknown name or option and for a convention that the measure does
    not have.
    """
    chosen = _chosen(names, options)
    for one in chosen:
        one.sign(sign), one.length(length)
    call = _Call(chosen, sign, length, None if kinds is None else tuple(kinds), hours, options)
    if isinstance(network, Network):
        return call.table(network, {})
    return _over_epochs(network, call)


def measured(network: Network, *names: str) -> tuple[pd.DataFrame, Mapping[str, DegenerateMeasure]]:
    """What `measure` gives, with NaN for each measure that says nothing here; those, and why."""
    refused: _Refused = {}
    call = _Call(_chosen(names, {}), "absolute", "inverse", None, 1.0, {})
    return call.table(network, {}, refused), refused


def plan(
    network: Network,
    *names: str,
    sign: str = "absolute",
    length: str = "inverse",
    kinds: Sequence[str] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """What `measure` would take: a row per name with links followed, seconds, bytes and growth.

    Estimates, right within a few times; nothing is computed.
    """
    import pandas as pd

    chosen = _chosen(names, options)
    call = _Call(chosen, sign, length, None if kinds is None else tuple(kinds), HOUR, options)
    graphs = call.graphs(network, {})
    rows = [
        {
            "name": m.name,
            "links": graph.link_count,
            "seconds": m.cost.seconds(graph),
            "bytes": int(m.cost.bytes(graph)),
            "cost": m.cost.text,
        }
        for m, graph in zip(chosen, graphs, strict=True)
    ]
    return pd.DataFrame(rows)


class _Call:
    """Measures of one level under the conventions of one call."""

    def __init__(
        self,
        chosen: Sequence[Measure],
        sign: str,
        length: str,
        kinds: tuple[str, ...] | None,
        hours: float,
        options: Mapping[str, Any],
    ) -> None:
        self.chosen, self.hours, self.options = chosen, hours, options
        self.conventions = [
            (m.sign(sign), m.length(length), m.kinds if kinds is None else kinds) for m in chosen
        ]

    def graphs(self, network: Network, largest: Mapping[Any, float]) -> list[Weighted]:
        """What each measure is given: one object for all that share a convention."""
        made: dict[Any, Weighted] = {}
        wanted = frozenset(m.name for m in self.chosen)
        for sign, length, kinds in self.conventions:
            key = sign, length, kinds
            network.carrying_blocks(kinds)  # refuses unknown kinds before anything is computed
            if key not in made:
                made[key] = Weighted(
                    network, sign, kinds, length, wanted, largest.get((sign, kinds))
                )
        return [made[key] for key in self.conventions]

    def table(
        self, network: Network, largest: Mapping[Any, float], refused: _Refused | None = None
    ) -> pd.DataFrame:
        """The table of a network; a measure that says nothing is ``refused`` there, else raised."""
        graphs = self.graphs(network, largest)
        for one, graph in zip(self.chosen, graphs, strict=True):
            _refuse_hours(one, graph, self.hours, self.options)
        columns: dict[str, Any] = {}
        for one, graph in zip(self.chosen, graphs, strict=True):
            try:
                found = found_in(graph, one, self.options)
            except DegenerateMeasure as reason:
                if refused is None:
                    raise
                refused[one.name] = reason
                found = math.nan
            columns |= found if isinstance(found, dict) else {one.name: found}
        return _rows(self.chosen[0].level, graphs[0]).assign(**columns)

    def largest(self, networks: Iterator[Network]) -> dict[Any, float]:
        """The largest weights of all epochs, by sign and kinds, where a length needs them."""
        needed = {(sign, kinds) for sign, length, kinds in self.conventions if length == "log"}
        if not needed:
            return {}
        found = dict.fromkeys(needed, 0.0)
        for network in networks:
            found = {key: max(found[key], largest_weight(network, *key)) for key in needed}
        return found


def _over_epochs(run: Snapshots, call: _Call) -> pd.DataFrame:
    import pandas as pd

    epochs = [int(epoch) for epoch in run.epochs["epoch"]]
    if not epochs:
        raise InputRefused("the run has no epochs", fix="export a checkpoint into it first")
    largest = call.largest(run.network(epoch) for epoch in epochs)
    tables = []
    refused: dict[int, _Refused] = {epoch: {} for epoch in epochs}
    for epoch in epochs:
        table = call.table(run.network(epoch), largest, refused[epoch])
        table.insert(0, "epoch", epoch)
        tables.append(table)
    _tell(call.chosen, refused)
    return pd.concat(tables, ignore_index=True)


def _tell(chosen: Sequence[Measure], refused: Mapping[int, _Refused]) -> None:
    """Warn of measures that say nothing at some epochs; refuse those that do at none."""
    for one in chosen:
        epochs = [epoch for epoch, reasons in refused.items() if one.name in reasons]
        if not epochs:
            continue
        reason = refused[epochs[0]][one.name]
        if len(epochs) == len(refused):
            raise reason
        among = ", ".join(map(str, epochs[:5])) + (", ..." if len(epochs) > 5 else "")
        warnings.warn(f"{one.name} is NaN at epoch {among}: {reason.why}", CntWarning, stacklevel=4)


def _chosen(names: Sequence[str], options: Mapping[str, Any]) -> list[Measure]:
    if not names:
        raise InputRefused("no measure was named", why=f"known: {', '.join(MEASURES)}")
    for name in names:
        if name not in MEASURES:
            raise InputRefused(f"no measure {name!r}", why=did_you_mean(str(name), MEASURES))
    chosen = [MEASURES[name] for name in dict.fromkeys(names)]
    other = next((m for m in chosen if m.level != chosen[0].level), None)
    if other is not None:
        raise InputRefused(
            f"{chosen[0].name} and {other.name} in one call",
            why=f"{chosen[0].name} is per {chosen[0].level}, {other.name} per {other.level}",
            fix="ask for them in two calls: one table has one kind of row",
        )
    known = {option for m in chosen for option in m.options}
    if unknown := sorted(set(options) - known):
        why = did_you_mean(unknown[0], known) if known else "it has none"
        raise InputRefused(f"{chosen[0].name} has no option {unknown[0]!r}", why=why)
    for m in chosen:
        for option in m.options.keys() & options.keys():
            _check_type(m, option, options[option])
    return chosen


def _check_type(measure: Measure, option: str, value: Any) -> None:
    """Refuse a value that is of another type than the option's default."""
    default = measure.options[option]
    plain = value.item() if hasattr(value, "item") else value
    wanted = (int, float) if isinstance(default, float) else type(default)
    if not isinstance(plain, wanted) or (isinstance(plain, bool) != isinstance(default, bool)):
        raise InputRefused(
            f"{option}={value!r} of {measure.name}",
            why=f"it is of type {type(default).__name__}, by default {default!r}",
        )


def _refuse_hours(one: Measure, graph: Weighted, hours: float, options: Mapping[str, Any]) -> None:
    seconds = one.cost.seconds(graph)
    if options.get("samples") or not seconds > hours * HOUR:
        return
    sampled = "samples=500 for an estimate with its error, or " if "samples" in one.options else ""
    raise InputRefused(
        f"{one.name} would take about {seconds / HOUR:,.1f} hours",
        why=f"{graph.link_count:,} links, {graph.neuron_count:,} neurons; {one.cost.text}",
        fix=f"{sampled}network.filtered('top:32'), network.by_channel(), "
        f"or hours={math.ceil(seconds / HOUR)} to do it all the same",
    )


def _rows(level: str, graph: Weighted) -> pd.DataFrame:
    import pandas as pd

    if level == "neuron":
        return graph.network.identities()
    if level == "block":
        return pd.DataFrame(list(graph.pairs), columns=["source", "target"])
    return pd.DataFrame(index=range(1))
