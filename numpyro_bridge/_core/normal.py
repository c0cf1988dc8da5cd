"""The density of independent normal distributions."""

import math

import jax.numpy as jnp

from numpyro_bridge._core.types import Scalar, Vector


def normal_log_prob(value: Vector, mean: Vector, scale: Vector) -> Scalar:
    """Log density of independent normal distributions, summed over coordinates, in nats."""
    standardised = (value - mean) / scale
    log_normaliser = jnp.sum(jnp.log(scale)) + 0.5 * mean.size * math.log(2 * math.pi)
    return -0.5 * jnp.sum(standardised**2) - log_normaliser
