"""What all steps of generation share: the noisy vector that they move, and their type."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.diffusion.denoiser import Denoised, Denoiser
from numpyro_bridge.diffusion.noise import Level

Context = Float[Array, " features"] | None


class Noisy(NamedTuple):
    """A vector on its way from noise to data.

    >>> def my_step(rng_key, denoiser, noisy, time, context):
    ...     seen = denoiser(noisy.position, noisy.time, context)
    ...     level = denoiser.schedule.at(time)
    ...     return noisy.moved(level.mix(seen.clean, seen.noise), time, seen)
    >>> times = nb.diffusion.even_times(4)
    >>> draw = nb.diffusion.generate(key, denoiser, my_step, times, dim=2)
    """

    position: Vector
    time: Scalar
    clean: Vector
    """The clean vector as estimated in the step before, for steps that extrapolate."""
    clean_time: Scalar
    """The time of that estimate; equal to `time` before the first step."""

    def moved(self, position: Vector, time: Scalar, seen: Denoised) -> "Noisy":
        """The vector at a new position and time, after a step in which the denoiser saw `seen`."""
        return Noisy(position, time, seen.clean, self.time)


Step = Callable[[RNGKey, Denoiser, Noisy, Scalar, Context], Noisy]
"""A step: `(rng_key, denoiser, noisy, next_time, context)` to the vector at `next_time`."""


def first_noise(rng_key: RNGKey, denoiser: Denoiser, dim: int, time: Scalar) -> Noisy:
    """Pure noise, with the scale that noisy standardised data have at a time."""
    noise = jax.random.normal(rng_key, (dim,), jnp.result_type(float))
    scale = denoiser.schedule.at(time).scale
    return Noisy(scale * noise, time, jnp.zeros_like(noise), time)


def projected(seen: Denoised, level: Level) -> Vector:
    """The same clean vector and noise at another level."""
    return level.mix(seen.clean, seen.noise)
