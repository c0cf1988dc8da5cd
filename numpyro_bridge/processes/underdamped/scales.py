"""The scales of an underdamped sampler: step sizes, friction and masses."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import MOST_STEPS, check_count, check_positive
from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.parts import AbstractPart


class UnderdampedScales(AbstractPart):
    """Step sizes, friction and masses, each learned on a logarithmic scale.

    >>> scales = nb.processes.UnderdampedScales(num_steps=16, dim=2, step_size=0.25, friction=1.0)
    >>> scales.mass.tolist()
    [1.0, 1.0]

    Args:
        num_steps: Number of steps; at least 1.
        dim: Number of coordinates.
        step_size: First length of every step in time.
        friction: First rate at which momentum is renewed, in every coordinate.

    Raises:
        ValueError: if `num_steps` is below 1, or `step_size` or `friction` is not positive.
    """

    log_step_size: Float[Array, " steps"]
    log_friction: Vector
    log_mass: Vector

    def __init__(self, num_steps: int, dim: int, step_size: float, friction: float):
        num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
        dim = check_count("dim", dim, 1, MOST_STEPS)
        step_size = check_positive("step_size", step_size)
        friction = check_positive("friction", friction)
        dtype = jnp.result_type(float)
        self.log_step_size = jnp.full(num_steps, jnp.log(step_size), dtype)
        self.log_friction = jnp.full(dim, jnp.log(friction), dtype)
        self.log_mass = jnp.zeros(dim, dtype)

    @property
    def mass(self) -> Vector:
        """Variances of the momentum at rest."""
        return jnp.exp(self.log_mass)

    def widened(self, factor: float) -> "UnderdampedScales":
        # The friction is the variance of the noise, to first order in the step.
        friction = self.log_friction + 2 * math.log(factor)
        return eqx.tree_at(lambda part: part.log_friction, self, friction)
