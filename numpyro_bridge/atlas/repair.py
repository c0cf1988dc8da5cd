"""Repair: new charts where the weights of draws are heavy, or where particles are uncovered."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from numpyro_bridge._core.keys import fold_in, split
from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.types import RNGKey
from numpyro_bridge.atlas.judge import LIGHT_TAIL, Judgement, nearest_chart, quality_of
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.mixture_fit import MAX_COMPONENTS, fit_mixture, numpy_generator
from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.stacked import joined, row, stack
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import Target

POOL = 1_500
"""Draws that are resampled by their weights, to divide heavy charts by."""

UNEVEN, NEGLIGIBLE = 0.8, 0.02
"""The weights of a chart are heavy if its own draws are worth less than the first share of
independent ones, and more than the second share of the mass is on it."""

FEWEST = 4
"""So many points for each dimension, or more, are what charts of a place are fitted to."""

WeightedNormals = tuple[DenseMap, Float[np.ndarray, " _"]]
"""Normal distributions at the places of charts, stacked, and the log of the mass of each."""


class Divided(NamedTuple):
    """Charts of which some were divided."""

    charts: WeightedNormals
    """Those that stayed come first."""
    place: Int[np.ndarray, " charts"]
    """From which place each chart comes."""
    stayed: Int[np.ndarray, " _"]
    """The numbers of the charts that stayed as they are."""


def divided(
    rng_key: RNGKey,
    target: Target,
    charts: WeightedNormals,
    place: Int[np.ndarray, " charts"],
    seen: Judgement,
    particles: Float[np.ndarray, "num dim"] | None,
) -> Divided:
    """Divide anew what belongs to a place where weights are heavy, by a mixture of normals.

    The mixture is fitted to the draws of the place's charts, resampled by their weights, and to
    the particles there, all of them moved by a few Hamiltonian steps. The charts of other places
    stay: a light mode is not given up because another one is hard to cover.

    Args:
        rng_key: Randomness of the points and of the fits.
        target: The target in its own coordinates.
        charts: The charts so far, and their masses.
        place: From which place each chart comes; those of one place are divided together.
        seen: What their draws say.
        particles: Particles of an independent method; None where there are none.
    """
    pick_key, move_key, fit_key = split(rng_key, 3)
    points = resampled(numpy_generator(pick_key), seen, POOL)
    if particles is not None:
        points = np.concatenate([points, particles])
    whole = normal_of(points)
    inside = on_device(_solved(whole, points))
    moved = np.asarray(refreshed(move_key, StandardisedTarget(target, whole), inside))
    moved = moved[np.all(np.isfinite(moved), axis=1)]
    owner = place[nearest_chart(seen.partition, np.asarray(jax.vmap(whole)(on_device(moved))))]
    heavy = np.unique(place[_heavy(seen)])
    enough = [one for one in heavy if np.sum(owner == one) > FEWEST * target.dim]
    normals, log_mass = charts
    stayed = np.flatnonzero(~np.isin(place, enough))
    parts, masses, places = [row(normals, stayed)], [log_mass[stayed]], [place[stayed]]
    most = max(2, MAX_COMPONENTS // max(len(enough), 1))  # every chart may have to be bent
    for one in enough:
        rng = numpy_generator(fold_in(fit_key, int(one)))
        mixture = fit_mixture(rng, moved[owner == one], most)
        parts.append(_composed(whole, mixture))
        masses.append(np.logaddexp.reduce(log_mass[place == one]) + np.log(mixture.weight))
        places.append(np.full(len(mixture.weight), one))
    every = joined([part for part in parts if len(part.location)])
    return Divided((every, np.concatenate(masses)), np.concatenate(places), stayed)


def _heavy(seen: Judgement) -> Bool[np.ndarray, " charts"]:
    """Whether the weights of each chart are heavy; those of all are where none is to blame."""
    each = [quality_of(own) for own in (seen.log_weight[:, None] + seen.log_responsibility).T]
    ess, tail = np.asarray(each).T
    # A chart's own draws are about as many as its share of the mass, and others hardly count.
    uneven = (ess < UNEVEN * seen.share) & (seen.share > NEGLIGIBLE)
    heavy = uneven | (tail * seen.share > LIGHT_TAIL)
    return heavy if np.any(heavy) else np.ones(len(each), bool)


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
