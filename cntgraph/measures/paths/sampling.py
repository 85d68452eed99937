"""What a sample tells of a mean, with a bound that holds for every population in a known range.

Numbers drawn without replacement scatter less than independent ones, and not at all once every
number is drawn; the bounds of Serfling and of Bardenet and Maillard know that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cntgraph.errors import InputRefused
from cntgraph.measures.paths.adjacency import Places
from cntgraph.measures.steps import Values

__all__ = ["MISS", "Sample", "drawn"]

MISS = 0.05  # how often the truth may lie outside: a 95 % interval


class Sample(NamedTuple):
    """How many were drawn, of how many."""

    size: int
    population: int

    def error(self, total: Values, squares: Values, span: Values, *, miss: float = MISS) -> Values:
        """Half the width of an interval around a population's mean: at 95 %, or missed as often as
        ``miss`` says.

        ``total`` and ``squares`` are the sums of the values drawn and of their squares, ``span``
        the width of the range that all values are known to lie in.

        The smaller of two bounds, each of which fails half as often: the empirical
        Bernstein bound of Bardenet and Maillard (2015, doi:10.3150/14-BEJ605), which is Maurer and
        Pontil's (2009) for samples without replacement, and the bound of Hoeffding and Serfling
        (1974) in the form of the former. It holds for each mean by itself, not for all at once.
        """
        n, whole = self.size, self.population
        if n >= whole:
            return np.zeros_like(total)
        left = 1 - (n - 1) / whole if 2 * n <= whole else (1 - n / whole) * (1 + 1 / n)
        with np.errstate(invalid="ignore", over="ignore"):
            scatter = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0.0))
            rare = np.log(5 * 2 / (miss / 2))  # five events, on two sides
            bernstein = scatter * np.sqrt(2 * left * rare / n) + _KAPPA * span * rare / n
            hoeffding = span * np.sqrt(left * np.log(2 / (miss / 2)) / (2 * n))
        found: Values = np.where(span == 0, 0.0, np.fmin(bernstein, hoeffding))
        return found


_KAPPA = 7 / 3 + 3 / np.sqrt(2)


def drawn(population: Places, samples: int, seed: int) -> Places:
    """So many of a population, in its order: all of it where ``samples`` is as many or 0."""
    if samples < 0:
        raise InputRefused(f"samples={samples}", fix="give a number of neurons, or 0 for all")
    if not 0 < samples < len(population):
        return population
    chosen = np.random.default_rng(seed).choice(len(population), samples, replace=False)
    return population[np.sort(chosen)]
