"""A target seen through an invertible map, and how near that makes it to standard normal."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._typing import RNGKey, Scalar, Vector
from numpyro_bridge.maps import AbstractMap
from numpyro_bridge.target import Point, Prior, Target


class StandardisedTarget(Target):
    """A target in the coordinates of an invertible map; its evidence is the same.

    Args:
        base: The target in its own coordinates.
        map: From standardised to own coordinates.
    """

    base: Target
    map: AbstractMap
    dim: int = eqx.field(static=True)

    def __init__(self, base: Target, map: AbstractMap):
        self.base = base
        self.map = map
        self.dim = base.dim

    def at(self, position: Vector) -> Point:
        inner = self.base.at(self.map(position))
        log_det = self.map.log_det(position)
        score = jnp.where(inner.finite, self.map.pull_back(position, inner.score), 0.0)
        prior = inner.prior
        if prior is not None:
            pulled_back = self.map.pull_back(position, prior.score)
            prior = Prior(prior.log_density + log_det, pulled_back)
        return Point(position, inner.log_density + log_det, score, inner.finite, prior=prior)

    def log_density(self, position: Vector) -> Scalar:
        return self.base.log_density(self.map(position)) + self.map.log_det(position)

    def with_prior(self) -> "StandardisedTarget":
        """The base with its prior, seen through the same map."""
        return StandardisedTarget(self.base.with_prior(), self.map)

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        return self.map.inverse(self.base.draw_prior(rng_key))

    def constrain(self, position: Vector) -> dict[str, Array]:
        return self.base.constrain(self.map(position))

    def by_site(self, position: Vector) -> Any:
        return self.base.by_site(self.map(position))

    def joined(self, values: Any) -> Vector:
        return self.map.inverse(self.base.joined(values))

    @property
    def has_evidence(self) -> bool:
        return self.base.has_evidence

    def initial_positions(self, rng_key: RNGKey, num: int) -> Float[Array, "{num} {self.dim}"]:
        return jax.vmap(self.map.inverse)(self.base.initial_positions(rng_key, num))


def elbo_of(map: AbstractMap, target: Target, noise: Float[Array, "draws dim"]) -> Scalar:
    """Evidence lower bound, in nats, of the law that a map makes of standard noise."""
    return jnp.mean(log_weights_of(map, target, noise))


def log_weights_of(
    map: AbstractMap, target: Target, noise: Float[Array, "draws dim"]
) -> Float[Array, " draws"]:
    """Target density over that of the law which a map makes of standard noise: logs, in nats.

    Where the target is that law, every one of them is the log evidence, without noise. (A closed
    form of the entropy would leave some.)
    """
    log_density = jax.vmap(StandardisedTarget(target, map).log_density)(noise)
    log_noise = -0.5 * jnp.sum(noise**2, axis=1) - 0.5 * target.dim * math.log(2 * math.pi)
    return log_density - log_noise
