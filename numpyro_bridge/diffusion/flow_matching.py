"""Flow matching: learn the velocity of straight paths from noise to draws."""

import jax
import jax.numpy as jnp

from numpyro_bridge._core.types import RNGKey, Scalar
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

    $$\mathcal{L} = \mathbb{E}_{t, x, \varepsilon}\left\lVert \hat u(z_t, t) - (x - \varepsilon)
      \right\rVert^2, \qquad z_t = t x + (1 - t) \varepsilon$$

    It is `diffusion_elbo` with the weighting `flow`, term by term, from one end of the path to the
    other; so choose it for comparisons, or to learn from pairs of noise and draws (reflow), for
    which it is meant. Times are uniform; others are a weighting, such as `logit_normal`.

    Args:
        rng_key: Randomness of the batch.
        denoiser: What is trained; its prediction should be finite at both ends, as velocity and
            flow are.
        samples: What it learns from. With `noise`, each draw is the end of a path from there.
        num_draws: Batch size; times are stratified over it.

    Returns:
        The mean loss, and that of each draw.

    Reference: Lipman et al. (2023), arXiv:2210.02747; Liu, Gong and Liu (2023), arXiv:2209.03003.
    """
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
