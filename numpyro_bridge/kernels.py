"""Markov kernels: the object that samples is the object that scores, so the two cannot disagree."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._typing import RNGKey, Scalar, Vector
from numpyro_bridge.target import Point, Target


class AbstractKernel(eqx.Module):
    """One Markov step: a law over the next state that can be sampled and evaluated."""

    @abc.abstractmethod
    def sample(self, rng_key: RNGKey) -> Point:
        """Draw the next state; the target is evaluated there, once."""

    @abc.abstractmethod
    def log_prob(self, point: Point) -> Scalar:
        """Log density of moving to `point`, in nats."""


class Gaussian(AbstractKernel):
    """An independent normal law per coordinate.

    Args:
        mean: Where the step goes on average, shape `(dim,)`.
        scale: Standard deviations, shape `(dim,)`, positive.
        target: The density that is evaluated at what is drawn.
    """

    mean: Vector
    scale: Vector
    target: Target

    def sample(self, rng_key: RNGKey) -> Point:
        """Draw a position and evaluate the target there."""
        noise = jax.random.normal(rng_key, self.mean.shape, self.mean.dtype)
        return self.target.at(self.mean + self.scale * noise)

    def log_prob(self, point: Point) -> Scalar:
        """Log density at `point.position`, in nats."""
        standardised = (point.position - self.mean) / self.scale
        log_normaliser = jnp.sum(jnp.log(self.scale)) + 0.5 * self.mean.size * math.log(2 * math.pi)
        return -0.5 * jnp.sum(standardised**2) - log_normaliser
