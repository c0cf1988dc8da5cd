"""Probes: many cheap looks for mass that the places found so far do not explain."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead, quick_jit
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.atlas.effort import share_of_effort
from numpyro_bridge.atlas.maps import DenseMap, WhitenedMap
from numpyro_bridge.atlas.stacked import padded, padded_logs, standard_normal, whitened
from numpyro_bridge.atlas.starts import NUM_PRIOR_DRAWS, half_drawn_in, wide_draws
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Target
from numpyro_bridge.target.undefined import LEAST_SHARE

NUM_GROUPS = 32
"""Groups of probes, each drawn in its own way; climbs start from the best of each."""

GROUP_SIZE = 4 * NUM_PRIOR_DRAWS // NUM_GROUPS
"""Probes of a group in one batch; a quarter of all of them are prior draws where there is a prior.
"""

BATCHES_WITHOUT_PRIOR = 8
"""Batches where there is no prior to draw from: a narrow mode in ten dimensions is hit by one in
ten thousand probes."""

TIMES_IN_BETWEEN, IN_BETWEEN = 4, range(8, 41)
"""Without a prior there are more probes by this factor in so many dimensions. Fewer need no more,
and beside a wide mode in more dimensions no affordable number of probes hits a narrow one."""

ONE_BATCH_FROM = 100
"""From this dimension on there is one batch: a probe takes as long there as a step of a climb."""

BATCHES_OF_CHEAP, FEW_DIMENSIONS, OTHERS = (32, 8), range(3, 8), (1, 2, *range(8, 41))
"""Batches beside a prior, in so many dimensions, if the density is cheap to evaluate."""

NEAR_SCALES = (0.0, 0.5), (0.125, 0.9), (0.75, 2.0), (1.0, 32.0)
"""How wide the groups around single places are, in standard deviations of these places, and up to
which share of them. A narrow mode beside a wide one is a small ball a few standard deviations away,
which draws that are a little wider than the place itself hit most often."""


class Probed(NamedTuple):
    """What probes found."""

    starts: Float[np.ndarray, "starts dim"]
    """Where the next climbs start."""
    share_without: float
    """The share of prior draws at which there is no density."""
    num_probes: int
    """How many there were."""

    @property
    def num_prior_draws(self) -> int:
        """How many of the probes are prior draws, not drawn in, where there is a prior."""
        return self.num_probes // 8

    @property
    def many_without(self) -> bool:
        """Whether there is no density at more of the prior draws than rounding explains."""
        return self.share_without > LEAST_SHARE


def probed_starts(
    rng_key: RNGKey,
    target: Target,
    num: int,
    places: DenseMap,
    log_mass: Float[np.ndarray, " places"],
    prior: Float[Array, "draws dim"] | None,
) -> Probed:
    """Choose starts where the density is higher than the places found so far explain.

    A probe costs one evaluation of the density, or of its gradient, and a climb costs a hundred. So
    there are many more probes than climbs, and climbs start from the best of them. Some are those
    where the log density exceeds that of the mixture of all places by most. Others are those whose
    gradient turns away from all places: near a narrow mode it points there, long before the density
    is any higher than the tails of a wide one.

    The best are chosen within each group: tails that are heavier than those of the mixture exceed
    it far away from everything, and would be all that is looked at.

    Args:
        rng_key: The same key gives the same starts.
        target: The target in its own coordinates.
        num: How many starts; a multiple of the number of groups.
        places: The normal distributions at the places found so far.
        log_mass: Log of the mass at each place, in nats.
        prior: `NUM_PRIOR_DRAWS` draws from the prior; None where there is none.
    """
    rows, logs = _rows(places, log_mass)
    best, without = None, 0.0
    num_batches = _num_batches(target, has_prior=prior is not None)
    for key in split(rng_key, num_batches):
        prior_key, probe_key = split(key)
        if best is not None and prior is not None:
            prior = target.prior_positions(prior_key, NUM_PRIOR_DRAWS)
        found, share = _best_of_batch(probe_key, target, rows, logs, prior, num // NUM_GROUPS)
        best = found if best is None else best.merged(found)
        without += float(share) / num_batches
    assert best is not None
    return Probed(best.starts(num), without, num_batches * NUM_GROUPS * GROUP_SIZE)


def compile_probes_ahead(
    rng_key: RNGKey, target: Target, num: int, prior: Float[Array, "draws dim"] | None
) -> None:
    """Begin to compile what `probed_starts` calls if there is one place."""
    rows, logs = _rows(*standard_normal(target.dim))
    compile_ahead(_draw, rng_key, rows, logs, prior)
    probes = on_device(np.zeros((NUM_GROUPS * GROUP_SIZE, target.dim)), logs.dtype)
    compile_ahead(_best, target, rows, logs, probes, num // NUM_GROUPS)


def _num_batches(target: Target, *, has_prior: bool) -> int:
    """How many batches of probes a round of exploration evaluates."""
    if target.dim >= ONE_BATCH_FROM:
        return 1
    if not has_prior:
        return BATCHES_WITHOUT_PRIOR * (TIMES_IN_BETWEEN if target.dim in IN_BETWEEN else 1)
    if share_of_effort(target) < 1.0 or target.innermost.has_loops:
        return 1
    in_few, in_more = BATCHES_OF_CHEAP
    if target.dim in FEW_DIMENSIONS:
        return in_few
    return in_more if target.dim in OTHERS else 1


def draw_probes(
    rng_key: RNGKey,
    places: DenseMap,
    log_mass: Float[np.ndarray, " places"],
    prior: Float[Array, "draws dim"] | None,
) -> Float[Array, "probes dim"]:
    """Draw probes around places, between them, and from the prior.

    Half of the groups are drawn around single places, from near to far. A quarter are prior draws,
    half of them drawn in, or wide where there is no prior. In an eighth each, probes are as wide as
    the places are apart, or lie off one place by the difference of two others, as in patterns that
    repeat.
    """
    return _draw(rng_key, *_rows(places, log_mass), prior)


def _rows(places: DenseMap, log_mass: Float[np.ndarray, " places"]):
    """The places as padded rows, so that another number of them rarely compiles anything anew."""
    rows = whitened(padded(places, len(log_mass)))
    return rows, padded_logs(log_mass - np.max(log_mass))


class _Best(NamedTuple):
    """The best probes in each of several rows, best first: groups of probes, or places."""

    probes: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...]
    """By which they are best: the excess of the density, or how far the gradient turns away."""

    def merged(self, other: "_Best") -> "_Best":
        """The best of both in each row."""
        both = [_best_of_both(*four) for four in zip(*self, *other, strict=True)]
        return _Best(*zip(*both, strict=True))

    def starts(self, num: int) -> np.ndarray:
        """The best probes of each group, and then those at each place, one for each in turn."""
        *of_groups, at_places = self.probes
        dim = at_places.shape[-1]
        in_turn = at_places.swapaxes(0, 1)
        parts = [part.reshape(-1, dim) for part in (*of_groups, in_turn)]
        return np.concatenate(parts)[:num]


def _best_of_both(probes, scores, more_probes, more_scores):
    all_probes = np.concatenate([probes, more_probes], axis=1)
    all_scores = np.concatenate([scores, more_scores], axis=1)
    order = np.argsort(-all_scores, axis=1, kind="stable")[:, : scores.shape[1]]
    kept = np.take_along_axis(all_probes, order[..., None], axis=1)
    return kept, np.take_along_axis(all_scores, order, axis=1)


def _best_of_batch(rng_key: RNGKey, target: Target, places: WhitenedMap, log_mass, prior, num_each):
    """The best of one batch of probes, and the share of prior draws without a density."""
    probes = _draw(rng_key, places, log_mass, prior)
    best, share_without = _best(target, places, log_mass, probes, num_each)
    return jax.tree.map(np.asarray, best), share_without if prior is not None else 0.0


@quick_jit
def _draw(rng_key: RNGKey, places: WhitenedMap, log_mass, prior):
    near_key, wide_key, between_key = jax.random.split(rng_key, 3)
    quarter = NUM_GROUPS // 4 * GROUP_SIZE
    if prior is None:
        prior = wide_draws(wide_key, quarter, places.location.shape[1], has_prior=False)
    else:
        prior = half_drawn_in(prior)
    near = _near(near_key, places, log_mass, 2 * quarter)
    return jnp.concatenate([near, prior, _between(between_key, places, log_mass, quarter)])


@quick_jit
def _best(target: Target, places: WhitenedMap, log_mass, probes, num_each: int):
    # A quarter each, if there are four: by normal densities, by turning, by heavy ones, by place.
    num_normal, num_turned, num_heavy, num_here = ((num_each + 3 - k) // 4 for k in range(4))
    # Not all at once, since the data of a model may be large.
    excess, turned, nearest = jax.lax.map(
        lambda x: _looked_at(target, places, log_mass, x, num_turned > 0),
        probes,
        batch_size=1 if target.innermost.has_loops else GROUP_SIZE,
    )
    by_normal, by_heavy = excess.T
    # What one place explains badly, though it is known, would otherwise be all that is looked at.
    here = nearest == jnp.arange(len(log_mass))[:, None]
    of_each = -(-NUM_GROUPS * num_here // len(log_mass))
    rows = (
        (by_normal.reshape(NUM_GROUPS, GROUP_SIZE), num_normal, GROUP_SIZE),
        (turned.reshape(NUM_GROUPS, GROUP_SIZE), num_turned, GROUP_SIZE),
        (by_heavy.reshape(NUM_GROUPS, GROUP_SIZE), num_heavy, GROUP_SIZE),
        (jnp.where(here, by_normal, -jnp.inf), of_each, 0),
    )
    best = [_best_in_rows(probes, *one) for one in rows]
    half, eighth = len(probes) // 2, len(probes) // 8
    from_prior = by_normal[half : half + eighth]  # as `_draw` puts them together
    return _Best(*zip(*best, strict=True)), jnp.mean(jnp.isneginf(from_prior))


def _best_in_rows(probes, scores, num: int, stride: int):
    """The best probes of each row; a row starts so many probes after the one before."""
    highest, index = jax.lax.top_k(scores, num)
    index = index + stride * jnp.arange(len(scores))[:, None]
    return probes[index], highest


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


def _looked_at(
    target: Target, places: WhitenedMap, log_mass, position: Vector, with_gradient: bool
) -> tuple[Float[Array, "2"], Float[Array, ""], Int[Array, ""]]:
    """How much the log density exceeds that of the places, up to a constant, in nats.

    Once with normal densities at the places, once with Cauchy densities. The first notice a mode
    far from its top, in many dimensions; to the second, tails of the places are no news. Then how
    far the gradient turns away from every place, from -1, where it leads to one, to 1. And which
    place explains most of the position by the normal densities.
    """

    def logs(place: WhitenedMap):
        square = jnp.sum(place.inverse(position) ** 2)
        heavy = -0.5 * (1 + position.size) * jnp.log1p(square)
        return jnp.stack([-0.5 * square, heavy]) - place.log_det_of_factor

    parts = log_mass[:, None] + jax.vmap(logs)(places)
    explained = jax.nn.logsumexp(parts, axis=0)
    nearest = jnp.argmax(parts[:, 0])
    if with_gradient:
        log_density, gradient = jax.value_and_grad(target.log_density)(position)
        each = jax.vmap(lambda place: _turned(place, position, gradient))(places)
        turned = jnp.min(jnp.where(jnp.isfinite(log_mass), each, jnp.inf))
    else:
        log_density = target.log_density(position)
        turned = -jnp.ones_like(log_density)
    known = jnp.isfinite(explained) & (log_density > REPLACED_LOG_DENSITY)
    excess = jnp.where(known, log_density - explained, -jnp.inf)
    usable = jnp.any(known) & jnp.isfinite(turned)
    return excess, jnp.where(usable, turned, -jnp.inf), nearest


def _turned(place: WhitenedMap, position: Vector, gradient: Vector) -> Float[Array, ""]:
    """How far a gradient turns away from a place, where this is a standard normal distribution."""
    outward, uphill = place.inverse(position), place.factor.T @ gradient
    return outward @ uphill / (jnp.linalg.norm(outward) * jnp.linalg.norm(uphill))
