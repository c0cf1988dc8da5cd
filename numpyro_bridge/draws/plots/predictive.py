"""The observations beside data that the model predicts."""

from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_count, check_text
from numpyro_bridge.draws.plots.base import COLOURS, bulk_range, panels


def plot_predictive(
    inference_data: Any, group: str = "posterior_predictive", max_draws: int = 50
) -> Any:
    """Show observed and predicted data as distribution functions.

    >>> figure = nb.plots.plot_predictive(idata)

    A model that has seen the data (`"posterior_predictive"`) should predict similar data. One that
    has not seen them (`"prior_predictive"`) should at least not rule them out.

    Args:
        inference_data: an ArviZ object from `to_inference_data`.
        group: which predictions to show.
        max_draws: how many predicted data sets to show, evenly spaced among all.

    Returns:
        A Matplotlib figure, with a panel for each observed site.

    Raises:
        ValueError: if there are no such predictions, or no observations.
    """
    check_text("group", group, "posterior_predictive")
    max_draws = check_count("max_draws", max_draws, 1)
    missing = [name for name in (group, "observed_data") if not hasattr(inference_data, name)]
    if missing:
        raise ValueError(
            f"group={group!r}: inference_data has no {' and no '.join(missing)}: make it by "
            "nb.to_inference_data(draws) from draws of a model with observations"
        )
    observed, predicted = inference_data["observed_data"], inference_data[group]
    sites = [str(name) for name in observed.data_vars if name in predicted.data_vars]
    figure, axes = panels(1, len(sites), width=4.5, height=3.2)
    for panel, site in zip(axes.flat, sites, strict=True):
        draws = np.asarray(predicted[site].values)
        draws = draws.reshape(draws.shape[0] * draws.shape[1], -1)
        for row in draws[:: -(-len(draws) // max_draws)]:
            panel.ecdf(row, color=COLOURS[0], alpha=0.2, linewidth=0.8)
        panel.ecdf(np.ravel(observed[site].values), color="black", linewidth=1.8)
        panel.set_xlim(*bulk_range([draws.ravel(), np.ravel(observed[site].values)]))
        panel.set_title(site, fontsize=10)
    axes[0, 0].set_ylabel("share of the data below")
    figure.suptitle(f"{group.replace('_', ' ').capitalize()}, and the data (black)")
    return figure
