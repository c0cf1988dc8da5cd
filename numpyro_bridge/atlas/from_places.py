"""Where tempering starts: wide, and at the places that exploration finds as well."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.normal import normal_log_prob
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.explore import explore
from numpyro_bridge.atlas.fit_normal import DENSE_LIMIT
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.particles import Reference, from_prior_or_fit
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.target import Target


def from_places(rng_key: RNGKey, target: Target, num: int) -> Reference:
    """Start half of the draws at the places that `explore` finds, and half as `from_prior_or_fit`.

    Particles that start wide reach the modes that many of them are near to, and lose the others on
    the way. Climbs find modes that lie apart, and particles that start there need not travel. The
    wide half covers what the normal distributions at these places do not.

    Where there is a single place, and in more than 300 dimensions, all draws start wide.

    Args:
        rng_key: The same key gives the same draws.
        target: The target in its own coordinates.
        num: Number of draws.
    """
    wide = from_prior_or_fit(rng_key, target, num)
    if target.dim > DENSE_LIMIT:
        return wide
    explore_key, draw_key = split(fold_in(rng_key, 1))
    exploration = explore(explore_key, target)
    cost = exploration.num_gradient_evaluations
    if len(exploration.log_mass) < 2:
        return wide._replace(num_gradient_evaluations=cost)
    log_mass = on_device(exploration.log_mass, wide.position.dtype)
    # Half of the shares are equal, since the masses of the places are rough guesses.
    log_share = jnp.log(0.5 * jax.nn.softmax(log_mass) + 0.5 / len(log_mass))
    at_places = _drawn(draw_key, exploration.normals, log_share, num)
    from_wide = (jnp.arange(num) % 2 == 0)[:, None]
    density = eqx.Partial(_mixed_density, wide.log_density, exploration.normals, log_share)
    position = jnp.where(from_wide, wide.position, at_places)
    return Reference(position, density, eqx.Partial(_log_ratio, density), cost)


def _drawn(
    rng_key: RNGKey, normals: DenseMap, log_share: Float[Array, " places"], num: int
) -> Float[Array, "{num} dim"]:
    choice_key, noise_key = jax.random.split(rng_key)
    choice = jax.random.categorical(choice_key, log_share, shape=(num,))
    shape = (num, normals.location.shape[1])
    noise = jax.random.normal(noise_key, shape, normals.location.dtype)
    return jax.vmap(lambda place, z: row(normals, place)(z))(choice, noise)


def _mixed_density(wide, normals: DenseMap, log_share, target: Target, position) -> Scalar:
    """Log density of the draws, of which half are wide and half are at the places."""

    def at_place(normal: DenseMap) -> Scalar:
        noise = normal.inverse(position)
        at_zero, of_one = jnp.zeros_like(noise), jnp.ones_like(noise)
        return normal_log_prob(noise, at_zero, of_one) - normal.log_det_of_factor

    at_places = jax.nn.logsumexp(log_share + jax.vmap(at_place)(normals))
    return jnp.logaddexp(wide(target, position), at_places) - jnp.log(2.0)


def _log_ratio(density, target: Target, position) -> Scalar:
    return target.log_density(position) - density(target, position)
