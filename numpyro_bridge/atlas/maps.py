"""Invertible maps from standardised vectors to positions: the interface, and the affine maps."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.types import Scalar, Vector


class AbstractMap(eqx.Module):
    """An invertible map from standardised vectors to positions, both of shape `(dim,)`.

    >>> class Sinh(nb.atlas.AbstractMap):
    ...     def __call__(self, standardised):
    ...         return jnp.sinh(standardised)
    ...
    ...     def inverse(self, position):
    ...         return jnp.arcsinh(position)
    ...
    ...     def log_det(self, standardised):
    ...         return jnp.sum(jnp.log(jnp.cosh(standardised)))
    >>> nb.atlas.StandardisedTarget(target, Sinh()).to_model(jnp.zeros(2)).tolist()
    [0.0, 0.0]
    """

    @abc.abstractmethod
    def __call__(self, standardised: Vector) -> Vector:
        """The position that a standardised vector is mapped to."""

    @abc.abstractmethod
    def inverse(self, position: Vector) -> Vector:
        """The standardised vector that is mapped to a position."""

    @abc.abstractmethod
    def log_det(self, standardised: Vector) -> Scalar:
        """Log absolute determinant of the map's derivative at a standardised vector."""

    def within_range(self, standardised: Vector) -> Bool[Array, ""]:
        """Whether the map can be evaluated at a vector without overflow, in any precision."""
        return jnp.asarray(True)


class AbstractAffineMap(AbstractMap):
    """The map `position = location + factor @ standardised`.

    >>> isinstance(posterior.target.map, nb.atlas.AbstractAffineMap)  # and not bent
    True

    Subclasses say how to multiply by the factor and how to solve with it, so that in many
    dimensions the matrix itself is never formed.
    """

    location: eqx.AbstractVar[Vector]

    @property
    @abc.abstractmethod
    def log_det_of_factor(self) -> Scalar:
        """Log absolute determinant of the factor."""

    @abc.abstractmethod
    def multiply(self, standardised: Vector) -> Vector:
        """The product `factor @ standardised`."""

    @abc.abstractmethod
    def solve(self, displacement: Vector) -> Vector:
        """The standardised vector whose product with the factor is `displacement`."""

    def __call__(self, standardised: Vector) -> Vector:
        """The position that a standardised vector is mapped to."""
        return self.location + self.multiply(standardised)

    def inverse(self, position: Vector) -> Vector:
        """The standardised vector that is mapped to a position."""
        return self.solve(position - self.location)

    def log_det(self, standardised: Vector) -> Scalar:
        """The log determinant of the factor, which is the same at every vector."""
        return self.log_det_of_factor


class AbstractDenseMap(AbstractAffineMap):
    """An affine map with a lower-triangular factor, for up to a few thousand dimensions."""

    factor: eqx.AbstractVar[Float[Array, "dim dim"]]

    @property
    def log_det_of_factor(self) -> Scalar:
        """Sum of the logarithms of the diagonal."""
        return jnp.sum(jnp.log(jnp.diagonal(self.factor)))

    def multiply(self, standardised: Vector) -> Vector:
        """The product `factor @ standardised`."""
        return standardised @ self.factor.T


class DenseMap(AbstractDenseMap):
    """A dense map that is solved by substitution.

    >>> affine = nb.atlas.DenseMap(jnp.array([1.0, 2.0]), jnp.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> affine(jnp.ones(2)).tolist()
    [3.0, 6.0]
    """

    location: Vector
    factor: Float[Array, "dim dim"]

    def solve(self, displacement: Vector) -> Vector:
        return jax.scipy.linalg.solve_triangular(self.factor, displacement, lower=True)


class WhitenedMap(AbstractDenseMap):
    """A dense map that also keeps the inverse of its factor.

    Solving by a product is faster than by substitution where many positions are mapped back.
    """

    location: Vector
    factor: Float[Array, "dim dim"]
    whitening: Float[Array, "dim dim"]

    def solve(self, displacement: Vector) -> Vector:
        return displacement @ self.whitening.T


