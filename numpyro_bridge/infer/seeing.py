"""Where a sampler looks before it is made: at the charts of a target, or through a single map."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numpyro_bridge._core.ahead import forget_waiting
from numpyro_bridge._core.checks import check_function
from numpyro_bridge._core.keys import split
from numpyro_bridge._core.stages import stage
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.atlas import Atlas
from numpyro_bridge.atlas.chart import Chart, Explore, chart, compile_chart_ahead
from numpyro_bridge.atlas.explore import MANY_DIMENSIONS, Exploration
from numpyro_bridge.atlas.fit_charts import FIRST_BY_MOVES
from numpyro_bridge.atlas.fit_large import compile_newton_ahead, normal_by_newton
from numpyro_bridge.atlas.fit_normal import DENSE_LIMIT
from numpyro_bridge.atlas.seen_target import SeenTarget, pieces_of
from numpyro_bridge.atlas.stacked import stack
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardisation import standardise as fit_one_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, weights_of_draws
from numpyro_bridge.infer.annealed import compile_trials_ahead, moves_suffice
from numpyro_bridge.processes import AbstractProcess
from numpyro_bridge.target import Target

Standardise = Callable[[RNGKey, Target], Standardisation]
"""Chooses a single map from a key and a target."""


class Seen(NamedTuple):
    """The target as samplers see it, and how that came about."""

    target: SeenTarget
    standardisation: Standardisation
    """How the map was chosen; where there is an atlas, the map of its first chart."""
    atlas: Atlas | None
    """The charts; None where a single map was chosen."""
    num_gradient_evaluations: int
    exploration: Exploration | None = None
    """Where many dimensions were explored, and have one place."""


def see(
    rng_key: RNGKey,
    target: Target,
    *,
    explore: Explore,
    charts: Chart,
    standardise: Standardise | None,
    trained: bool,
) -> Seen:
    """Explore a target and divide it into charts, or choose a single map.

    In a hundred dimensions and more, a single place has a single map, which is not bent yet. In
    more than 300 nobody looks for others.

    Args:
        rng_key: The same key gives the same view.
        target: The target in its own coordinates.
        explore: Finds the places to chart.
        charts: Makes the atlas.
        standardise: Chooses a single map, in place of exploration and charts; None for charts.
        trained: Whether a process will be trained on the charts, however good they are. It mends
            heavy weights, so that charts need not be divided for them.
    """
    if standardise is not None:
        stage("standardising")
        return _through_one_map(target, standardise(rng_key, target))
    if target.dim > DENSE_LIMIT:
        stage("climbing to the mode")
        return _through_one_map(target, fit_one_map(rng_key, target, nonlinear=False))
    try:
        return _charted(rng_key, target, explore, charts, trained)
    finally:
        forget_waiting()


def _charted(rng_key, target: Target, explore: Explore, charts: Chart, trained: bool) -> Seen:
    """Explore a target and divide it into charts."""
    explore_key, chart_key = split(rng_key)
    stage("exploring")
    if charts is chart:
        _compile_ahead(chart_key, target, trained)
    exploration = explore(explore_key, target)
    stage("charting", places=len(exploration.log_mass))
    if target.dim >= MANY_DIMENSIONS and len(exploration.log_mass) == 1 and not trained:
        chosen = _map_at_place(chart_key, target, exploration)
        if chosen is not None:
            return _through_one_map(target, chosen)._replace(exploration=exploration)
    how = {"divide": False} if trained else {"moves_suffice": moves_suffice}
    how = how if charts is chart else {}
    atlas = charts(chart_key, target, exploration, **how)
    seen = atlas.target(target, bridged=trained or not atlas.good)
    return Seen(seen, Standardisation(atlas.maps[0]), atlas, atlas.num_gradient_evaluations)


def _compile_ahead(rng_key: RNGKey, target: Target, trained: bool) -> None:
    """Begin to compile what will be called if there is one place, while it is looked for."""
    if target.dim < MANY_DIMENSIONS:
        compile_chart_ahead(rng_key, target)
    elif not trained:
        compile_newton_ahead(rng_key, target)
    if not trained and target.dim >= FIRST_BY_MOVES:
        compile_trials_ahead(rng_key, target)


def _through_one_map(target: Target, chosen: Standardisation) -> Seen:
    seen = StandardisedTarget(target, chosen.map)
    return Seen(seen, chosen, None, chosen.num_gradient_evaluations)


def _map_at_place(rng_key: RNGKey, target: Target, exploration: Exploration):
    """The best normal map at the only place; None where no normal distribution is near the target.

    In a hundred dimensions and more Newton's method finds it in far less time than charts take.
    """
    fit_key, draw_key = split(rng_key)
    chosen = fit_one_map(
        fit_key,
        target,
        candidates=(normal_by_newton,),
        starts=exploration.normals.location,
        nonlinear=False,
    )
    log_weight = np.asarray(weights_of_draws(draw_key, chosen.map, target), float)
    near = np.all(np.isfinite(log_weight)) and 0.5 * np.var(log_weight) < 0.1 * target.dim
    return chosen if near else None


def check_stages(explore: Explore, charts: Chart, standardise: Standardise | None) -> None:
    """Raise a ValueError unless `see` can call these functions."""
    check_function("explore", explore, "nb.atlas.explore")
    check_function("charts", charts, "nb.atlas.chart")
    if standardise is not None:
        check_function("standardise", standardise, "nb.standardise or nb.no_standardisation")


def process_for_each_chart(
    rng_key: RNGKey, make: Callable[..., AbstractProcess[Any]], target: SeenTarget
) -> list[AbstractProcess[Any]]:
    """Make one process for every chart.

    Args:
        rng_key: Randomness of the first parameters.
        make: The constructor, from `(rng_key, dim)`.
        target: The target; the process is refused here if it cannot start on it.
    """
    pieces = pieces_of(target)
    made = []
    for key, piece in zip(keys_for_charts(rng_key, len(pieces)), pieces, strict=True):
        process = make(key, piece.dim)
        process.prepared(piece)  # refuses a target that the process cannot start on
        made.append(process)
    return made


def stacked(processes: Sequence[AbstractProcess[Any]]) -> AbstractProcess[Any]:
    """The processes of several charts as one, stacked; a single process as it is."""
    return processes[0] if len(processes) == 1 else stack(processes)


def keys_for_charts(rng_key: RNGKey, num: int) -> Sequence[RNGKey]:
    """Keys for several charts; a single one has the key itself."""
    return [rng_key] if num == 1 else list(split(rng_key, num))
