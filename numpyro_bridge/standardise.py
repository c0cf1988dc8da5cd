"""Standardisation: make a target roughly standard normal, so that nobody tunes scales by hand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._typing import RNGKey
from numpyro_bridge.affine import (
    AbstractAffineMap,
    DenseMap,
    as_dense,
    gaussian_elbo,
    identity_map,
    with_rank,
)
from numpyro_bridge.gaussian_fits import (
    DENSE_LIMIT,
    MAX_RANK,
    gaussian_vi,
    laplace,
    no_map,
    pathfinder,
    prior_moments,
)
from numpyro_bridge.target import ModelTarget, Target

Candidate = Callable[[RNGKey, Target, Array], AbstractAffineMap | None]

CANDIDATES: tuple[Candidate, ...] = (no_map, prior_moments, pathfinder, laplace, gaussian_vi)

NUM_DRAWS = 1024
"""Draws that every candidate's ELBO is measured with, the same for all."""


class Modes(NamedTuple):
    """Where the starts ended: one row per place, heaviest first."""

    laws: AbstractAffineMap
    """A normal law at each mode; leading axis counts modes."""
    log_mass: Float[Array, " modes"]
    """Log of the mass each law accounts for, its ELBO, in nats."""
    num_starts: tuple[int, ...]
    """How many starts ended there."""

    @property
    def locations(self) -> Float[Array, "modes dim"]:
        """Their centres, in the target's own coordinates."""
        return self.laws.location


class Standardisation(NamedTuple):
    """The affine map that was chosen, and what was seen on the way."""

    map: AbstractAffineMap
    """From standardised positions to the target's own."""
    method: str
    """Name of the candidate it came from."""
    elbo: float
    """ELBO in nats of the normal law it stands for."""
    candidates: dict[str, float]
    """The best ELBO of every candidate."""
    modes: Modes | None
    """More than one place the starts ended in; None where they all agree."""
    num_gradient_evaluations: int
    """Scores evaluated on the way, roughly: line searches are counted as one."""


def standardise(
    rng_key: RNGKey,
    target: Target,
    *,
    candidates: Sequence[Candidate] = CANDIDATES,
    num_starts: int = 8,
) -> Standardisation:
    """Choose the affine map whose normal law has the highest ELBO on the target.

    The identity is always among the candidates, so the choice cannot be worse than no
    standardisation. Half of the starts are prior draws where the prior can be drawn, the others
    are those NUTS would use. Where the normal laws that the starts lead to are different places
    of comparable mass, the posterior is multimodal: the map then takes the mean and covariance
    of their mixture, so that a standard normal covers all of them.

    Args:
        rng_key: Randomness of starts and draws.
        target: The target in its own coordinates.
        candidates: Functions `(rng_key, target, starts) -> maps`, a batch of maps or None where
            they do not apply. Give one alone to override the choice.
        num_starts: Where each candidate begins.
    """
    starts_key, fits_key, elbo_key = jax.random.split(rng_key, 3)
    starts = starting_points(starts_key, target, num_starts)
    noise = jax.random.normal(elbo_key, (NUM_DRAWS, target.dim), starts.dtype)
    names, maps = _fit_all(fits_key, target, starts, candidates)
    elbos = _elbos(maps, target, noise)
    best = int(np.argmax(elbos))
    map, method, elbo = _take(maps, best), names[best], float(elbos[best])
    modes = None
    if isinstance(maps, DenseMap):
        climbed = np.asarray([name == gaussian_vi.__name__ for name in names])
        modes = distinct_modes(_take(maps, climbed), elbos[climbed]) if climbed.any() else None
    if modes is not None:
        map, method = covering_map(modes), "modes"
        elbo = float(_elbos(_batch_of_one(map), target, noise)[0])
    best_of: dict[str, float] = {}
    for name, value in zip(names, elbos, strict=True):
        best_of[name] = max(best_of.get(name, -np.inf), float(value))
    count = NUM_DRAWS * len(names) + num_starts * 200 * max(64, 4 * target.dim)
    return Standardisation(map, method, elbo, best_of, modes, count)


def no_standardisation(rng_key: RNGKey, target: Target) -> Standardisation:
    """Leave the target as it is."""
    return Standardisation(identity_map(target.dim), "none", float("nan"), {}, None, 0)


