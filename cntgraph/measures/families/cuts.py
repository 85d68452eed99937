"""How cheaply a network falls into parts: the normalised cut of a spectral clustering."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cntgraph.errors import DegenerateMeasure, InputRefused
from cntgraph.measures.declaring import declared
from cntgraph.measures.nulls import null_models
from cntgraph.measures.refusing import refuse_without_weight
from cntgraph.measures.weighted import Weighted

if TYPE_CHECKING:
    import scipy.sparse

    from cntgraph.measures.steps import Values

__all__: list[str] = []

DENSE = 500  # neurons: below, all eigenvectors at once are faster than a few by iteration
STARTS = 10  # of k-means; the best one counts


@declared(
    level="network",
    signs=("absolute", "positive", "negative"),
    cost="igraph",
    formula=r"$\sum_{c=1}^{k} \frac{\mathrm{cut}(c)}{\mathrm{vol}(c)}$, cut: the weight of the "
    r"links that leave a cluster, vol: the strength, in and out, of its neurons; clusters by "
    r"$k$-means on the $k$ leading eigenvectors of $D^{-1} W$, $W$ the undirected weights",
    sees="a low value: groups of neurons with little weight between them; from 0 to below $k$",
    leave="the value itself depends on the layers' sizes and on $k$: with `shuffles=` it is "
    "compared with the same network, its weights shuffled block by block",
    degenerate="no link has a weight under the sign, or there are no more neurons with weight "
    "than clusters",
    reference="Filan et al. 2021; Shi and Malik 2000",
)
def normalised_cut(
    graph: Weighted, *, clusters: int = 12, shuffles: int = 0, seed: int = 0
) -> dict[str, float]:
    """The normalised cut of a spectral clustering of the undirected network.

    Neurons without weight are left out. With ``shuffles`` > 0 there are three more columns:
    ``normalised_cut_null``, the mean over networks whose weights were shuffled within each block;
    ``normalised_cut_z``, the difference from it in the shuffles' deviations (of the population);
    and ``normalised_cut_p`` = (1 + shuffles that cut no worse) / (1 + shuffles), small where the
    trained network is more clusterable than its wiring and its weights alone would make it.

    Source: Filan, Casper, Hod, Wild, Critch and Russell, 2021, arXiv 2103.03386.
    """
    if clusters < 2:
        raise InputRefused(f"clusters={clusters}", fix="give 2 or more")
    networks = null_models(graph.network, "weights", shuffles, seed=seed)
    refuse_without_weight(graph, "normalised_cut")
    value = _cut(graph.matrix, clusters, seed)
    columns = {"normalised_cut": value}
    if shuffles:
        others = (Weighted(network, graph.sign, graph.kinds) for network in networks)
        null = np.array([_cut(other.matrix, clusters, seed) for other in others])
        columns |= _against(value, null)
    return columns


def _against(value: float, null: Values) -> dict[str, float]:
    mean, deviation = float(null.mean()), float(null.std())
    with np.errstate(divide="ignore", invalid="ignore"):
        z = float(np.float64(value - mean) / deviation)
    worse = (1 + int((null <= value).sum())) / (1 + len(null))
    p = float("nan") if np.isnan(value) else worse
    return {"normalised_cut_null": mean, "normalised_cut_z": z, "normalised_cut_p": p}


def _cut(matrix: scipy.sparse.csr_array, clusters: int, seed: int) -> float:
    """The normalised cut of the graph with these weights, directions left aside."""
    if not np.isfinite(matrix.data).all():
        return float("nan")
    whole = matrix + matrix.T
    strength = np.asarray(whole.sum(axis=1)).ravel()
    heavy = np.flatnonzero(strength > 0)
    if len(heavy) <= clusters:
        raise DegenerateMeasure(
            "normalised_cut says nothing on this network",
            why=f"{len(heavy)} neurons have weight, clusters={clusters}",
            fix=f"clusters={max(2, len(heavy) // 4)}" if len(heavy) > 2 else "ask a larger network",
        )
    whole, strength = whole[heavy][:, heavy].tocsr(), strength[heavy]
    label = _clusters(whole, strength, clusters, seed)
    ends = np.repeat(label, np.diff(whole.indptr)), label[whole.indices]
    inside = np.bincount(ends[0], whole.data * (ends[0] == ends[1]), clusters)
    volume = np.bincount(label, strength, clusters)
    found = volume > 0
    return float(((volume - inside)[found] / volume[found]).sum())


def _clusters(whole: Any, strength: Values, clusters: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    # threads that meet after every step of so little work cost ten times what they save
    with threadpool_limits(1), warnings.catch_warnings():
        # fewer distinct points than clusters: fewer clusters then
        warnings.simplefilter("ignore", ConvergenceWarning)
        vectors = _leading(whole, strength, clusters, seed)
        found = KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(vectors)
    label: NDArray[np.int64] = found.astype(np.int64)
    return label


def _leading(whole: Any, strength: Values, count: int, seed: int) -> Values:
    """The leading eigenvectors of the random walk: close where walkers stay together."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import eigsh

    root = 1.0 / np.sqrt(strength)
    symmetric = diags_array(root) @ whole @ diags_array(root)
    n = len(strength)
    if n <= max(DENSE, 3 * count):
        _, vectors = np.linalg.eigh(symmetric.toarray())
        vectors = vectors[:, -count:]
    else:
        start = np.random.default_rng(seed).standard_normal(n)
        _, vectors = eigsh(symmetric, k=count, which="LA", v0=start)
    found: Values = root[:, None] * vectors
    return found
