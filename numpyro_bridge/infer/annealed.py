"""Annealed Hamiltonian moves in one map or on several charts, of which no part needs training."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead, full_jit
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.explore import MANY_DIMENSIONS
from numpyro_bridge.atlas.judge import quality_of
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.stacked import row, standard_normal
from numpyro_bridge.atlas.standardisation import BEND_LIMIT, NUM_DRAWS, Standardisation, bent
from numpyro_bridge.atlas.standardised_target import (
    StandardisedTarget,
    gap_of,
    log_weights_of,
    weights_of_draws,
)
from numpyro_bridge.infer.need import SMALL_GAP, is_felt
from numpyro_bridge.processes import UHA, AbstractProcess, Direct
from numpyro_bridge.target import Target
from numpyro_bridge.trajectories.ends import draw_end

STEP_SIZES = (0.1, 0.2, 0.35, 0.5, 0.7)
"""Step sizes that are tried, in standard deviations of the map's normal distribution."""

NUM_TRIED_STEPS, NUM_PATHS = 32, 128
"""Steps and paths by which step sizes are compared."""

NUM_STEPS = (16, 32, 64, 128, 256)
"""From these the number of steps is chosen."""

AIM, AIM_IN_MANY_DIMENSIONS = 0.1, 0.75
"""Gap between the ELBO and the log evidence, in nats, that the number of steps is to reach."""

MANY_STEPS = 128
"""Where more steps would be needed, bending the map costs less, or training the process."""

FEW_DIRECTIONS, HEAVY_TAIL, EXCESS_OF_GAP, QUICKLY_BENT = 1.0, 0.1, 5.0, 200
"""How to know a gap that comes from a few directions, as from the neck of a funnel.

The log weights have half a variance below the first number, yet their tail carries more than the
second of the mass, or their gap is larger than half their variance by the third factor, which
would be one if they were normal. On two logistic regressions the tail carried 0.01 to 0.06 and the
factor was 2 to 4, on two funnels 0.17 and more, and 6 and more. Up to the last number of dimensions
the map is then bent, which takes some twenty seconds.
"""

BATCH = 32
"""Paths at a time while step sizes are compared."""


class Annealed(NamedTuple):
    """A process that is good enough untrained, and the map it works in."""

    process: AbstractProcess[Any]
    standardisation: Standardisation
    log_weight: Float[np.ndarray, " draws"]
    """Log weights of draws of the map alone."""
    num_gradient_evaluations: int
    """Without those of the standardisation."""
    sure: bool
    """Whether so few steps are enough that nothing else need be tried."""


def annealed(rng_key: RNGKey, target: Target, chosen: Standardisation) -> Annealed:
    """Choose a process that needs no training, by a few paths, and bend the map if that is cheaper.

    Where the map is so good that its draws suffice, there is no step. Elsewhere moves lead from the
    map's normal distribution to the target through densities in between. The gap of their ELBO
    falls as one over the number of steps, whatever the dimension, and no network has to learn a
    field in hundreds of dimensions. A gap of a few heavy weights is different: it hardly falls, and
    comes from a few directions along which a bent map is better. `_pays_to_bend` tells them apart.

    Args:
        rng_key: Randomness of the paths and of the fit of a bent map.
        target: The target in its own coordinates.
        chosen: The map, and how it was fitted; one that was fitted by nothing is not bent.
    """
    noise_key, first_key, bend_key, second_key = split(rng_key, 4)
    noise = jax.random.normal(noise_key, (NUM_DRAWS, target.dim), jnp.result_type(float))
    log_weight = np.asarray(log_weights_of(chosen.map, target, noise), float)
    tried = _tried(first_key, StandardisedTarget(target, chosen.map), log_weight)
    spent = NUM_DRAWS + tried.spent
    if _pays_to_bend(tried, log_weight, target.dim):
        better = bent(bend_key, target, chosen, noise)
        if better.map is not chosen.map:
            log_weight = np.asarray(log_weights_of(better.map, target, noise), float)
            tried = _tried(second_key, StandardisedTarget(target, better.map), log_weight)
            spent += NUM_DRAWS + tried.spent
            chosen = better
    process = _process(rng_key, target.dim, tried)
    sure = tried.num_steps <= MANY_STEPS
    return Annealed(process, chosen, log_weight, spent, sure)


def moves_suffice(
    rng_key: RNGKey, target: Target, transform: AbstractMap, log_weight: Float[np.ndarray, " draws"]
) -> tuple[bool, int]:
    """Whether few annealed moves are enough in a map as it is, and how many gradients it took.

    Args:
        rng_key: Randomness of the paths that are tried.
        target: The target in its own coordinates.
        transform: The map of the only chart.
        log_weight: Log weights of its draws.
    """
    tried = _tried(rng_key, StandardisedTarget(target, transform), log_weight)
    few = tried.num_steps <= MANY_STEPS
    return few and not _pays_to_bend(tried, log_weight, target.dim), tried.spent


