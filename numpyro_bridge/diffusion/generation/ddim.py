"""DDIM: keep the estimates of clean vector and noise, and mix them at the next level."""

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.generation.base import Context, Noisy, projected


def ddim_step(
    rng_key: RNGKey, denoiser: Denoiser, noisy: Noisy, next_time: Scalar, context: Context = None
) -> Noisy:
    r"""A deterministic step of first order: $z_s = \alpha_s \hat x + \sigma_s \hat\varepsilon$.

    >>> times = nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, nb.diffusion.ddim_step, times, dim=2).shape
    (2,)

    For every schedule it equals Euler's step along the flow in coordinates of straight paths.

    Reference: Song, Meng and Ermon (2021), arXiv:2010.02502.
    """
    seen = denoiser(noisy.position, noisy.time, context)
    position = projected(seen, denoiser.schedule.at(next_time))
    return noisy.moved(position, next_time, seen)
