"""Learning from simulations the posterior of any data that a model may have made."""

import inspect
import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.stages import stage
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import diagonal_map
from numpyro_bridge.diffusion.denoiser import Denoiser
from numpyro_bridge.diffusion.diffusion_elbo import diffusion_elbo
from numpyro_bridge.diffusion.samples import Samples
from numpyro_bridge.diffusion.weightings import Weighting
from numpyro_bridge.infer.amortise.conditional_bridge import ConditionalBridge
from numpyro_bridge.infer.amortise.conditional_normal import (
    ConditionalNormal,
    negative_log_likelihood,
)
from numpyro_bridge.infer.amortise.context import (
    Summaries,
    context_scale,
    flattened,
    median_and_scale,
)
from numpyro_bridge.infer.learning import (
    HELD_OUT,
    LearningSettings,
    Watched,
    trained,
    training_levels,
)
from numpyro_bridge.target import ModelTarget, repeat_good_rows
from numpyro_bridge.target.clipped import clipped_score
from numpyro_bridge.target.simulation import (
    BATCH,
    Simulations,
    check_simulations,
    prior_predictive,
)
from numpyro_bridge.training.metrics import LossMetrics
from numpyro_bridge.training.training import Stop, Training, untrained

MAX_EXCESS = 2.0
"""Scores are shortened if they differ by more than this from those of a standard normal.

The difference is measured as the root mean square of its entries. Otherwise, where the prior
predictive distribution has heavy tails, one simulation in a hundred would outweigh all others. What
is learned from shortened scores is biased, and the weights show by how much.
"""


class Learned(NamedTuple):
    """A bridge that was learned from simulations, and how it was learned."""

    bridge: ConditionalBridge
    trainings: tuple[Training[LossMetrics], Training[LossMetrics]]
    """The training of the normal distribution, and that of the denoiser."""
    num_left_out: int
    """Simulations left out because a number, a density or a gradient was not finite."""
    simulation_time: float
    """Seconds that simulating took."""


def learn_from_simulations(
    rng_key: RNGKey,
    settings: LearningSettings,
    target: ModelTarget,
    *,
    num_simulations: int,
    summaries: Summaries,
    weighting: Weighting,
) -> Learned:
    """Train the normal distribution and then the denoiser, each on simulations of its own.

    A network fits the simulations that it was trained on better than others. Their residuals would
    be narrower than those of new data, so the denoiser must not learn from the same ones.

    Args:
        rng_key: The same key gives the same result.
        settings: Say how long to train, and with which optimiser.
        target: A target made by `target_of_data`.
        num_simulations: Number of simulations for each stage.
        summaries: What the networks are shown of the data.
        weighting: How much each noise level counts.

    Raises:
        ValueError: if too few simulations are finite, or the denoiser does not read a context.
    """
    first_key, second_key, normal_key, denoiser_key = jax.random.split(rng_key, 4)
    before = time.perf_counter()
    stage("simulating")
    first = simulated(first_key, target, num_simulations, summaries)
    second = simulated(second_key, target, num_simulations, summaries)
    simulation_time = time.perf_counter() - before
    scale = context_scale(first.values)
    unit_map = diagonal_map(*median_and_scale(first.simulations.position))
    denoiser = _untrained(denoiser_key, settings, target.dim, scale.size)
    normal = ConditionalNormal(jax.random.fold_in(normal_key, 0), target.dim, scale.size)
    samples = Samples(
        jax.vmap(unit_map.inverse)(first.simulations.position),
        context=jax.vmap(scale)(first.values),
    )
    loss = Watched(negative_log_likelihood, settings.num_draws)
    stage("learning a normal distribution given the data")
    of_normal = trained(normal_key, settings, normal, loss, samples)
    bridge = ConditionalBridge(scale, unit_map, of_normal.module, denoiser)
    if of_normal.stopped is Stop.INTERRUPTED:
        of_denoiser = untrained(denoiser, LossMetrics)
        num_left_out = first.num_unusable + second.num_unusable
        return Learned(bridge, (of_normal, of_denoiser), num_left_out, simulation_time)
    stage("learning what the normal distribution lacks")
    samples, num_unusable = _residuals(bridge, target, second, settings.with_scores)
    schedule = training_levels(denoiser, with_scores=settings.with_scores)
    loss = Watched(diffusion_elbo, settings.num_draws)
    loss = jax.tree_util.Partial(loss, weighting=weighting, schedule=schedule)
    of_denoiser = trained(denoiser_key, settings, denoiser, loss, samples)
    return Learned(
        replace(bridge, denoiser=of_denoiser.module),
        (of_normal, of_denoiser),
        first.num_unusable + second.num_unusable + num_unusable,
        simulation_time,
    )


class Simulated(NamedTuple):
    """Simulations with finite numbers only, and the flattened summaries of their data."""

    simulations: Simulations
    values: Float[Array, "num features"]
    num_unusable: int


def simulated(rng_key: RNGKey, target: ModelTarget, num: int, summaries: Summaries) -> Simulated:
    """Simulate, and repeat other simulations in place of those that are not finite.

    Raises:
        ValueError: if fewer than half of the simulations are finite, or all are the same.
    """
    simulations = prior_predictive(rng_key, target, num)
    values = jax.vmap(partial(flattened, summaries))(simulations.shown)
    usable = simulations.finite & jnp.all(jnp.isfinite(values), axis=1)
    check_simulations(simulations, usable)
    simulations, values = repeat_good_rows((simulations, values), usable)
    return Simulated(simulations, values, num - int(jnp.sum(usable)))


def _residuals(
    bridge: ConditionalBridge, target: ModelTarget, simulated: Simulated, with_scores: bool
) -> tuple[Samples, int]:
    """Samples for the denoiser, in the coordinates of the normal distribution.

    Returns:
        The samples, and how many of them repeat others because they were not finite.
    """
    samples, finite = _evaluated(bridge, target, simulated.simulations, simulated.values)
    num_finite = int(jnp.sum(finite))
    if num_finite < HELD_OUT:
        raise ValueError(
            f"{num_finite} of {len(finite)} simulations have a finite log density and gradient, "
            "which is too few to learn from"
        )
    samples = samples if with_scores else samples._replace(score=None)
    return repeat_good_rows(samples, finite), len(finite) - num_finite


@eqx.filter_jit
def _evaluated(bridge: ConditionalBridge, target: ModelTarget, simulations: Simulations, values):
    def evaluate(row: tuple[Simulations, Array]):
        (position, data, _), values = row
        posterior = bridge.target(target, data, values)
        point = posterior.at(posterior.map.inverse(position))
        excess = clipped_score(point.position + point.score, bound=MAX_EXCESS)
        score = excess - point.position
        samples = Samples(point.position, score=score, context=bridge.scale(values))
        return samples, point.finite & jnp.all(jnp.isfinite(point.position))

    batch_size = min(BATCH, len(values))
    return jax.lax.map(evaluate, (simulations, values), batch_size=batch_size)


def _untrained(
    rng_key: RNGKey, settings: LearningSettings, dim: int, context_size: int
) -> Denoiser:
    """Make the sampler's denoiser for a context of this size."""
    try:
        inspect.signature(settings.denoiser).bind(rng_key, dim, context_size=context_size)
    except TypeError as error:
        raise ValueError(
            "amortise needs a denoiser that reads the data: `denoiser` should take (rng_key, dim, "
            f"context_size=...), as nb.diffusion.untrained_denoiser does; {error}"
        ) from error
    return settings.denoiser(jax.random.fold_in(rng_key, 0), dim, context_size=context_size)
