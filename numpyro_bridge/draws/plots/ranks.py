"""The ranks of a simulation-based calibration."""

from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_instance, check_share
from numpyro_bridge.draws.calibration import Calibration
from numpyro_bridge.draws.plots.base import COLOURS, panels
from numpyro_bridge.draws.uniformity import simultaneous_band


def plot_ranks(calibration: Calibration, prob: float = 0.95) -> Any:
    """Show the distribution functions of ranks, minus the one of uniform ranks.

    >>> calibration = nb.calibrate(sampler, model, key, x, num_simulations=20)
    >>> figure = nb.plots.plot_ranks(calibration)

    The line of calibrated draws stays inside the band everywhere, with probability `prob`, and is
    blue; one that leaves it is orange. A line that leaves it on one side only shows biased draws; a
    line in the shape of an S shows draws that are too wide or too narrow.

    Args:
        calibration: the result of `calibrate`, or of `AmortisedPosterior.calibrate`.
        prob: probability that a line of uniform ranks stays in the band everywhere.

    Returns:
        A Matplotlib figure, with a panel for each site and a line for each element.
    """
    such_as = "amortised.calibrate(rng_key)"
    check_instance("calibration", calibration, Calibration, such_as)
    prob = check_share("prob", prob)
    places, low, high = simultaneous_band(len(calibration.ess), calibration.num_draws, prob=prob)
    columns = min(4, len(calibration.ranks))
    rows = -(-len(calibration.ranks) // columns)
    figure, axes = panels(rows, columns, width=2.8, height=2.2, sharex=True)
    for panel, (site, ranks) in zip(axes.flat, calibration.ranks.items(), strict=False):
        panel.fill_between(places, low - places, high - places, color="black", alpha=0.12, lw=0)
        for column in ranks.reshape(len(ranks), -1).T:
            counts = np.bincount(column, minlength=calibration.num_draws + 1)
            share = np.cumsum(counts)[:-1] / len(column)
            inside = np.all((low <= share) & (share <= high))
            colour = COLOURS[0] if inside else COLOURS[1]
            panel.plot(places, share - places, color=colour, linewidth=1.2, alpha=0.7)
        panel.set_title(site, fontsize=10)
    for panel in axes.flat[len(calibration.ranks) :]:
        panel.set_axis_off()
    figure.supxlabel("rank, as a share", fontsize=10)
    figure.supylabel("share below, less uniform", fontsize=10)
    figure.suptitle(f"Ranks of {len(calibration.ess)} simulations")
    return figure
