"""Chart a posterior: fit maps to its pieces, judge their draws, and repair what is not covered."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import Atlas, Witness
from numpyro_bridge.atlas.explore import Exploration
from numpyro_bridge.atlas.fit_coupling import fit_coupling, num_gradient_evaluations
from numpyro_bridge.atlas.fit_normal import climb_on_pieces, draws_per_step
from numpyro_bridge.atlas.judge import Judgement, judge, weights_on_piece
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap
from numpyro_bridge.atlas.partition import Piece
from numpyro_bridge.atlas.repair import Charts, divided, heaviest, with_uncovered
from numpyro_bridge.atlas.stacked import row, student_partition
from numpyro_bridge.atlas.witness import Temper, temper, uncovered_by, witness_of
from numpyro_bridge.target import Target

MAX_CHARTS = 64

FINE_ESS = 0.9
"""Charts whose draws are worth this share of independent ones are not fitted any closer."""

MOST_BENT = 8
"""Charts are bent where there are at most so many of them."""

NEARLY_NORMAL = 0.01
"""A normal distribution this close to the target, in nats, leaves no reason to bend the map."""

MIN_SHARE = 1e-5
"""Charts with less of the mass are dropped."""

MIN_GAIN = 1.1
"""Repair goes on while it raises the effective sample size by this factor."""

STEPS, BATCH = 100, 8
"""Steps of the natural-gradient climbs, and how many charts climb together."""


class Fitted(NamedTuple):
    """Charts, and what their draws say about them."""

    normals: DenseMap
    """The affine map of each chart, stacked."""
    maps: list[AbstractMap]
    """The map of each chart, bent or not."""
    seen: Judgement
    evaluations: int


def chart(
    rng_key: RNGKey,
    target: Target,
    exploration: Exploration,
    *,
    bend: bool = True,
    divide: bool = True,
    temper: Temper | None = temper,
    max_rounds: int = 4,
) -> Atlas:
    """Make an atlas of a posterior from the places that exploration found.

    Every place becomes a chart: a normal distribution, which is then improved by natural-gradient
    steps on the chart's piece of the target, and bent where that pays. Draws of the charts are
    weighted. Where the weights are heavy the charts are divided anew; where particles of an
    independent method lie that no chart covers, charts are added. A few rounds of this are enough,
    or a bridge has to do the rest.

    Args:
        rng_key: The same key gives the same atlas.
        target: The target in its own coordinates.
        exploration: The places to begin with.
        bend: Whether maps may be bent.
        divide: Whether charts with heavy weights may be divided.
        temper: Makes the particles, from `(rng_key, target, normals)`; None for no particles.
        max_rounds: Rounds of fitting at most.
    """
    fit_key, witness_key, repair_key, last_key = jax.random.split(rng_key, 4)
    charts = heaviest((exploration.normals, exploration.log_mass), MAX_CHARTS)
    best = _fitted(fit_key, target, charts, bend)
    evaluations = exploration.num_gradient_evaluations + best.evaluations
    witness = Witness.absent("none was asked for")
    if temper is not None:
        witness = witness_of(temper(witness_key, target, best.normals, best.seen))
        evaluations += witness.num_gradient_evaluations
    num_repairs = 0
    for number in range(1, max_rounds):
        divide_key, check_key, again_key = jax.random.split(
            jax.random.fold_in(repair_key, number), 3
        )
        uncovered = uncovered_by(check_key, target, best.seen, witness)
        charts = _repaired(divide_key, target, best, witness, uncovered, divide)
        if charts is None:
            break
        num_repairs += 1
        fitted = _fitted(again_key, target, heaviest(charts, MAX_CHARTS), bend)
        evaluations += fitted.evaluations
        gained = fitted.seen.ess > MIN_GAIN * best.seen.ess or fitted.seen.good
        if len(uncovered) or fitted.seen.better_than(best.seen):
            best = fitted
        if not gained and not len(uncovered):
            break
    uncovered = uncovered_by(last_key, target, best.seen, witness)
    return _atlas(best, exploration, witness, uncovered, num_repairs, evaluations)


def _repaired(rng_key, target, best: Fitted, witness: Witness, uncovered, divide) -> Charts | None:
    """The charts to fit next; None where nothing is to be repaired."""
    if divide and not best.seen.good and best.seen.ess > 0:
        charts = divided(rng_key, target, best.seen, witness.position)
        if len(charts[1]) > 1 or len(best.maps) > 1:
            return charts
    if len(uncovered) and best.seen.good:
        charts = best.normals, best.seen.log_mass
        num = len(witness.position) if witness.position is not None else 1
        return with_uncovered(rng_key, charts, best.seen, uncovered, num)
    return None


def _fitted(rng_key, target: Target, charts: Charts, bend: bool) -> Fitted:
    """Fit the charts as closely as is needed: as they are, then affine, then bent."""
    climb_key, bend_key, judge_key = jax.random.split(rng_key, 3)
    normals, log_mass = charts
    best = _judged(judge_key, target, normals, _rows(normals), log_mass, 0)
    if best.seen.good and best.seen.ess > FINE_ESS:
        return best
    partition = student_partition(normals, log_mass)
    climbed = _climbed(climb_key, target, partition, normals)
    cost = len(log_mass) * STEPS * draws_per_step(target.dim)
    affine = _judged(judge_key, target, climbed, _rows(climbed), log_mass, cost)
    best = affine if affine.seen.better_than(best.seen) else best
    if not bend or (best.seen.good and best.seen.ess > 0.7) or len(log_mass) > MOST_BENT:
        return best._replace(evaluations=best.evaluations + affine.evaluations)
    maps, bending = _bent(bend_key, target, partition, _rows(climbed), affine.seen.share)
    if not bending:
        return best
    bent = _judged(judge_key, target, climbed, maps, log_mass, cost + bending)
    best = bent if bent.seen.better_than(best.seen) else best
    return best._replace(evaluations=bent.evaluations)


def _judged(rng_key, target, normals, maps, log_mass, evaluations: int) -> Fitted:
    seen = judge(rng_key, target, maps, log_mass)
    return Fitted(normals, maps, seen, evaluations + len(seen.log_weight))


def _rows(normals: DenseMap) -> list[AbstractMap]:
    return [row(normals, chart) for chart in range(len(normals.location))]


def _climbed(rng_key, target: Target, partition, normals: DenseMap) -> DenseMap:
    """Improve each normal distribution on its piece, a few charts at a time."""
    num = len(normals.location)
    size = 1 if num == 1 else BATCH
    parts = []
    for first in range(0, num, size):
        charts = np.minimum(np.arange(first, first + size), num - 1)
        key = jax.random.fold_in(rng_key, first)
        climbed = climb_on_pieces(
            key,
            target,
            partition,
            jnp.asarray(charts),
            row(normals, charts),
            STEPS,
            draws_per_step(target.dim),
        )
        parts.append(row(climbed, slice(0, min(size, num - first))))
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)


def _bent(rng_key, target: Target, partition, affine, share) -> tuple[list[AbstractMap], int]:
    """Bend the map of each chart whose piece is not nearly normal; also what that cost."""
    draw_key, fit_key = jax.random.split(rng_key)
    noise = jax.random.normal(draw_key, (1_024, target.dim), jnp.result_type(float))
    maps, cost = list(affine), 0
    for number, transform in enumerate(affine):
        if share[number] < 0.02:
            continue
        chart = jnp.asarray(number)
        before = weights_on_piece(target, partition, chart, transform, noise)
        # For nearly equal weights the gap between ELBO and log evidence is half their variance.
        if 0.5 * float(jnp.var(before)) < NEARLY_NORMAL:
            continue
        key = jax.random.fold_in(fit_key, number)
        bent = fit_coupling(key, Piece(target, partition, chart), transform)
        cost += num_gradient_evaluations(target.dim)
        after = weights_on_piece(target, partition, chart, bent, noise)
        if float(jnp.mean(after)) > float(jnp.mean(before)):
            maps[number] = bent
    return maps, cost


def _atlas(best: Fitted, exploration, witness, uncovered, num_repairs, evaluations) -> Atlas:
    """Drop empty charts, and keep what was seen."""
    keep = np.flatnonzero(best.seen.share > MIN_SHARE)
    keep = keep[np.argsort(-best.seen.log_mass[keep], kind="stable")]
    return Atlas(
        maps=tuple(best.maps[chart] for chart in keep),
        normals=row(best.normals, keep),
        log_mass=best.seen.log_mass[keep],
        log_evidence=best.seen.log_evidence,
        ess=best.seen.ess,
        tail_share=best.seen.tail_share,
        num_climbs=exploration.num_climbs,
        num_places=len(exploration.num_at_place),
        num_found_once=sum(count == 1 for count in exploration.num_at_place),
        settled=exploration.settled,
        witness=witness,
        uncovered=uncovered,
        num_repairs=num_repairs,
        num_gradient_evaluations=evaluations,
    )


Chart = Callable[[RNGKey, Target, Exploration], Atlas]
"""Makes an atlas from a target and what exploration saw of it."""

Explore = Callable[[RNGKey, Target], Exploration]

Positions = Float[Array, "num dim"]
