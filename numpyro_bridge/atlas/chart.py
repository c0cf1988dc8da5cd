"""Chart a posterior: fit maps to its pieces, judge their draws, and repair what is not covered."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from numpyro_bridge._core.checks import check_count, check_flag, check_function, check_instance
from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.stages import stage
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.arguments import check_stage
from numpyro_bridge.atlas.atlas import Atlas, Witness
from numpyro_bridge.atlas.explore import Exploration
from numpyro_bridge.atlas.fit_charts import MovesSuffice, compile_charts_ahead, fit_charts
from numpyro_bridge.atlas.fit_coupling import BRIEF
from numpyro_bridge.atlas.fitted import Fitted
from numpyro_bridge.atlas.judge import compile_weighing_ahead, suffices
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.mixture_fit import MAX_COMPONENTS
from numpyro_bridge.atlas.one_by_one import one_by_one
from numpyro_bridge.atlas.repair import (
    UNEVEN,
    WeightedNormals,
    divided,
    heaviest,
    with_uncovered,
)
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.unexplained import with_unexplained
from numpyro_bridge.atlas.walk import walked_out
from numpyro_bridge.atlas.witness import (
    Temper,
    compile_temper_ahead,
    temper,
    uncovered_by,
    witness_of,
)
from numpyro_bridge.target import Target

MAX_CHARTS = 64
"""Charts at most; the heaviest are kept."""

MIN_SHARE = 1e-5
"""Charts with less of the mass are dropped."""

MENDED_BY_MOVES = 40
"""From this dimension on a single chart is not divided: annealed moves mend heavy weights in less
time."""

MIN_GAIN = 1.1
"""Repair goes on while it raises the effective sample size by this factor."""


def chart(
    rng_key: RNGKey,
    target: Target,
    exploration: Exploration,
    *,
    bend: bool = True,
    divide: bool = True,
    moves_suffice: MovesSuffice | None = None,
    temper: Temper | None = temper,
    max_rounds: int = 6,
    max_gradient_evaluations: int = 100_000_000,
) -> Atlas:
    """Make an atlas of a posterior from the places that exploration found.

    >>> target = nb.target_from_model(key, model, x, y=y)
    >>> atlas = nb.atlas.chart(key, target, nb.atlas.explore(key, target))
    >>> len(atlas.maps)
    1

    Every place becomes a chart: a normal distribution, which is then improved by natural-gradient
    steps on the chart's piece of the target, and bent where that pays. Draws of the charts are
    weighted. Charts whose weights are heavy are divided. Where particles of an independent method
    lie that no chart covers, or probes find mass that no draw goes to, charts are added. A few
    rounds of this are enough, or a bridge has to do the rest.

    Args:
        rng_key: The same key gives the same atlas.
        target: The target in its own coordinates.
        exploration: The places to begin with.
        bend: Whether maps may be bent.
        divide: Whether charts with heavy weights may be divided.
        moves_suffice: Says of a single chart in 30 dimensions and more whether annealed moves mend
            its weights, so that it need not be bent or divided. It is called as
            `moves_suffice(rng_key, target, map, log_weight)` and returns the answer with the
            number of gradients that it evaluated. None if there will be no such moves.
        temper: Makes the particles, from `(rng_key, target, normals, seen)`; None for no particles.
        max_rounds: Rounds of fitting at most; one where there are more places than charts.
        max_gradient_evaluations: No further round begins once so many gradients were evaluated,
            and the atlas says so.
    """
    check_stage(rng_key, target)
    _check_parts(exploration, bend, divide, moves_suffice, temper)
    max_rounds = check_count("max_rounds", max_rounds, 1)
    limit = check_count("max_gradient_evaluations", max_gradient_evaluations, 0, 2**63)
    # Charts are not divided where the user names a process, whose training raises the ELBO.
    fit = partial(fit_charts, bend=bend, covering=divide, moves_suffice=moves_suffice)
    return _charted(rng_key, target, exploration, fit, divide, temper, max_rounds, limit)


def _charted(rng_key, target, exploration, fit, divide, temper, max_rounds, limit) -> Atlas:
    """The atlas, by rounds of fitting and repair."""
    target = one_by_one(target)
    fit_key, witness_key, repair_key, last_key = split(rng_key, 4)
    charts = heaviest((exploration.normals, exploration.log_mass), MAX_CHARTS)
    best, place = fit(fit_key, target, charts), np.arange(len(charts[1]))
    stage("looking for what charts do not cover", charts=len(best.maps), ess=best.seen.ess)
    compile_weighing_ahead(target, best.seen.partition)
    evaluations = exploration.num_gradient_evaluations + best.num_gradient_evaluations
    witness = _witness(witness_key, target, best, temper)
    evaluations += witness.num_gradient_evaluations
    num_repairs, dividing, reached, rough = 0, divide, None, None
    for number in range(1, 1 if exploration.overflows else max_rounds):
        round_key = fold_in(repair_key, number)
        divide_key, check_key, again_key = split(round_key, 3)
        uncovered = uncovered_by(check_key, target, best.seen, witness)
        repair = _repair(divide_key, target, best, place, witness, uncovered, dividing)
        evaluations += repair.num_gradient_evaluations
        rough = repair.rough if rough is None else rough
        if repair.charts is None:
            break
        if evaluations > limit:
            reached = limit
            break
        num_repairs += 1
        stage(f"charting again, round {number + 1}", charts=len(best.maps), ess=best.seen.ess)
        fitted = fit(again_key, target, repair.charts, known=repair.known, at_tops=False)
        evaluations += fitted.num_gradient_evaluations
        if repair.added and best.seen.good and suffices(fitted.seen.ess, fitted.seen.tail_share):
            dividing = False  # dividing good charts for the ends beside them would take minutes
        best, goes_on = _improved(best, fitted, added=repair.added)
        place = _places(repair, place) if best is fitted else place
        if repair.added and not goes_on:
            break
        dividing = dividing and goes_on  # what no chart covers may still be added
    uncovered = uncovered_by(last_key, target, best.seen, witness)
    atlas = _atlas(best, exploration, witness, uncovered, num_repairs, evaluations, reached)
    return replace(atlas, rough=rough)


def compile_chart_ahead(rng_key: RNGKey, target: Target) -> None:
    """Begin to compile what `chart` calls by its defaults, before exploration has ended."""
    target = one_by_one(target)
    compile_temper_ahead(rng_key, target)
    compile_charts_ahead(rng_key, target)


def _check_parts(exploration, bend, divide, moves_suffice, temper) -> None:
    check_instance("exploration", exploration, Exploration, "nb.atlas.explore(rng_key, target)")
    check_flag("bend", bend)
    check_flag("divide", divide)
    if moves_suffice is not None:
        example = "None, or a function (rng_key, target, map, log_weight) -> (bool, int)"
        check_function("moves_suffice", moves_suffice, example)
    if temper is not None:
        check_function("temper", temper, "nb.atlas.temper")


def _witness(rng_key: RNGKey, target: Target, best: Fitted, temper: Temper | None) -> Witness:
    if temper is None:
        return Witness.absent("none was asked for")
    return witness_of(temper(rng_key, target, best.normals, best.seen))


def _improved(best: Fitted, fitted: Fitted, *, added: bool) -> tuple[Fitted, bool]:
    """The better one of two fits, and whether repairs of this kind should go on."""
    gained = fitted.seen.ess > MIN_GAIN * best.seen.ess or fitted.seen.good
    # A chart on what was missing raises the evidence, even where it lowers the share of draws.
    found = added and fitted.seen.log_evidence > best.seen.log_evidence
    better = found or fitted.seen.better_than(best.seen)
    return (fitted if better else best), better and (gained or found)


class _Repair(NamedTuple):
    """The charts to fit next."""

    charts: WeightedNormals | None
    """None where nothing is to be repaired."""
    place: Int[np.ndarray, " charts"] | None = None
    """From which place each of them comes; None where charts were added to those that are there."""
    known: Sequence[AbstractMap] = ()
    """Maps of the first of these charts, which may still do."""
    added: bool = False
    """Whether some were added to those that are there."""
    num_gradient_evaluations: int = 0
    rough: Float[np.ndarray, " dim"] | None = None
    """A place with mass by the numbers, which rounding makes meaningless."""


def _places(repair: _Repair, before: Int[np.ndarray, " _"]) -> Int[np.ndarray, " charts"]:
    """From which place each chart comes; all that were added in a round count as one."""
    if repair.place is not None:
        return repair.place
    assert repair.charts is not None
    num = len(repair.charts[1])
    if num <= len(before):  # some have made room
        return np.arange(num)
    return np.concatenate([before, np.full(num - len(before), np.max(before) + 1)])


def _repair(
    rng_key, target, best: Fitted, place, witness: Witness, uncovered, divide: bool
) -> _Repair:
    """Divide charts whose weights are heavy; otherwise add charts on what none of them covers."""
    seen = best.seen
    by_moves = best.left_to_moves or target.dim >= MENDED_BY_MOVES
    if divide and not seen.good and len(best.maps) == 1 and by_moves:
        return _Repair(None)
    few = len(best.maps) <= MAX_COMPONENTS
    # The tail of uneven weights is known badly, and dividing is brief in few dimensions.
    uneven = len(best.maps) == 1 and seen.ess < UNEVEN and target.dim <= BRIEF
    if divide and (uneven or not seen.good) and seen.ess > 0 and few:
        charts = best.normals, seen.log_mass
        parts = divided(rng_key, target, charts, place, seen, witness.position)
        known = [best.maps[chart] for chart in parts.stayed]
        if len(known) < len(best.maps) and len(parts.place) > 1:
            return _Repair(parts.charts, parts.place, known)
    # Particles and probes may lie outside of a poor chart without being a mode of their own.
    several = few and len(best.maps) > 1
    if not (seen.good or seen.ess == 0 or not divide or several):
        return _Repair(None)
    if len(uncovered) and witness.position is not None:
        share = len(uncovered) / len(witness.position)
        charts = best.normals, seen.log_mass
        charts = with_uncovered(rng_key, charts, seen, uncovered, share, MAX_CHARTS)
        return _Repair(charts, None, _known(best, charts), added=True)
    walk_key, probe_key = split(rng_key)
    walk = walked_out(walk_key, target, seen)
    walking = walk.num_gradient_evaluations
    if walk.ends:
        charts = best.normals, seen.log_mass
        for number, (ends, share) in enumerate(zip(walk.ends, walk.shares, strict=True)):
            key = fold_in(walk_key, number)
            charts = with_uncovered(key, charts, seen, ends, share, MAX_CHARTS)
        return _Repair(charts, None, _known(best, charts), True, walking)
    found = with_unexplained(probe_key, target, best.normals, seen, MAX_CHARTS)
    spent = walking + found.num_gradient_evaluations
    return _Repair(found.charts, None, _known(best, found.charts), True, spent, found.rough)


def _known(best: Fitted, charts: WeightedNormals | None) -> Sequence[AbstractMap]:
    """The maps that are there, if all of them stay."""
    return best.maps if charts is not None and len(charts[1]) > len(best.maps) else ()


def _atlas(
    best: Fitted, exploration, witness, uncovered, num_repairs, evaluations, reached_limit
) -> Atlas:
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
        num_new=exploration.num_new,
        settled=exploration.settled,
        witness=witness,
        uncovered=uncovered,
        num_repairs=num_repairs,
        num_gradient_evaluations=evaluations,
        reached_limit=reached_limit,
        may_hide=exploration.may_hide,
        undefined=exploration.undefined,
        num_prior_draws=exploration.num_prior_draws,
    )


Explore = Callable[[RNGKey, Target], Exploration]
"""Finds the places to chart."""

Chart = Callable[..., Atlas]
"""Makes an atlas from a key, a target and what exploration saw of it."""
