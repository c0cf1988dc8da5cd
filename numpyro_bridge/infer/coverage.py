"""Coverage: a sampler is judged from outside, by particles and by the charts it was made from."""

import math
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import Atlas, no_uncovered
from numpyro_bridge.atlas.judge import (
    LEAST_EXCESS,
    MARGIN,
    SAME_EVIDENCE,
    evidence_error,
    quality_of,
)
from numpyro_bridge.atlas.judge import NUM_DRAWS as NUM_CHART_DRAWS
from numpyro_bridge.atlas.mixture_fit import numpy_generator
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.repair import normal_of
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.atlas.witness import MIN_UNCOVERED
from numpyro_bridge.draws.backward_runs import backward_log_weights
from numpyro_bridge.infer.posterior import Posterior

NUM_DRAWS = 1_000
"""Draws of the sampler that the weights of particles are compared with."""

NUM_BACK = 1_024
"""Draws of the charts from which paths are run back; as many as there are particles, mostly."""

ENOUGH_ESS = 0.1
"""Charts whose draws are worth a smaller share of independent ones are no measure of a sampler."""


class Covered(NamedTuple):
    """A posterior that was judged from outside."""

    posterior: Posterior[Any]
    """The same, with doubts for what particles or charts see and the sampler does not."""
    loses_mass: bool = False
    """Whether the charts by themselves cover more, by more than chance."""


def covered(
    rng_key: RNGKey, posterior: Posterior[Any], alone: Posterior[Any] | None = None
) -> Covered:
    """Judge a posterior again, by particles and by the charts that it was made from.

    A path is run back from every particle. One whose weight exceeds that of all draws of the
    sampler lies where the sampler does not go.

    Args:
        rng_key: Randomness of draws and paths.
        posterior: The sampler on its charts.
        alone: The charts without any sampler, to compare it with; None for no comparison.
    """
    atlas = posterior.atlas
    assert atlas is not None
    draw_key, check_key, compare_key = split(rng_key, 3)
    _compile_ahead(check_key, posterior, atlas)
    _, own = _drawn(draw_key, posterior, NUM_DRAWS)
    if not np.isfinite(np.max(own)):
        return Covered(posterior)  # The verdict on such draws needs no further doubt.
    estimate = float(np.logaddexp.reduce(own) - np.log(len(own)))
    error = evidence_error(quality_of(own)[0], len(own))
    limit = max(estimate + LEAST_EXCESS, float(np.max(own)) + MARGIN)
    uncovered = _beyond(check_key, posterior, atlas, limit)
    judged = atlas.judged_again(estimate, uncovered)
    doubts = (*judged.doubts, *_doubts_about_evidence(estimate, error, atlas))
    loses_mass = False
    # Where evaluations are so dear that there are no particles, no further paths are run back.
    if alone is not None and atlas.witness.position is not None:
        loses_mass = _loses_mass(compare_key, posterior, alone, estimate, error)
    return Covered(replace(posterior, atlas=judged, doubts=doubts), loses_mass)


def _drawn(rng_key: RNGKey, posterior: Posterior[Any], num: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of draws, and their log weights, of which none is NaN."""
    draws = posterior.sample(rng_key, num)
    log_weight = np.asarray(draws.log_weight, float)
    return np.asarray(draws.position), np.where(np.isnan(log_weight), -np.inf, log_weight)


def _doubts_about_evidence(estimate: float, error: float, atlas: Atlas):
    """A sentence where the charts alone had a higher evidence than the sampler on them has.

    A few heavy draws of a chart may be all that shows of an arm which no path of the sampler
    reaches. Both estimates lack nothing on average, so two errors are reason enough to doubt.
    """
    chance = math.hypot(error, evidence_error(atlas.ess, NUM_CHART_DRAWS))
    more = atlas.log_evidence - estimate
    if atlas.ess >= ENOUGH_ESS and more > 2 * chance:
        yield (
            f"Draws of the charts alone gave a log evidence that is higher by {more:.3f} ± "
            f"{chance:.3f}: the sampler may leave out some of the posterior."
        )


def _loses_mass(
    rng_key: RNGKey,
    posterior: Posterior[Any],
    alone: Posterior[Any],
    estimate: float,
    error: float,
) -> bool:
    """Whether a sampler leaves out what its charts cover, by more than chance.

    Training by the reverse divergence may draw a sampler in from arms of the posterior which its
    chart covered, if thinly. Its own weights know nothing of these. So draws of the charts are
    resampled by their weights, and paths are run back from them: one over the mean of the inverse
    weights is an evidence that lacks nothing, and hardly scatters where the sampler is too narrow.
    """
    draw_key, pick_key, back_key = split(rng_key, 3)
    position, log_weight = _drawn(draw_key, alone, NUM_CHART_DRAWS)
    ess, _ = quality_of(log_weight)
    if ess < ENOUGH_ESS:
        return False
    weight = np.exp(log_weight - np.max(log_weight))
    chosen = numpy_generator(pick_key).choice(len(weight), NUM_BACK, p=weight / weight.sum())
    ends = on_device(position[chosen], jnp.result_type(float))
    back, finite = backward_log_weights(back_key, posterior.process, posterior.target, ends)
    inverse = -np.asarray(back, float)[np.asarray(finite)]
    if len(inverse) < 0.5 * NUM_BACK:
        return False
    backward = np.log(len(inverse)) - np.logaddexp.reduce(inverse)
    # Resampled draws are worth no more than those they were taken from.
    worth = 1 / (1 / NUM_BACK + 1 / (ess * NUM_CHART_DRAWS))
    chance = math.hypot(error, evidence_error(quality_of(inverse)[0], worth))
    return bool(backward - estimate > 3 * chance + SAME_EVIDENCE)


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
