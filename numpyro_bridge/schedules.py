"""Schedules: learnable functions of the step."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AnnealingSchedule(eqx.Module):
    """Increasing inverse temperatures from 0 to 1, linear at the start of training.

    The increments are normalised softpluses of free parameters, one per step.
    """

    increments: Float[Array, " steps"]

    def __init__(self, num_steps: int):
        """Make a linear schedule of `num_steps` equal increments."""
        self.increments = jnp.ones(num_steps, jnp.result_type(float))

    def __call__(self) -> Float[Array, " states"]:
        """Inverse temperature at each of the `num_steps + 1` states."""
        parts = jax.nn.softplus(self.increments)
        return jnp.concatenate([jnp.zeros_like(parts[:1]), jnp.cumsum(parts) / jnp.sum(parts)])
