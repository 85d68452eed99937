"""The runs of a folder side by side: what was recorded of them, and how they differ."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cntgraph.errors import CntWarning, InputRefused, RunDamaged, did_you_mean
from cntgraph.measures.divergences import Bins
from cntgraph.populations.correlations import correlations
from cntgraph.populations.ensemble import Ensemble
from cntgraph.populations.finding import LASTING, Found, find_runs, listed
from cntgraph.populations.grouping import network_table
from cntgraph.populations.individual import epoch_divergences, layer_divergences
from cntgraph.populations.snapshots import Snapshot
from cntgraph.runs import Run

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Population", "open_population"]

Epoch = int | str


def open_population(path: str | os.PathLike[str]) -> Population:
    """The runs in a folder and below it, side by side.

    >>> population = cnt.open_population("runs")                           # doctest: +SKIP
    >>> population.runs[["run", "epoch", "accuracy", "initialisation"]]    # doctest: +SKIP
    >>> population.ensemble(bins=[0, 0.5, 0.9, 1]).layers                  # doctest: +SKIP

    A folder of a run that is unfinished, damaged, empty or of a newer format is left out with a
    `CntWarning`; ``left_out`` holds each with its reason. Links to folders are followed, and a run
    that is reached twice is taken once.

    Raises `InputRefused` where there is no such folder, or no run that can be read.
    """
    folder = Path(path).expanduser()
    found = find_runs(folder)
    if not found.runs:
        raise InputRefused(
            f"there is no run that can be read in {folder}",
            why="; ".join(listed(found.left_out)) or "no folder in it holds a manifest.json",
            fix="give the folder that holds the run folders: cnt.open_population('runs')",
        )
    if found.left_out:
        warnings.warn(
            f"{len(found.left_out)} of {len(found.left_out) + len(found.runs)} run folders are "
            f"left out: {'; '.join(listed(found.left_out))}",
            CntWarning,
            stacklevel=2,
        )
    return _population(folder, found)


def _population(folder: Path, found: Found) -> Population:
    import pandas as pd

    names = dict.fromkeys(name for row in found.rows for name in row)
    runs = pd.DataFrame(found.rows, columns=list(names)).astype(
        {"epochs": "int64", "epoch": "int64"}
    )
    left_out = pd.DataFrame(found.left_out, columns=["path", "why"])
    return Population(folder, runs, left_out, tuple(found.runs))


@dataclass(frozen=True, eq=False)
class Population:
    """Runs and what was recorded of them; made by `open_population`.

    ``runs`` has a row per run, in the order of their paths: run (its name), path, epochs (how
    many), epoch (the last), and what was recorded at the last epoch; initialisation and seed hold
    for a whole run and are also found where only its first epoch has them. Two runs may have one
    name: their paths tell them apart. ``left_out`` has the path and the reason of each folder that
    could not be read.
    """

    path: Path
    runs: pd.DataFrame = field(repr=False)
    left_out: pd.DataFrame = field(repr=False)
    members: tuple[Run, ...] = field(repr=False)

    def __repr__(self) -> str:
        lost = f"; {len(self.left_out)} left out" if len(self.left_out) else ""
        return f"<Population {self.path}: {len(self)} runs{lost}>"

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Run]:
        return iter(self.members)

    def __getitem__(self, run: str | int | os.PathLike[str] | Run) -> Run:
        """The run of this name, path, or row of ``runs``."""
        return self.members[self._place(run)]

    def ensemble(
        self,
        bins: Any = 10,
        *,
        by: str = "accuracy",
        epoch: Epoch = "last",
        pool_initialisations: bool = False,
    ) -> Ensemble:
        """Networks pooled by accuracy: distributions of weights, strengths and fluctuation.

        ``bins`` are edges, or a number of equal bins: from 0 to 1 if all values are in there, else
        from the least to the largest. A bin holds its lower edge; the last holds both. A network
        without the number ``by`` is in the bin ``unknown``, one beyond the edges in ``outside``.
        ``epoch`` is ``"last"`` (of each run), a number, or ``"all"``, where every epoch counts as
        a network.

        Only networks of one architecture and one initialisation are ever pooled: whether the
        fluctuation follows accuracy depends on the size of the initial weights. Initialisations
        are pooled with ``pool_initialisations=True``, or, with a warning, where no run was recorded
        with one.

        >>> ensemble = population.ensemble(bins=[0, 0.5, 0.9, 1])                 # doctest: +SKIP
        >>> ensemble.layers.query("quantity == 'strength'")                       # doctest: +SKIP
        >>> ensemble.divergences("fc1", "strength", bootstrap=500)                # doctest: +SKIP

        Raises `InputRefused` for a name that no run was recorded with, and edges that do not rise.

        Source: La Malfa, La Malfa, Nicosia and Latora, 2021, arXiv 2110.02628.
        """
        snapshots = self._snapshots(epoch)
        pool = pool_initialisations
        networks = network_table(snapshots, by, bins, pool_initialisations=pool)
        return Ensemble(by, networks, snapshots)

    def individual(
        self,
        run: str | int | os.PathLike[str] | Run,
        epoch: Epoch = "last",
        *,
        quantity: str = "strength",
        kind: str = "jensen-shannon",
        bootstrap: int = 0,
        seed: int = 0,
        bins: Bins = None,
    ) -> pd.DataFrame:
        """How far apart the layers of one network are: layer x layer, symmetric, 0 on the diagonal.

        Each entry is `cntgraph.divergence` of the two layers' values: the strengths of their
        neurons, or with ``quantity="weights"`` the weights that lead into them. With ``bootstrap``
        the table has a row per pair: layer, other, value, low, high, floor. Layers without trained
        links are left out.

        Raises `InputRefused` for an unknown run or epoch, for values that are NaN or infinite, and
        for weights of a run that keeps none.

        Source: La Malfa, La Malfa, Nicosia and Latora, 2021, arXiv 2110.02628.
        """
        place = self._place(run)
        snapshot = self._snapshot(place, self._epochs(place, epoch, one=True)[0])
        return layer_divergences(snapshot, quantity, kind, bootstrap, seed, bins)

    def over_epochs(
        self,
        run: str | int | os.PathLike[str] | Run,
        layer: str,
        *,
        quantity: str = "strength",
        kind: str = "jensen-shannon",
        bootstrap: int = 0,
        seed: int = 0,
        bins: Bins = None,
    ) -> pd.DataFrame:
        """How far apart the epochs of one layer are: epoch x epoch, as `individual` for layers."""
        place = self._place(run)
        epochs = self.members[place].manifest.epochs
        snapshots = [self._snapshot(place, epoch) for epoch in epochs]
        return epoch_divergences(snapshots, layer, quantity, kind, bootstrap, seed, bins)

    def correlations(
        self,
        *,
        by: str = "accuracy",
        epoch: Epoch = "last",
        pool_initialisations: bool = False,
    ) -> pd.DataFrame:
        """Rank correlation of accuracy with the fluctuation, beside that of plain baselines.

        A row per architecture, initialisation, layer and quantity: spearman, p (two-sided; exact up
        to 8 networks) and networks. Quantities of a layer are ``fluctuation`` and ``weight_std``
        (of the weights into it), and each ``_growth``, its ratio to the run's first epoch; of the
        whole network, layer ``(all)``: ``weight_std`` and ``steps``. NaN where a quantity is the
        same for all networks or fewer than three have it.

        Read the baselines first. On fully connected networks the plain deviation of the weights
        separates accurate from under-trained networks at least as well as the fluctuation does, and
        with large initial weights neither may say anything. Where a baseline correlates as much,
        the fluctuation tells nothing more of accuracy; what it adds is which neurons it comes from.
        A table of many layers holds small p by chance.

        Raises `InputRefused` as `ensemble` does, and for ``epoch="all"``: the epochs of one run are
        not independent.
        """
        if epoch == "all":
            raise InputRefused(
                "correlations over all epochs",
                why="the epochs of one run are not independent: p would be far too small",
                fix="give one epoch, or epoch='last'",
            )
        snapshots = self._snapshots(epoch)
        pool = pool_initialisations
        networks = network_table(snapshots, by, 1, pool_initialisations=pool)
        return correlations(networks, snapshots, by)

    # -- runs and epochs ----------------------------------------------------------------------

    def _place(self, run: str | int | os.PathLike[str] | Run) -> int:
        """The row of a run in ``runs``."""
        if isinstance(run, Run):
            run = run.path
        if isinstance(run, (int, np.integer)):
            if -len(self) <= run < len(self):
                return int(run) % len(self)
            raise InputRefused(f"there is no run {run}", why=f"the last of them is {len(self) - 1}")
        found = [i for i, one in enumerate(self.members) if one.name == run]
        paths = found or [i for i, one in enumerate(self.members) if one.path == Path(str(run))]
        if len(paths) == 1:
            return paths[0]
        if paths:
            raise InputRefused(
                f"{len(paths)} runs are named {run!r}",
                why=", ".join(str(self.members[i].path) for i in paths),
                fix="name the one you mean by its path",
            )
        known = [one.name for one in self.members]
        raise InputRefused(f"there is no run {str(run)!r}", why=did_you_mean(str(run), known))

    def _epochs(self, place: int, epoch: Epoch, *, one: bool = False) -> list[int]:
        """The epochs of a run that are meant; none if it does not have the epoch."""
        known = list(self.members[place].manifest.epochs)
        if epoch == "last":
            return known[-1:]
        if epoch == "all" and not one:
            return known
        if isinstance(epoch, (str, bool)):
            fix = "give 'last' or a number" if one else "give 'last', 'all' or a number"
            raise InputRefused(f"epoch={epoch!r}", fix=fix)
        if one:
            self.members[place].metrics(epoch)  # refuses an epoch that is not there
        return [int(epoch)] if epoch in known else []

    def _snapshot(self, place: int, epoch: int) -> Snapshot:
        run, row = self.members[place], self.runs.iloc[place]
        lasting = {name: row[name] for name in LASTING if name in row}
        now = {name: value for name, value in run.metrics(epoch).items() if value is not None}
        return Snapshot(run, epoch, {**lasting, **now})

    def _snapshots(self, epoch: Epoch) -> tuple[Snapshot, ...]:
        """The networks of all runs at an epoch; runs without it are left out with a warning."""
        found, lost = [], []
        for place, run in enumerate(self.members):
            epochs = self._epochs(place, epoch)
            if not epochs:
                lost.append((str(run.path), f"it has no epoch {epoch}"))
            try:
                snapshots = [self._snapshot(place, one) for one in epochs]
                _ = [snapshot.layers for snapshot in snapshots]
                found += snapshots
            except RunDamaged as damage:
                lost.append((str(run.path), str(damage.what)))
        if not found:
            raise InputRefused(f"no run has the epoch {epoch}", why="; ".join(listed(lost)))
        if lost:
            said = f"{len(lost)} of {len(self)} runs are left out: {'; '.join(listed(lost))}"
            warnings.warn(said, CntWarning, stacklevel=3)
        return tuple(found)
