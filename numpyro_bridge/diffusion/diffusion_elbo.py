"""The weighted denoising loss, which for uniform weights bounds the log density of the draws."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.checks import check_count, check_function
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.arguments import check_learning
from numpyro_bridge.diffusion.denoiser import Denoiser, check_schedule
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

    >>> loss, losses = nb.diffusion_elbo(key, denoiser, samples, num_draws=64)
    >>> losses.loss.shape
    (64,)

    $$\mathcal{L}_w = \tfrac12 \int_{\lambda_{\min}}^{\lambda_{\max}} w(\lambda)\,
      \mathbb{E}\lVert \hat\varepsilon(z_\lambda) - \varepsilon \rVert^2 d\lambda
      = \tfrac12\, \mathbb{E}_{t, x, \varepsilon}\left[w(\lambda_t)\,\dot\lambda_t\,
      \lVert \hat\varepsilon(z_t) - \varepsilon \rVert^2\right]$$

    With uniform weights it is the negative evidence lower bound of $\log q(x)$, without what lies
    beyond the ends of the schedule, which `negative_elbo` includes. It bounds the density of *these
    draws*, not the evidence of the model that they come from. Between its two ends, a schedule
    changes the noise of the estimate but not what is estimated.

    Args:
        rng_key: Randomness of the batch.
        denoiser: What is trained.
        samples: What it learns from. If the score of their density is given, predictions are
            compared with less noisy values, which lowers the loss by a constant.
        num_draws: Batch size. Times are stratified over it, which takes away most of their noise.
        weighting: One of `nb.diffusion.weightings`, or any function of log-SNR.
        schedule: How the batch is spread over noise levels; the denoiser's own by default.

    Returns:
        The mean loss, and the loss of each draw, in nats.

    Reference: Kingma and Gao (2023), arXiv:2303.00848.
    """
    check_learning(rng_key, denoiser, samples)
    num_draws = check_count("num_draws", num_draws, 1)
    check_function("weighting", weighting, "nb.diffusion.weightings.uniform")
    if schedule is not None:
        check_schedule(schedule)
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
