"""Ranks of true values among the draws given the data that were simulated from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Int

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.infer.amortise.conditional_bridge import ConditionalBridge
from numpyro_bridge.infer.amortise.conditional_training import Simulated
from numpyro_bridge.target import ModelTarget
from numpyro_bridge.trajectories.ends import draw_end

BATCH = 1_000
"""Number of trajectories that are simulated at the same time."""

OVERSAMPLING = 10
"""Draws for each corrected one; resampling from no more than are returned would distort ranks."""


def ranks_of(
    rng_key: RNGKey,
    bridge: ConditionalBridge,
    target: ModelTarget,
    truth: Simulated,
    num_steps: int,
    num_draws: int,
    corrected: bool,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rank true values, by site, and their log joint density; also the effective sample sizes.

    Args:
        rng_key: A JAX key for the draws.
        bridge: The networks.
        target: A target made by `target_of_data`.
        truth: Simulations whose positions are ranked.
        num_steps: Number of steps of each process.
        num_draws: Number of draws given each data set.
        corrected: Whether the draws are resampled by their weights.

    Returns:
        Ranks by site, with those of the log joint density under "log joint"; and for each data set
        the effective sample size, as a share of the draws.
    """
    keys = jax.random.split(rng_key, len(truth.values))
    rows = (keys, truth.simulations, truth.values)
    found = _ranks(rows, bridge, target, num_steps, num_draws, corrected)
    ranks, of_log_joint, ess = jax.tree.map(np.asarray, found)
    return {**ranks, "log joint": of_log_joint}, ess


@eqx.filter_jit
def _ranks(rows, bridge: ConditionalBridge, target: ModelTarget, num_steps, num_draws, corrected):
    def rank(row) -> tuple[dict[str, Int[Array, "..."]], Array, Array]:
        rng_key, (position, data, _), values = row
        draw_key, pick_key = jax.random.split(rng_key)
        posterior, process = bridge.target(target, data, values), bridge.process(values, num_steps)
        keys = jax.random.split(draw_key, num_draws * (OVERSAMPLING if corrected else 1))
        ends = jax.vmap(lambda key: draw_end(key, process, posterior))(keys)
        log_weight = jnp.where(jnp.isfinite(ends.log_weight), ends.log_weight, -jnp.inf)
        below = ends.position < position
        less_likely = ends.log_density < posterior.base.log_density(position)
        if corrected:
            # Independently and with replacement: if the weighted share of draws below the truth is
            # uniform, the number of picked draws below it is uniform as well.
            picked = jax.random.categorical(pick_key, log_weight, shape=(num_draws,))
            below, less_likely = below[picked], less_likely[picked]
        ranks = target.by_site(jnp.sum(below, axis=0).astype(position.dtype))
        log_ess = 2 * logsumexp(log_weight) - logsumexp(2 * log_weight)
        ess = jnp.nan_to_num(jnp.exp(log_ess) / len(log_weight))  # zero if no draw counts
        ranks = jax.tree.map(lambda rank: rank.astype(int), ranks)
        return ranks, jnp.sum(less_likely), ess

    return jax.lax.map(rank, rows, batch_size=min(len(rows[0]), max(1, BATCH // num_draws)))
