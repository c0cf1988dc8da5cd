"""Fit the charts at given places: as they are, then affine on their pieces, then bent."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.bend_charts import bend_charts
from numpyro_bridge.atlas.fit_coupling import compile_bending_ahead, unbent
from numpyro_bridge.atlas.fit_normal import PIECE_STEPS, climb_on_pieces, draws_per_step
from numpyro_bridge.atlas.fitted import FAIR_ESS, FINE_ESS, Fitted, better, judged, rows_of
from numpyro_bridge.atlas.judge import compile_judging_ahead
from numpyro_bridge.atlas.maps import AbstractMap, DenseMap
from numpyro_bridge.atlas.partition import AbstractPartition, Piece
from numpyro_bridge.atlas.repair import WeightedNormals
from numpyro_bridge.atlas.stacked import joined, row, standard_normal, student_partition
from numpyro_bridge.target import Target

MOST_BENT = 12
"""Charts are bent where there are at most so many of them."""

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


def fit_charts(
    rng_key: RNGKey,
    target: Target,
    charts: WeightedNormals,
    *,
    bend: bool,
    covering: bool = True,
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
        covering: Whether bent maps should cover all of their pieces, as in `fit_coupling`.
        moves_suffice: Says of a single chart whether it can be left as it is, since annealed moves
            mend its weights; None if it cannot.
        known: Maps of the first charts from an earlier fit, which may still do.
        at_tops: Whether the normal distributions are those at tops of the density, which may be
            narrower than the pieces that the charts should have.
    """
    climb_key, bend_key, judge_key = split(rng_key, 3)
    normals, log_mass = charts
    maps = [*known, *rows_of(normals)[len(known) :]]
    best = judged(judge_key, target, normals, maps, log_mass, 0)
    if best.seen.good and best.seen.ess > FINE_ESS:
        return best
    partition = student_partition(normals, log_mass)
    by_moves = moves_suffice is not None and len(log_mass) == 1 and target.dim >= FIRST_BY_MOVES
    few = len(log_mass) <= MOST_BENT
    if bend and few and not by_moves and not (best.seen.good and best.seen.ess > FAIR_ESS):
        _compile_bends_ahead(bend_key, target, partition, normals)
    climbed = _climbed(climb_key, target, partition, normals)
    spent = best.num_gradient_evaluations + len(log_mass) * PIECE_STEPS * draws_per_step(target.dim)
    affine = judged(judge_key, target, climbed, rows_of(climbed), log_mass, spent)
    best = better(best, affine)
    fair = best.seen.good and best.seen.ess > FAIR_ESS
    if not bend or fair or not few:
        return best
    if by_moves and moves_suffice is not None:
        key = fold_in(bend_key, 0)
        enough, asking = moves_suffice(key, target, best.maps[0], best.seen.log_weight)
        affine = affine._replace(num_gradient_evaluations=best.num_gradient_evaluations + asking)
        if enough:
            return better(best, affine)._replace(left_to_moves=True)
    return bend_charts(
        (bend_key, judge_key),
        target,
        partition,
        affine,
        best,
        log_mass,
        known=known,
        at_tops=at_tops,
        covering=covering,
    )


def compile_charts_ahead(rng_key: RNGKey, target: Target) -> None:
    """Begin to compile what `fit_charts` calls for a single chart, before its place is known."""
    normals, log_mass = standard_normal(target.dim)
    compile_judging_ahead(rng_key, target, rows_of(normals))
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
