"""Many runs side by side: ensembles by accuracy, single networks, honest baselines."""

from cntgraph.populations.ensemble import Ensemble
from cntgraph.populations.population import Population, open_population

__all__ = ["Ensemble", "Population", "open_population"]
