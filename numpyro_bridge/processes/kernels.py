"""Markov kernels: the object that samples is the object that scores, so the two cannot disagree."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from numpyro_bridge._core.normal import normal_log_prob
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.target import Point, Target


class AbstractKernel(eqx.Module):
    """One Markov step: a distribution of the next state that can be drawn from and evaluated.

    >>> kernel = process.start(target)
    >>> point = kernel.sample(key)
    >>> kernel.log_prob(point).shape
    ()
    """

    @abc.abstractmethod
    def sample(self, rng_key: RNGKey) -> Point:
        """Draw the next state; the target is evaluated there, once."""

    @abc.abstractmethod
    def log_prob(self, point: Point) -> Scalar:
        """Log density of moving to `point`, in nats."""


class Gaussian(AbstractKernel):
    """An independent normal distribution for each coordinate.

    >>> kernel = nb.processes.Gaussian(jnp.zeros(2), jnp.ones(2), target)
    >>> round(float(kernel.log_prob(target.at(jnp.zeros(2)))), 3)
    -1.838

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
        return normal_log_prob(point.position, self.mean, self.scale)


class AtRest(AbstractKernel):
    """Adds to a point a momentum that does not depend on its position.

    Args:
        point: What the momentum is added to.
        mass: Variances of the momentum, shape `(dim,)`, positive.
    """

    point: Point
    mass: Vector

    def sample(self, rng_key: RNGKey) -> Point:
        """Draw the momentum; the point stays."""
        noise = jax.random.normal(rng_key, self.mass.shape, self.mass.dtype)
        return self.point._replace(momentum=jnp.sqrt(self.mass) * noise)

    def log_prob(self, point: Point) -> Scalar:
        """Log density of `point.momentum`, in nats."""
        return normal_log_prob(momentum_of(point), jnp.zeros_like(self.mass), jnp.sqrt(self.mass))


class WithMomentum(AbstractKernel):
    """A distribution of positions, to each of which an independent momentum is added."""

    positions: AbstractKernel
    mass: Vector

    def sample(self, rng_key: RNGKey) -> Point:
        """Draw a position, evaluate the target there, and draw a momentum."""
        position_key, momentum_key = jax.random.split(rng_key)
        point = self.positions.sample(position_key)
        return AtRest(point, self.mass).sample(momentum_key)

    def log_prob(self, point: Point) -> Scalar:
        """Log density of position and momentum together, in nats."""
        return self.positions.log_prob(point) + AtRest(point, self.mass).log_prob(point)


def momentum_of(point: Point) -> Vector:
    """The momentum of a state of an underdamped sampler.

    Raises:
        ValueError: if the state has none.
    """
    if point.momentum is None:
        raise ValueError("this state has no momentum; states of underdamped samplers have one")
    return point.momentum
