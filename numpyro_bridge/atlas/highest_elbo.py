"""The normal distributions of highest ELBO, where a density has no tops to climb to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.climbs import Tops
from numpyro_bridge.atlas.distinct import distinct_fits
from numpyro_bridge.atlas.effort import share_of_effort
from numpyro_bridge.atlas.fit_normal import NUM_STEPS, climb, draws_per_step
from numpyro_bridge.atlas.maps import DenseMap, as_dense
from numpyro_bridge.atlas.mixture_fit import numpy_generator, spread_out
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.atlas.standardised_target import weights_of_draws
from numpyro_bridge.target import Target

NUM_STARTS = 8
"""Normal distributions that are climbed from."""

MAX_TURNS, NEAR_BEST, STILL_RISES = 4, 20.0, 0.5
"""Climbs go on, so many times at most, while the ELBO of one that is this near to the best has
risen by more than the last number, in nats."""

MAX_DEFICIT, HOPELESS = 7.0, -1e10
"""Fits are left out if their ELBO is lower than the best by more nats. Where the ELBO of all is
hopeless, one of them is kept all the same."""


class Fits(NamedTuple):
    """What the climbs found, the highest ELBO first."""

    normals: DenseMap
    """The normal distributions, stacked."""
    elbo: Float[np.ndarray, " fits"]
    """Of each, in nats."""
    counts: Int[np.ndarray, " fits"]
    """How many climbs ended at each."""
    num_evaluations: int
    """Gradients that all climbs took together."""


def normals_of_highest_elbo(rng_key: RNGKey, target: Target, tops: Tops) -> Fits:
    """Climb to normal distributions, from where NUTS would start and from ends of other climbs.

    Args:
        rng_key: The same key gives the same fits.
        target: The target in its own coordinates.
        tops: Where climbs to tops of the density ended, though none of them arrived at one.
    """
    start_key, spread_key, fit_key, draw_key = split(rng_key, 4)
    normals = _first_normals(target.initial_positions(start_key, NUM_STARTS), spread_key, tops)
    num_draws = draws_per_step(target.dim)
    elbo, turns = np.full(NUM_STARTS, -np.inf), 0
    for key in split(fit_key, MAX_TURNS if share_of_effort(target) == 1.0 else 1):
        before, turns = elbo, turns + 1
        climbed = climb(key, target, normals, num_iterations=NUM_STEPS, num_draws=num_draws)
        normals = jax.vmap(as_dense)(climbed)
        each = [weights_of_draws(draw_key, row(normals, k), target) for k in range(NUM_STARTS)]
        elbo = np.asarray([np.mean(np.asarray(one, float)) for one in each])
        elbo = np.where(np.isfinite(elbo), np.maximum(elbo, HOPELESS), HOPELESS)
        near = elbo > np.max(elbo) - NEAR_BEST
        if not np.any(near & (elbo > before + STILL_RISES)):
            break
    chosen, counts = distinct_fits(normals, elbo, max_deficit=MAX_DEFICIT, max_number=NUM_STARTS)
    cost = NUM_STARTS * NUM_STEPS * num_draws * turns
    return Fits(row(normals, chosen), elbo[chosen], counts, cost)


def _first_normals(starts: Float[Array, "starts dim"], rng_key: RNGKey, tops: Tops) -> DenseMap:
    """Standard normal distributions at the starts, half of them replaced by ends that are apart.

    At an end the normal distribution has the curvature of the density there. One of unit width
    would see nothing of the narrow neck that the end lies in, and drift to another part.
    """
    dtype = starts.dtype
    every = jnp.tile(jnp.eye(starts.shape[1], dtype=dtype), (len(starts), 1, 1))
    ends, factors = np.asarray(tops.normals.location), np.asarray(tops.normals.factor)
    usable = np.all(np.isfinite(ends), axis=1) & np.all(np.isfinite(factors), axis=(1, 2))
    if np.any(usable):
        ends, factors = ends[usable], factors[usable]
        scaled = ends.astype(float) / (np.std(ends.astype(float), axis=0) + 1e-12)
        apart = spread_out(numpy_generator(rng_key), scaled, len(starts) // 2)
        starts = starts.at[: len(apart)].set(on_device(ends[apart], dtype))
        every = every.at[: len(apart)].set(on_device(factors[apart], dtype))
    return jax.vmap(DenseMap)(starts, every)
