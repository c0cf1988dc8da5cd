"""Repair: new charts where the weights of draws are heavy, or where particles are uncovered."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from numpyro_bridge._core.keys import split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.judge import Judgement
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.mixture_fit import fit_mixture, numpy_generator
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.stacked import joined, row, stack
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target

POOL = 1_500
"""Draws that are resampled by their weights, to divide heavy charts by."""

WeightedNormals = tuple[DenseMap, Float[np.ndarray, " _"]]
"""Normal distributions at the places of charts, stacked, and the log of the mass of each."""


def divided(
    rng_key: RNGKey,
    target: Target,
    seen: Judgement,
    particles: Float[np.ndarray, "num dim"] | None,
) -> WeightedNormals:
    """Divide the whole posterior anew, by a mixture of normal distributions fitted to points.

    The points are the charts' own draws, resampled by their weights, and the particles, all of them
    moved by a few Hamiltonian steps.
    """
    pick_key, move_key, fit_key = split(rng_key, 3)
    points = resampled(numpy_generator(pick_key), seen, POOL)
    if particles is not None:
        points = np.concatenate([points, particles])
    whole = normal_of(points)
    inside = on_device(_solved(whole, points))
    moved = np.asarray(refreshed(move_key, StandardisedTarget(target, whole), inside))
    moved = moved[np.all(np.isfinite(moved), axis=1)]
    mixture = fit_mixture(numpy_generator(fit_key), moved)
    return _composed(whole, mixture), seen.log_evidence + np.log(mixture.weight)


def with_uncovered(
    rng_key: RNGKey,
    charts: WeightedNormals,
    seen: Judgement,
    uncovered: Float[np.ndarray, "num dim"],
    share: float,
    most: int,
) -> WeightedNormals:
    """Add charts where particles lie that the charts do not cover.

    Args:
        rng_key: Randomness of the fit.
        charts: The charts so far, and their masses.
        seen: What draws say.
        uncovered: The particles that are not covered.
        share: The share that these have among all particles.
        most: Number of charts at most; old and light ones make room.
    """
    whole = normal_of(uncovered)
    mixture = fit_mixture(numpy_generator(rng_key), _solved(whole, uncovered))
    added = _composed(whole, mixture)
    # Charts without any mass say nothing about how much the particles stand for.
    known = seen.ess > 0
    total = seen.log_evidence if known else 0.0
    normals, old_mass = charts
    old_mass = old_mass if known else np.full(len(old_mass), -50.0)
    kept, old_mass = heaviest((normals, old_mass), most - len(mixture.weight))
    return joined([kept, added]), np.concatenate([old_mass, total + np.log(mixture.weight * share)])


def resampled(
    rng: np.random.Generator, seen: Judgement, num: int
) -> Float[np.ndarray, "{num} dim"]:
    """Draws that were resampled by truncated weights (Ionides 2008)."""
    limit = seen.log_evidence + 0.5 * np.log(len(seen.log_weight))
    log_weight = np.minimum(seen.log_weight, limit)
    weight = np.exp(log_weight - np.logaddexp.reduce(log_weight))
    return seen.position[rng.choice(len(weight), num, p=weight / weight.sum())]


def normal_of(points: Float[np.ndarray, "num dim"]) -> DenseMap:
    """The normal distribution with the mean and covariance of points; never singular."""
    points = np.asarray(points, float)
    scale = np.std(points, axis=0) + 1e-6 * (1e-6 + np.max(np.abs(points), axis=0))
    centred = (points - np.mean(points, axis=0)) / scale
    dim = points.shape[1]
    shrinkage = 0.01 + 0.5 * dim / (dim + len(points))
    correlation = (1 - shrinkage) * centred.T @ centred / len(points) + shrinkage * np.eye(dim)
    dtype = jnp.result_type(float)
    factor = scale[:, None] * np.linalg.cholesky(correlation)
    return DenseMap(on_device(np.mean(points, axis=0), dtype), on_device(factor, dtype))


def _solved(whole: DenseMap, points: Float[np.ndarray, "num dim"]) -> np.ndarray:
    factor, location = np.asarray(whole.factor, float), np.asarray(whole.location, float)
    inside = np.linalg.solve(factor, (points - location).T).T
    return inside.astype(jnp.result_type(float))


def _composed(whole: DenseMap, mixture) -> DenseMap:
    """The components of a mixture in the coordinates of a map, in the map's outer coordinates."""
    dtype = whole.location.dtype
    return stack(
        [
            DenseMap(whole(on_device(location, dtype)), whole.factor @ on_device(factor, dtype))
            for location, factor in zip(mixture.location, mixture.factor, strict=True)
        ]
    )


def heaviest(charts: WeightedNormals, most: int) -> WeightedNormals:
    """The heaviest charts, at most so many, in the order in which they are."""
    normals, log_mass = charts
    order = np.sort(np.argsort(-log_mass, kind="stable")[:most])
    return row(normals, order), log_mass[order]
