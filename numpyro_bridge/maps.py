"""What standardisation finds: an invertible map to positions from where they are nearly normal."""

import abc

import equinox as eqx
import jax

from numpyro_bridge._typing import Scalar, Vector


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

    def pull_back(self, standardised: Vector, score: Vector) -> Vector:
        """The score of a density in standardised coordinates, given its score in positions."""

        def log_density(x):
            return self(x) @ score + self.log_det(x)

        return jax.grad(log_density)(standardised)
