"""Affine maps: shift, scale, correlate."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.atlas.maps import AbstractMap


class AbstractAffineMap(AbstractMap):
    """`position = location + factor @ standardised`; a large `factor` is never formed."""

    location: eqx.AbstractVar[Vector]

    @property
    @abc.abstractmethod
    def log_det_of_factor(self) -> Scalar:
        """Log absolute determinant of the factor: that of the map, everywhere."""

    @abc.abstractmethod
    def multiply(self, standardised: Vector) -> Vector:
        """`factor @ standardised`."""

    @abc.abstractmethod
    def solve(self, displacement: Vector) -> Vector:
        """The standardised vector whose image is `displacement`."""

    def __call__(self, standardised: Vector) -> Vector:
        """The position of a standardised vector."""
        return self.location + self.multiply(standardised)

    def inverse(self, position: Vector) -> Vector:
        """The standardised vector of a position."""
        return self.solve(position - self.location)

    def log_det(self, standardised: Vector) -> Scalar:
        """That of the factor, wherever."""
        return self.log_det_of_factor


class DenseMap(AbstractAffineMap):
    """A lower-triangular factor; for up to a few thousand dimensions."""

    location: Vector
    factor: Float[Array, "dim dim"]

    @property
    def log_det_of_factor(self) -> Scalar:
        return jnp.sum(jnp.log(jnp.diagonal(self.factor)))

    def multiply(self, standardised: Vector) -> Vector:
        return standardised @ self.factor.T

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
    def log_det_of_factor(self) -> Scalar:
        return jnp.sum(jnp.log(self.scale)) + jnp.sum(jnp.log(self.stretch))

    def multiply(self, standardised: Vector) -> Vector:
        return self.scale * self._stretched(standardised, self.stretch)

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
    return (upper * _signs(upper)[:, None]).T


def factor_and_rotation(
    root: Float[Array, "dim dim"],
) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
    """The lower-triangular factor of `root @ root.T`, and the rotation that makes it `root`."""
    columns, upper = jnp.linalg.qr(root.T)
    signs = _signs(upper)
    return (upper * signs[:, None]).T, (columns * signs).T


def _signs(upper: Float[Array, "rank dim"]) -> Float[Array, " rank"]:
    return jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0)
