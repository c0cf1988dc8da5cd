"""Histograms of each parameter, all samplers in one panel."""

from collections.abc import Sequence
from typing import Any

from numpyro_bridge.draws.plots.base import Samples, chosen_draws, finish, histograms, panels


def plot_marginals(
    samples: Samples, parameters: Sequence[str] | None = None, max_parameters: int = 12
) -> Any:
    """Show histograms of each parameter, with all samplers in one panel.

    >>> figure = nb.plots.plot_marginals({"bridge": idata})

    Args:
        samples: ArviZ objects by name; the first is drawn as a line, the others are filled.
        parameters: labels to choose from, in the order to show them in; all by default.
        max_parameters: how many to show at most; the sites take turns.

    Returns:
        A Matplotlib figure.
    """
    draws, chosen, note = chosen_draws(samples, parameters, max_parameters)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = panels(rows, columns, width=2.6, height=2.0)
    for panel, label in zip(axes.flat, chosen, strict=False):
        histograms(panel, [scalars[label].ravel() for scalars in draws.values()])
        panel.set_title(label, fontsize=10)
    for panel in axes.flat[len(chosen) :]:
        panel.set_axis_off()
    finish(figure, "Marginal posteriors", note, draws)
    return figure
