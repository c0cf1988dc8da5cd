"""Standardisation: make a target nearly standard normal, so that nobody tunes scales by hand."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import (
    check_array,
    check_count,
    check_flag,
    check_function,
    described,
)
from numpyro_bridge._core.keys import split
from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.arguments import check_stage
from numpyro_bridge.atlas.explore import MANY_DIMENSIONS
from numpyro_bridge.atlas.fit_coupling import fit_coupling
from numpyro_bridge.atlas.fit_large import normal_by_newton, num_gradients
from numpyro_bridge.atlas.fit_normal import (
    DENSE_LIMIT,
    MAX_RANK,
    NUM_STEPS,
    draws_per_step,
    gaussian_vi,
    laplace,
    no_map,
    pathfinder,
    prior_moments,
)
from numpyro_bridge.atlas.maps import (
    AbstractAffineMap,
    AbstractMap,
    DenseMap,
    as_dense,
    identity_map,
    with_rank,
)
from numpyro_bridge.atlas.standardised_target import elbo_of, gap_of, log_weights_of
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Target

Candidate = Callable[[RNGKey, Target, Array], AbstractAffineMap | None]

CANDIDATES: tuple[Candidate, ...] = (gaussian_vi, pathfinder, laplace, prior_moments)

IN_MANY_DIMENSIONS: tuple[Candidate, ...] = (
    normal_by_newton,
    pathfinder,
    gaussian_vi,
    prior_moments,
)
"""The same from `MANY_DIMENSIONS` on."""

NUM_DRAWS = 1024
"""Number of draws for the ELBO of a candidate; all candidates are measured with the same draws."""

AGREEMENT, AGREEMENT_EACH = 0.1, 1e-3
"""Two starts whose ELBOs differ by fewer nats than the first number, or than the second for each
dimension, count as having found the same."""

BEND_LIMIT = 600
"""Largest dimension in which a map is bent; its fit takes the gradients of 16,384 draws at once."""

NEARLY_NORMAL = 0.01
"""A normal distribution this close to the target, in nats, leaves no reason to bend the map."""


class MapFit(NamedTuple):
    """How a map was fitted, and what was seen on the way.

    >>> fit = nb.standardise(key, target).fit
    >>> fit.method, round(fit.elbo, 2)
    ('gaussian_vi', 1.84)
    """

    method: str
    """The candidate's name; "coupling" where the map is bent."""
    elbo: float
    """ELBO, in nats, of the distribution that the map makes of standard normal noise."""
    candidates: dict[str, float]
    """The best ELBO of every candidate, by name; the bent map is among them as "coupling"."""
    num_gradient_evaluations: int
    """Roughly how many scores were evaluated; each line search is counted as one."""


class Standardisation(NamedTuple):
    """A map, and how it was fitted.

    >>> affine = nb.atlas.DenseMap(jnp.array([0.5, -1.0]), 0.8 * jnp.eye(2))
    >>> mine = nb.atlas.Standardisation(affine)
    >>> sampler = nb.BridgeSampler(model, standardise=lambda rng_key, target: mine)
    """

    map: AbstractMap
    """From standardised positions to the target's own."""
    fit: MapFit | None = None
    """None where no map was fitted to the density: the map is the identity, or it was given by a
    user, or it was computed from draws."""

    def raised(self, log_scale: float) -> "Standardisation":
        """The same with what was left out of the log densities, in nats."""
        if self.fit is None:
            return self
        elbos = {name: elbo + log_scale for name, elbo in self.fit.candidates.items()}
        fit = self.fit._replace(elbo=self.fit.elbo + log_scale, candidates=elbos)
        return self._replace(fit=fit)

    @property
    def num_gradient_evaluations(self) -> int:
        """Roughly how many scores the fit evaluated."""
        return 0 if self.fit is None else self.fit.num_gradient_evaluations