def starting_points(rng_key: RNGKey, target: Target, num: int) -> Float[Array, "num dim"]:
    """Half from the prior where it can be drawn and the density is finite, the rest as NUTS."""
    box_key, prior_key = jax.random.split(rng_key)
    starts = target.initial_positions(box_key, num)
    if not isinstance(target, ModelTarget):
        return starts
    draws = target.prior_positions(prior_key, num // 2)
    if draws is None:
        return starts
    usable = jax.vmap(target.at)(draws).finite
    return starts.at[: num // 2].set(jnp.where(usable[:, None], draws, starts[: num // 2]))


def distinct_modes(
    laws: DenseMap,
    log_mass: Float[Array, " starts"],
    *,
    min_distance: float = 2.0,
    max_deficit: float = 7.0,
) -> Modes | None:
    """Group normal laws into places that are apart.

    Two laws are apart when their centres differ by more than `min_distance` in units of the
    standard deviation of the difference; a law whose mass is smaller than the heaviest by a
    factor `exp(max_deficit)` is not a mode but a start that got stuck.

    Returns:
        The modes, heaviest first, or None where there is only one.
    """
    log_mass = np.asarray(log_mass)
    factors, locations = np.asarray(laws.factor, float), np.asarray(laws.location, float)
    covariances = factors @ np.swapaxes(factors, 1, 2)
    leaders: list[int] = []
    counts: list[int] = []
    for law in np.argsort(-log_mass):
        if not log_mass[law] >= np.max(log_mass) - max_deficit:
            continue
        for place, leader in enumerate(leaders):
            difference = locations[law] - locations[leader]
            spread = covariances[law] + covariances[leader]
            if difference @ np.linalg.solve(spread, difference) < min_distance**2:
                counts[place] += 1
                break
        else:
            leaders.append(int(law))
            counts.append(1)
    if len(leaders) < 2:
        return None
    chosen = np.asarray(leaders)
    return Modes(_take(laws, chosen), jnp.asarray(log_mass[chosen]), tuple(counts))


def covering_map(modes: Modes) -> DenseMap:
    """The map whose normal law has the mean and covariance of the modes, weighed equally."""
    locations, factors = modes.laws.location, modes.laws.factor
    mean = jnp.mean(locations, axis=0)
    between = (locations - mean).T @ (locations - mean) / len(locations)
    within = jnp.mean(factors @ jnp.swapaxes(factors, 1, 2), axis=0)
    return DenseMap(mean, jnp.linalg.cholesky(within + between))


def _fit_all(
    rng_key: RNGKey, target: Target, starts, candidates: Sequence[Candidate]
) -> tuple[list[str], AbstractAffineMap]:
    """Every map of every candidate in one batch, with the name of the candidate of each."""
    names: list[str] = []
    batches = []
    for key, candidate in zip(
        jax.random.split(rng_key, len(candidates) + 1), (no_map, *candidates), strict=True
    ):
        maps = candidate(key, target, starts)
        if maps is None or (candidate is no_map and "no_map" in names):
            continue
        batches.append(_alike(maps, target.dim))
        names += [getattr(candidate, "__name__", repr(candidate))] * len(maps.location)
    return names, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *batches)


def _alike(maps: AbstractAffineMap, dim: int) -> AbstractAffineMap:
    """A batch of maps in the one form that suits the dimension, so that all are one batch."""
    if dim <= DENSE_LIMIT:
        return jax.vmap(as_dense)(maps)
    return jax.vmap(lambda map: with_rank(map, MAX_RANK))(maps)


def _elbos(maps: AbstractAffineMap, target: Target, noise) -> np.ndarray:
    """ELBO of each map, minus infinity where it is not finite."""
    elbos = np.asarray(_all_elbos(maps, target, noise), float)
    return np.where(np.isfinite(elbos), elbos, -np.inf)


@eqx.filter_jit
def _all_elbos(maps: AbstractAffineMap, target: Target, noise):
    return jax.lax.map(lambda map: gaussian_elbo(map, target, noise), maps)


def _take(maps, index):
    return jax.tree.map(lambda leaf: leaf[index], maps)


def _batch_of_one(map: AbstractAffineMap) -> AbstractAffineMap:
    return jax.tree.map(lambda leaf: leaf[None], map)
