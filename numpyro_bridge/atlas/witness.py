"""The witness: tempered particles, which see mass that the charts do not cover."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.checks import check_count, check_instance
from numpyro_bridge._core.keys import split
from numpyro_bridge._core.memory import in_words
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.arguments import check_stage
from numpyro_bridge.atlas.atlas import Witness, no_uncovered
from numpyro_bridge.atlas.effort import is_heavy
from numpyro_bridge.atlas.judge import Judgement, log_weights_at
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.particles import (
    Particles,
    compile_tempering_ahead,
    from_prior,
    from_wide,
    refreshed,
    tempered_particles,
)
from numpyro_bridge.atlas.repair import normal_of
from numpyro_bridge.atlas.stacked import row, standard_normal
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target

TEMPERING_LIMIT = 100
"""Dimension up to which particles are tempered; beyond, that would cost more than all the rest."""

NUM_PARTICLES, MOST_PARTICLES = 1_024, 4_096
"""Particles at first; and where their two groups disagree."""

DISAGREEMENT = 1.0
"""Standard error of the particles' log evidence, in nats, above which there are too few of them."""

NUM_MOVES = 2
"""Hamiltonian moves at each temperature."""

WIDTH = 3.0
"""Where the prior cannot be drawn from, tempering starts this much wider than the charts."""

MIN_UNCOVERED = 0.01
"""Share of the particles that has to be uncovered to count; fewer may be chance."""

Temper = Callable[[RNGKey, Target, DenseMap, Judgement], Particles | str]
"""Makes particles, or says why there are none."""


def temper(
    rng_key: RNGKey,
    target: Target,
    normals: DenseMap,
    seen: Judgement,
    *,
    num_particles: int = NUM_PARTICLES,
    most_particles: int = MOST_PARTICLES,
) -> Particles | str:
    """Temper particles from the prior, or from a distribution that is wider than the charts.

    >>> temper = partial(nb.atlas.temper, num_particles=2_048)
    >>> sampler = nb.BridgeSampler(model, charts=partial(nb.atlas.chart, temper=temper))

    Where the evidences of their two groups disagree, the most particles are tempered instead.

    Args:
        rng_key: The same key gives the same particles.
        target: The target in its own coordinates.
        normals: The charts so far, as normal distributions.
        seen: What the draws of the charts say.
        num_particles: How many at first.
        most_particles: How many at most.

    Returns:
        The particles, or the reason why there are none.
    """
    check_stage(rng_key, target)
    check_instance("normals", normals, DenseMap, "exploration.normals")
    check_instance("seen", seen, Judgement, "what nb.atlas.chart passes on")
    num_particles = check_count("num_particles", num_particles, 2)
    most_particles = check_count("most_particles", most_particles, 2)
    if target.dim > TEMPERING_LIMIT:
        return f"the posterior has more than {TEMPERING_LIMIT} dimensions"
    if is_heavy(target):
        return f"one evaluation of the model takes {in_words(target.innermost.num_bytes)}"
    found = _tempered(rng_key, target, normals, seen, num_particles)
    if isinstance(found, str) or found.log_evidence_error < DISAGREEMENT:
        return found
    more = _tempered(rng_key, target, normals, seen, most_particles)
    if isinstance(more, str):
        return found
    spent = found.num_gradient_evaluations + more.num_gradient_evaluations
    return more._replace(num_gradient_evaluations=spent)


def compile_temper_ahead(rng_key: RNGKey, target: Target) -> None:
    """Begin to compile what `temper` calls by its defaults, before there are any charts."""
    if target.dim <= TEMPERING_LIMIT and not is_heavy(target):
        reference = from_prior(rng_key, target, NUM_PARTICLES)
        if reference is None:
            normals, _ = standard_normal(target.dim)
            reference = from_wide(rng_key, normals, NUM_PARTICLES, scale=WIDTH)
        compile_tempering_ahead(rng_key, target, reference, num_moves=NUM_MOVES)


def _tempered(rng_key, target: Target, normals: DenseMap, seen: Judgement, num: int):
    start_key, temper_key = split(rng_key)
    reference = from_prior(start_key, target, num)
    if reference is None:
        heavy = np.flatnonzero(seen.share > 1e-4)
        if not len(heavy):
            return "no chart carries any mass"
        reference = from_wide(start_key, row(normals, heavy), num, scale=WIDTH)
    try:
        return tempered_particles(temper_key, target, reference, num_moves=NUM_MOVES)
    except RuntimeError as error:
        return str(error)


def witness_of(particles: Particles | str) -> Witness:
    """The particles with equal weights."""
    if isinstance(particles, str):
        return Witness.absent(particles)
    log_weight = np.asarray(particles.log_weight, float)
    weight = np.exp(log_weight - np.logaddexp.reduce(log_weight))
    position = np.asarray(particles.position)
    grid = (np.arange(len(position)) + 0.5) / len(position)
    index = np.minimum(np.searchsorted(np.cumsum(weight), grid), len(position) - 1)
    return Witness(
        position[index],
        particles.log_evidence,
        particles.log_evidence_error,
        num_gradient_evaluations=particles.num_gradient_evaluations,
    )


def uncovered_by(
    rng_key: RNGKey, target: Target, seen: Judgement, witness: Witness
) -> Float[np.ndarray, "num dim"]:
    """The particles that would have larger weights than any draw of the charts had.

    Where there are some, all particles are first moved by a few Hamiltonian steps, since tempering
    may have left them a little outside of the posterior.
    """
    if witness.position is None or not np.isfinite(seen.log_evidence):
        return no_uncovered(target.dim)
    position = on_device(witness.position, jnp.result_type(float))
    if np.sum(_is_far(target, seen, position)) < MIN_UNCOVERED * len(position):
        return no_uncovered(target.dim)
    whole = normal_of(np.asarray(position))
    inside = jax.vmap(whole.inverse)(position)
    moved = refreshed(rng_key, StandardisedTarget(target, whole), inside)
    position = jax.vmap(whole)(moved)
    far = _is_far(target, seen, position)
    if np.sum(far) < MIN_UNCOVERED * len(position):
        return no_uncovered(target.dim)
    return np.asarray(position)[far]


def _is_far(target, seen: Judgement, position) -> np.ndarray:
    _, log_weight = log_weights_at(target, seen.partition, np.asarray(position))
    return seen.is_beyond(log_weight)