def standardise(
    rng_key: RNGKey,
    target: Target,
    *,
    candidates: Sequence[Candidate] | None = None,
    num_starts: int = 8,
    starts: Float[Array, "starts {target.dim}"] | None = None,
    nonlinear: bool = True,
) -> Standardisation:
    """Choose the map whose normal distribution fits the target best by its ELBO, and bend it.

    >>> standardisation = nb.standardise(key, target)
    >>> round(standardisation.fit.elbo, 2)
    1.84

    It is the fit of one chart. A posterior with several modes needs several charts, which
    `nb.atlas.explore` and `nb.atlas.chart` make; a single map is then that of one mode.

    An affine map makes a normal distribution of standard normal noise. The candidates fit such maps
    and are tried in order. The identity is always among them, so that the choice cannot be worse
    than no standardisation. The first, `gaussian_vi` or in many dimensions `normal_by_newton`,
    climbs to the best normal distribution there is. Where several starts agree on it, no other
    candidate can be better, and none is tried. Half
    of the starts are draws from the prior, if it can be drawn from; the rest are chosen as NUTS
    would choose them. Where the starts disagree, the best map of all is taken.

    Where the best normal distribution still leaves a gap to the log evidence, the map is bent by a
    coupling (`fit_coupling`): the scales and places of most directions then depend on a few others,
    as in the funnels of hierarchical models. The bent map is kept if its ELBO, on draws that it was
    not fitted to, is higher by more than twice the standard error.

    Args:
        rng_key: A JAX key, for the starts and the draws.
        target: The target in its own coordinates.
        candidates: Functions `(rng_key, target, starts) -> maps`, which return a batch of maps, or
            None where they do not apply; by default `CANDIDATES`, or in a hundred dimensions
            and more `IN_MANY_DIMENSIONS`. To make the choice yourself, give a single one, and
            `nonlinear=False` if its map should not be bent.
        num_starts: How many places each candidate starts from.
        starts: These places; by default they are drawn.
        nonlinear: Whether the map may be bent; above `BEND_LIMIT` dimensions it never is.
    """
    check_stage(rng_key, target)
    num_starts = check_count("num_starts", num_starts, 1)
    nonlinear = check_flag("nonlinear", nonlinear)
    if starts is not None:
        check_array("starts", starts, "(starts, dim)")
    candidates = _checked_candidates(candidates, target.dim)
    starts_key, fits_key, elbo_key, coupling_key = split(rng_key, 4)
    if starts is None:
        starts = starting_points(starts_key, target, num_starts)
    noise = jax.random.normal(elbo_key, (NUM_DRAWS, target.dim), starts.dtype)
    fits = _fit_in_turn(fits_key, target, starts, noise, candidates)
    best = max(fits, key=lambda fit: fit.elbo)
    count = sum(NUM_DRAWS * len(fit.elbos) for fit in fits)
    count += sum(_cost(fit.candidate, target.dim, num_starts) for fit in fits)
    fit = MapFit(best.name, best.elbo, {f.name: f.elbo for f in fits}, count)
    if not nonlinear or target.dim > BEND_LIMIT:
        return Standardisation(best.best_map, fit)
    return bent(coupling_key, target, Standardisation(best.best_map, fit), noise)


def _checked_candidates(candidates: Any, dim: int) -> Sequence[Candidate]:
    """The candidates, which depend on the dimension where none are given."""
    if candidates is None:
        return CANDIDATES if dim < MANY_DIMENSIONS else IN_MANY_DIMENSIONS
    if not isinstance(candidates, Sequence) or isinstance(candidates, str):
        raise ValueError(
            "candidates must be a list of functions, such as "
            f"[numpyro_bridge.atlas.fit_normal.laplace], got {described(candidates)}"
        )
    for candidate in candidates:
        check_function("each of candidates", candidate, "numpyro_bridge.atlas.fit_normal.laplace")
    return candidates


def bent(
    rng_key: RNGKey, target: Target, chosen: Standardisation, noise: Float[Array, "draws dim"]
) -> Standardisation:
    """Put a coupling in place of an affine map, if the coupling is better.

    Args:
        rng_key: Randomness of the fit.
        target: The target in its own coordinates.
        chosen: The affine map, and how it was fitted.
        noise: Standard normal draws by which the two are compared.
    """
    affine, fit = chosen
    if not isinstance(affine, DenseMap) or fit is None:
        return chosen
    before = log_weights_of(affine, target, noise)
    if gap_of(before) < NEARLY_NORMAL:
        return Standardisation(affine, fit)
    coupled, spent = fit_coupling(rng_key, target, affine)
    after = log_weights_of(coupled, target, noise)
    elbo, gain = float(jnp.mean(after)), after - before
    fit = fit._replace(
        candidates=fit.candidates | {"coupling": elbo},
        num_gradient_evaluations=fit.num_gradient_evaluations + spent,
    )
    if not jnp.mean(gain) > 2 * jnp.std(gain) / math.sqrt(NUM_DRAWS):
        return Standardisation(affine, fit)
    return Standardisation(coupled, fit._replace(method="coupling", elbo=elbo))


