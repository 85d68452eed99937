"""One small network, drawn once for every measure with what the measure says of it.

The drawings are SVG written by hand: the same text on every machine, and small. Links are blue
where their weight is positive and red where it is negative, the thicker the larger |w|. The area
of a neuron is the size of its value, hollow where it is negative; a pair of layers has a band,
the darker the larger its value; a network has a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from cntgraph.errors import DegenerateMeasure
from cntgraph.measures.declaring import Measure
from cntgraph.measures.measure import measure

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.network import Network

__all__ = ["Picture", "picture", "small"]

FIRST = (
    (0.62, -0.53, 0.33, -0.93),
    (0.66, 0.3, -0.11, -1.16),
    (-1.69, -0.73, 0.91, 0.26),
    (0.34, -0.63, 2.13, -1.4),
    (0.71, 0.57, 1.32, 1.78),
)
SECOND = (
    (-0.16, -0.81, 0.57, -0.31, -0.12),
    (1.4, 0.44, 2.39, 0.28, -1.07),
    (0.96, 0.35, -0.59, -1.27, 0.29),
    (-1.49, -0.42, 0.23, -1.02, 1.61),
)
THIRD = ((0.84, -0.29, 1.01, 1.5), (0.98, 0.19, 0.97, -0.85), (-0.52, -1.19, 0.13, -0.45))
PAST = (
    (0.45, -0.88, 0.21, 1.17, -0.36),
    (-0.7, 0.52, 0.95, -0.24, 0.61),
    (1.25, 0.15, -0.4, 0.33, -1.05),
)

# Values of options by which a measure says something of sixteen neurons.
OPTIONS: dict[str, dict[str, Any]] = {
    "eigenvector": {"directed": False},
    "normalised_cut": {"clusters": 3},
    "rich_club": {"top": 0.3},
}
LABELS = ("community",)

Places = list[tuple[float, float]]

WIDTH, HEIGHT = 440, 250
MARGIN, STEP = 40, 46
BLUE, RED, INK, GREY = "#2b6cb0", "#c2410c", "#1f2933", "#9aa5b1"
GROUPS = ("#2b6cb0", "#c2410c", "#2f855a", "#805ad5", "#b7791f", "#0e7490", "#9d174d", "#52606d")


@dataclass(frozen=True)
class Picture:
    """A drawing of a measure, and what must be said of it; no drawing where it is refused."""

    svg: str
    caption: str


def picture(one: Measure) -> Picture:
    """A measure of the small network: whole, with fewer links, or with a skip connection."""
    options = OPTIONS.get(one.name, {})
    given = ", ".join(f"`{name}={value!r}`" for name, value in options.items())
    why = ""
    for skip, links, said in _VARIANTS:
        network = small(skip, links)
        try:
            found = measure(network, one.name, **options)
        except DegenerateMeasure as refusal:
            why = why or refusal.why
            continue
        caption = ", ".join(part for part in (said, given) if part)
        return Picture(_drawn(one, network, found), caption)
    return Picture("", f"No picture: it is refused on each of these small networks ({why}).")


_VARIANTS = (
    (False, "", ""),
    (False, "top:2", 'on `filtered("top:2")`, for on the full network it is refused'),
    (
        True,
        "top:2",
        'on `filtered("top:2")` of the network whose last layer also reads the first hidden one, '
        "for without such links it is refused",
    ),
)


@cache
def small(skip: bool, links: str) -> Network:
    """4 - 5 - 4 - 3 with weights that are always the same, traced as any model is."""
    import torch
    from torch import nn

    from cntgraph.tracing import trace

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 4)
            self.last = nn.Linear(9 if skip else 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = torch.relu(self.first(x))
            late = torch.relu(self.second(hidden))
            read = torch.cat([late, hidden], 1) if skip else late
            found: torch.Tensor = self.last(read)
            return found

    last = [[*a, *b] for a, b in zip(THIRD, PAST, strict=True)] if skip else THIRD
    model = Small().double()
    for layer, weight in zip(
        (model.first, model.second, model.last), (FIRST, SECOND, last), strict=True
    ):
        layer.weight.data = torch.tensor(weight, dtype=torch.float64)
    network = trace(model, torch.zeros(1, 4, dtype=torch.float64))
    return network.filtered(links) if links else network


# -- drawing


def _drawn(one: Measure, network: Network, found: pd.DataFrame) -> str:
    places = _places(network)
    if one.level == "neuron":
        values = [float(v) for v in found[one.name]]
        radii = _radii(one.name, values)
        body = [*_links(network, places), *_neurons(one.name, places, values, radii)]
        said = [(x, y + r + 9, v) for (x, y), r, v in zip(places, radii, values, strict=True)]
        body.append(_numbers(said, 9))
    elif one.level == "block":
        pairs = list(zip(found["source"], found["target"], found[one.name], strict=True))
        sides = {layer.name: places[layer.first][0] for layer in network.layers}
        body = [*_bands(sides, pairs), *_links(network, places, faint=True), *_dots(places)]
        body.append(_numbers([((sides[s] + sides[t]) / 2, 14, v) for s, t, v in pairs], 12))
    else:
        value = float(found[one.name].iloc[0])
        body = [*_links(network, places), *_dots(places)]
        body.append(_numbers([(WIDTH / 2, HEIGHT - 6, value)], 16))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">'
    )
    title = f"<title>{escape(one.name)}</title>"
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([head, title, ground, *body, "</svg>", ""])


def _places(network: Network) -> Places:
    """Where each neuron is drawn, in the order of ids: a column a layer."""
    gap = (WIDTH - 2 * MARGIN) / (len(network.layers) - 1)
    return [
        (MARGIN + column * gap, HEIGHT / 2 + STEP * (row - (layer.size - 1) / 2))
        for column, layer in enumerate(network.layers)
        for row in range(layer.size)
    ]


def _links(network: Network, places: Places, *, faint: bool = False) -> Iterator[str]:
    """All links; those of one colour and thickness are one path."""
    paths: dict[tuple[str, float], list[str]] = {}
    for batch in network.links():
        for s, t, w in zip(*(batch.column(i).to_pylist() for i in range(3)), strict=True):
            (x, y), (u, v) = places[s], places[t]
            colour = GREY if faint else BLUE if w > 0 else RED
            thickness = 0.4 if faint else 0.5 * math.ceil(abs(w) / 0.4)
            paths.setdefault((colour, thickness), []).append(f"M{x:.0f} {y:.0f}L{u:.0f} {v:.0f}")
    for (colour, thickness), lines in sorted(paths.items()):
        yield (
            f'<path d="{"".join(lines)}" stroke="{colour}" stroke-width="{thickness:.1f}" '
            'stroke-opacity=".55" fill="none"/>'
        )


def _radii(name: str, values: Sequence[float]) -> list[float]:
    if name in LABELS:
        return [9.0] * len(values)
    largest = _largest(values)
    return [3 + 11 * math.sqrt(_share(value, largest)) for value in values]


def _neurons(
    name: str, places: Places, values: Sequence[float], radii: Sequence[float]
) -> Iterator[str]:
    for (x, y), value, radius in zip(places, values, radii, strict=True):
        if name in LABELS:
            fill, edge = GROUPS[int(value) % len(GROUPS)], INK
        else:
            fill, edge = (INK, INK) if value > 0 else ("#fff", RED if value < 0 else INK)
        yield (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.5"/>'
        )


def _dots(places: Places) -> Iterator[str]:
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{INK}"/>'


def _bands(sides: Mapping[str, float], pairs: Sequence[tuple[str, str, float]]) -> Iterator[str]:
    """A band between each two layers, behind their links."""
    largest = _largest([value for *_, value in pairs])
    for source, target, value in pairs:
        left, right = sides[source] + 12, sides[target] - 12
        opacity = 0.05 + 0.4 * _share(value, largest)
        yield (
            f'<rect x="{left:.1f}" y="20" width="{right - left:.1f}" height="{HEIGHT - 30}" '
            f'fill="{RED if value < 0 else BLUE}" fill-opacity="{opacity:.2f}"/>'
        )


def _numbers(said: Sequence[tuple[float, float, float]], size: int) -> str:
    """Numbers with a white edge, so that they can be read upon links."""
    texts = "".join(f'<text x="{x:.1f}" y="{y:.1f}">{_short(v)}</text>' for x, y, v in said)
    return (
        f'<g font-size="{size}" text-anchor="middle" fill="{INK}" stroke="#fff" '
        f'stroke-width="2" paint-order="stroke">{texts}</g>'
    )


def _largest(values: Sequence[float]) -> float:
    return max((abs(v) for v in values if math.isfinite(v)), default=0.0)


def _share(value: float, largest: float) -> float:
    """How large a value is drawn, from 0 to 1; what is no number is the least, infinity all."""
    return min(1.0, abs(value) / largest) if largest and not math.isnan(value) else 0.0


def _short(value: float) -> str:
    """Three digits; what is left of numbers that cancel is zero."""
    return "0" if abs(value) < 1e-12 else format(value, ".3g")
