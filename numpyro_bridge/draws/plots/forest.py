"""A forest plot: medians and intervals of all parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numpyro_bridge.draws.plots.base import COLOURS, Samples, chosen_draws, finish, panels
from numpyro_bridge.draws.plots.parameters import site_of


def plot_forest(
    samples: Samples, parameters: Sequence[str] | None = None, max_parameters: int = 40
) -> Any:
    """Show medians with 50 % (thick) and 90 % (thin) intervals, one panel for each site.

    >>> figure = nb.plots.plot_forest({"bridge": idata})

    Args:
        samples: ArviZ objects by name.
        parameters: labels to choose from, in the order to show them in; all by default.
        max_parameters: how many to show at most; the sites take turns.

    Returns:
        A Matplotlib figure.
    """
    draws, chosen, note = chosen_draws(samples, parameters, max_parameters)
    sites = {site: [x for x in chosen if site_of(x) == site] for site in map(site_of, chosen)}
    heights = [len(labels) + 0.8 for labels in sites.values()]
    figure, axes = panels(
        len(sites), 1, width=7.0, height=1.0, heights=heights, total_height=1 + 0.3 * sum(heights)
    )
    for panel, labels in zip(axes.flat, sites.values(), strict=True):
        _forest_panel(panel, labels, draws)
    finish(figure, "Medians, 50 % and 90 % intervals", note, draws)
    return figure


def _forest_panel(panel: Any, labels: list[str], draws: dict[str, dict[str, np.ndarray]]) -> None:
    offsets = np.linspace(-0.16, 0.16, len(draws)) if len(draws) > 1 else [0.0]
    for scalars, colour, offset in zip(draws.values(), COLOURS, offsets, strict=False):
        places = np.arange(len(labels)) + offset
        quantiles = np.quantile(
            [scalars[label].ravel() for label in labels], [0.05, 0.25, 0.5, 0.75, 0.95], axis=1
        )
        panel.hlines(places, quantiles[0], quantiles[4], color=colour, linewidth=1.2)
        panel.hlines(places, quantiles[1], quantiles[3], color=colour, linewidth=3.5)
        panel.plot(quantiles[2], places, "o", color=colour, markersize=5, markeredgecolor="white")
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.3)
    panel.tick_params(axis="y", length=0)
