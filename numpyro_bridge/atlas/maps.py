"""What standardisation finds: an invertible map to positions from where they are nearly normal."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from numpyro_bridge._core.types import Scalar, Vector


class AbstractMap(eqx.Module):
    """An invertible map from standardised vectors to positions, both of shape (dim,)."""

    @abc.abstractmethod
    def __call__(self, standardised: Vector) -> Vector:
        """The position of a standardised vector."""

    @abc.abstractmethod
    def inverse(self, position: Vector) -> Vector:
        """The standardised vector of a position."""

    @abc.abstractmethod
    def log_det(self, standardised: Vector) -> Scalar:
        """Log absolute determinant of the derivative of the map there."""

    def within_range(self, standardised: Vector) -> Bool[Array, ""]:
        """Whether the numbers of the map are finite there, whatever the precision."""
        return jnp.asarray(True)
