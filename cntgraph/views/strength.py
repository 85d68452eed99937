"""How strength spreads while a network learns, beside the plain deviation of its weights.

The baseline is drawn with the measure on purpose: where both rise alike, the fluctuation says
nothing that the weights did not say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cntgraph.errors import InputRefused

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cntgraph.runs import Run

__all__ = ["strength_figure"]

Colour = tuple[float, ...]

_PANELS = 8  # layers that a page has room for
_GREY = "#5b6470"


def strength_figure(run: Run) -> Figure:
    """Strength by layer over the epochs of a run, and fluctuation beside weight deviation.

    Left, a panel a layer: median, middle half and middle nine tenths of the neurons' strengths.
    Right, a line a layer: the fluctuation Y (population standard deviation of strength), and
    below it the standard deviation of the weights that lead into the layer. A run of many layers
    shows eight, evenly chosen; a run of one epoch shows dots.

    >>> figure = strength_figure(cnt.open_run("runs/lenet"))      # doctest: +SKIP
    >>> figure.savefig("lenet.png", dpi=150)                      # doctest: +SKIP

    Raises `InputRefused` where the run has no epoch yet or no trained links.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    neurons, layers = run.neurons(), run.layers()
    names = _layers_shown(neurons)
    if not names:
        raise InputRefused(
            f"run {run.name!r} has nothing to draw",
            why="no epoch of it has a neuron with trained links",
            fix="export a checkpoint into it first",
        )
    figure = Figure(figsize=(11, max(5.0, 1.35 * len(names) + 1.2)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{run.name}: node strength over training", x=0.01, ha="left", size=14)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.15), wspace=0.03, squeeze=False)[0]
    said: dict[str, Any] = {"size": 10, "color": _GREY, "x": 0.02, "ha": "left"}
    colours = dict(zip(names, _colours(len(names)), strict=True))
    spread = left.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(spread, names, strict=True):
        _distribution(axes, neurons[neurons["layer"] == name], name, colours[name])
    spread[-1].set_xlabel("epoch")
    left.suptitle("strength by layer: median, middle half, middle nine tenths", **said)
    lines = right.subplots(2, 1, sharex=True)
    _lines(lines[0], layers, "fluctuation", colours, "fluctuation Y of strength")
    _lines(lines[1], layers, "weight_std", colours, "deviation of the weights into it")
    lines[1].set_xlabel("epoch")
    right.legend(
        *lines[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    right.suptitle("the measure, and the baseline to hold it against", **said)
    return figure


def _layers_shown(neurons: pd.DataFrame) -> list[str]:
    linked = neurons[(neurons["degree_in"] > 0) | (neurons["degree_out"] > 0)]
    names = list(dict.fromkeys(linked["layer"]))
    if len(names) <= _PANELS:
        return names
    step = (len(names) - 1) / (_PANELS - 1)
    return [names[round(i * step)] for i in range(_PANELS)]


def _colours(count: int) -> list[Colour]:
    """From the input's blue to the output's yellow-green, all readable on white."""
    from matplotlib import colormaps

    return [tuple(colormaps["viridis"](0.88 * i / max(1, count - 1))) for i in range(count)]


def _distribution(axes: Axes, neurons: pd.DataFrame, name: str, colour: Colour) -> None:
    import numpy as np

    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    found = neurons.groupby("epoch")["strength"].quantile(levels).unstack()
    epochs = found.index.to_numpy()
    for low, high, alpha in ((0.05, 0.95, 0.18), (0.25, 0.75, 0.38)):
        axes.fill_between(epochs, found[low], found[high], color=colour, alpha=alpha, lw=0)
    marker = "o" if len(epochs) == 1 else None
    axes.plot(epochs, found[0.5], color=colour, lw=1.8, marker=marker)
    axes.axhline(0, color=_GREY, lw=0.6, zorder=0)
    axes.set_ylabel(f"{_short(name)}\n{neurons['index'].nunique():,} neurons", size=8)
    _plain(axes)


def _lines(
    axes: Axes,
    layers: pd.DataFrame,
    column: str,
    colours: dict[str, Colour],
    title: str,
) -> None:
    for name, colour in colours.items():
        found = layers[layers["layer"] == name].sort_values("epoch")
        marker = "o" if len(found) == 1 else None
        axes.plot(
            found["epoch"], found[column], color=colour, lw=1.8, marker=marker, label=_short(name)
        )
    axes.set_title(title, size=10, loc="left")
    axes.set_ylim(bottom=0)
    _plain(axes)


def _plain(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e7eb", lw=0.7)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(labelsize=8)


def _short(name: str) -> str:
    """A layer's name as plain text: no mathematics between dollars, no page of it."""
    shown = name if len(name) <= 24 else f"{name[:10]}...{name[-11:]}"
    shown = "".join(c if c.isprintable() else "?" for c in shown)
    return shown.replace("$", r"\$")
