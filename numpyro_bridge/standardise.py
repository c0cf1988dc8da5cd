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

CANDIDATES: tuple[Candidate, ...] = (gaussian_vi, pathfinder, laplace, prior_moments)

NUM_DRAWS = 1024
"""Draws that every candidate's ELBO is measured with, the same for all."""

AGREEMENT = 0.1
"""Nats within which the ELBOs of two starts count as the same."""


class Modes(NamedTuple):
    """Where the starts ended: one row per place, heaviest first."""

    laws: DenseMap
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
    standardisation. Candidates are tried in order. `gaussian_vi`, the first, climbs to the best
    normal law there is; where several starts agree on it nothing else can be better, and the
    others are not tried. Half of the starts are prior draws where the prior can be drawn, the rest
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
    fits = _fit_in_turn(fits_key, target, starts, noise, candidates)
    best = max(fits, key=lambda fit: fit.elbo)
    chosen, method, elbo, modes = best.best_map, best.name, best.elbo, None
    for fit in fits:
        if fit.name == gaussian_vi.__name__ and isinstance(fit.maps, DenseMap):
            modes = distinct_modes(fit.maps, jnp.asarray(fit.elbos))
    if modes is not None:
        chosen, method = covering_map(modes), "modes"
        elbo = float(_elbos(_batch_of_one(chosen), target, noise)[0])
    count = sum(NUM_DRAWS * len(fit.elbos) for fit in fits)
    count += num_starts * 200 * max(64, 4 * target.dim)
    return Standardisation(chosen, method, elbo, {f.name: f.elbo for f in fits}, modes, count)


def no_standardisation(rng_key: RNGKey, target: Target) -> Standardisation:
    """Leave the target as it is."""
    return Standardisation(identity_map(target.dim), "none", float("nan"), {}, None, 0)


def starting_points(rng_key: RNGKey, target: Target, num: int) -> Float[Array, "num dim"]:
    """Half from the prior where it can be drawn, the rest as NUTS would start."""
    box_key, prior_key = jax.random.split(rng_key)
    starts = target.initial_positions(box_key, num)
    if not isinstance(target, ModelTarget):
        return starts
    draws = target.prior_positions(prior_key, num // 2)
    if draws is None:
        return starts
    return starts.at[: num // 2].set(draws)


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
    mass = np.asarray(log_mass)
    factors, locations = np.asarray(laws.factor, float), np.asarray(laws.location, float)
    covariances = factors @ np.swapaxes(factors, 1, 2)
    leaders: list[int] = []
    counts: list[int] = []
    for law in np.argsort(-mass):
        if not mass[law] >= np.max(mass) - max_deficit:
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
    return Modes(_take(laws, chosen), log_mass[chosen], tuple(counts))


def covering_map(modes: Modes) -> DenseMap:
    """The map whose normal law has the mean and covariance of the modes, weighed equally."""
    locations, factors = modes.laws.location, modes.laws.factor
    mean = jnp.mean(locations, axis=0)
    between = (locations - mean).T @ (locations - mean) / len(locations)
    within = jnp.mean(factors @ jnp.swapaxes(factors, 1, 2), axis=0)
    return DenseMap(mean, jnp.linalg.cholesky(within + between))


class _Fit(NamedTuple):
    """The maps of one candidate and their ELBOs."""

    name: str
    maps: AbstractAffineMap
    elbos: np.ndarray

    @property
    def elbo(self) -> float:
        return float(np.max(self.elbos))

    @property
    def best_map(self) -> AbstractAffineMap:
        return _take(self.maps, int(np.argmax(self.elbos)))

    @property
    def starts_agree(self) -> bool:
        return int(np.sum(self.elbos > self.elbo - AGREEMENT)) > 1


def _fit_in_turn(
    rng_key: RNGKey, target: Target, starts, noise, candidates: Sequence[Candidate]
) -> list[_Fit]:
    """The fit of each candidate, up to one that cannot be beaten; the identity first."""
    fits = [_measured(no_map, no_map(rng_key, target, starts), target, noise)]
    keys = jax.random.split(rng_key, len(candidates))
    for key, candidate in zip(keys, candidates, strict=True):
        maps = candidate(key, target, starts)
        if maps is None or candidate is no_map:
            continue
        fits.append(_measured(candidate, maps, target, noise))
        # Optimal among all normal laws only where the factor is dense.
        best_possible = candidate is gaussian_vi and target.dim <= DENSE_LIMIT
        if best_possible and fits[-1].starts_agree and fits[-1] is max(fits, key=lambda f: f.elbo):
            break
    return fits


def _measured(candidate: Candidate, maps: AbstractAffineMap, target: Target, noise) -> _Fit:
    maps = _alike(maps, target.dim)
    name = getattr(candidate, "__name__", repr(candidate))
    return _Fit(name, maps, _elbos(maps, target, noise))


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
