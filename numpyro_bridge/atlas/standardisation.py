"""Standardisation: make a target nearly standard normal, so that nobody tunes scales by hand."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.checks import check_count, check_function
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.fit_coupling import fit_coupling, num_gradient_evaluations
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
from numpyro_bridge.atlas.modes import Modes, covering_map, distinct_modes
from numpyro_bridge.atlas.standardised_target import elbo_of, log_weights_of
from numpyro_bridge.target import Target

Candidate = Callable[[RNGKey, Target, Array], AbstractAffineMap | None]

CANDIDATES: tuple[Candidate, ...] = (gaussian_vi, pathfinder, laplace, prior_moments)

NUM_DRAWS = 1024
"""Draws that every candidate's ELBO is measured with, the same for all."""

AGREEMENT = 0.1
"""Nats within which the ELBOs of two starts count as the same."""

NEARLY_NORMAL = 0.01
"""Gap of a normal law, in nats, from which on there is nothing worth bending a map for."""


class MapFit(NamedTuple):
    """How a map was fitted, and what was seen on the way."""

    method: str
    """Name of the candidate it came from, or "coupling" where the map bends."""
    elbo: float
    """ELBO in nats of the distribution that the map makes of standard noise."""
    candidates: dict[str, float]
    """The best ELBO of every candidate, that of the bent map among them."""
    num_gradient_evaluations: int
    """Scores evaluated on the way, roughly: line searches are counted as one."""
    modes: Modes | None = None
    """More than one place the starts ended in; None where they all agree."""

    def plain(self) -> dict[str, Any]:
        """All but the modes, as a file keeps it: strings and numbers."""
        fields = self._asdict()
        del fields["modes"]
        return fields


class Standardisation(NamedTuple):
    """A map, and how it was fitted."""

    map: AbstractMap
    """From standardised positions to the target's own."""
    fit: MapFit | None = None
    """None where nothing was fitted to the density: for the identity, a map that somebody gave,
    or one that was learned from draws."""

    @property
    def modes(self) -> Modes | None:
        """The modes that the fit saw, where it saw more than one."""
        return None if self.fit is None else self.fit.modes

    @property
    def num_gradient_evaluations(self) -> int:
        """Scores that the fit evaluated, roughly."""
        return 0 if self.fit is None else self.fit.num_gradient_evaluations


def standardise(
    rng_key: RNGKey,
    target: Target,
    *,
    candidates: Sequence[Candidate] = CANDIDATES,
    num_starts: int = 8,
    nonlinear: bool = True,
) -> Standardisation:
    """Choose the affine map whose normal law has the highest ELBO on the target, and bend it.

    The identity is always among the candidates, so the choice cannot be worse than no
    standardisation. Candidates are tried in order. `gaussian_vi`, the first, climbs to the best
    normal law there is; where several starts agree on it nothing else can be better, and the
    others are not tried. Half of the starts are prior draws where the prior can be drawn, the rest
    are those NUTS would use. Where the normal laws that the starts lead to are different places
    of comparable mass, the posterior is multimodal: the map then takes the mean and covariance
    of their mixture, so that a standard normal covers all of them.

    Where there is one mode and the normal law leaves a gap, the map is then bent by a coupling
    (`fit_coupling`), in which the scales and places of most directions follow a few others, as in
    the funnels of hierarchical models. The bent map is taken if its ELBO is higher, on draws that
    it was not fitted to, by more than twice the standard error.

    Args:
        rng_key: Randomness of starts and draws.
        target: The target in its own coordinates.
        candidates: Functions `(rng_key, target, starts) -> maps`, a batch of maps or None where
            they do not apply. Give one alone to override the choice, with `nonlinear=False` if it
            should not be bent either.
        num_starts: Where each candidate begins.
        nonlinear: Whether to bend the map; up to `DENSE_LIMIT` dimensions.
    """
    check_count("num_starts", num_starts, 1)
    for candidate in candidates:
        check_function("each of candidates", candidate, "numpyro_bridge.atlas.fit_normal.laplace")
    starts_key, fits_key, elbo_key, coupling_key = jax.random.split(rng_key, 4)
    starts = starting_points(starts_key, target, num_starts)
    noise = jax.random.normal(elbo_key, (NUM_DRAWS, target.dim), starts.dtype)
    fits = _fit_in_turn(fits_key, target, starts, noise, candidates)
    best = max(fits, key=lambda fit: fit.elbo)
    chosen, method, elbo = best.best_map, best.name, best.elbo
    modes = _modes_seen(fits)
    if modes is not None:
        chosen, method = covering_map(modes), "modes"
        elbo = float(_elbos(_batch_of_one(chosen), target, noise)[0])
    count = sum(NUM_DRAWS * len(fit.elbos) for fit in fits)
    count += num_starts * NUM_STEPS * draws_per_step(target.dim)
    fit = MapFit(method, elbo, {f.name: f.elbo for f in fits}, count, modes)
    # Nothing is bent in many dimensions: there are dim³ third derivatives.
    if not nonlinear or modes is not None or target.dim > DENSE_LIMIT:
        return Standardisation(chosen, fit)
    return _bent(coupling_key, target, chosen, fit, noise)


