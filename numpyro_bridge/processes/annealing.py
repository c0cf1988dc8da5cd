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


def cosine_rates(num_steps: int) -> Float[Array, " steps"]:
    """How much of the noise each step handles, mean one: a fourth power of a cosine, falling.

    Reference: the schedule of Vargas, Grathwohl and Doucet (2023), arXiv:2302.13834, whose noise
    scale is a squared cosine.
    """
    middles = (jnp.arange(num_steps, dtype=jnp.result_type(float)) + 0.5) / num_steps
    rates = jnp.cos(0.5 * jnp.pi * middles) ** 4
    return jnp.maximum(rates / jnp.mean(rates), 1e-2)


def linear_rates(num_steps: int) -> Float[Array, " steps"]:
    """How much of the noise each step handles, mean one: falling linearly to a hundredth."""
    middles = (jnp.arange(num_steps, dtype=jnp.result_type(float)) + 0.5) / num_steps
    rates = 1.0 - 0.99 * middles
    return rates / jnp.mean(rates)
