r"""Stretches that give standard normal noise tails like those of a Student distribution.

With a rate $a$, noise $z$ becomes $z \exp(a (q - 1))$, where $q$ is the square of the noise
relative to its mean. Far out the density of what comes out falls like a power of the distance; with
$a = 0$ nothing changes. The inverse is Lambert's function (Goerg 2011, arXiv:0912.4554). Where no
noise ever is, the factor grows no further, since a bridge in training may go there.

`Radial` stretches all directions alike, with $q = |z|^2 / d$ in $d$ dimensions, as the tails of an
elliptical Student distribution ask for; `along_axes` stretches each coordinate by itself.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import Scalar, Vector

LEAST_HEAVINESS = 1e-6
"""A stretch below this is none: the inverse would divide by it."""

NUM_STEPS = 6
"""Steps of the iteration for Lambert's function, which doubles the number of right digits."""


class Stretched(NamedTuple):
    """Noise after a stretch of each coordinate by itself."""

    position: Vector
    log_slope: Vector
    """Log of the derivative of each coordinate."""


def along_axes(noise: Vector, heaviness: Vector) -> Stretched:
    """Stretch every coordinate at a rate of its own, at least 0."""
    relative = noise**2
    log_factor, log_growth = _log_factor_and_growth(relative, heaviness, _farthest(1))
    return Stretched(noise * jnp.exp(log_factor), log_factor + log_growth)


def along_axes_inverse(position: Vector, heaviness: Vector) -> Vector:
    """Undo the stretch of every coordinate."""
    return position * jnp.exp(-_log_factor_undone(position**2, heaviness, _farthest(1)))


class Radial(eqx.Module):
    """A stretch of all directions alike, by a factor that grows with the distance."""

    heaviness: Scalar
    """The rate $a$, at least 0."""

    def __call__(self, noise: Vector) -> Vector:
        """Stretch noise."""
        return noise * jnp.exp(self._logs(noise)[0])

    def inverse(self, position: Vector) -> Vector:
        """Undo the stretch."""
        farthest = _farthest(position.size)
        return position * jnp.exp(
            -_log_factor_undone(_relative(position), self.heaviness, farthest)
        )

    def log_det(self, noise: Vector) -> Scalar:
        """Log of the absolute Jacobian determinant at noise."""
        log_factor, log_growth = self._logs(noise)
        return noise.size * log_factor + log_growth

    def solve(self, noise: Vector, slope: Vector) -> Vector:
        """The product of the inverse of the derivative at noise, which is symmetric, and a vector.

        The derivative is a multiple of the identity plus one of the direction of the noise, so that
        its inverse is known (Sherman and Morrison 1950).
        """
        log_factor, log_growth = self._logs(noise)
        along = noise * (noise @ slope) / jnp.maximum(noise @ noise, jnp.finfo(noise.dtype).tiny)
        return jnp.exp(-log_factor) * (slope + along * jnp.expm1(-log_growth))

    def _logs(self, noise: Vector) -> tuple[Scalar, Scalar]:
        return _log_factor_and_growth(_relative(noise), self.heaviness, _farthest(noise.size))


def _log_factor_and_growth(relative, heaviness, farthest):
    """Log of the factor, and of how much faster than the factor the stretched length grows."""
    log_factor = heaviness * (jnp.minimum(relative, farthest) - 1)
    log_growth = jnp.where(relative < farthest, jnp.log1p(2 * heaviness * relative), 0.0)
    return log_factor, log_growth


def _log_factor_undone(square, heaviness, farthest):
    """Log of the factor by which noise was stretched, from the relative square that came out."""
    heavy = heaviness > LEAST_HEAVINESS
    rate = jnp.where(heavy, heaviness, 1.0)
    # 2 a q exp(2 a q) = 2 a exp(2 a) q', where q' is that of the position.
    argument = 2 * rate * jnp.exp(2 * rate) * square
    argument = jnp.minimum(argument, jnp.finfo(argument.dtype).max)
    known = argument > jnp.finfo(argument.dtype).tiny
    relative = _lambert(jnp.where(known, argument, 1.0)) / (2 * rate)
    relative = jnp.minimum(jnp.where(known, relative, 0.0), farthest)
    return jnp.where(heavy, rate * (relative - 1), 0.0)


def _relative(noise: Vector) -> Scalar:
    """The squared length over its mean for standard normal noise."""
    return jnp.sum(noise**2) / noise.size


def _farthest(dim: int) -> float:
    """Six standard deviations beyond the typical length, as `_relative` measures it."""
    return (1 + 6 / math.sqrt(dim)) ** 2


def _lambert(argument: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The positive solution $w$ of $w e^w = x$ (Iacono and Boyd 2017)."""
    log_argument = jnp.log(argument)
    solution = jnp.log1p(argument)
    for _ in range(NUM_STEPS):
        solution = solution * (1 + log_argument - jnp.log(solution)) / (1 + solution)
    return solution
