"""How the importance weights spread."""

from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_instance
from numpyro_bridge._core.weights import require_usable
from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.plots.base import COLOURS, panels
from numpyro_bridge.draws.verdict import GOOD_PARETO_K

NEGLIGIBLE = 30.0
"""A log weight this many nats below the largest is as good as zero, and is shown there at most."""


def plot_weights(draws: Draws) -> Any:
    """Show how the log weights spread; a good sampler has them near zero, with no long right tail.

    >>> figure = nb.plots.plot_weights(draws)

    Args:
        draws: What `Posterior.sample` returned.

    Returns:
        A Matplotlib figure.

    Raises:
        ValueError: if a weight is NaN or infinite.
    """
    check_instance("draws", draws, Draws, "posterior.sample(rng_key)")
    require_usable(draws.log_weight)
    values = np.asarray(draws.log_weight, np.float64)
    largest = np.max(values)
    relative = values - largest - np.log(np.mean(np.exp(values - largest)))
    figure, axes = panels(1, 1, width=7.0, height=3.4)
    (panel,) = axes.flat
    # A logarithmic axis shows single draws, and those far to the right matter.
    high = np.max(relative)
    low = max(np.min(relative), high - NEGLIGIBLE)
    bins = np.linspace(low, max(high, low + 1e-3), 60)
    panel.hist(np.maximum(relative, low), bins=bins, color=COLOURS[0], alpha=0.8)
    panel.set_yscale("log")
    panel.grid(alpha=0.3)
    panel.set_axisbelow(True)
    panel.axvline(0.0, color="black", linewidth=1.2)
    panel.set_xlabel("log weight, minus the log of the mean weight [nats]")
    panel.set_ylabel("draws")
    figure.suptitle(
        f"{draws.num_samples} weights: Pareto k-hat {draws.pareto_k:.2f} "
        f"({_tail_in_words(draws)}), ESS {100 * draws.ess:.0f} %"
    )
    return figure


def _tail_in_words(draws: Draws) -> str:
    if draws.tail_is_doubtful:
        return f"heavy tail, {draws.tail_share:.0%} of all"
    if draws.pareto_k <= GOOD_PARETO_K:
        return "light tail"
    return f"tail of at most {draws.tail_share:.1%}"
