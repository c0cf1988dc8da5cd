"""DDPM: ancestral sampling, one kernel of the reverse chain at a time."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.denoiser import Denoiser, ancestral_coefficients
from numpyro_bridge.diffusion.generation.base import Context, Noisy


def ddpm_step(
    rng_key: RNGKey, denoiser: Denoiser, noisy: Noisy, next_time: Scalar, context: Context = None
) -> Noisy:
    r"""A random step: the distribution of $z_s$ given $z_t$ and the estimated clean vector.

    >>> times = nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, nb.diffusion.ddpm_step, times, dim=2).shape
    (2,)

    $$z_s \sim \mathcal{N}\left(c_z z_t + c_x \hat x,\ \sigma_{t|s}^2\,\sigma_s^2 / \sigma_t^2
      + c_x^2 V_t\right)$$

    The variance is the one that is right for standard normal data at any length of step; it lies
    between the two variances of the paper. `DenoisingProcess` has the same kernels, and gives exact
    weights to their paths.

    Reference: Ho, Jain and Abbeel (2020), arXiv:2006.11239. Departs from it in the variance.
    """
    seen = denoiser(noisy.position, noisy.time, context)
    now, then = denoiser.schedule.at(noisy.time), denoiser.schedule.at(next_time)
    of_noisy, of_clean, variance = ancestral_coefficients(now, then)
    noise = jax.random.normal(rng_key, noisy.position.shape, noisy.position.dtype)
    mean = of_noisy * noisy.position + of_clean * seen.clean
    return noisy.moved(mean + jnp.sqrt(variance) * noise, next_time, seen)
