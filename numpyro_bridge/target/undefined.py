"""Whether the log density of a model is no number at draws from its own prior."""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge.target.base import Target
from numpyro_bridge.target.model import ModelTarget
from numpyro_bridge.target.no_start import non_finite_sites

MOST_DRAWS = 256
"""Prior draws that are looked at."""

LEAST_SHARE = 0.01
"""Fewer of them are rounding, far out in a tail."""


def undefined_at_prior_draws(target: Target, prior: Float[Array, "draws dim"]) -> str:
    """Say at which share of prior draws the density is NaN or +inf, and why; empty if at few.

    A place where data are impossible has the density zero, and its log is -inf: that is no fault.
    NaN is, as of a normal distribution with a negative scale. Samplers take it for zero too.

    Args:
        target: The target in its own coordinates.
        prior: Draws from its prior.
    """
    model = target.innermost
    if not isinstance(model, ModelTarget):
        return ""
    prior = prior[:MOST_DRAWS]
    raw = np.asarray(_raw_log_densities(model, prior))
    undefined = np.isnan(raw) | np.isposinf(raw)
    if np.mean(undefined) < LEAST_SHARE:
        return ""
    place = model.by_site(prior[int(np.argmax(undefined))])
    blamed = non_finite_sites(model.model, model.model_args, model.model_kwargs, place)
    return (
        f"At {np.mean(undefined):.0%} of the draws from the prior the log density is NaN or "
        f"infinite, which counts as impossible. At one of them: {'; '.join(blamed.values())}. If "
        "that is not meant, look at the priors: a scale needs a prior on positive numbers."
    )


@eqx.filter_jit
def _raw_log_densities(model: ModelTarget, positions):
    return jax.lax.map(model._log_density, positions)
