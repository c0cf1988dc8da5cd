"""One map, and annealed Hamiltonian moves, of which no part needs training."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.explore import MANY_DIMENSIONS
from numpyro_bridge.atlas.judge import GOOD_TAIL, quality_of
from numpyro_bridge.atlas.standardisation import BEND_LIMIT, NUM_DRAWS, Standardisation, bent
from numpyro_bridge.atlas.standardised_target import StandardisedTarget, gap_of, log_weights_of
from numpyro_bridge.infer.need import SMALL_GAP
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

MANY_STEPS = 64
"""Where more steps would be needed, bending the map costs less, or training the process."""

FEW_DIRECTIONS, QUICKLY_BENT = 1.0, 200
"""A gap of the map below this, in nats, comes from a few directions if there are heavy weights at
all; up to this dimension bending the map then takes some twenty seconds."""

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
    tried = _tried(first_key, target, chosen, noise)
    if _pays_to_bend(tried, target.dim):
        better = bent(bend_key, target, chosen, noise)
        if better.map is not chosen.map:
            again = _tried(second_key, target, better, noise)
            tried = again._replace(spent=tried.spent + again.spent)
            chosen = better
    process = _process(rng_key, target.dim, tried)
    sure = tried.num_steps <= MANY_STEPS
    return Annealed(process, chosen, tried.log_weight, tried.spent, sure)


def _pays_to_bend(tried: "_Tried", dim: int) -> bool:
    """Whether the map should be bent: for want of steps, or because a few of its weights are heavy.

    Where the gap is small and the tail is heavy, as in the neck of a funnel, few directions are to
    blame. Moves reach the neck so rarely that thousands of paths may show nothing of it.
    """
    if tried.num_steps > MANY_STEPS:
        return dim <= BEND_LIMIT
    _, tail_share = quality_of(tried.log_weight)
    small = 0.5 * np.var(tried.log_weight) < FEW_DIRECTIONS
    return bool(small) and tail_share > GOOD_TAIL and dim <= QUICKLY_BENT


class _Tried(NamedTuple):
    num_steps: int
    """Zero where the map suffices."""
    step_size: float
    log_weight: Float[np.ndarray, " draws"]
    spent: int


def _tried(rng_key: RNGKey, target: Target, chosen: Standardisation, noise) -> _Tried:
    """The number of steps that are needed, and their size."""
    log_weight = np.asarray(log_weights_of(chosen.map, target, noise), float)
    if gap_of(log_weight) < SMALL_GAP:
        return _Tried(0, 0.0, log_weight, NUM_DRAWS)
    standardised = StandardisedTarget(target, chosen.map)
    process = UHA(rng_key, target.dim, num_steps=NUM_TRIED_STEPS)
    found = [
        np.asarray(_log_weights(rng_key, _with_step_size(process, on_device(size)), standardised))
        for size in STEP_SIZES
    ]
    elbos = np.array([np.mean(one) if np.all(np.isfinite(one)) else -np.inf for one in found])
    best = int(np.argmax(elbos))
    aim = AIM if target.dim < MANY_DIMENSIONS else AIM_IN_MANY_DIMENSIONS
    wanted = NUM_TRIED_STEPS * gap_of(found[best]) / aim
    num_steps = next((num for num in NUM_STEPS if num >= wanted), NUM_STEPS[-1])
    spent = NUM_DRAWS + len(STEP_SIZES) * NUM_PATHS * (NUM_TRIED_STEPS + 1)
    return _Tried(num_steps, STEP_SIZES[best], log_weight, spent)


def _process(rng_key: RNGKey, dim: int, tried: _Tried) -> AbstractProcess[Any]:
    if tried.num_steps == 0:
        return Direct(rng_key, dim)
    return UHA(rng_key, dim, num_steps=tried.num_steps, step_size=tried.step_size)


def _with_step_size(process: UHA, size: Scalar) -> UHA:
    """The same process with another step size, for which nothing is compiled anew."""
    old = process.scales.log_step_size
    log_size = jnp.broadcast_to(jnp.log(size), old.shape).astype(old.dtype)
    return eqx.tree_at(lambda p: p.scales.log_step_size, process, log_size)


@eqx.filter_jit
def _log_weights(
    rng_key: RNGKey, process: UHA, target: StandardisedTarget
) -> Float[Array, " paths"]:
    keys = jax.random.split(rng_key, NUM_PATHS)
    return jax.lax.map(
        lambda key: draw_end(key, process, target).log_weight, keys, batch_size=BATCH
    )
