"""Where the first climbs start: prior draws, wide draws, and starts as NUTS would choose them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.target import Target

NUM_PRIOR_DRAWS = 4_096
"""Draws from the prior at a time: always as many, so that one compiled program makes them."""

WIDTHS = -0.5, 1.0
"""Wide draws have standard deviations between ten to these powers."""

WIDTHS_WITHOUT_PRIOR = -3.0, 2.0
"""The same where there is no prior: how wide the posterior is, is anyone's guess then. A narrow one
may be so steep that nothing can be told from far away."""

NARROWEST = 0.03
"""Some prior draws are drawn in towards their median, at most by this factor."""


def first_starts(
    rng_key: RNGKey, target: Target, num: int, prior: Float[Array, "draws dim"] | None
) -> Float[Array, "{num} dim"]:
    """Draw the starts of the first climbs.

    Where there is a prior, half of them are drawn from it, half of these drawn in; a quarter are
    from wide normal distributions, and a quarter as NUTS would start. Elsewhere three quarters are
    wide. A target that takes longer at some positions than at others has no wide ones beside a
    prior.

    Args:
        rng_key: The same key gives the same starts.
        target: The target in its own coordinates.
        num: How many.
        prior: At least half as many draws from the prior; None where there is none.
    """
    box_key, wide_key = split(rng_key)
    starts = target.initial_positions(box_key, num)
    return _mixed(wide_key, starts, prior, not target.innermost.has_loops)


@brief_jit
def _mixed(rng_key: RNGKey, starts, prior, wide_too: bool):
    num, dim = starts.shape
    if prior is None:
        wide = wide_draws(rng_key, 3 * num // 4, dim, has_prior=False)
        return starts.at[num - len(wide) :].set(wide)
    drawn = half_drawn_in(prior[: num // 2])
    usable = jnp.all(jnp.isfinite(drawn), axis=1, keepdims=True)
    starts = starts.at[: num // 2].set(jnp.where(usable, drawn, starts[: num // 2]))
    if not wide_too:
        return starts
    wide = wide_draws(rng_key, num // 4, dim, has_prior=True)
    return starts.at[num - len(wide) :].set(wide)


def half_drawn_in(prior: Float[Array, "draws dim"]) -> Float[Array, "draws dim"]:
    """Draw the second half of prior draws in towards their median, from most to not at all.

    In many dimensions all draws lie near one shell of the prior. A narrow mode in its inside is out
    of sight from there, and in sight from near the middle.
    """
    half = len(prior) // 2
    outer, inner = prior[:half], prior[half:]
    middle = jnp.nanmedian(prior, axis=0)
    factor = jnp.geomspace(NARROWEST, 1.0, len(inner), dtype=prior.dtype)
    return jnp.concatenate([outer, middle + factor[:, None] * (inner - middle)])


def wide_draws(
    rng_key: RNGKey, num: int, dim: int, *, has_prior: bool
) -> Float[Array, "{num} {dim}"]:
    """Normal draws around zero whose standard deviations range over powers of ten, in order."""
    narrowest, widest = WIDTHS if has_prior else WIDTHS_WITHOUT_PRIOR
    noise = jax.random.normal(rng_key, (num, dim), jnp.result_type(float))
    return jnp.logspace(narrowest, widest, num, dtype=noise.dtype)[:, None] * noise
