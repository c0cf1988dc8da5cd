"""DPM-Solver++(2M): a step of second order that remembers the step before."""

import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.generation.base import Context, Noisy


def dpm_solver_step(
    rng_key: RNGKey, denoiser: Denoiser, noisy: Noisy, next_time: Scalar, context: Context = None
) -> Noisy:
    r"""A deterministic step of second order for one evaluation of the network.

    >>> times = nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, nb.diffusion.dpm_solver_step, times, dim=2).shape
    (2,)

    $$z_s = \frac{\sigma_s}{\sigma_t} z_t + \alpha_s (1 - e^{-h}) D, \qquad D = \hat x_t +
      \frac{h}{2 h'} (\hat x_t - \hat x_{t'})$$

    with $h$ the step in half the log-SNR and $h'$ the step before. The first step is a DDIM step,
    and so is any step of infinite length. Choose it where evaluations of the network are to be few.

    Reference: Lu et al. (2022), arXiv:2211.01095, algorithm 2.
    """
    seen = denoiser(noisy.position, noisy.time, context)
    before, now, then = (
        denoiser.schedule.at(time) for time in (noisy.clean_time, noisy.time, next_time)
    )
    length = 0.5 * (then.log_snr - now.log_snr)
    length_before = 0.5 * (now.log_snr - before.log_snr)
    # The first step has no earlier estimate to extrapolate from, nor a length to divide by.
    second = (noisy.time > noisy.clean_time) & jnp.isfinite(length) & jnp.isfinite(length_before)
    ratio = 0.5 * jnp.where(second, length, 0.0) / jnp.where(second, length_before, 1.0)
    clean = seen.clean + ratio * (seen.clean - noisy.clean)
    kept = then.sigma / now.sigma
    # alpha_s exp(-h), as a product that is finite where h is not.
    position = kept * noisy.position + (then.alpha - kept * now.alpha) * clean
    return noisy.moved(position, next_time, seen)
