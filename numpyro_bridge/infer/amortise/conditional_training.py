"""Learning from simulations: a bridge to the posterior of any data that a model may have made."""

import inspect
import time
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
from numpyro_bridge.infer.learning import HELD_OUT, Watched, trained, training_levels
from numpyro_bridge.target import ModelTarget, repeat_good_rows
from numpyro_bridge.target.clipped import clipped_score
from numpyro_bridge.target.simulation import BATCH, Simulations, prior_predictive
from numpyro_bridge.training.metrics import LossMetrics
from numpyro_bridge.training.training import Training

MAX_EXCESS = 2.0
"""Root-mean-square entry beyond which what a score has besides that of a normal law is shortened.

One simulation in a hundred of a heavy-tailed prior predictive law outweighs all others otherwise.
What is learned there is biased, and the weights say how much.
"""


class Learned(NamedTuple):
    """What was learned from simulations, and how."""

    bridge: ConditionalBridge
    trainings: tuple[Training[LossMetrics], Training[LossMetrics]]
    """Of the normal law, and of the denoiser."""
    num_left_out: int
    """Simulations with a number, a density or a gradient that is not finite."""
    simulation_time: float
    """Seconds."""


def learn_from_simulations(
    rng_key: RNGKey,
    sampler: Any,
    target: ModelTarget,
    *,
    num_simulations: int,
    summaries: Summaries,
    weighting: Weighting,
) -> Learned:
    """Train the two stages, each on simulations of its own.

    A network fits the simulations that it has seen better than others: the residuals of the same
    ones would be narrower than those of new data.

    Args:
        rng_key: The same key gives the same result.
        sampler: A `DiffusionSampler`, whose settings are used.
        target: Made by `target_of_data`.
        num_simulations: For each stage.
        summaries: What of the data is looked at.
        weighting: How much each noise level counts.

    Raises:
        ValueError: if too few simulations are finite, or the denoiser takes no context.
    """
    first_key, second_key, normal_key, denoiser_key = jax.random.split(rng_key, 4)
    before = time.perf_counter()
    first = simulated(first_key, target, num_simulations, summaries)
    second = simulated(second_key, target, num_simulations, summaries)
    simulation_time = time.perf_counter() - before
    scale = context_scale(first.values)
    unit_map = diagonal_map(*median_and_scale(first.simulations.position))
    denoiser = _untrained(denoiser_key, sampler, target.dim, scale.size)
    law = ConditionalNormal(jax.random.fold_in(normal_key, 0), target.dim, scale.size)
    samples = Samples(
        jax.vmap(unit_map.inverse)(first.simulations.position),
        context=jax.vmap(scale)(first.values),
    )
    loss = Watched(negative_log_likelihood, sampler.num_draws)
    of_normal = trained(normal_key, sampler, law, loss, samples)
    bridge = ConditionalBridge(scale, unit_map, of_normal.module, denoiser)
    samples, num_unusable = _residuals(bridge, target, second, sampler.with_scores)
    schedule = training_levels(denoiser, with_scores=sampler.with_scores)
    loss = Watched(diffusion_elbo, sampler.num_draws)
    loss = jax.tree_util.Partial(loss, weighting=weighting, schedule=schedule)
    of_denoiser = trained(denoiser_key, sampler, denoiser, loss, samples)
    return Learned(
        replace(bridge, denoiser=of_denoiser.module),
        (of_normal, of_denoiser),
        first.num_unusable + second.num_unusable + num_unusable,
        simulation_time,
    )


class Simulated(NamedTuple):
    """Simulations of finite numbers, and what is looked at of their data."""

    simulations: Simulations
    values: Float[Array, "num features"]
    num_unusable: int


def simulated(rng_key: RNGKey, target: ModelTarget, num: int, summaries: Summaries) -> Simulated:
    """Simulate; where a number is not finite, another simulation is repeated.

    Raises:
        ValueError: if less than half of the simulations are finite, or all are the same.
    """
    simulations = prior_predictive(rng_key, target, num)
    if not bool(jnp.any(jnp.ptp(simulations.position, axis=0) > 0)):
        raise ValueError(
            "all simulations are the same: pass the model without handlers.seed around it, which "
            "gives it the same randomness every time"
        )
    values = jax.vmap(partial(flattened, summaries))(simulations.shown)
    usable = simulations.finite & jnp.all(jnp.isfinite(values), axis=1)
    num_usable = int(jnp.sum(usable))
    if 2 * num_usable < num:
        raise ValueError(
            f"only {num_usable} of {num} simulations have finite numbers: narrow the priors (a "
            "Gamma(0.01, 0.01) rounds to zero half of the time), or the summaries of the data"
        )
    simulations, values = repeat_good_rows((simulations, values), usable)
    return Simulated(simulations, values, num - num_usable)


def _residuals(
    bridge: ConditionalBridge, target: ModelTarget, simulated: Simulated, with_scores: bool
) -> tuple[Samples, int]:
    """What the normal law leaves, for the denoiser to learn; and how many rows are repeats."""
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


def _untrained(rng_key: RNGKey, sampler: Any, dim: int, context_size: int) -> Denoiser:
    """The sampler's denoiser, made to read a context."""
    try:
        inspect.signature(sampler.denoiser).bind(rng_key, dim, context_size=context_size)
    except TypeError as error:
        raise ValueError(
            "amortise needs a denoiser that reads the data: `denoiser` should take (rng_key, dim, "
            f"context_size=...), as nb.diffusion.untrained_denoiser does; {error}"
        ) from error
    return sampler.denoiser(jax.random.fold_in(rng_key, 0), dim, context_size=context_size)
