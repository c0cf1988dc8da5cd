"""Probes: many cheap looks for mass that the places found so far do not explain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.atlas.maps import DenseMap, WhitenedMap
from numpyro_bridge.atlas.stacked import padded, padded_logs, whitened
from numpyro_bridge.atlas.starts import NUM_PRIOR_DRAWS, wide_draws
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Target
from numpyro_bridge.target.undefined import LEAST_SHARE

NUM_GROUPS = 32
"""Groups of probes, each drawn in its own way; climbs start from the best of each."""

GROUP_SIZE = 4 * NUM_PRIOR_DRAWS // NUM_GROUPS
"""Probes in a group; a quarter of all of them are prior draws where there is a prior."""

TIMES_WITHOUT_PRIOR = 8
"""Where there is no prior to draw from, groups are larger by this factor: a narrow mode in ten
dimensions is hit by one in ten thousand probes."""

TIMES_IN_BETWEEN, IN_BETWEEN = 4, range(8, 41)
"""Without a prior there are more probes by this factor in so many dimensions. Fewer need no more,
and beside a wide mode in more dimensions no affordable number of probes hits a narrow one."""

NEAR_SCALES = (0.0, 0.5), (0.125, 0.9), (0.75, 2.0), (1.0, 32.0)
"""How wide the groups around single places are, in standard deviations of these places, and up to
which share of them. A narrow mode beside a wide one is a small ball a few standard deviations away,
which draws that are a little wider than the place itself hit most often."""


class Probed(NamedTuple):
    """What probes found."""

    starts: Float[Array, "starts dim"]
    """Where the next climbs start."""
    share_without: Float[Array, ""]
    """The share of prior draws at which there is no density."""

    @property
    def many_without(self) -> bool:
        """Whether there is no density at more of the prior draws than rounding explains."""
        return float(self.share_without) > LEAST_SHARE


def probed_starts(
    rng_key: RNGKey,
    target: Target,
    num: int,
    places: DenseMap,
    log_mass: Float[np.ndarray, " places"],
    prior: Float[Array, "draws dim"] | None,
) -> Probed:
    """Choose starts where the density is higher than the places found so far explain.

    A probe costs one evaluation of the density, and a climb costs a hundred. So there are many
    more probes than climbs, and climbs start from the best of them: those where the log density
    exceeds that of the mixture of all places by most. The best are chosen within each group: tails
    that are heavier than those of the mixture exceed it far away from everything, and would be all
    that is looked at.

    Args:
        rng_key: The same key gives the same starts.
        target: The target in its own coordinates.
        num: How many starts; a multiple of the number of groups.
        places: The normal distributions at the places found so far.
        log_mass: Log of the mass at each place, in nats.
        prior: `NUM_PRIOR_DRAWS` draws from the prior; None where there is none.
    """
    rows, logs = _rows(places, log_mass)
    size = num_probes(target.dim, has_prior=prior is not None) // NUM_GROUPS
    probes = _draw(rng_key, rows, logs, prior, size)
    return _best(target, rows, logs, probes, num // NUM_GROUPS, prior is not None)


def num_probes(dim: int, *, has_prior: bool) -> int:
    """How many probes a round of exploration evaluates."""
    if has_prior:
        return NUM_GROUPS * GROUP_SIZE
    times = TIMES_WITHOUT_PRIOR * (TIMES_IN_BETWEEN if dim in IN_BETWEEN else 1)
    return NUM_GROUPS * GROUP_SIZE * times


def draw_probes(
    rng_key: RNGKey,
    places: DenseMap,
    log_mass: Float[np.ndarray, " places"],
    prior: Float[Array, "draws dim"] | None,
) -> Float[Array, "probes dim"]:
    """Draw probes around places, between them, and from the prior.

    Half of the groups are drawn around single places, from near to far. A quarter are prior draws,
    or wide where there is no prior. In an eighth each, probes are as wide as the places are apart,
    or lie off one place by the difference of two others, as in patterns that repeat.
    """
    return _draw(rng_key, *_rows(places, log_mass), prior, GROUP_SIZE)


def _rows(places: DenseMap, log_mass: Float[np.ndarray, " places"]):
    """The places as padded rows, so that another number of them rarely compiles anything anew."""
    rows = whitened(padded(places, len(log_mass)))
    return rows, padded_logs(log_mass - np.max(log_mass))


@quick_jit
def _draw(rng_key: RNGKey, places: WhitenedMap, log_mass, prior, size: int):
    near_key, wide_key, between_key = jax.random.split(rng_key, 3)
    quarter = NUM_GROUPS // 4 * size
    if prior is None:
        prior = wide_draws(wide_key, quarter, places.location.shape[1], has_prior=False)
    near = _near(near_key, places, log_mass, 2 * quarter)
    return jnp.concatenate([near, prior, _between(between_key, places, log_mass, quarter)])


@quick_jit
def _best(
    target: Target, places: WhitenedMap, log_mass, probes, num_each: int, has_prior: bool
) -> Probed:
    # Not all at once, since the data of a model may be large.
    excess, nearest = jax.lax.map(
        lambda x: _excess(target, places, log_mass, x),
        probes,
        batch_size=1 if target.innermost.has_loops else GROUP_SIZE,
    )
    size = len(probes) // NUM_GROUPS
    by_normal, by_heavy = excess.T.reshape(2, NUM_GROUPS, size)
    num_heavy = num_each // 2
    num_normal = (num_each - num_heavy + 1) // 2
    _, best = jax.lax.top_k(by_normal, num_normal)
    _, others = jax.lax.top_k(by_heavy, num_heavy)
    index = jnp.concatenate([best, others], axis=1)
    in_groups = (size * jnp.arange(NUM_GROUPS)[:, None] + index).ravel()
    rest = NUM_GROUPS * num_each - len(in_groups)
    at_places = _best_at_each_place(excess[:, 0], nearest, len(log_mass), rest)
    half, quarter = len(probes) // 2, len(probes) // 4
    from_prior = excess[half : half + quarter, 0]  # as `_draw` puts them together
    share_without = jnp.mean(jnp.isneginf(from_prior)) if has_prior else jnp.zeros(())
    return Probed(probes[jnp.concatenate([in_groups, at_places])], share_without)


def _best_at_each_place(excess, nearest, num_places: int, num: int):
    """The probes of most excess among those of which the same place explains most.

    What one place explains badly, though it is known, would otherwise be all that is looked at.
    """
    num_each = -(-num // num_places)
    here = nearest == jnp.arange(num_places)[:, None]
    _, best = jax.lax.top_k(jnp.where(here, excess, -jnp.inf), num_each)
    return best.T.ravel()[:num]


def _near(rng_key: RNGKey, places: WhitenedMap, log_mass, num: int):
    """Draws around places that are chosen at random, from narrow to wide."""
    place_key, noise_key = jax.random.split(rng_key)
    dtype = places.location.dtype
    shares, scales = np.asarray(NEAR_SCALES).T
    log_scale = np.interp(np.linspace(0, 1, num), shares, np.log(scales))
    scale = jnp.asarray(np.exp(log_scale), dtype)
    place = _some(place_key, log_mass, num)
    noise = jax.random.normal(noise_key, (num, places.location.shape[1]), dtype)

    def one(draw):
        place, scaled = draw
        return places.location[place] + places.factor[place] @ scaled

    # The factors of all draws at once would not fit in memory where there are many dimensions.
    return jax.lax.map(one, (place, scale[:, None] * noise), batch_size=GROUP_SIZE)


def _between(rng_key: RNGKey, places: WhitenedMap, log_mass, num: int):
    """Draws as wide as the places are apart, and places moved by the difference of two others."""
    half = num // 2
    place_key, noise_key = jax.random.split(rng_key)
    usable = jnp.isfinite(log_mass)
    share = (usable / jnp.sum(usable)).astype(places.location.dtype)
    centre = share @ places.location
    spread = jnp.sqrt(share @ (places.location - centre) ** 2)
    own = jnp.sqrt(share @ jnp.sum(places.factor**2, axis=2))
    noise = jax.random.normal(noise_key, (2, half, centre.size), centre.dtype)
    scale = jnp.geomspace(0.5, 4.0, half, dtype=centre.dtype)[:, None]
    wide = centre + scale * (spread + own) * noise[0]
    one, two, three = places.location[_some(place_key, log_mass, 3 * half)].reshape(3, half, -1)
    return jnp.concatenate([wide, one + (two - three) + own * noise[1]])


def _some(rng_key: RNGKey, log_mass, num: int):
    """Numbers of places, each as likely as the others."""
    usable = jnp.where(jnp.isfinite(log_mass), 0.0, -jnp.inf)
    return jax.random.categorical(rng_key, usable, shape=(num,))


def _excess(
    target: Target, places: WhitenedMap, log_mass, position: Vector
) -> tuple[Float[Array, "2"], Int[Array, ""]]:
    """How much the log density exceeds that of the places, up to a constant, in nats.

    Once with normal densities at the places, once with Cauchy densities. The first notice a mode
    far from its top, in many dimensions; to the second, tails of the places are no news. And which
    place explains most of the position, by the normal densities.
    """

    def logs(place: WhitenedMap):
        square = jnp.sum(place.inverse(position) ** 2)
        heavy = -0.5 * (1 + position.size) * jnp.log1p(square)
        return jnp.stack([-0.5 * square, heavy]) - place.log_det_of_factor

    parts = log_mass[:, None] + jax.vmap(logs)(places)
    explained = jax.nn.logsumexp(parts, axis=0)
    log_density = target.log_density(position)
    known = jnp.isfinite(explained) & (log_density > REPLACED_LOG_DENSITY)
    return jnp.where(known, log_density - explained, -jnp.inf), jnp.argmax(parts[:, 0])
