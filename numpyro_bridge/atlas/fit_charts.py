"""Fit the charts at given places: as they are, then affine on their pieces, then bent."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.coupling import CouplingMap
from numpyro_bridge.atlas.fit_coupling import (
    BRIEF,
    compile_bending_ahead,
    fit_coupling,
    small_gap,
    unbent,
)
from numpyro_bridge.atlas.fit_normal import PIECE_STEPS, climb_on_pieces, draws_per_step
from numpyro_bridge.atlas.judge import (
    GOOD_ESS,
    Judgement,
    compile_judging_ahead,
    draws_of_chart,
    judge,
    suffices,
)
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap
from numpyro_bridge.atlas.mixture_fit import numpy_generator
from numpyro_bridge.atlas.partition import AbstractPartition, Piece
from numpyro_bridge.atlas.repair import POOL, WeightedNormals, normal_of, resampled
from numpyro_bridge.atlas.stacked import (
    joined,
    row,
    stack,
    standard_normal,
    student_partition,
)
from numpyro_bridge.atlas.standardised_target import gap_of, weights_of_draws
from numpyro_bridge.target import Target

FINE_ESS, FAIR_ESS = 0.9, 0.8
"""Good charts whose draws are worth these shares of independent ones are not fitted any closer by
affine maps, and not bent."""

MOST_BENT = 12
"""Charts are bent where there are at most so many of them."""

NEARLY_NORMAL = 0.01
"""A normal distribution this close to its piece, in nats, leaves no reason to bend the map."""

NEGLIGIBLE = 0.02
"""A chart that has a smaller share of the mass is not bent, unless its weights are so uneven that
its share may be larger: a normal distribution at the top of a valley that bends sees little of it.
"""

MOST_REFITS = 2
"""How often several charts are bent again, the second time only if they are not good by then."""

MOST_FROM_MOMENTS = 3
"""How often a single chart is bent from the moments of its draws, as long as that makes it better.
"""

KNOWN_GAP = 0.1
"""A map of an earlier fit is not bent anew on another piece where its gap to the evidence, in nats,
is no larger: draws with such weights are worth four in five independent ones."""

MOST_UNSEEN = 10.0
"""By so many nats at most may the mass of a chart be larger than its weights say."""

BATCH = 8
"""Charts that climb in one call of the compiled program."""

FIRST_BY_MOVES = 30
"""From this dimension on a single chart is bent only where annealed moves are not enough: a bend
takes a million gradients and more there, and moves to weights as even take a third of that."""

MovesSuffice = Callable[
    [RNGKey, Target, AbstractMap, Float[np.ndarray, " draws"]], tuple[bool, int]
]
"""From a key, the target, the only chart and the log weights of its draws: whether annealed moves
mend these weights, and how many gradients it took to find out."""


class Fitted(NamedTuple):
    """Charts, and what their draws say about them."""

    normals: DenseMap
    """The affine map of each chart, stacked."""
    maps: list[AbstractMap]
    """The map of each chart, bent or not."""
    seen: Judgement
    num_gradient_evaluations: int
    """What fitting and judging cost, with what was tried and not kept."""
    left_to_moves: bool = False
    """Whether annealed moves mend the weights, so that nothing need be bent or divided."""


def fit_charts(
    rng_key: RNGKey,
    target: Target,
    charts: WeightedNormals,
    *,
    bend: bool,
    moves_suffice: MovesSuffice | None = None,
    known: Sequence[AbstractMap] = (),
    at_tops: bool = True,
) -> Fitted:
    """Fit the charts as closely as is needed, and keep the best fit.

    Args:
        rng_key: The same key gives the same charts.
        target: The whole target, in its own coordinates.
        charts: Normal distributions at the places of the charts, and their masses.
        bend: Whether maps may be bent.
        moves_suffice: Says of a single chart whether it can be left as it is, since annealed moves
            mend its weights; None if it cannot.
        known: Maps of the first charts from an earlier fit, which may still do.
        at_tops: Whether the normal distributions are those at tops of the density, which may be
            narrower than the pieces that the charts should have.
    """
    climb_key, bend_key, judge_key = split(rng_key, 3)
    normals, log_mass = charts
    as_they_are = [*known, *_rows(normals)[len(known) :]]
    best = _judged(judge_key, target, normals, as_they_are, log_mass, 0)
    if best.seen.good and best.seen.ess > FINE_ESS:
        return best
    partition = student_partition(normals, log_mass)
    by_moves = moves_suffice is not None and len(log_mass) == 1 and target.dim >= FIRST_BY_MOVES
    few = len(log_mass) <= MOST_BENT
    if bend and few and not by_moves and not (best.seen.good and best.seen.ess > FAIR_ESS):
        _compile_bends_ahead(bend_key, target, partition, normals)
    climbed = _climbed(climb_key, target, partition, normals)
    spent = best.num_gradient_evaluations + len(log_mass) * PIECE_STEPS * draws_per_step(target.dim)
    affine = _judged(judge_key, target, climbed, _rows(climbed), log_mass, spent)
    best = _better(best, affine)
    fair = best.seen.good and best.seen.ess > FAIR_ESS
    if not bend or fair or not few:
        return best
    spent = affine.num_gradient_evaluations
    if by_moves and moves_suffice is not None:
        key = fold_in(bend_key, 0)
        enough, asking = moves_suffice(key, target, best.maps[0], best.seen.log_weight)
        spent += asking
        if enough:
            return best._replace(num_gradient_evaluations=spent, left_to_moves=True)
    share = affine.seen.share
    maps, bending = _bent(
        bend_key, target, partition, _rows(climbed), share, known, KNOWN_GAP, again=not at_tops
    )
    if bending == 0:
        return best._replace(num_gradient_evaluations=spent)
    bent = _judged(judge_key, target, climbed, maps, log_mass, spent + bending)
    if len(maps) == 1 and target.dim > BRIEF:
        return _better(best, bent)
    if len(maps) == 1:
        return _bent_from_moments(bend_key, judge_key, target, _better(best, bent))
    return _bent_again(bend_key, judge_key, target, best, bent, at_tops)


def _bent_from_moments(bend_key, judge_key, target: Target, best: Fitted) -> Fitted:
    """Bend a single chart again, from the normal distribution that its weighted draws look like.

    The normal distribution of highest ELBO sits in the neck of a funnel, or at the bend of a
    banana, and a bent map that starts there learns the rest slowly. One that starts as wide as the
    posterior has all of it in sight. In many dimensions, where a fit takes long, it is not done: on
    the random walk of `benchmarks/atlas.py` a single map has even weights then, and lacks the neck.
    """
    for number in range(1, MOST_FROM_MOMENTS + 1):
        before, enough = best.seen, FAIR_ESS if number == 1 else FINE_ESS
        if before.ess == 0 or (before.good and before.ess > enough):
            break
        draw_key, fit_key = split(fold_in(bend_key, number))
        normal = normal_of(resampled(numpy_generator(draw_key), before, POOL))
        normals, log_mass = stack([normal]), before.log_mass
        piece = Piece(target, student_partition(normals, log_mass), on_device(0))
        bent, cost = fit_coupling(fit_key, piece, normal, again=True, wide=True)
        spent = best.num_gradient_evaluations + cost
        best = _better(best, _judged(judge_key, target, normals, [bent], log_mass, spent))
        if best.seen is before and before.ess < GOOD_ESS:
            break
    return best


def _bent_again(
    bend_key, judge_key, target: Target, best: Fitted, bent: Fitted, at_tops: bool
) -> Fitted:
    """Bend several charts once more, each on all that its bent map reaches.

    A normal distribution at the top of a valley that bends is narrow, and the partition by such
    normals cuts off the ends of the valley: a wide chart elsewhere claims them, and cannot reach
    them. One with the mean and covariance of the bent map is as long as the valley. Normals that
    were fitted to draws, as those of charts that were divided, are no narrower than their pieces:
    on the funnel of `benchmarks/atlas.py` this took half of the time, and nothing was gained.
    """
    affine, bent = _rows(bent.normals), _with_moments(bend_key, target, bent)
    best = _better(best, bent)
    for number in range(1, MOST_REFITS + 1 if at_tops else 1):
        seen, key = bent.seen, fold_in(bend_key, number)
        if not _pays_to_bend_again(seen, target.dim, first=number == 1):
            break
        partition = student_partition(bent.normals, seen.log_mass)
        gap = small_gap(target.dim)
        maps, cost = _bent(key, target, partition, affine, seen.share, bent.maps, gap, again=True)
        if cost == 0:
            break
        spent = bent.num_gradient_evaluations + cost
        bent = _judged(judge_key, target, bent.normals, maps, seen.log_mass, spent)
        bent = _with_moments(key, target, bent)
        best = _better(best, bent)
    return best


def _pays_to_bend_again(seen: Judgement, dim: int, *, first: bool) -> bool:
    """Whether several bent charts are bent once more.

    The weights of charts without their arms may look well, so that it is always done once. In many
    dimensions, where it takes long, it is done for charts that do not suffice: on the random walk
    of `benchmarks/reference.py` it took half a minute, and nothing was gained.
    """
    if dim > BRIEF:
        return not suffices(seen.ess, seen.tail_share)
    return first or not (seen.good and seen.ess > FAIR_ESS)


def _with_moments(rng_key, target: Target, fitted: Fitted) -> Fitted:
    """The same charts, where the normal distribution of a bent one has the moments of its draws."""
    normals = [
        normal_of(draws_of_chart(rng_key, target, fitted.seen.partition, number))
        if isinstance(transform, CouplingMap)
        else row(fitted.normals, number)
        for number, transform in enumerate(fitted.maps)
    ]
    return fitted._replace(normals=stack(normals))


def compile_charts_ahead(rng_key: RNGKey, target: Target) -> None:
    """Begin to compile what `fit_charts` calls for a single chart, before its place is known."""
    normals, log_mass = standard_normal(target.dim)
    compile_judging_ahead(rng_key, target, _rows(normals))
    partition = student_partition(normals, log_mass)
    charts = np.zeros(BATCH, int)
    rest = on_device(charts), row(normals, charts), on_device(1)
    compile_ahead(climb_on_pieces, rng_key, target, partition, *rest)


def _compile_bends_ahead(rng_key, target, partition: AbstractPartition, normals: DenseMap) -> None:
    """Begin to compile what bends the charts, and judges them then."""
    piece = Piece(target, partition, on_device(0))
    compile_bending_ahead(rng_key, piece, row(normals, 0))
    bent = [unbent(row(normals, chart)) for chart in range(len(normals.location))]
    compile_judging_ahead(rng_key, target, bent)


def _better(before: Fitted, after: Fitted) -> Fitted:
    """The better one of two fits, with the cost of both."""
    best = after if after.seen.better_than(before.seen) else before
    return best._replace(num_gradient_evaluations=after.num_gradient_evaluations)


def _judged(rng_key, target, normals, maps, log_mass, spent: int) -> Fitted:
    seen = judge(rng_key, target, maps, log_mass)
    return Fitted(normals, maps, seen, spent + len(seen.log_weight))


def _rows(normals: DenseMap) -> list[AbstractMap]:
    return [row(normals, chart) for chart in range(len(normals.location))]


def _climbed(rng_key, target: Target, partition: AbstractPartition, normals: DenseMap) -> DenseMap:
    """Improve each normal distribution on its piece, a few charts in each call."""
    num = len(normals.location)
    parts = []
    for first in range(0, num, BATCH):
        charts = np.minimum(np.arange(first, first + BATCH), num - 1)
        some = min(BATCH, num - first)
        key = fold_in(rng_key, first)
        climbed = climb_on_pieces(
            key, target, partition, on_device(charts), row(normals, charts), on_device(some)
        )
        parts.append(row(climbed, slice(0, some)))
    return joined(parts)


def _bent(
    rng_key, target: Target, partition, affine, share, known, known_gap: float, *, again: bool
) -> tuple[list[AbstractMap], int]:
    """Bend the map of each chart whose piece is not nearly normal; also what that cost.

    A map that is known already is kept if its gap to the evidence of its piece is no larger than
    `known_gap`. Where maps were bent before, `again` is true.
    """
    draw_key, fit_key = split(rng_key)
    maps, cost = list(affine), 0
    for number, transform in enumerate(affine):
        piece = Piece(target, partition, on_device(number))
        before = weights_of_draws(draw_key, transform, piece)
        gap = gap_of(before)
        if gap < NEARLY_NORMAL or share[number] < NEGLIGIBLE * np.exp(-min(gap, MOST_UNSEEN)):
            continue
        candidates, enough = [(transform, before)], small_gap(target.dim)
        if number < len(known):
            weights = weights_of_draws(draw_key, known[number], piece)
            candidates.append((known[number], weights))
            enough = known_gap
        if gap_of(candidates[-1][1]) > enough:
            again = again or cost > 0
            bent, spent = fit_coupling(fold_in(fit_key, number), piece, transform, again=again)
            candidates.append((bent, weights_of_draws(draw_key, bent, piece)))
            cost += spent
        maps[number] = max(candidates, key=lambda one: _elbo(one[1]))[0]
    return maps, cost


def _elbo(log_weight) -> float:
    """The mean of log weights; one that is no number is worse than any other."""
    return float(np.nan_to_num(np.mean(np.asarray(log_weight, float)), nan=-np.inf))
