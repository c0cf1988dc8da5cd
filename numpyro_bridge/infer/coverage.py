"""Coverage: particles of an independent method judge a trained sampler from outside."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import Atlas, no_uncovered
from numpyro_bridge.atlas.judge import LEAST_EXCESS, MARGIN, SAME_EVIDENCE, quality_of
from numpyro_bridge.atlas.judge import NUM_DRAWS as NUM_CHART_DRAWS
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.repair import normal_of
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.atlas.witness import MIN_UNCOVERED
from numpyro_bridge.draws.backward_runs import backward_log_weights
from numpyro_bridge.infer.posterior import Posterior

NUM_DRAWS = 1_000
"""Draws of the sampler that the weights of particles are compared with."""

ENOUGH_ESS = 0.1
"""Charts whose draws are worth a smaller share of independent ones are no measure of a sampler."""


class Covered(NamedTuple):
    """A posterior that was judged from outside."""

    posterior: Posterior[Any]
    """The same, with a doubt for what particles see and the sampler does not."""
    loses_mass: bool = False
    """Whether the charts by themselves cover more: their evidence is higher by more than chance."""


def covered(rng_key: RNGKey, posterior: Posterior[Any]) -> Covered:
    """Judge a posterior again, by particles and by the charts that it was made from.

    A path is run back from every particle. One whose weight exceeds that of all draws of the
    sampler lies where the sampler does not go.
    """
    atlas = posterior.atlas
    assert atlas is not None
    draw_key, check_key = split(rng_key)
    _compile_ahead(check_key, posterior, atlas)
    own = np.asarray(posterior.sample(draw_key, NUM_DRAWS).log_weight, float)
    own = np.where(np.isnan(own), -np.inf, own)
    if not np.isfinite(np.max(own)):
        return Covered(posterior)  # The verdict on such draws needs no further doubt.
    estimate = float(np.logaddexp.reduce(own) - np.log(len(own)))
    limit = max(estimate + LEAST_EXCESS, float(np.max(own)) + MARGIN)
    uncovered = _beyond(check_key, posterior, atlas, limit)
    judged = atlas.judged_again(estimate, uncovered)
    loses_mass = _is_lower(own, estimate, atlas)
    return Covered(replace(posterior, atlas=judged, doubts=judged.doubts), loses_mass)


def _is_lower(own: Float[np.ndarray, " draws"], estimate: float, atlas: Atlas) -> bool:
    """Whether an evidence is below that of the charts alone, by more than chance.

    Training by the reverse divergence may draw a sampler in from arms of the posterior which its
    chart covered, if thinly. Both estimates are unbiased, so that the lower one lacks something.
    """
    ess, _ = quality_of(own)
    if atlas.ess < ENOUGH_ESS or ess == 0:
        return False
    chance = math.hypot(_error(ess, len(own)), _error(atlas.ess, NUM_CHART_DRAWS))
    return atlas.log_evidence - estimate > 3 * chance + SAME_EVIDENCE


def _error(ess: float, num: int) -> float:
    """Standard error of a log evidence by so many draws, in nats."""
    return math.sqrt((1 / ess - 1) / num)


def _compile_ahead(rng_key: RNGKey, posterior: Posterior[Any], atlas: Atlas) -> None:
    """Begin to compile the paths that are run back, while others are drawn."""
    if atlas.witness.position is not None:
        position = on_device(atlas.witness.position, jnp.result_type(float))
        process, target = posterior.process, posterior.target
        compile_ahead(backward_log_weights, rng_key, process, target, position)


def _beyond(rng_key: RNGKey, posterior: Posterior[Any], atlas: Atlas, limit: float):
    """The particles, moved a little, whose backward paths have log weights beyond a limit."""
    none = no_uncovered(posterior.target.dim)
    if atlas.witness.position is None:
        return none
    move_key, back_key = split(rng_key)
    position = on_device(atlas.witness.position, jnp.result_type(float))
    whole = normal_of(np.asarray(position))
    inside = StandardisedTarget(posterior.target.base, whole)
    moved = refreshed(move_key, inside, jax.vmap(whole.inverse)(position))
    position = jax.vmap(whole)(moved)
    log_weight, finite = backward_log_weights(
        back_key, posterior.process, posterior.target, position
    )
    far = np.asarray((log_weight > limit) & finite)
    return np.asarray(position)[far] if np.sum(far) >= MIN_UNCOVERED * len(far) else none
