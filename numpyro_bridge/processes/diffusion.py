"""Diffusion: how much noise each step of a sampler adds."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.checks import MOST_STEPS, check_array, check_count, check_positive
from numpyro_bridge._core.types import Vector
from numpyro_bridge.processes.parts import AbstractPart


class Diffusion(AbstractPart):
    r"""Standard deviations $\sigma_k$ of the noise, one for each step and coordinate.

    >>> diffusion = nb.processes.Diffusion(num_steps=16, dim=2, scale=0.25)
    >>> diffusion(jnp.array(0)).tolist()
    [0.25, 0.25]

    They are learned on a logarithmic scale, which keeps them positive. To learn them is what brings
    the largest gain in Sanokowski et al. (2025), arXiv:2506.10982.

    Args:
        num_steps: Number of steps; at least 1.
        dim: Number of coordinates.
        scale: First value of every $\sigma_k$, or their root mean square where `rates` differ.
        rates: Variance of each step relative to the mean over all steps, shape `(num_steps,)`; one
            for every step if not given.

    Raises:
        ValueError: if `num_steps` is below 1, or `scale` is not a positive finite number.
    """

    log_noise: Float[Array, "steps dim"]

    def __init__(
        self,
        num_steps: int,
        dim: int,
        scale: float,
        rates: Float[Array, " steps"] | None = None,
    ):
        num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
        dim = check_count("dim", dim, 1, MOST_STEPS)
        scale = check_positive("scale", scale)
        if rates is None:
            self.log_noise = jnp.full((num_steps, dim), jnp.log(scale), jnp.result_type(float))
        else:
            check_array("rates", rates, "(num_steps,)")
            self.log_noise = jnp.tile(jnp.log(scale) + 0.5 * jnp.log(rates)[:, None], (1, dim))

    def __call__(self, step: Int[Array, ""]) -> Vector:
        """Standard deviations of the noise of one step."""
        return jnp.exp(self.log_noise[step])

    def variance(self, step: Int[Array, ""]) -> Vector:
        """Variances of the noise of one step."""
        return jnp.exp(2 * self.log_noise[step])

    def widened(self, factor: float) -> "Diffusion":
        return eqx.tree_at(lambda part: part.log_noise, self, self.log_noise + math.log(factor))


def cosine_rates(num_steps: int) -> Float[Array, " steps"]:
    """Relative variances of the steps, with mean one, that fall like the fourth power of a cosine.

    Reference: the schedule of Vargas, Grathwohl and Doucet (2023), arXiv:2302.13834, whose noise
    scale is a squared cosine.
    """
    rates = jnp.cos(0.5 * jnp.pi * _middles(num_steps)) ** 4
    return jnp.maximum(rates / jnp.mean(rates), 1e-2)


def linear_rates(num_steps: int) -> Float[Array, " steps"]:
    """Relative variances of the steps, with mean one, that fall linearly to a hundredth."""
    rates = 1.0 - 0.99 * _middles(num_steps)
    return rates / jnp.mean(rates)


def _middles(num_steps: int) -> Float[Array, " steps"]:
    """The middles of the steps in time, from 0 to 1."""
    num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
    return (jnp.arange(num_steps, dtype=jnp.result_type(float)) + 0.5) / num_steps
