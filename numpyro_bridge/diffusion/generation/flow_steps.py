"""Euler's and Heun's steps on the flow, in the coordinates where paths are straight."""

from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.diffusion.denoiser import Denoised, Denoiser
from numpyro_bridge.diffusion.generation.base import Context, Noisy
from numpyro_bridge.diffusion.noise import Level


def euler_step(
    rng_key: RNGKey, denoiser: Denoiser, noisy: Noisy, next_time: Scalar, context: Context = None
) -> Noisy:
    r"""A step of first order along the flow.

    >>> times = nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, nb.diffusion.euler_step, times, dim=2).shape
    (2,)

    In the coordinates $z / (\alpha + \sigma)$ and the time $\tau = \alpha / (\alpha + \sigma)$
    every schedule is the straight path, $dz = \hat u\, d\tau$ with $\hat u = \hat x -
    \hat\varepsilon$.
    """
    seen = denoiser(noisy.position, noisy.time, context)
    return noisy.moved(_along(seen.flow, denoiser, noisy, next_time), next_time, seen)


def heun_step(
    rng_key: RNGKey, denoiser: Denoiser, noisy: Noisy, next_time: Scalar, context: Context = None
) -> Noisy:
    """A step of second order: Euler's step, taken again with the mean of the flow at its two ends.

    >>> times = nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, nb.diffusion.heun_step, times, dim=2).shape
    (2,)

    It evaluates the network twice, also at the time where it ends, so the denoiser must be finite
    there. Reference: Karras et al. (2022), arXiv:2206.00364, where the noise level is the time.
    """
    seen: Denoised = denoiser(noisy.position, noisy.time, context)
    trial = _along(seen.flow, denoiser, noisy, next_time)
    there = denoiser(trial, next_time, context)
    mean = 0.5 * (seen.flow + there.flow)
    return noisy.moved(_along(mean, denoiser, noisy, next_time), next_time, seen)


def _along(flow: Vector, denoiser: Denoiser, noisy: Noisy, next_time: Scalar) -> Vector:
    now, then = denoiser.schedule.at(noisy.time), denoiser.schedule.at(next_time)
    straight = noisy.position / (now.alpha + now.sigma)
    moved = straight + (_straight_time(then) - _straight_time(now)) * flow
    return (then.alpha + then.sigma) * moved


def _straight_time(level: Level) -> Scalar:
    return level.alpha / (level.alpha + level.sigma)