def _modes_seen(fits: Sequence["_Fit"]) -> Modes | None:
    """The different places that the starts of `gaussian_vi` led to."""
    for fit in fits:
        if fit.candidate is gaussian_vi and isinstance(fit.maps, DenseMap):
            return distinct_modes(fit.maps, jnp.asarray(fit.elbos))
    return None


def _bent(
    rng_key: RNGKey, target: Target, affine: AbstractAffineMap, fit: MapFit, noise
) -> Standardisation:
    """With a coupling in place of an affine map of one mode, where that is better."""
    if not isinstance(affine, DenseMap):
        return Standardisation(affine, fit)
    before = log_weights_of(affine, target, noise)
    # For nearly equal weights the gap between ELBO and log evidence is half their variance.
    if 0.5 * float(jnp.var(before)) < NEARLY_NORMAL:
        return Standardisation(affine, fit)
    map = fit_coupling(rng_key, target, affine)
    after = log_weights_of(map, target, noise)
    elbo, gain = float(jnp.mean(after)), after - before
    fit = fit._replace(
        candidates=fit.candidates | {"coupling": elbo},
        num_gradient_evaluations=fit.num_gradient_evaluations
        + num_gradient_evaluations(target.dim),
    )
    if not jnp.mean(gain) > 2 * jnp.std(gain) / math.sqrt(NUM_DRAWS):
        return Standardisation(affine, fit)
    return Standardisation(map, fit._replace(method="coupling", elbo=elbo))


def no_standardisation(rng_key: RNGKey, target: Target) -> Standardisation:
    """Leave the target as it is."""
    return Standardisation(identity_map(target.dim))


def starting_points(rng_key: RNGKey, target: Target, num: int) -> Float[Array, "num dim"]:
    """Half from the prior where it can be drawn, the rest as NUTS would start."""
    box_key, prior_key = jax.random.split(rng_key)
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
    return _Fit(candidate, maps, _elbos(maps, target, noise))


def _alike(maps: AbstractAffineMap, dim: int) -> AbstractAffineMap:
    """A batch of maps in the form that suits the dimension, whatever the candidate."""
    if dim <= DENSE_LIMIT or isinstance(maps, DenseMap):
        return jax.vmap(as_dense)(maps)
    return jax.vmap(lambda map: with_rank(map, MAX_RANK))(maps)


def _elbos(maps: AbstractAffineMap, target: Target, noise) -> np.ndarray:
    """ELBO of each map, minus infinity where it is not finite."""
    elbos = np.asarray(_all_elbos(maps, target, noise), float)
    return np.where(np.isfinite(elbos), elbos, -np.inf)


@eqx.filter_jit
def _all_elbos(maps: AbstractAffineMap, target: Target, noise):
    return jax.lax.map(lambda map: elbo_of(map, target, noise), maps)


def _take(maps, index):
    return jax.tree.map(lambda leaf: leaf[index], maps)


def _batch_of_one(map: AbstractAffineMap) -> AbstractAffineMap:
    return jax.tree.map(lambda leaf: leaf[None], map)
