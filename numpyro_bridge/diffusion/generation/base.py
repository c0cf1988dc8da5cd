"""What every step of generation has in common."""

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
    """A vector on its way from noise to data."""

    position: Vector
    time: Scalar
    clean: Vector
    """The clean vector as the step before saw it, for steps that extrapolate."""
    clean_time: Scalar
    """When that was; equal to `time` before the first step."""

    def moved(self, position: Vector, time: Scalar, seen: Denoised) -> "Noisy":
        """At a new place and time, with what was seen on the way."""
        return Noisy(position, time, seen.clean, self.time)


Step = Callable[[RNGKey, Denoiser, Noisy, Scalar, Context], Noisy]
"""`(rng_key, denoiser, noisy, next_time, context)` to the vector at `next_time`."""


def first_noise(rng_key: RNGKey, denoiser: Denoiser, dim: int, time: Scalar) -> Noisy:
    """Pure noise at a time, with the scale that standardised data have there."""
    noise = jax.random.normal(rng_key, (dim,), jnp.result_type(float))
    scale = denoiser.schedule.at(time).scale
    return Noisy(scale * noise, time, jnp.zeros_like(noise), time)


def projected(seen: Denoised, level: Level) -> Vector:
    """The same clean vector and noise at another level."""
    return level.mix(seen.clean, seen.noise)
