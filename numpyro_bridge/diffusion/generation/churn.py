"""Churn: step further towards the data than meant, then add noise to come back."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.checks import check_not_negative
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.denoiser import Denoiser, renoised
from numpyro_bridge.diffusion.generation.base import Context, Noisy, Step, projected
from numpyro_bridge.diffusion.noise import unit_level


def churned_step(amount: float) -> Step:
    r"""Make a stochastic step with as much fresh noise as wanted.

    >>> step, times = nb.diffusion.churned_step(0.5), nb.diffusion.even_times(16)
    >>> nb.diffusion.generate(key, denoiser, step, times, dim=2).shape
    (2,)

    The step is one of DDIM over $1 + c$ times the distance in log-SNR, after which noise is added
    until the level is the one that was meant. With $c = 0$ it is DDIM, with $c = 1$ it is DDPM to
    second order in the step, and the larger $c$ is, the faster earlier errors are forgotten. As the
    steps get small, the marginal distributions are the same for any $c$.

    Args:
        amount: The number $c$, at least 0.

    Raises:
        ValueError: if `amount` is negative.

    Reference: the view of stochasticity in Gao et al. (2024), "Diffusion meets flow matching".
    """
    amount = check_not_negative("amount", amount)
    return jax.tree_util.Partial(_churned, jnp.asarray(amount, jnp.result_type(float)))


def _churned(
    amount: Scalar,
    rng_key: RNGKey,
    denoiser: Denoiser,
    noisy: Noisy,
    next_time: Scalar,
    context: Context = None,
) -> Noisy:
    seen = denoiser(noisy.position, noisy.time, context)
    now, then = denoiser.schedule.at(noisy.time), denoiser.schedule.at(next_time)
    further = amount * (then.log_snr - now.log_snr)
    # A step from pure noise is infinitely long, and zero times infinity would be NaN.
    further = jnp.where(amount > 0, further, 0.0)
    beyond = unit_level(then.log_snr + further)
    position = renoised(rng_key, projected(seen, beyond), beyond, then)
    return noisy.moved(position, next_time, seen)
