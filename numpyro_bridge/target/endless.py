"""Whether a posterior has no finite integral though its density falls along every coordinate.

Two observations of unknown mean and scale, both with flat priors: as the scale grows, the density
falls, and the range of the mean grows as fast. What counts is the mass at each scale.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.target.base import Target

PLACES = 10.0, 20.0, 30.0
"""Where the mass is looked at, in unconstrained coordinates: of a scale, exp(10) to exp(30)."""

LEAST_FALL, MOST_BEND = 1.0, 0.5
"""The mass is endless if it falls by fewer nats than this from each place to the next, and by as
many, to within the second number: then nothing else is to be expected farther out."""

MOST_DIM = 50
"""In more dimensions second derivatives cost too much to be looked at."""

NUM_STEPS = 30
"""Steps of Newton's method; where they do not arrive, nothing is said."""


def endless_coordinates(target: Target, start: Vector, coordinates: np.ndarray) -> np.ndarray:
    """Which of the coordinates the posterior has endless mass along, as far as can be told.

    Args:
        target: The target of a model with improper priors.
        start: A position where the density is finite.
        coordinates: Numbers of the coordinates that are logarithms of scales, or the like.
    """
    if target.dim > MOST_DIM or len(coordinates) == 0:
        return np.zeros(len(coordinates), bool)
    mass = np.asarray(_log_masses(target, start, jnp.asarray(coordinates)), float)
    first, second = np.diff(mass, axis=0)
    # NaN, where a fit has not arrived, is in no such order.
    endless = (second > -LEAST_FALL) & (np.abs(second - first) < MOST_BEND)
    return np.any(endless, axis=1)


@eqx.filter_jit
def _log_masses(target: Target, start: Vector, coordinates) -> Float[Array, "3 coordinates 2"]:
    def of(place, coordinate, side):
        return _log_mass(target, start.at[coordinate].set(side * place), coordinate)

    sides = jnp.asarray([-1.0, 1.0], start.dtype)
    by_coordinate = jax.vmap(jax.vmap(of, (None, None, 0)), (None, 0, None))
    places = jnp.asarray(PLACES, start.dtype)
    return jax.vmap(by_coordinate, (0, None, None))(places, coordinates, sides)


def _log_mass(target: Target, position: Vector, held) -> Scalar:
    """Log of the integral over all other coordinates, by Laplace's method; NaN where it fails."""
    others = jnp.arange(position.size) != held

    def slope(position):
        return jnp.where(others, jax.grad(target.log_density)(position), 0.0)

    def curvature(position):
        # By reverse mode twice, since some models allow nothing else.
        hessian = -jax.jacrev(slope)(position)
        both = others[:, None] & others[None, :]
        return jnp.where(both, hessian, jnp.eye(position.size, dtype=position.dtype))

    def step(position, _):
        move = jnp.linalg.solve(curvature(position), slope(position))
        better = target.log_density(position + move) >= target.log_density(position)
        return jnp.where(better, position + move, position + 0.25 * move), None

    top, _ = jax.lax.scan(step, position, length=NUM_STEPS)
    factor = jnp.linalg.cholesky(curvature(top))  # NaN where it is no maximum
    left = jax.scipy.linalg.solve_triangular(factor, slope(top), lower=True)
    log_mass = target.log_density(top) - jnp.sum(jnp.log(jnp.diagonal(factor)))
    return jnp.where(jnp.sum(left**2) < 0.01, log_mass, jnp.nan)
