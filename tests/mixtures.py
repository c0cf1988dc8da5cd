"""Mixtures of normal distributions as targets, and atlases made by hand of charts that fit them."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.tree_util import Partial

from numpyro_bridge.atlas import Atlas, DenseMap, Witness
from numpyro_bridge.atlas.atlas import no_uncovered
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.target import Target, target_from_log_density


@dataclass(frozen=True)
class Mixture:
    """A mixture as a target, its components as charts, and the log of the mass of each."""

    target: Target
    normals: DenseMap
    log_mass: np.ndarray

    @property
    def maps(self) -> list[DenseMap]:
        return rows_of(self.normals)

    @property
    def log_evidence(self) -> float:
        return float(np.logaddexp.reduce(self.log_mass))

    def draw(self, rng_key, num):
        """Exact draws, one a row."""
        choice_key, noise_key = jax.random.split(rng_key)
        choice = jax.random.categorical(choice_key, jnp.asarray(self.log_mass), shape=(num,))
        noise = jax.random.normal(noise_key, (num, self.target.dim))
        return jax.vmap(lambda chart, z: row(self.normals, chart)(z))(choice, noise)


def mixture(masses, places, factors) -> Mixture:
    """All mixtures of one size share compiled code; a number stands for that times the identity."""
    location, log_mass = jnp.asarray(places, float), np.log(masses)
    normals = normals_at(places, factors)
    density = Partial(_log_density, jnp.asarray(log_mass), location, normals.factor)
    return Mixture(target_from_log_density(density, location.shape[1]), normals, log_mass)


def normals_at(places, factors) -> DenseMap:
    """Normal distributions, stacked; a number stands for that times the identity."""
    dim = len(places[0])
    full = [factor * np.eye(dim) if np.ndim(factor) == 0 else factor for factor in factors]
    return jax.vmap(DenseMap)(jnp.asarray(places, float), jnp.asarray(np.stack(full), float))


def rows_of(normals: DenseMap) -> list[DenseMap]:
    """Stacked normal distributions, one by one."""
    return [row(normals, number) for number in range(len(normals.location))]


def _log_density(log_mass, location, factor, position):
    def part(log_mass, location, factor):
        noise = solve_triangular(factor, position - location, lower=True)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
        return log_mass - log_det - 0.5 * noise @ noise

    parts = jax.vmap(part)(log_mass, location, factor)
    return jax.nn.logsumexp(parts) - 0.5 * position.size * math.log(2 * math.pi)


def atlas_of(normals: DenseMap, log_mass, **fields) -> Atlas:
    """An atlas of these charts, as if they had been found without any trouble."""
    usual = {
        "maps": tuple(rows_of(normals)),
        "normals": normals,
        "log_mass": np.asarray(log_mass, float),
        "log_evidence": float(np.logaddexp.reduce(log_mass)),
        "ess": 0.9,
        "tail_share": 0.001,
        "num_climbs": 100,
        "num_places": len(normals.location),
        "num_new": 0,
        "settled": True,
        "witness": Witness.absent("none was asked for"),
        "uncovered": no_uncovered(normals.location.shape[1]),
        "num_repairs": 0,
        "num_gradient_evaluations": 1_000,
    }
    return Atlas(**(usual | fields))
