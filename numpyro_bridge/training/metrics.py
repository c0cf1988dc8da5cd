"""What an iteration of training reports."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from numpyro_bridge.diffusion.samples import SampleLosses
from numpyro_bridge.trajectories.trajectory import Trajectory

Values = Array | np.ndarray


class Metrics(NamedTuple):
    """What one iteration reports; arrays over iterations in a `Training`."""

    elbo: Values
    """Mean log weight of the batch, in nats; minus the loss, where a loss reads draws."""
    log_weight_sd: Values
    """Its standard deviation over the batch; zero for a perfect bridge."""
    ess: Values
    """Effective fraction of the batch, in (0, 1]."""
    num_non_finite: Values
    """Trajectories that met a non-finite density or score."""
    skipped: Values
    """1 where the update was not finite and was left out."""


def trajectory_metrics(runs: Trajectory, skipped: Array) -> Metrics:
    """Summarise a batch of trajectories."""
    log_weight = runs.log_weight
    shifted = jnp.exp(log_weight - jnp.max(log_weight))
    return Metrics(
        elbo=jnp.mean(log_weight),
        log_weight_sd=jnp.std(log_weight),
        ess=jnp.mean(shifted) ** 2 / jnp.mean(shifted**2),
        num_non_finite=jnp.sum(~jnp.all(runs.states.finite, axis=-1), dtype=log_weight.dtype),
        skipped=skipped,
    )


def summarised(report: Trajectory | SampleLosses, skipped: Array) -> Metrics:
    """Summarise a batch of trajectories, or of draws.

    Draws have no weights, and minus the loss stands for the ELBO.
    """
    if isinstance(report, Trajectory):
        return trajectory_metrics(report, skipped)
    loss = report.loss
    no_ess = jnp.full((), jnp.nan, loss.dtype)
    num_non_finite = jnp.sum(~jnp.isfinite(loss), dtype=loss.dtype)
    # Spread says nothing here of how far there is to go; a small one would end training.
    spread = jnp.full((), jnp.nan, loss.dtype)
    return Metrics(-jnp.mean(loss), spread, no_ess, num_non_finite, skipped)
