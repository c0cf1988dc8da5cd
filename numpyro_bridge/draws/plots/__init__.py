"""Plots of draws, weights and training, in plain Matplotlib: one function, one figure.

Functions that compare take `{"bridge": ..., "NUTS": ...}`, ArviZ objects by the name to show in the
legend, and look the same under ArviZ 0.x and 1.x. A parameter is one number: an element of a site,
named `site[index]` by the coordinates of its dimensions. Where there are more parameters than fit,
the sites take turns, see `take_turns`, and the title says how many there are.
"""

from numpyro_bridge.draws.plots.forest import plot_forest
from numpyro_bridge.draws.plots.marginals import plot_marginals
from numpyro_bridge.draws.plots.pairs import plot_pairs
from numpyro_bridge.draws.plots.parameters import scalar_draws, site_of, take_turns
from numpyro_bridge.draws.plots.predictive import plot_predictive
from numpyro_bridge.draws.plots.ranks import plot_ranks
from numpyro_bridge.draws.plots.training import plot_training
from numpyro_bridge.draws.plots.weights import plot_weights

__all__ = [
    "plot_forest",
    "plot_marginals",
    "plot_pairs",
    "plot_predictive",
    "plot_ranks",
    "plot_training",
    "plot_weights",
    "scalar_draws",
    "site_of",
    "take_turns",
]
