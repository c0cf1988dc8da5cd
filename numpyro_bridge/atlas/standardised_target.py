"""A target seen through an invertible map, and how close that brings it to a standard normal."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Point, Prior, Target
from numpyro_bridge.target.starting_points import StartingPoints


class StandardisedTarget(Target):
    """A target in the coordinates of an invertible map, which leaves its evidence unchanged.

    >>> affine = nb.atlas.DenseMap(jnp.array([1.0, 2.0]), 2 * jnp.eye(2))
    >>> standardised = nb.atlas.StandardisedTarget(target, affine)
    >>> standardised.to_model(jnp.ones(2)).tolist()
    [3.0, 4.0]

    Args:
        base: The target in its own coordinates.
        map: From standardised coordinates to those of `base`.
    """

    base: Target
    map: AbstractMap
    dim: int = eqx.field(static=True)

    def __init__(self, base: Target, map: AbstractMap):
        self.base = base
        self.map = map
        self.dim = base.dim

    def at(self, position: Vector) -> Point:
        # Where the map would overflow it is evaluated at zero, so that no derivative is NaN.
        near = self.map.within_range(position)
        inside = jnp.where(near, position, 0.0)
        (outside, log_det), pull = jax.vjp(self._mapped, inside)
        inner = self.base.at(outside)

        def pulled_back(log_density, score):
            (score,) = pull((score, jnp.ones_like(log_det)))
            return log_density + log_det, score

        log_density, score = pulled_back(inner.log_density, inner.score)
        known = near & (inner.log_density > REPLACED_LOG_DENSITY) & jnp.isfinite(log_density)
        log_density = jnp.where(known, log_density, REPLACED_LOG_DENSITY)
        finite = known & inner.finite & jnp.all(jnp.isfinite(score))
        prior = None if inner.prior is None else Prior(*pulled_back(*inner.prior))
        return Point(position, log_density, jnp.where(finite, score, 0.0), finite, prior=prior)

    def log_density(self, position: Vector) -> Scalar:
        near = self.map.within_range(position)
        outside, log_det = self._mapped(jnp.where(near, position, 0.0))
        log_density = self.base.log_density(outside) + log_det
        return jnp.where(near & jnp.isfinite(log_density), log_density, REPLACED_LOG_DENSITY)

    def _mapped(self, position: Vector) -> tuple[Vector, Scalar]:
        return self.map(position), self.map.log_det(position)

    def with_prior(self) -> "StandardisedTarget":
        """The base with its prior, seen through the same map."""
        return StandardisedTarget(self.base.with_prior(), self.map)

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        return self.map.inverse(self.base.draw_prior(rng_key))

    def prior_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"] | None:
        draws = self.base.prior_positions(rng_key, num)
        return None if draws is None else jax.vmap(self.map.inverse)(draws)

    @property
    def innermost(self) -> Target:
        return self.base.innermost

    def from_model(self, position: Vector) -> Vector:
        return self.map.inverse(self.base.from_model(position))

    def to_model(self, position: Vector) -> Vector:
        return self.base.to_model(self.map(position))

    def log_responsibility(self, position: Vector) -> Scalar | None:
        return self.base.log_responsibility(position)

    def constrain(self, position: Vector) -> dict[str, Array]:
        return self.base.constrain(self.map(position))

    def by_site(self, position: Vector) -> Any:
        return self.base.by_site(self.map(position))

    def joined(self, values: Any) -> Vector:
        return self.map.inverse(self.base.joined(values))

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        return self.base.sites

    @property
    def observed(self) -> dict[str, Array]:
        return self.base.observed

    @property
    def improper_sites(self) -> tuple[str, ...]:
        return self.base.improper_sites

    def unconstrain(self, sites: dict[str, Any]) -> Vector:
        return self.map.inverse(self.base.unconstrain(sites))

    @property
    def has_evidence(self) -> bool:
        return self.base.has_evidence

    def starting_points(self, rng_key: RNGKey, num: int) -> StartingPoints:
        found = self.base.starting_points(rng_key, num)
        return found._replace(positions=jax.vmap(self.map.inverse)(found.positions))


LIGHTEST = 6.0
"""A weight this many nats below the mean is as good as none."""

NUM_DRAWS = 1_024
"""Draws that maps are compared by: always as many, so that one compiled program makes them."""


@brief_jit
def weights_of_draws(
    rng_key: RNGKey, transform: AbstractMap, target: Target
) -> Float[Array, " draws"]:
    """Log weights, in nats, of draws that a map makes; the same key makes the same noise.

    Their mean is the ELBO of the map.
    """
    noise = jax.random.normal(rng_key, (NUM_DRAWS, target.dim), jnp.result_type(float))
    return log_weights_of(transform, target, noise)


def gap_of(log_weight: Float[Array | np.ndarray, " draws"]) -> float:
    """About how far the ELBO is below the log evidence, in nats; infinite where that is unknown.

    Where weights are nearly equal it is half the variance of their logarithms, and also half the
    variance of the weights relative to their mean. The larger one is taken, so that a few heavy
    weights count. How light the lightest are does not: such draws are lost, and no more.
    """
    logs = np.asarray(log_weight, np.float64)
    if not np.all(np.isfinite(logs)):
        return np.inf
    weight, logs = np.exp(logs - np.max(logs)), floored(logs)
    with np.errstate(over="ignore"):  # a gap beyond all numbers is infinite
        return float(0.5 * max(np.var(logs), np.var(weight) / np.mean(weight) ** 2))


def floored(log_weight: Float[Array | np.ndarray, " draws"]) -> Float[np.ndarray, " draws"]:
    """The same log weights, none of which is further below their mean than one that is lost."""
    logs = np.asarray(log_weight, np.float64)
    return np.maximum(logs, np.logaddexp.reduce(logs) - math.log(len(logs)) - LIGHTEST)


def bound_of(log_weight: Float[Array | np.ndarray, " draws"]) -> float:
    """A lower bound on the log evidence, in nats, that a few light draws do not ruin.

    It is the bound of Rényi's divergence of order one half (Li and Turner 2016, arXiv:1602.02311),
    which is above the ELBO. Where a weight is not a number, it is minus infinity.
    """
    halves = np.asarray(log_weight, np.float64) / 2
    if np.any(np.isnan(halves)):
        return -np.inf
    return float(2 * (np.logaddexp.reduce(halves) - math.log(len(halves))))


def elbo_of(transform: AbstractMap, target: Target, noise: Float[Array, "draws dim"]) -> Scalar:
    """The ELBO, in nats, of the distribution that a map makes of standard normal noise."""
    return jnp.mean(log_weights_of(transform, target, noise))


@brief_jit
def log_weights_of(
    transform: AbstractMap, target: Target, noise: Float[Array, "draws dim"]
) -> Float[Array, " draws"]:
    """Log weights, in nats, of draws that a map makes of standard normal noise.

    A log weight is the log density of the target minus that of the map's own distribution. Where
    the two distributions are the same, every log weight equals the log evidence, without Monte
    Carlo noise. (A closed form of the entropy would leave noise.)
    """
    log_density = jax.vmap(StandardisedTarget(target, transform).log_density)(noise)
    log_noise = -0.5 * jnp.sum(noise**2, axis=1) - 0.5 * target.dim * math.log(2 * math.pi)
    return log_density - log_noise