class LowRankMap(AbstractAffineMap):
    """An affine map that stretches a few orthonormal directions, then scales each coordinate.

    `factor = diag(scale) @ (I + basis @ diag(stretch - 1) @ basis.T)`. With no directions to
    stretch, the factor is diagonal.
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
    """The map that scales and shifts each coordinate by itself."""
    no_basis = jnp.zeros((location.size, 0), location.dtype)
    return LowRankMap(location, scale, no_basis, jnp.zeros(0, location.dtype))


def identity_map(dim: int) -> LowRankMap:
    """The map that changes nothing."""
    dtype = jnp.result_type(float)
    return diagonal_map(jnp.zeros(dim, dtype), jnp.ones(dim, dtype))


def as_dense(transform: AbstractAffineMap) -> DenseMap:
    """The map with a lower-triangular factor that makes the same distribution of normal noise."""
    if isinstance(transform, DenseMap):
        return transform
    location = transform.location
    columns = jax.vmap(transform.multiply)(jnp.eye(location.size, dtype=location.dtype))
    return DenseMap(location, lower_factor(columns.T))


def with_rank(transform: AbstractAffineMap, rank: int) -> LowRankMap:
    """A low-rank map padded to `rank` directions; it does not stretch the added ones.

    Raises:
        ValueError: if the map is dense or has more directions already.
    """
    if not isinstance(transform, LowRankMap) or transform.stretch.size > rank:
        raise ValueError(f"expected a low-rank map with at most {rank} directions, got {transform}")
    missing = rank - transform.stretch.size
    basis = jnp.pad(transform.basis, ((0, 0), (0, missing)))
    stretch = jnp.pad(transform.stretch, (0, missing), constant_values=1.0)
    return LowRankMap(transform.location, transform.scale, basis, stretch)


def lower_factor(root: Float[Array, "dim rank"]) -> Float[Array, "dim dim"]:
    """The lower-triangular factor of `root @ root.T`.

    It is found by a QR decomposition of the root, which keeps small scales accurate.
    """
    upper = jnp.linalg.qr(root.T, mode="r")
    return (upper * _signs(upper)[:, None]).T


def factor_and_rotation(
    root: Float[Array, "dim dim"],
) -> tuple[Float[Array, "dim dim"], Float[Array, "dim dim"]]:
    """A lower-triangular factor and a rotation whose product `factor @ rotation` is `root`."""
    columns, upper = jnp.linalg.qr(root.T)
    signs = _signs(upper)
    return (upper * signs[:, None]).T, (columns * signs).T


def _signs(upper: Float[Array, "rank dim"]) -> Float[Array, " rank"]:
    return jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0)


def inverse_of_lower(factor: Float[Array, "dim dim"]) -> Float[Array, "dim dim"]:
    """Inverse of a lower-triangular matrix by products; entries above the diagonal are ignored.

    It starts from the inverses of single diagonal entries, and joins neighbouring blocks until one
    is left. With the inverse each position costs one product. Triangular solves for many positions
    are slow, and have been seen to deadlock the CPU runtime of JAX 0.10.
    """
    dim = len(factor)
    size = 1 << (dim - 1).bit_length()
    padded = jnp.eye(size, dtype=factor.dtype).at[:dim, :dim].set(factor)
    inverses = (1 / jnp.diagonal(padded))[:, None, None]
    while len(inverses) > 1:
        width = inverses.shape[1]
        pairs = padded.reshape(len(inverses) // 2, 2 * width, -1, 2 * width)
        below = jnp.einsum("ninj->nij", pairs)[:, width:, :width]
        first, second = inverses[::2], inverses[1::2]
        inverses = jnp.block([[first, jnp.zeros_like(first)], [-second @ below @ first, second]])
    return inverses[0, :dim, :dim]