def no_standardisation(rng_key: RNGKey, target: Target) -> Standardisation:
    """Leave the target as it is.

    >>> sampler = nb.BridgeSampler(model, standardise=nb.no_standardisation)
    """
    check_stage(rng_key, target)
    return Standardisation(identity_map(target.dim))


def starting_points(rng_key: RNGKey, target: Target, num: int) -> Float[Array, "num dim"]:
    """Draw half of the starts from the prior where possible; choose the rest as NUTS would."""
    box_key, prior_key = split(rng_key)
    starts = target.initial_positions(box_key, num)
    draws = target.prior_positions(prior_key, num // 2)
    if draws is None:
        return starts
    return starts.at[: num // 2].set(draws)


class _Fit(NamedTuple):
    """The maps of one candidate and their ELBOs."""

    candidate: Candidate
    maps: AbstractAffineMap
    elbos: np.ndarray

    @property
    def name(self) -> str:
        return getattr(self.candidate, "__name__", repr(self.candidate))

    @property
    def elbo(self) -> float:
        return float(np.max(self.elbos))

    @property
    def best_map(self) -> AbstractAffineMap:
        return _take(self.maps, int(np.argmax(self.elbos)))

    def starts_agree(self, dim: int) -> bool:
        within = max(AGREEMENT, AGREEMENT_EACH * dim)
        return int(np.sum(self.elbos > self.elbo - within)) > 1


def _cost(candidate: Candidate, dim: int, num_starts: int) -> int:
    """About how many gradients a candidate evaluates; those that take few are not counted."""
    if candidate is gaussian_vi:
        return num_starts * NUM_STEPS * draws_per_step(dim)
    return num_gradients(dim) if candidate is normal_by_newton else 0


def _fit_in_turn(
    rng_key: RNGKey, target: Target, starts, noise, candidates: Sequence[Candidate]
) -> list[_Fit]:
    """Fit the identity, then each candidate in turn, until one cannot be beaten."""
    fits = [_measured(no_map, no_map(rng_key, target, starts), target, noise)]
    keys = split(rng_key, len(candidates))
    for key, candidate in zip(keys, candidates, strict=True):
        maps = candidate(key, target, starts)
        if maps is None or candidate is no_map:
            continue
        fits.append(_measured(candidate, maps, target, noise))
        # It is the best of all normal distributions only where its factor is dense.
        best_possible = candidate is normal_by_newton or (
            candidate is gaussian_vi and target.dim <= DENSE_LIMIT
        )
        # Two fits whose draws all leave where the density is finite agree in nothing.
        hopeful = fits[-1].elbo > 0.5 * REPLACED_LOG_DENSITY
        agree = best_possible and hopeful and fits[-1].starts_agree(target.dim)
        if agree and fits[-1] is max(fits, key=lambda f: f.elbo):
            break
    return fits


def _measured(candidate: Candidate, maps: AbstractAffineMap, target: Target, noise) -> _Fit:
    maps = _alike(maps, target.dim)
    return _Fit(candidate, maps, _elbos(maps, target, noise))


def _alike(maps: AbstractAffineMap, dim: int) -> AbstractAffineMap:
    """Bring a batch of maps into one form, dense or of low rank, that suits the dimension."""
    if dim <= DENSE_LIMIT or isinstance(maps, DenseMap):
        return jax.vmap(as_dense)(maps)
    return jax.vmap(lambda transform: with_rank(transform, MAX_RANK))(maps)


def _elbos(maps: AbstractAffineMap, target: Target, noise) -> np.ndarray:
    """The ELBO of each map in a batch; minus infinity where it is not a finite number."""
    elbos = np.asarray(_all_elbos(maps, target, noise), float)
    return np.where(np.isfinite(elbos), elbos, -np.inf)


@brief_jit
def _all_elbos(maps: AbstractAffineMap, target: Target, noise):
    return jax.lax.map(lambda transform: elbo_of(transform, target, noise), maps)


def _take(maps, index):
    return jax.tree.map(lambda leaf: leaf[index], maps)
