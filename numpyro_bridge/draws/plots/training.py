"""The numbers of every training iteration: ELBO and effective sample size, or the loss."""

from typing import Any

import numpy as np

from numpyro_bridge._core.checks import check_instance, check_number
from numpyro_bridge.draws.plots.base import COLOURS, panels
from numpyro_bridge.training.metrics import AbstractMetrics, Curve

SMOOTHING = 25
"""Iterations in the moving average of a training curve."""


def plot_training(
    metrics: AbstractMetrics, log_evidence: float | None = None, log_evidence_error: float = 0.0
) -> Any:
    """Show what was measured in every training iteration, such as the ELBO and the ESS.

    >>> figure = nb.plots.plot_training(posterior.metrics, draws.log_evidence)

    Args:
        metrics: the `metrics` of a `Posterior` or a `Training`.
        log_evidence: an estimate in nats, to which the ELBO should rise. No line is drawn if it is
            None or NaN, or if training had no ELBO.
        log_evidence_error: the standard error of `log_evidence`, in nats.

    Returns:
        A Matplotlib figure, with a panel for each of the numbers.

    Raises:
        ValueError: if nothing was trained, so that there are no metrics.
    """
    if metrics is None:
        raise ValueError("metrics is None: nothing was trained, so that there is no curve to plot")
    check_instance("metrics", metrics, AbstractMetrics, "posterior.metrics")
    if log_evidence is not None:
        log_evidence = check_number("log_evidence", log_evidence, finite=False)
    log_evidence_error = check_number("log_evidence_error", log_evidence_error, finite=False)
    curves = metrics.curves()
    figure, axes = panels(len(curves), 1, width=7.0, height=2.4, sharex=True)
    for panel, curve in zip(axes.flat, curves, strict=True):
        _draw(panel, curve)
        if curve.bounds_evidence and log_evidence is not None and np.isfinite(log_evidence):
            _draw_evidence(panel, curve, log_evidence, log_evidence_error)
    axes.flat[0].legend(loc="best", framealpha=0.9, edgecolor="none", fontsize=9)
    axes.flat[-1].set_xlabel("training iteration")
    figure.suptitle("Training")
    return figure


def _draw(panel: Any, curve: Curve) -> None:
    values = np.asarray(curve.values)
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
    panel.set_ylim(*curve.limits)
    panel.set_ylabel(curve.label)
    panel.grid(alpha=0.3)


def _draw_evidence(panel: Any, curve: Curve, log_evidence: float, error: float) -> None:
    low, high = log_evidence - error, log_evidence + error
    panel.axhline(log_evidence, color="black", linewidth=1.2, label="log evidence")
    panel.axhspan(low, high, color="black", alpha=0.15, linewidth=0)
    bottom, top = curve.limits
    panel.set_ylim(bottom, max(top, log_evidence + 0.08 * (log_evidence - bottom)))
