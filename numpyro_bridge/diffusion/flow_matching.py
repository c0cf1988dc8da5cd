"""Flow matching: learn the velocity of straight paths from noise to draws."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.checks import check_count
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.diffusion.arguments import check_learning
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.noise import FlowPath
from numpyro_bridge.diffusion.samples import SampleLosses, Samples
from numpyro_bridge.diffusion.times import stratified_times


def flow_matching(
    rng_key: RNGKey,
    denoiser: Denoiser,
    samples: Samples,
    *,
    num_draws: int = 256,
) -> tuple[Scalar, SampleLosses]:
    r"""The conditional flow-matching loss of the straight path.

    >>> loss, losses = nb.flow_matching(key, denoiser, samples, num_draws=64)
    >>> losses.loss.shape
    (64,)

    $$\mathcal{L} = \mathbb{E}_{t, x, \varepsilon}\left\lVert \hat u(z_t, t) - (x - \varepsilon)
      \right\rVert^2, \qquad z_t = t x + (1 - t) \varepsilon$$

    Term by term it equals `diffusion_elbo` with the weighting `flow`, over the whole path from
    noise to data. Choose it for comparisons, or to learn from pairs of noise and draws (reflow),
    for which it is meant. Times are uniform; to spread them otherwise, use `diffusion_elbo` with a
    weighting such as `logit_normal`.

    Args:
        rng_key: Randomness of the batch.
        denoiser: What is trained. Its flow should be finite at both ends of the path, as it is for
            a network that predicts velocity or flow.
        samples: What it learns from. If they have `noise`, the path to each draw starts there.
        num_draws: Batch size; times are stratified over it.

    Returns:
        The mean loss, and the loss of each draw.

    Reference: Lipman et al. (2023), arXiv:2210.02747; Liu, Gong and Liu (2023), arXiv:2209.03003.
    """
    check_learning(rng_key, denoiser, samples)
    num_draws = check_count("num_draws", num_draws, 1)
    batch_key, time_key, noise_key = jax.random.split(rng_key, 3)
    batch = samples.minibatch(batch_key, num_draws)
    shape, dtype = batch.position.shape, batch.position.dtype
    noise = jax.random.normal(noise_key, shape, dtype) if batch.noise is None else batch.noise
    times = stratified_times(time_key, num_draws)

    def loss(time, position, noise, context):
        level = FlowPath().at(time)
        flow = denoiser.at_level(level.mix(position, noise), level, context).flow
        return jnp.sum((flow - (position - noise)) ** 2)

    losses = jax.vmap(loss)(times, batch.position, noise, batch.context)
    return jnp.mean(losses), SampleLosses(losses)
