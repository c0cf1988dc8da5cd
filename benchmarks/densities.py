"""Log densities of the diffusion-sampler papers, with known evidence."""

import math
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import numpyro_bridge as nb


class Density(NamedTuple):
    """A target, and its log evidence in nats (NaN where it is not known)."""

    target: nb.Target
    log_evidence: float


def funnel(position):
    """Neal's funnel: the first coordinate is the log variance of the others."""
    first, others = position[0], position[1:]
    log_prob = -0.5 * (first / 3.0) ** 2 - math.log(3.0) - 0.5 * math.log(2 * math.pi)
    squares = jnp.sum(others**2) * jnp.exp(-first)
    return log_prob - 0.5 * (squares + others.size * (first + math.log(2 * math.pi)))


def double_wells(position):
    """Five double wells, 32 modes of equal weight."""
    return -jnp.sum((position**2 - 4.0) ** 2)


def many_well(position):
    """Sixteen pairs of an asymmetric double well and a normal coordinate, 2^16 modes."""
    x, y = position[:16], position[16:]
    return jnp.sum(0.5 * x + 6 * x**2 - x**4 - 0.5 * y**2)


def normal_mixture(means, position):
    """Equal weights, unit variances."""
    parts = -0.5 * jnp.sum((position - means) ** 2, axis=1)
    constant = math.log(len(means)) + 0.5 * position.size * math.log(2 * math.pi)
    return jax.nn.logsumexp(parts) - constant


def student_mixture(locations, position):
    """Equal weights, products of Student's t laws with two degrees of freedom."""
    parts = jnp.sum(jax.scipy.stats.t.logpdf(position, 2.0, loc=locations), axis=1)
    return jax.nn.logsumexp(parts) - math.log(len(locations))


def cox_process(counts, factor, position):
    """Log-Gaussian Cox process on a grid: the field itself, not whitened."""
    whitened = jax.scipy.linalg.solve_triangular(factor, position - COX_MEAN, lower=True)
    log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
    prior = -0.5 * whitened @ whitened - log_det - 0.5 * position.size * math.log(2 * math.pi)
    return prior + jnp.sum(position * counts - jnp.exp(position) / counts.size)


COX_VARIANCE = 1.91
COX_MEAN = math.log(126) - COX_VARIANCE / 2


def _cox(data: Path, size: int) -> Density:
    points = np.load(data / "pines.npz")["points"]
    cells = np.clip((points * size).astype(int), 0, size - 1)
    counts = np.zeros((size, size))
    np.add.at(counts, tuple(cells.T), 1)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1).reshape(-1, 2)
    distance = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
    factor = np.linalg.cholesky(COX_VARIANCE * np.exp(-distance * 33 / size))
    known = {40: 501.74}
    log_density = Partial(cox_process, jnp.asarray(counts.ravel()), jnp.asarray(factor))
    return _density(log_density, size**2, known.get(size, math.nan))


def _density(log_density, dim: int, log_evidence: float) -> Density:
    return Density(nb.target_from_log_density(log_density, dim), log_evidence)


def _mixture(function, name: str, dim: int):
    def read(data: Path) -> Density:
        means = jnp.asarray(np.load(data / "mixture_means.npz")[f"{name}_{dim}d"])
        return _density(Partial(function, means), dim, 0.0)

    return read


LOADERS = {
    "funnel": lambda data: _density(funnel, 10, 0.0),
    "double_wells": lambda data: _density(double_wells, 5, -0.5410555128794535),
    "many_well": lambda data: _density(many_well, 32, 164.69567531318188),
    "gmm40_2d": _mixture(normal_mixture, "gmm40_means", 2),
    "gmm40_50d": _mixture(normal_mixture, "gmm40_means", 50),
    "students_50d": _mixture(student_mixture, "mos10_means", 50),
    "cox_16": lambda data: _cox(data, 16),
    "cox_40": lambda data: _cox(data, 40),
}
