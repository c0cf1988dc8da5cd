r"""A radial stretch: it gives standard normal noise tails like those of a Student distribution.

With $q = |z|^2 / d$, noise $z$ in $d$ dimensions becomes $z \exp(a (q - 1))$. Far out the density
of what comes out falls like a power of the distance; with $a = 0$ nothing changes. The logarithm of
the Jacobian determinant is $d a (q - 1) + \log(1 + 2 a q)$, and the inverse is Lambert's function.
Where no noise ever is, the factor grows no further, since a bridge in training may go there.
"""

import math

import equinox as eqx
import jax.numpy as jnp

from numpyro_bridge._core.types import Scalar, Vector

LEAST_HEAVINESS = 1e-6
"""A stretch below this is none: the inverse would divide by it."""

NUM_STEPS = 6
"""Steps of the iteration for Lambert's function, which doubles the number of right digits."""


class Radial(eqx.Module):
    """A stretch of all directions alike, by a factor that grows with the distance."""

    heaviness: Scalar
    """The rate $a$, at least 0."""

    def __call__(self, noise: Vector) -> Vector:
        """Stretch noise."""
        relative = jnp.minimum(_relative(noise), _farthest(noise.size))
        return noise * jnp.exp(self.heaviness * (relative - 1))

    def inverse(self, position: Vector) -> Vector:
        """Undo the stretch."""
        square = _relative(position)
        heavy = self.heaviness > LEAST_HEAVINESS
        rate = jnp.where(heavy, self.heaviness, 1.0)
        # 2 a q exp(2 a q) = 2 a exp(2 a) q', where q' is that of the position.
        argument = 2 * rate * jnp.exp(2 * rate) * square
        known = argument > jnp.finfo(argument.dtype).tiny
        relative = _lambert(jnp.where(known, argument, 1.0)) / (2 * rate)
        relative = jnp.where(known, relative, 0.0)
        relative = jnp.minimum(relative, _farthest(position.size))
        shrunk = position * jnp.exp(-rate * (relative - 1))
        return jnp.where(heavy, shrunk, position)

    def log_det(self, noise: Vector) -> Scalar:
        """Log of the absolute Jacobian determinant at noise."""
        relative, farthest = _relative(noise), _farthest(noise.size)
        growth = noise.size * self.heaviness * (jnp.minimum(relative, farthest) - 1)
        slope = jnp.log1p(2 * self.heaviness * relative)
        return growth + jnp.where(relative < farthest, slope, 0.0)


def _relative(noise: Vector) -> Scalar:
    """The squared length over its mean for standard normal noise."""
    return jnp.sum(noise**2) / noise.size


def _farthest(dim: int) -> float:
    """Six standard deviations beyond the typical length, as `_relative` measures it."""
    return (1 + 6 / math.sqrt(dim)) ** 2


def _lambert(argument: Scalar) -> Scalar:
    """The positive solution $w$ of $w e^w = x$ (Iacono and Boyd 2017)."""
    log_argument = jnp.log(argument)
    solution = jnp.log1p(argument)
    for _ in range(NUM_STEPS):
        solution = solution * (1 + log_argument - jnp.log(solution)) / (1 + solution)
    return solution
