"""ELBO and effective sample size while training."""

from typing import Any

import numpy as np

from numpyro_bridge.draws.plots.base import COLOURS, panels
from numpyro_bridge.training.metrics import Metrics

SMOOTHING = 25
"""Iterations in the moving average of a training curve."""


def plot_training(
    metrics: Metrics, log_evidence: float | None = None, log_evidence_error: float = 0.0
) -> Any:
    """Show the ELBO and the effective sample size of every training iteration.

    Args:
        metrics: of a `Posterior` or a `Training`.
        log_evidence: estimate that the ELBO should rise to, in nats; no line if None or NaN.
        log_evidence_error: its standard error, in nats.

    Returns:
        A Matplotlib figure.
    """
    figure, axes = panels(2, 1, width=7.0, height=2.4, sharex=True)
    upper, lower = axes.flat
    _curve(upper, np.asarray(metrics.elbo))
    _curve(lower, np.asarray(metrics.ess))
    elbo = np.asarray(metrics.elbo)[np.isfinite(metrics.elbo)]
    # The first iterations lie so far below that nothing else could be seen.
    bottom, top = np.quantile(elbo, [0.05, 1.0]) if elbo.size else (0.0, 1.0)
    if log_evidence is not None and np.isfinite(log_evidence):
        upper.axhline(log_evidence, color="black", linewidth=1.2, label="log evidence")
        upper.axhspan(
            log_evidence - log_evidence_error,
            log_evidence + log_evidence_error,
            color="black",
            alpha=0.15,
            linewidth=0,
        )
        top = max(top, log_evidence)
    margin = 0.08 * max(top - bottom, 1e-3)
    upper.set_ylim(bottom - margin, top + margin)
    upper.set_ylabel("ELBO [nats]")
    upper.legend(loc="lower right", framealpha=0.9, edgecolor="none", fontsize=9)
    lower.set_ylim(0, 1.02)
    lower.set_ylabel("effective sample size\n[share of a batch]")
    lower.set_xlabel("training iteration")
    figure.suptitle("Training")
    return figure


def _curve(panel: Any, values: np.ndarray) -> None:
    iterations = np.arange(1, len(values) + 1)
    window = min(SMOOTHING, len(values))
    panel.plot(iterations, values, color=COLOURS[0], alpha=0.25, linewidth=0.8, label="iteration")
    panel.plot(
        iterations[window - 1 :],
        np.convolve(values, np.ones(window) / window, mode="valid"),
        color=COLOURS[0],
        linewidth=1.8,
        label=f"mean of {window}",
    )
    panel.grid(alpha=0.3)
