"""Draws that walk out of their charts: mass that lies next to what the charts cover.

A map that was fitted by its ELBO leaves out the far ends of a banana rather than cover too much,
and then no draw of the chart tells what is missing. A few Hamiltonian steps carry draws there.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import fold_in
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.judge import Judgement, log_weights_at
from numpyro_bridge.atlas.maps import AbstractMap
from numpyro_bridge.atlas.mixture_fit import numpy_generator
from numpyro_bridge.atlas.particles import NUM_LEAPFROGS, NUM_REFRESHING, refreshed
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target

NUM_WALKERS = 512
"""Draws of each chart that walk."""

LEAST_SHARE = 0.004
"""Share of the mass that has to end beyond all draws to count; less may be chance."""

FEWEST = 3
"""Draws of a chart that have to end there; fewer have no shape."""

FINE_ESS = 0.97
"""Charts whose draws are worth this share of independent ones have no such ends."""

NEGLIGIBLE = 0.01
"""From charts with a smaller share of the mass no draws walk."""


class Walk(NamedTuple):
    """Where draws went that left the charts."""

    ends: list[Float[np.ndarray, "num dim"]]
    """For each chart that was left, where its draws went; empty where there were too few."""
    shares: list[float]
    """The share of the posterior that each of these stands for."""
    num_gradient_evaluations: int


def walked_out(rng_key: RNGKey, target: Target, seen: Judgement) -> Walk:
    """Move draws of the charts, and keep those whose weights exceed those of all draws.

    They move in the coordinates of their chart, in which a banana is straight.

    Args:
        rng_key: Randomness of the moves.
        target: The target in its own coordinates.
        seen: The draws of the charts.
    """
    if not 0 < seen.ess < FINE_ESS:
        return Walk([], [], 0)
    ends, shares, cost = [], [], 0
    for chart in np.flatnonzero(seen.share > NEGLIGIBLE):
        key = fold_in(rng_key, int(chart))
        moved = _walked(key, target, seen, int(chart))
        cost += NUM_WALKERS * NUM_REFRESHING * NUM_LEAPFROGS
        _, log_weight = log_weights_at(target, seen.partition, moved)
        far = moved[seen.is_beyond(log_weight)]
        if len(far) >= FEWEST:
            ends.append(far)
            shares.append(seen.share[chart] * len(far) / NUM_WALKERS)
    return Walk(ends, shares, cost) if sum(shares) >= LEAST_SHARE else Walk([], [], cost)


def _walked(rng_key, target: Target, seen: Judgement, chart: int) -> Float[np.ndarray, "num dim"]:
    """Draws of a chart, by weight, after a few Hamiltonian moves."""
    pick_key, move_key = jax.random.split(rng_key)
    log_weight = seen.log_weight + seen.log_responsibility[:, chart]
    weight = np.exp(log_weight - np.max(log_weight))
    rng = numpy_generator(pick_key)
    picked = rng.choice(len(weight), NUM_WALKERS, p=weight / weight.sum())
    start = on_device(seen.position[picked])
    transform = row(seen.partition.maps, chart)
    return np.asarray(_moved(move_key, target, transform, start))


@quick_jit
def _moved(rng_key, target: Target, transform: AbstractMap, start):
    inside = jax.vmap(transform.inverse)(start)
    inside = jnp.where(jnp.isfinite(inside), inside, 0.0)
    return jax.vmap(transform)(refreshed(rng_key, StandardisedTarget(target, transform), inside))
