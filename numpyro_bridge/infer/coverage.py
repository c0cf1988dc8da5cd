"""Coverage: particles of an independent method judge a trained sampler from outside."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import Atlas, no_uncovered
from numpyro_bridge.atlas.judge import LEAST_EXCESS, MARGIN
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.repair import normal_of
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.atlas.witness import MIN_UNCOVERED
from numpyro_bridge.draws.backward_runs import backward_log_weights
from numpyro_bridge.infer.posterior import Posterior

NUM_DRAWS = 1_000
"""Draws of the sampler that the weights of particles are compared with."""


def covered(rng_key: RNGKey, posterior: Posterior[Any]) -> Posterior[Any]:
    """The posterior, judged again: a doubt says what particles see and the sampler does not.

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
        return posterior  # The verdict on such draws needs no further doubt.
    estimate = float(np.logaddexp.reduce(own) - np.log(len(own)))
    limit = max(estimate + LEAST_EXCESS, float(np.max(own)) + MARGIN)
    uncovered = _beyond(check_key, posterior, atlas, limit)
    judged = atlas.judged_again(estimate, uncovered)
    return replace(posterior, atlas=judged, doubts=judged.doubts)


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
