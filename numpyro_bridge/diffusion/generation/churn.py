"""Churn: go further than wanted, and put the noise back."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.denoiser import Denoiser, renoised
from numpyro_bridge.diffusion.generation.base import Context, Noisy, Step, projected
from numpyro_bridge.diffusion.noise import unit_level


def churned_step(amount: float) -> Step:
    r"""The general stochastic step, with as much fresh noise as wanted.

    A DDIM step over $(1 + c)$ times the step in log-SNR, then noise is added until the level is the
    one that was meant. No `amount` is DDIM, one is DDPM to second order in the step, and more
    forgets earlier errors faster. The marginal laws are the same for any amount, as the steps get
    small.

    Args:
        amount: $c$, at least 0.

    Raises:
        ValueError: if it is negative.

    Reference: the view of stochasticity in Gao et al. (2024), "Diffusion meets flow matching".
    """
    if not amount >= 0:
        raise ValueError(f"amount is a share of a step that is put back, at least 0; got {amount}")
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
    # From pure noise every step is infinitely long, and so is what it goes beyond, if it does.
    further = jnp.where(amount > 0, further, 0.0)
    beyond = unit_level(then.log_snr + further)
    position = renoised(rng_key, projected(seen, beyond), beyond, then)
    return noisy.moved(position, next_time, seen)
