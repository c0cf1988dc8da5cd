"""Plots of draws, weights and training in plain Matplotlib, one figure from each function.

Functions that compare samplers take ArviZ objects by the name to show in the legend, as in
`{"bridge": ..., "NUTS": ...}`, from ArviZ 0.x or 1.x alike. A parameter is a single number: an
element of a site, named `site[index]` by the coordinates of its dimensions. Where there are more
parameters than fit into a figure, `take_turns` chooses some of every site, and the title says how
many there are in all.
"""

from numpyro_bridge.draws.plots.charts import plot_charts
from numpyro_bridge.draws.plots.forest import plot_forest
from numpyro_bridge.draws.plots.marginals import plot_marginals
from numpyro_bridge.draws.plots.pairs import plot_pairs
from numpyro_bridge.draws.plots.parameters import scalar_draws, site_of, take_turns
from numpyro_bridge.draws.plots.predictive import plot_predictive
from numpyro_bridge.draws.plots.ranks import plot_ranks
from numpyro_bridge.draws.plots.training import plot_training
from numpyro_bridge.draws.plots.weights import plot_weights

__all__ = [
    "plot_charts",
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