class MovesOnCharts(NamedTuple):
    """Annealed moves on every chart."""

    processes: list[AbstractProcess[Any]] | None
    """One process for each chart, all of as many steps; None where training is better."""
    num_gradient_evaluations: int


def annealed_on_charts(
    rng_key: RNGKey, pieces: Sequence[StandardisedTarget], share: Float[np.ndarray, " charts"]
) -> MovesOnCharts:
    """Choose moves that need no training for the charts, if few steps are enough on each of them.

    Args:
        rng_key: Randomness of the paths.
        pieces: The target on each chart.
        share: The share of the mass on each chart; one that is too light to matter has no say.
    """
    tried, spent = [], 0
    for number, (piece, part) in enumerate(zip(pieces, share, strict=True)):
        draw_key, path_key = split(fold_in(rng_key, number))
        log_weight = np.asarray(weights_of_draws(draw_key, piece.map, piece.base), float)
        if not is_felt(gap_of(log_weight), part, len(pieces)):
            tried.append(_Tried(0, STEP_SIZES[0], 0))
            spent += len(log_weight)
            continue
        tried.append(_tried(path_key, piece, log_weight))
        spent += len(log_weight) + tried[-1].spent
        if tried[-1].num_steps > MANY_STEPS:
            return MovesOnCharts(None, spent)
    most = max(one.num_steps for one in tried)
    if most == 0:  # no chart is to blame by itself
        return MovesOnCharts(None, spent)
    dim = pieces[0].dim
    processes = [_process(rng_key, dim, one._replace(num_steps=most)) for one in tried]
    return MovesOnCharts(processes, spent)


def _pays_to_bend(tried: "_Tried", log_weight: Float[np.ndarray, " draws"], dim: int) -> bool:
    """Whether the map should be bent: for want of steps, or because a few of its weights are heavy.

    Where the gap is small and the tail is heavy, as in the neck of a funnel, few directions are to
    blame. Moves reach the neck so rarely that thousands of paths may show nothing of it.
    """
    if tried.num_steps > MANY_STEPS:
        return dim <= BEND_LIMIT
    expected = 0.5 * np.var(log_weight)
    _, tail_share = quality_of(log_weight)
    heavy = tail_share > HEAVY_TAIL or gap_of(log_weight) > EXCESS_OF_GAP * expected
    return bool(expected < FEW_DIRECTIONS and heavy and dim <= QUICKLY_BENT)


class _Tried(NamedTuple):
    num_steps: int
    """Zero where the map suffices."""
    step_size: float
    spent: int


def _tried(rng_key: RNGKey, target: StandardisedTarget, log_weight) -> _Tried:
    """The number of steps that are needed, and their size."""
    if gap_of(log_weight) < SMALL_GAP:
        return _Tried(0, STEP_SIZES[0], 0)
    process = UHA(rng_key, target.dim, num_steps=NUM_TRIED_STEPS)
    found = [
        np.asarray(_log_weights(rng_key, _with_step_size(process, on_device(size)), target))
        for size in STEP_SIZES
    ]
    elbos = np.array([np.mean(one) if np.all(np.isfinite(one)) else -np.inf for one in found])
    best = int(np.argmax(elbos))
    aim = AIM if target.dim < MANY_DIMENSIONS else AIM_IN_MANY_DIMENSIONS
    wanted = NUM_TRIED_STEPS * gap_of(found[best]) / aim
    num_steps = next((num for num in NUM_STEPS if num >= wanted), NUM_STEPS[-1])
    spent = len(STEP_SIZES) * NUM_PATHS * (NUM_TRIED_STEPS + 1)
    return _Tried(num_steps, STEP_SIZES[best], spent)


def compile_trials_ahead(rng_key: RNGKey, target: Target) -> None:
    """Begin to compile what tries moves in a single map, before it is known which map."""
    place, _ = standard_normal(target.dim)
    standardised = StandardisedTarget(target, row(place, 0))
    process = UHA(rng_key, target.dim, num_steps=NUM_TRIED_STEPS)
    process = _with_step_size(process, on_device(STEP_SIZES[0]))
    compile_ahead(_log_weights, rng_key, process, standardised)


def _process(rng_key: RNGKey, dim: int, tried: _Tried) -> AbstractProcess[Any]:
    if tried.num_steps == 0:
        return Direct(rng_key, dim)
    return UHA(rng_key, dim, num_steps=tried.num_steps, step_size=tried.step_size)


def _with_step_size(process: UHA, size: Scalar) -> UHA:
    """The same process with another step size, for which nothing is compiled anew."""
    old = process.scales.log_step_size
    log_size = jnp.broadcast_to(jnp.log(size), old.shape).astype(old.dtype)
    return eqx.tree_at(lambda p: p.scales.log_step_size, process, log_size)


@full_jit
def _log_weights(
    rng_key: RNGKey, process: UHA, target: StandardisedTarget
) -> Float[Array, " paths"]:
    keys = jax.random.split(rng_key, NUM_PATHS)
    return jax.lax.map(
        lambda key: draw_end(key, process, target).log_weight, keys, batch_size=BATCH
    )
