"""Initial distributions: where a process starts, and the score that annealing leads away from."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import (
    MOST_STEPS,
    check_array,
    check_count,
    check_instance,
    check_positive,
)
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.maps import inverse_of_lower
from numpyro_bridge.processes.kernels import AbstractKernel, Gaussian
from numpyro_bridge.processes.parts import AbstractPart
from numpyro_bridge.target import Point, Target


class AbstractInitialDistribution(AbstractPart):
    """A distribution that can be drawn from and evaluated, with a score; its arrays are trained.

    >>> class Wide(nb.processes.AbstractInitialDistribution):
    ...     def kernel(self, target):
    ...         return nb.processes.Gaussian(jnp.zeros(2), jnp.full(2, 3.0), target)
    ...
    ...     def score(self, point):
    ...         return -point.position / 9.0
    >>> process = nb.CMCD(key, dim=2, initial=Wide())
    """

    @abc.abstractmethod
    def kernel(self, target: Target) -> AbstractKernel:
        """The distribution as a kernel that evaluates `target` at what it draws."""

    @abc.abstractmethod
    def score(self, point: Point) -> Vector:
        """The gradient of the log density at a point."""

    def prepared(self, target: Target) -> Target:
        """The target, with points that carry what this distribution needs to know about them."""
        return target


class InitialNormal(AbstractInitialDistribution):
    """An independent normal distribution for each coordinate, standard at the start of training.

    >>> initial = nb.processes.InitialNormal(dim=2, scale=1.5)
    >>> sampler = nb.BridgeSampler(model, process=partial(nb.CMCD, initial=initial))

    Args:
        dim: Number of coordinates.
        scale: First standard deviation of every coordinate.
    """

    mean: Vector
    log_scale: Vector

    def __init__(self, dim: int, scale: float = 1.0):
        dim = check_count("dim", dim, 1, MOST_STEPS)
        scale = check_positive("scale", scale)
        dtype = jnp.result_type(float)
        self.mean = on_device(np.zeros(dim), dtype)
        self.log_scale = on_device(np.full(dim, math.log(scale)), dtype)

    def kernel(self, target: Target) -> Gaussian:
        return Gaussian(self.mean, jnp.exp(self.log_scale), target)

    def score(self, point: Point) -> Vector:
        return (self.mean - point.position) * jnp.exp(-2 * self.log_scale)

    def widened(self, factor: float) -> "InitialNormal":
        return eqx.tree_at(lambda part: part.log_scale, self, self.log_scale + math.log(factor))


def chosen_or_normal(
    initial: AbstractInitialDistribution | None, dim: int
) -> AbstractInitialDistribution:
    """What a constructor was given to start from, or a standard normal distribution.

    Raises:
        ValueError: if `initial` is anything else.
    """
    if initial is None:
        return InitialNormal(dim)
    check_instance("initial", initial, AbstractInitialDistribution, "nb.processes.InitialPrior()")
    return initial


class InitialMixture(AbstractInitialDistribution):
    """A mixture of normal distributions, to be passed as `initial=`; all its arrays are trained.

    >>> means, factors = jnp.array([[-2.0, 0.0], [2.0, 0.0]]), jnp.stack([jnp.eye(2)] * 2)
    >>> initial = nb.processes.InitialMixture(jnp.zeros(2), means, factors)
    >>> process = partial(nb.CMCD, initial=initial)
    >>> sampler = nb.BridgeSampler(model, process=process, standardise=nb.standardise)

    Choose it where a single bridge, without charts, has to start from several places.

    Args:
        log_weights: Unnormalised, shape `(places,)`.
        means: Centres in the coordinates of the map, shape `(places, dim)`.
        factors: Lower-triangular factors of the covariances, shape `(places, dim, dim)`.
    """

    log_weights: Float[Array, " places"]
    means: Float[Array, "places dim"]
    factors: Float[Array, "places dim dim"]

    def __check_init__(self) -> None:
        check_array("log_weights", self.log_weights, "(places,)")
        check_array("means", self.means, "(places, dim)")
        check_array("factors", self.factors, "(places, dim, dim)")

    def kernel(self, target: Target) -> "GaussianMixture":
        return GaussianMixture(self, target)

    def widened(self, factor: float) -> "InitialMixture":
        return eqx.tree_at(lambda part: part.factors, self, self.factors * factor)

    def score(self, point: Point) -> Vector:
        whitenings, whitened, log_parts = self._parts(point.position)
        pulls = jnp.einsum("mij,mi->mj", whitenings, whitened)
        return -jax.nn.softmax(log_parts) @ pulls

    def log_prob(self, position: Vector) -> Scalar:
        """Log density, in nats."""
        *_, log_parts = self._parts(position)
        return jax.nn.logsumexp(log_parts) - 0.5 * position.size * math.log(2 * math.pi)

    def _parts(
        self, position: Vector
    ) -> tuple[Float[Array, "places dim dim"], Float[Array, "places dim"], Float[Array, " places"]]:
        """Inverse factor, whitened displacement and unnormalised log density for each place."""
        whitenings = jax.vmap(inverse_of_lower)(self.factors)
        whitened = jnp.einsum("mij,mj->mi", whitenings, position - self.means)
        diagonals = jnp.diagonal(self.factors, axis1=1, axis2=2)
        # Training may turn the sign of an entry; the covariance does not change with it.
        log_det = jnp.sum(jnp.log(jnp.abs(diagonals)), axis=1)
        log_weights = jax.nn.log_softmax(self.log_weights)
        log_parts = log_weights - 0.5 * jnp.sum(whitened**2, axis=1) - log_det
        return whitenings, whitened, log_parts

    def draw(self, rng_key: RNGKey) -> Vector:
        """A position, through which means and factors can be learned but not the weights."""
        choice_key, noise_key = jax.random.split(rng_key)
        choice = jax.random.categorical(choice_key, self.log_weights)
        noise = jax.random.normal(noise_key, self.means.shape[1:], self.means.dtype)
        # Training changes entries above the diagonal too; like the density, draws ignore them.
        return self.means[choice] + jnp.tril(self.factors[choice]) @ noise


class GaussianMixture(AbstractKernel):
    """A mixture together with the target that is evaluated at its draws."""

    mixture: InitialMixture
    target: Target

    def sample(self, rng_key: RNGKey) -> Point:
        return self.target.at(self.mixture.draw(rng_key))

    def log_prob(self, point: Point) -> Scalar:
        return self.mixture.log_prob(point.position)
