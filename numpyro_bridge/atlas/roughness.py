"""Places where rounding hides what a density is, so that its gradient is not that of its values.

Far from a posterior, a log density may be the small difference of numbers so large that rounding is
all that is left of it: that of a negative binomial whose size is 1e16, in 32 bits. Such a place can
look heavier than the whole posterior, and has no meaning.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from numpyro_bridge._core.positions import in_words
from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.target import Target

STEP = 1e-3
"""Length of the steps, in standard deviations; over these a density is as good as linear."""

NUM_STEPS = 15
"""Steps in random directions from each place."""

ROUGH, ROUNDING = 0.003, 8
"""How much a log density may change over such a step, in nats, beyond what its gradient says; and
how many units of its last place besides."""


@brief_jit
def are_rough(rng_key: RNGKey, target: Target, normals: DenseMap) -> Bool[Array, " places"]:
    """Whether the gradient of the log density is another than that of its values.

    Args:
        rng_key: Randomness of the directions.
        target: The target in its own coordinates.
        normals: A normal distribution at each place, stacked.
    """
    steps = STEP * jax.random.normal(rng_key, (NUM_STEPS, target.dim), normals.location.dtype)

    def at(place: DenseMap):
        here = target.at(place.location)
        moves = steps @ place.factor.T
        there = jax.vmap(target.log_density)(place.location + moves)
        unexplained = jnp.abs(there - here.log_density - moves @ here.score)
        eps = jnp.finfo(unexplained.dtype).eps
        return ~(jnp.median(unexplained) < ROUGH + ROUNDING * eps * jnp.abs(here.log_density))

    return jax.vmap(at)(normals)


def sentence_about(position: np.ndarray) -> str:
    """What to tell of a place where the density is rough."""
    where = in_words(np.asarray(position, float))
    precision = jnp.finfo(jnp.result_type(float)).bits
    more = (
        "With numpyro.enable_x64() it may be known."
        if precision < 64
        else "The priors may be too wide."
    )
    return (
        f"Far from the charts, around the unconstrained position {where}, the log density is "
        "higher than they explain, but its gradient is not that of its values: in "
        f"{precision} bits, rounding hides what it is there, and the place is left out. {more}"
    )
