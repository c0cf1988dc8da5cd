"""How the importance weights spread."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike

from numpyro_bridge._core.checks import check_array, check_number
from numpyro_bridge.draws.plots.base import COLOURS, panels
from numpyro_bridge.draws.verdict import GOOD_PARETO_K, MAX_PARETO_K

NEGLIGIBLE = 30.0
"""A log weight this many nats below the largest is as good as zero, and is shown there at most."""


def plot_weights(log_weight: ArrayLike, pareto_k: float, ess: float) -> Any:
    """Show how the log weights spread; a good sampler has them near zero, with no long right tail.

    >>> figure = nb.plots.plot_weights(draws.log_weight, draws.pareto_k, draws.ess)

    Args:
        log_weight: log target minus log proposal, in nats, shape (num,).
        pareto_k: the tail index of the weights, for the title.
        ess: the effective sample size as a share of the draws, for the title.

    Returns:
        A Matplotlib figure.
    """
    check_array("log_weight", np.asarray(log_weight), "(num,)")
    pareto_k = check_number("pareto_k", pareto_k, finite=False)
    ess = check_number("ess", ess, finite=False)
    values = np.asarray(log_weight, np.float64)
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
        f"Weights of {len(values)} draws: Pareto k-hat {pareto_k:.2f} ({_judgement(pareto_k)}), "
        f"ESS {100 * ess:.0f} %"
    )
    return figure


def _judgement(pareto_k: float) -> str:
    if pareto_k <= GOOD_PARETO_K:
        return f"good: below {GOOD_PARETO_K}"
    if pareto_k <= MAX_PARETO_K:
        return f"fair: above {GOOD_PARETO_K}"
    return f"not to be trusted: above {MAX_PARETO_K}"
