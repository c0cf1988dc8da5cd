"""The weighted denoising loss: a bound on the log density of draws, or a relative of one."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.noise import AbstractNoiseSchedule
from numpyro_bridge.diffusion.samples import SampleLosses, Samples
from numpyro_bridge.diffusion.times import stratified_times
from numpyro_bridge.diffusion.weightings import Weighting, uniform


def diffusion_elbo(
    rng_key: RNGKey,
    denoiser: Denoiser,
    samples: Samples,
    *,
    num_draws: int = 256,
    weighting: Weighting = uniform,
    schedule: AbstractNoiseSchedule | None = None,
) -> tuple[Scalar, SampleLosses]:
    r"""The loss that trains a denoiser on draws, weighted by noise level.

    $$\mathcal{L}_w = \tfrac12 \int_{\lambda_{\min}}^{\lambda_{\max}} w(\lambda)\,
      \mathbb{E}\lVert \hat\varepsilon(z_\lambda) - \varepsilon \rVert^2 d\lambda
      = \tfrac12\, \mathbb{E}_{t, x, \varepsilon}\left[w(\lambda_t)\,\dot\lambda_t\,
      \lVert \hat\varepsilon(z_t) - \varepsilon \rVert^2\right]$$

    The uniform weighting is the negative evidence lower bound of $\log q(x)$ but for what lies
    beyond the ends of the schedule (`negative_elbo` has all of it). It bounds the density of
    *these draws*, not the evidence of the model that they come from. A schedule changes the noise
    of the estimate, not what is estimated, but for its ends.

    Args:
        rng_key: Randomness of the batch.
        denoiser: What is trained.
        samples: What it learns from. Where the score of their density is given, errors are
            measured from a target of less noise; the loss then is lower by a constant.
        num_draws: Batch size. Times are stratified over it, which takes away most of their noise.
        weighting: One of `objectives.weightings`, or any function of log-SNR.
        schedule: Spreads the batch over noise levels; that of the denoiser by default.

    Returns:
        The mean loss, and that of each draw, in nats.

    Reference: Kingma and Gao (2023), arXiv:2303.00848.
    """
    batch_key, time_key, noise_key = jax.random.split(rng_key, 3)
    schedule = denoiser.schedule if schedule is None else schedule
    batch = samples.minibatch(batch_key, num_draws)
    shape, dtype = batch.position.shape, batch.position.dtype
    noise = jax.random.normal(noise_key, shape, dtype) if batch.noise is None else batch.noise
    times = stratified_times(time_key, num_draws)

    def loss(time, position, noise, context, score):
        level, rate = schedule.at(time), schedule.rate(time)
        error = denoiser.noise_error(position, noise, level, context, score)
        return 0.5 * weighting(level.log_snr) * rate * error

    losses = jax.vmap(loss)(times, batch.position, noise, batch.context, batch.score)
    return jnp.mean(losses), SampleLosses(losses)
