"""Coverage: particles of an independent method judge a trained sampler from outside."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge._core.weights import log_evidence
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.repair import normal_of
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.atlas.witness import LEAST_EXCESS, MARGIN, MIN_UNCOVERED
from numpyro_bridge.draws.backward_runs import backward_log_weights
from numpyro_bridge.infer.posterior import Posterior

NUM_DRAWS = 1_000
"""Draws of the sampler that the weights of particles are compared with."""


def covered(rng_key: RNGKey, posterior: Posterior) -> Posterior:
    """The posterior with a doubt for what particles see and the trained sampler does not.

    A path is run back from every particle. One whose weight exceeds that of all draws of the
    sampler lies where the sampler does not go.
    """
    atlas = posterior.atlas
    assert atlas is not None
    draw_key, move_key, back_key = jax.random.split(rng_key, 3)
    drawn = posterior.sample(draw_key, NUM_DRAWS)
    own = np.asarray(drawn.log_weight, float)
    usable = own[np.isfinite(own)]
    if not usable.size:
        return posterior
    estimate = float(log_evidence(jnp.asarray(usable))[0])
    uncovered = atlas.uncovered[:0]
    if atlas.witness.position is not None:
        limit = max(LEAST_EXCESS, np.max(usable) - estimate + MARGIN) + estimate
        base = posterior.target.base
        position = jnp.asarray(atlas.witness.position, jnp.result_type(float))
        whole = normal_of(np.asarray(position))
        inside = jax.vmap(whole.inverse)(position)
        moved = refreshed(move_key, StandardisedTarget(base, whole), inside)
        position = jax.vmap(whole)(moved)
        log_weight, finite = backward_log_weights(
            back_key, posterior.process, posterior.target, position
        )
        far = np.asarray(log_weight > limit) & np.asarray(finite)
        if np.sum(far) >= MIN_UNCOVERED * len(far):
            uncovered = np.asarray(position)[far]
    judged = atlas.judged_again(estimate, uncovered)
    return replace(posterior, doubts=judged.doubts())
