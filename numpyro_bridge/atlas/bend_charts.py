"""Bend the maps of charts whose pieces are not nearly normal, and bend them again where it pays."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.coupling import CouplingMap
from numpyro_bridge.atlas.fit_coupling import BRIEF, BentMap, fit_coupling, small_gap
from numpyro_bridge.atlas.fitted import FAIR_ESS, FINE_ESS, Fitted, better, judged, rows_of
from numpyro_bridge.atlas.judge import GOOD_ESS, Judgement, draws_of_chart, suffices
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.mixture_fit import numpy_generator
from numpyro_bridge.atlas.partition import AbstractPartition, Piece
from numpyro_bridge.atlas.repair import POOL, normal_of, resampled
from numpyro_bridge.atlas.stacked import row, stack, student_partition
from numpyro_bridge.atlas.standardised_target import bound_of, gap_of, weights_of_draws
from numpyro_bridge.target import Target

Fit = Callable[..., BentMap]
"""`fit_coupling`, with what all fits of a call have in common."""

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


def bend_charts(
    rng_keys: tuple[RNGKey, RNGKey],
    target: Target,
    partition: AbstractPartition,
    affine: Fitted,
    best: Fitted,
    log_mass: Float[np.ndarray, " charts"],
    *,
    known: Sequence[AbstractMap],
    at_tops: bool,
    covering: bool,
) -> Fitted:
    """Bend the maps of charts, and return the best of what was found.

    Args:
        rng_keys: Randomness of the fits, and that of the judging.
        target: The whole target, in its own coordinates.
        partition: What share each chart has in a position.
        affine: The charts before they are bent, each fitted to its piece.
        best: The best charts by now; what is returned is no worse.
        log_mass: A first guess of the mass of each chart, in nats up to a constant.
        known: Maps of the first charts from an earlier fit, which may still do.
        at_tops: Whether the normal distributions are those at tops of the density.
        covering: Whether the maps should cover all of their pieces, as in `fit_coupling`.
    """
    bend_key, judge_key = rng_keys
    fit = partial(fit_coupling, covering=covering)
    maps, cost = _bent(
        bend_key,
        target,
        partition,
        rows_of(affine.normals),
        affine.seen.share,
        known,
        KNOWN_GAP,
        fit,
        again=not at_tops,
    )
    spent = affine.num_gradient_evaluations + cost
    if cost == 0:
        return best._replace(num_gradient_evaluations=spent)
    bent = judged(judge_key, target, affine.normals, maps, log_mass, spent)
    if len(maps) > 1:
        return _bent_again(bend_key, judge_key, target, best, bent, at_tops, fit)
    best = better(best, bent)
    if target.dim > BRIEF:
        return best
    return _bent_from_moments(bend_key, judge_key, target, best, fit)


def _bent(
    rng_key,
    target: Target,
    partition,
    affine,
    share,
    known,
    known_gap: float,
    fit: Fit,
    *,
    again: bool,
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
            bent, spent = fit(fold_in(fit_key, number), piece, transform, again=again)
            candidates.append((bent, weights_of_draws(draw_key, bent, piece)))
            cost += spent
        maps[number] = max(candidates, key=lambda one: bound_of(one[1]))[0]
    return maps, cost


def _bent_from_moments(bend_key, judge_key, target: Target, best: Fitted, fit: Fit) -> Fitted:
    """Bend a single chart again, from the normal distribution that its weighted draws look like.

    The normal distribution of highest ELBO sits in the neck of a funnel, or at the bend of a
    banana, and a bent map that starts there learns the rest slowly. One that starts as wide as the
    posterior has all of it in sight. In many dimensions, where a fit takes long, it is not done: on
    the random walk of `benchmarks/atlas.py` a single map has even weights then, and lacks the neck.
    """
    for number in range(1, MOST_FROM_MOMENTS + 1):
        before = best.seen
        if before.ess == 0 or (before.good and before.ess > FINE_ESS):
            break
        draw_key, fit_key = split(fold_in(bend_key, number))
        normal = normal_of(resampled(numpy_generator(draw_key), before, POOL))
        normals, log_mass = stack([normal]), before.log_mass
        piece = Piece(target, student_partition(normals, log_mass), on_device(0))
        bent, cost = fit(fit_key, piece, normal, again=True, wide=True)
        spent = best.num_gradient_evaluations + cost
        best = better(best, judged(judge_key, target, normals, [bent], log_mass, spent))
        if best.seen is before and before.ess < GOOD_ESS:
            break
    return best


def _bent_again(
    bend_key,
    judge_key,
    target: Target,
    best: Fitted,
    bent: Fitted,
    at_tops: bool,
    fit: Fit,
) -> Fitted:
    """Bend several charts once more, each on all that its bent map reaches.

    A normal distribution at the top of a valley that bends is narrow, and the partition by such
    normals cuts off the ends of the valley: a wide chart elsewhere claims them, and cannot reach
    them. One with the mean and covariance of the bent map is as long as the valley. Normals that
    were fitted to draws, as those of charts that were divided, are no narrower than their pieces:
    on the funnel of `benchmarks/atlas.py` this took half of the time, and nothing was gained.
    """
    affine, bent = rows_of(bent.normals), _with_moments(bend_key, target, bent)
    best = better(best, bent)
    for number in range(1, MOST_REFITS + 1 if at_tops else 1):
        seen, key = bent.seen, fold_in(bend_key, number)
        if not _pays_to_bend_again(seen, target.dim, first=number == 1):
            break
        partition = student_partition(bent.normals, seen.log_mass)
        gap = small_gap(target.dim)
        maps, cost = _bent(
            key, target, partition, affine, seen.share, bent.maps, gap, fit, again=True
        )
        if cost == 0:
            break
        spent = bent.num_gradient_evaluations + cost
        bent = judged(judge_key, target, bent.normals, maps, seen.log_mass, spent)
        bent = _with_moments(key, target, bent)
        best = better(best, bent)
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
