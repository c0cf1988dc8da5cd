"""Generate draws from noise, by any step rule."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import (
    MOST_STEPS,
    check_array,
    check_count,
    check_function,
    check_key,
)
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.diffusion.arguments import check_context, check_denoiser
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.generation.base import Context, Noisy, Step, first_noise


def generate(
    rng_key: RNGKey,
    denoiser: Denoiser,
    step: Step,
    times: Float[Array, " times"],
    *,
    dim: int,
    context: Context = None,
) -> Vector:
    """One draw: noise at the first time, then one step to each of the others.

    >>> times = nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, nb.diffusion.ddim_step, times, dim=2).shape
    (2,)

    Args:
        rng_key: Randomness of noise and steps.
        denoiser: Trained on standardised data.
        step: `ddim_step`, `euler_step`, `heun_step`, `dpm_solver_step`, `ddpm_step`, or one made by
            `churned_step`.
        times: Rising times of the denoiser's schedule, such as those of `even_times(num_steps)`.
        dim: Length of the draw.
        context: What the draw is conditioned on.

    Returns:
        The draw at the last time, divided by `alpha` there; where the schedule ends at a finite
        log-SNR, noise of that level is still in it.
    """
    dim = _checked(rng_key, denoiser, step, times, dim, context)
    keys = jax.random.split(rng_key, len(times))
    start = first_noise(keys[0], denoiser, dim, times[0])
    return generate_from(keys[1:], denoiser, step, times, start, context)


def generate_from(
    rng_keys: Array,
    denoiser: Denoiser,
    step: Step,
    times: Float[Array, " times"],
    start: Noisy,
    context: Context = None,
) -> Vector:
    """`generate` from given noise, with a key for each step."""

    def advance(noisy: Noisy, key_and_time):
        key, time = key_and_time
        return step(key, denoiser, noisy, time, context), None

    last, _ = jax.lax.scan(advance, start, (rng_keys, times[1:]))
    return last.position / denoiser.schedule.at(last.time).alpha


def generate_many(
    rng_key: RNGKey,
    denoiser: Denoiser,
    step: Step,
    times: Float[Array, " times"],
    num: int,
    *,
    dim: int,
    context: Context = None,
) -> Float[Array, "{num} {dim}"]:
    """`num` independent draws, one a row; see `generate`.

    >>> step, times = nb.diffusion.ddim_step, nb.diffusion.even_times(16)
    >>> nb.diffusion.generate_many(key, denoiser, step, times, 1_000, dim=2).shape
    (1000, 2)
    """
    dim = _checked(rng_key, denoiser, step, times, dim, context)
    return _generate_many(rng_key, denoiser, step, times, check_count("num", num, 1), dim, context)


@eqx.filter_jit
def _generate_many(rng_key, denoiser, step, times, num: int, dim: int, context):
    def draw(key):
        return generate(key, denoiser, step, times, dim=dim, context=context)

    return jax.vmap(draw)(jax.random.split(rng_key, num))


def _checked(rng_key, denoiser, step, times, dim, context) -> int:
    check_key(rng_key)
    check_denoiser(denoiser)
    check_function("step", step, "nb.diffusion.ddim_step")
    check_array("times", times, "(times,)")
    check_context(context)
    return check_count("dim", dim, 1, MOST_STEPS)


def even_times(num_steps: int) -> Float[Array, " times"]:
    """`num_steps + 1` equally spaced times from 0 to 1.

    >>> nb.diffusion.even_times(4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    num_steps = check_count("num_steps", num_steps, 1, MOST_STEPS)
    return jnp.linspace(0.0, 1.0, num_steps + 1, dtype=jnp.result_type(float))
