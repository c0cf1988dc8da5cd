"""Runs of the networks on all simulations at once, with the ranks of the true values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from numpyro_bridge._core import weights
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.draws.corrections import Correction
from numpyro_bridge.draws.ranking import Below, RankedRun, below_truth, by_site, rank
from numpyro_bridge.draws.verdict import Seen, verdict_on
from numpyro_bridge.infer.amortise.conditional_bridge import ConditionalBridge
from numpyro_bridge.infer.amortise.conditional_training import Simulated
from numpyro_bridge.target import ModelTarget
from numpyro_bridge.trajectories.ends import draw_end

BATCH = 1_000
"""Number of trajectories that are simulated at the same time."""

OVERSAMPLING = 10
"""Draws for each corrected one; resampling from no more than are returned would distort ranks."""


def ranked_runs(
    rng_key: RNGKey,
    bridge: ConditionalBridge,
    target: ModelTarget,
    truth: Simulated,
    num_steps: int,
    num_draws: int,
    correction: Correction,
) -> list[RankedRun]:
    """Draw given the data of every simulation, and rank the true values.

    Args:
        rng_key: A JAX key for the draws.
        bridge: The networks.
        target: A target made by `target_of_data`.
        truth: Simulations whose positions are ranked.
        num_steps: Number of steps of each process.
        num_draws: Number of draws given each data set.
        correction: How draws are corrected, as in `to_inference_data`.
    """
    draw_key, rank_key = jax.random.split(rng_key)
    keys = jax.random.split(draw_key, len(truth.values))
    rows = (keys, truth.simulations, truth.values)
    num = num_draws * (1 if correction is None else OVERSAMPLING)
    below, log_weight, finite = map(np.asarray, _drawn(rows, bridge, target, num_steps, num))
    keys = jax.random.split(rank_key, len(truth.values))
    return [
        _ranked(keys[i], below[i], log_weight[i], finite[i], target, num_draws, correction)
        for i in range(len(truth.values))
    ]


@eqx.filter_jit
def _drawn(rows, bridge: ConditionalBridge, target: ModelTarget, num_steps: int, num: int):
    """For every simulation which draws lie below the truth, their log weights, and if finite."""

    def draw(row) -> tuple[Below, Array, Array]:
        rng_key, (position, data, _), values = row
        draw_key, tie_key = jax.random.split(rng_key)
        posterior, process = bridge.target(target, data, values), bridge.process(values, num_steps)
        keys = jax.random.split(draw_key, num)
        ends = jax.vmap(lambda key: draw_end(key, process, posterior))(keys)
        true_density = posterior.base.log_density(position)
        below = below_truth(tie_key, ends.position, ends.log_density, position, true_density)
        log_weight = jnp.where(jnp.isfinite(ends.log_weight), ends.log_weight, -jnp.inf)
        return below, log_weight, ends.finite

    return jax.lax.map(draw, rows, batch_size=min(len(rows[0]), max(1, BATCH // num)))


def _ranked(
    rng_key: RNGKey,
    below: np.ndarray,
    log_weight: np.ndarray,
    finite: np.ndarray,
    target: ModelTarget,
    num_draws: int,
    correction: Correction,
) -> RankedRun:
    ess = weights.effective_sample_size(log_weight) if np.any(np.isfinite(log_weight)) else 0.0
    try:
        ranks = rank(rng_key, below, log_weight, num_draws, correction)
    except ValueError as error:  # no draw has a weight
        return RankedRun(failure=str(error))
    return RankedRun(
        ranks=by_site(target, ranks),
        ess=ess,
        num_effective=len(below) if correction is None else ess * len(below),
        doubt="" if correction is None else _doubt(log_weight, finite, ess),
    )


def _doubt(log_weight: np.ndarray, finite: np.ndarray, ess: float) -> str:
    """What a verdict on these weights doubts."""
    num, pareto_k = len(log_weight), weights.pareto_smooth(log_weight).pareto_k
    share = weights.tail_share(log_weight, pareto_k)
    verdict = verdict_on(Seen(num, 0, int(np.sum(~finite)), ess, pareto_k, share, ()))
    return "" if verdict.trustworthy else verdict.text
