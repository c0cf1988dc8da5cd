"""Whether modes may be hidden where climbs and probes would not find them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.target import Target

LEAST_DIM, LEAST_PLACES = 8, 5
"""In fewer dimensions probes come near every mode; and where there are few modes, there is little
reason to think of others. On the posteriors of `benchmarks/honesty.py` seven in fourteen that have
as many as these, and heavy tails, lack a mode."""

DISTANCE = 5.0
"""How far from a place its tails are examined, in typical lengths of a normal draw."""

HEAVY = 0.5
"""Tails are heavy if the log density falls by less than this share of what a normal one would."""

NUM_DIRECTIONS = 64

LEAST_DIM_OF_VALLEYS, FEW_ARRIVED = 12, 0.3
"""In so many dimensions, where fewer of the first climbs than this share have arrived, the density
consists of narrow valleys that bend, and the climbs that did arrive may have gone past others."""


def why_modes_may_hide(
    rng_key: RNGKey, target: Target, places: DenseMap, share_arrived: float
) -> str:
    """Why a mode may be hidden of a target without a prior, in words; empty if nothing says so.

    Args:
        rng_key: Randomness of the directions in which tails are examined.
        target: The target in its own coordinates.
        places: The normal distributions at the places found.
        share_arrived: The share of the first climbs that arrived at a top in the usual time.
    """
    if target.dim >= LEAST_DIM_OF_VALLEYS and share_arrived < FEW_ARRIVED:
        return (
            f"{1 - share_arrived:.0%} of the first climbs were still on the way at their last "
            f"step, as in valleys that bend, and {target.dim} dimensions are too many for probes: "
            "a mode may be hidden"
        )
    if tails_hide(rng_key, target, places):
        return (
            f"The {len(places.location)} places that were found have heavy tails: a mode of light "
            "tails may be hidden between them"
        )
    return ""


def tails_hide(rng_key: RNGKey, target: Target, places: DenseMap) -> bool:
    """Whether tails are so heavy that climbs and probes would not find another mode.

    A normal mode rises above the Student tails of others only within a few of its own standard
    deviations. In many dimensions that is a needle in a haystack: no gradient elsewhere points to
    it, and tempering makes it lighter still.

    Args:
        rng_key: Randomness of the directions.
        target: The target in its own coordinates.
        places: The normal distributions at the places found.
    """
    if target.dim < LEAST_DIM or len(places.location) < LEAST_PLACES:
        return False
    drops = np.asarray(_drops(rng_key, target, places), float)
    return bool(np.median(drops) < HEAVY * 0.5 * DISTANCE**2 * target.dim)


@brief_jit
def _drops(rng_key: RNGKey, target: Target, places: DenseMap) -> Float[Array, "places directions"]:
    """By how much the log density falls from each place to positions around it."""
    shape = (NUM_DIRECTIONS, target.dim)
    noise = jax.random.normal(rng_key, shape, places.location.dtype)
    length = DISTANCE * jnp.sqrt(jnp.asarray(target.dim, noise.dtype))
    around = length * noise / jnp.linalg.norm(noise, axis=1, keepdims=True)

    def of_place(place: DenseMap):
        heights = jax.vmap(lambda z: target.log_density(place(z)))(around)
        return target.log_density(place.location) - heights

    return jax.lax.map(of_place, places)
