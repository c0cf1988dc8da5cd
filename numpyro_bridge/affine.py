"""Affine maps, and a target seen through one."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._typing import RNGKey, Scalar, Vector
from numpyro_bridge.target import Point, Prior, Target


class AbstractAffineMap(eqx.Module):
    """`position = location + factor @ standardised`; a large `factor` is never formed."""

    location: eqx.AbstractVar[Vector]

    @property
    @abc.abstractmethod
    def log_det(self) -> Scalar:
        """Log absolute determinant of the factor."""

    @abc.abstractmethod
    def multiply(self, standardised: Vector) -> Vector:
        """`factor @ standardised`."""

    @abc.abstractmethod
    def multiply_transposed(self, score: Vector) -> Vector:
        """`factor.T @ score`: a gradient in positions becomes one in standardised positions."""

    @abc.abstractmethod
    def solve(self, displacement: Vector) -> Vector:
        """The standardised vector whose image is `displacement`."""

    def __call__(self, standardised: Vector) -> Vector:
        """The position of a standardised vector."""
        return self.location + self.multiply(standardised)

    def inverse(self, position: Vector) -> Vector:
        """The standardised vector of a position."""
        return self.solve(position - self.location)


class DenseMap(AbstractAffineMap):
    """A lower-triangular factor; for up to a few hundred dimensions."""

    location: Vector
    factor: Float[Array, "dim dim"]

    @property
    def log_det(self) -> Scalar:
        return jnp.sum(jnp.log(jnp.diagonal(self.factor)))

    def multiply(self, standardised: Vector) -> Vector:
        return standardised @ self.factor.T

    def multiply_transposed(self, score: Vector) -> Vector:
        return score @ self.factor

    def solve(self, displacement: Vector) -> Vector:
        return jax.scipy.linalg.solve_triangular(self.factor, displacement, lower=True)


class LowRankMap(AbstractAffineMap):
    """A diagonal factor after stretching a few orthonormal directions.

    `factor = diag(scale) @ (I + basis @ diag(stretch - 1) @ basis.T)`; rank zero is diagonal.
    """

    location: Vector
    scale: Vector
    basis: Float[Array, "dim rank"]
    stretch: Float[Array, " rank"]

    @property
    def log_det(self) -> Scalar:
        return jnp.sum(jnp.log(self.scale)) + jnp.sum(jnp.log(self.stretch))

    def multiply(self, standardised: Vector) -> Vector:
        return self.scale * self._stretched(standardised, self.stretch)

    def multiply_transposed(self, score: Vector) -> Vector:
        return self._stretched(self.scale * score, self.stretch)

    def solve(self, displacement: Vector) -> Vector:
        return self._stretched(displacement / self.scale, 1 / self.stretch)

    def _stretched(self, vector: Vector, by: Float[Array, " rank"]) -> Vector:
        return vector + ((vector @ self.basis) * (by - 1)) @ self.basis.T


def diagonal_map(location: Vector, scale: Vector) -> LowRankMap:
    """Shift and scale each coordinate."""
    no_basis = jnp.zeros((location.size, 0), location.dtype)
    return LowRankMap(location, scale, no_basis, jnp.zeros(0, location.dtype))


def identity_map(dim: int) -> LowRankMap:
    """The map that changes nothing."""
    dtype = jnp.result_type(float)
    return diagonal_map(jnp.zeros(dim, dtype), jnp.ones(dim, dtype))


def as_dense(map: AbstractAffineMap) -> DenseMap:
    """The map with a lower-triangular factor that stands for the same normal law."""
    if isinstance(map, DenseMap):
        return map
    columns = jax.vmap(map.multiply)(jnp.eye(map.location.size, dtype=map.location.dtype))
    return DenseMap(map.location, lower_factor(columns.T))


def with_rank(map: AbstractAffineMap, rank: int) -> LowRankMap:
    """A low-rank map padded with directions that it does not stretch.

    Raises:
        ValueError: if the map is dense or has more directions already.
    """
    if not isinstance(map, LowRankMap) or map.stretch.size > rank:
        raise ValueError(f"expected a low-rank map with at most {rank} directions, got {map}")
    missing = rank - map.stretch.size
    basis = jnp.pad(map.basis, ((0, 0), (0, missing)))
    stretch = jnp.pad(map.stretch, (0, missing), constant_values=1.0)
    return LowRankMap(map.location, map.scale, basis, stretch)


def lower_factor(root: Float[Array, "dim rank"]) -> Float[Array, "dim dim"]:
    """The lower-triangular factor of `root @ root.T`, by QR, which keeps small scales exact."""
    upper = jnp.linalg.qr(root.T, mode="r")
    return (upper * jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0)[:, None]).T


class StandardisedTarget(Target):
    """A target in the coordinates of an affine map; its evidence is the same.

    Args:
        base: The target in its own coordinates.
        map: From standardised to own coordinates.
    """

    base: Target
    map: AbstractAffineMap
    dim: int = eqx.field(static=True)

    def __init__(self, base: Target, map: AbstractAffineMap):
        self.base = base
        self.map = map
        self.dim = base.dim

    def at(self, position: Vector) -> Point:
        inner = self.base.at(self.map(position))
        log_density, score = self._pulled_back(inner.log_density, inner.score)
        prior = None if inner.prior is None else Prior(*self._pulled_back(*inner.prior))
        return Point(position, log_density, score, inner.finite, prior=prior)

    def log_density(self, position: Vector) -> Scalar:
        return self.base.log_density(self.map(position)) + self.map.log_det

    def with_prior(self) -> "StandardisedTarget":
        """The base with its prior, seen through the same map."""
        return StandardisedTarget(self.base.with_prior(), self.map)

    def draw_prior(self, rng_key: RNGKey) -> Vector:
        return self.map.inverse(self.base.draw_prior(rng_key))

    def _pulled_back(self, log_density: Scalar, score: Vector) -> tuple[Scalar, Vector]:
        """A density of positions, and its score, as one of standardised positions."""
        return log_density + self.map.log_det, self.map.multiply_transposed(score)

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


def gaussian_elbo(
    map: AbstractAffineMap, target: Target, noise: Float[Array, "draws dim"]
) -> Scalar:
    """Evidence lower bound, in nats, of the normal law that `map` makes of standard noise.

    The mean log weight of the draws: where the target is that law, every one of them, and so the
    mean, is the log evidence without noise. (A closed form of the entropy would leave some.)
    """
    log_density = jax.vmap(target.log_density)(jax.vmap(map)(noise))
    log_noise = -0.5 * jnp.sum(noise**2, axis=1) - 0.5 * target.dim * math.log(2 * math.pi)
    return jnp.mean(log_density - log_noise) + map.log_det
