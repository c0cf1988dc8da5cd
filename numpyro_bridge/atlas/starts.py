"""Where climbs start: prior draws, wide draws, and starts as NUTS would choose them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.target import Target


def starts_of(
    rng_key: RNGKey, target: Target, num: int, places: DenseMap | None
) -> Float[Array, "{num} dim"]:
    """Draw starts for a round of climbs.

    The first round starts as NUTS would, from prior draws where there is a prior, and from wide
    draws. Later rounds start from wider around the places that were found.

    Args:
        rng_key: The same key gives the same starts.
        target: The target in its own coordinates.
        num: How many.
        places: The normal distributions at the places found so far; None in the first round.
    """
    near_key, wide_key = jax.random.split(rng_key)
    starts, has_prior = _near(near_key, target, num)
    if places is None or len(places.location) == 0:
        widest = 1.0 if has_prior else 2.0  # How wide it is without a prior is anyone's guess.
        wide = _over_scales(wide_key, num, target.dim, widest)
        num_wide = num // 4 if has_prior else 3 * num // 4
        return starts.at[num - num_wide :].set(wide[:num_wide])
    num_wide = num // 2 if has_prior else num
    return starts.at[num - num_wide :].set(_around(wide_key, places, num)[:num_wide])


def _near(rng_key: RNGKey, target: Target, num: int):
    """Starts as NUTS takes them, the first half of them prior draws where there is a prior."""
    box_key, prior_key = jax.random.split(rng_key)
    starts = target.initial_positions(box_key, num)
    draws = target.prior_positions(prior_key, num // 2)
    if draws is None:
        return starts, False
    usable = jnp.all(jnp.isfinite(draws), axis=1, keepdims=True)
    return starts.at[: num // 2].set(jnp.where(usable, draws, starts[: num // 2])), True


def _over_scales(rng_key: RNGKey, num: int, dim: int, widest: float):
    """Normal draws around zero whose standard deviations range over powers of ten."""
    scale_key, noise_key = jax.random.split(rng_key)
    scale = 10 ** jax.random.uniform(scale_key, (num, 1), minval=-0.5, maxval=widest)
    return scale * jax.random.normal(noise_key, (num, dim), jnp.result_type(float))


def _around(rng_key: RNGKey, places: DenseMap, num: int):
    """Draws from half to twice as wide as the places are apart."""
    scale_key, noise_key = jax.random.split(rng_key)
    centre, spread = jnp.mean(places.location, axis=0), jnp.std(places.location, axis=0)
    factor = 2 ** jax.random.uniform(scale_key, (num, 1), minval=-1.0, maxval=1.0)
    own = jnp.sqrt(jnp.mean(jnp.sum(places.factor**2, axis=2), axis=0))
    noise = jax.random.normal(noise_key, (num, centre.size), centre.dtype)
    return centre + factor * (spread + own) * noise
