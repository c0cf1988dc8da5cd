"""Log densities of the diffusion-sampler papers: their evidence, exact draws and modes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import numpyro_bridge as nb


class Density(NamedTuple):
    """A target and what is known of it."""

    target: nb.target.Target
    log_evidence: float
    """In nats; NaN where nobody knows it."""
    draw: Callable[[Any, int], Any] | None = None
    """Makes exact draws, `(rng_key, num) -> (num, dim)`; None where nobody knows how to."""
    modes: Any = None
    """Centres of modes of equal mass, shape `(num_modes, dim)`, where all can be listed."""


# --- funnel ---------------------------------------------------------------------------------------


def funnel(dim: int = 10) -> Density:
    """Neal's funnel: the first coordinate, of standard deviation 3, is the others' log variance."""

    def draw(rng_key, num):
        noise = jax.random.normal(rng_key, (num, dim))
        first = 3.0 * noise[:, :1]
        return jnp.concatenate([first, jnp.exp(0.5 * first) * noise[:, 1:]], axis=1)

    return Density(nb.target_from_log_density(_funnel, dim), 0.0, draw)


def _funnel(position):
    first, others = position[0], position[1:]
    log_prob = -0.5 * (first / 3.0) ** 2 - math.log(3.0) - 0.5 * math.log(2 * math.pi)
    squares = jnp.sum(others**2) * jnp.exp(-first)
    return log_prob - 0.5 * (squares + others.size * (first + math.log(2 * math.pi)))


# --- wells ----------------------------------------------------------------------------------------


def double_wells(dim: int = 5) -> Density:
    """Independent double wells: modes of equal mass at all corners of a cube, 32 in five."""
    log_mass, draw_one = _tabulated(_double_well)

    def draw(rng_key, num):
        return draw_one(rng_key, (num, dim))

    corners = np.stack(np.meshgrid(*[[-2.0, 2.0]] * dim), axis=-1).reshape(-1, dim)
    target = nb.target_from_log_density(_double_wells, dim)
    return Density(target, dim * log_mass, draw, jnp.asarray(corners))


def many_well(num_wells: int = 16) -> Density:
    """Asymmetric double wells, each with a normal coordinate beside it: 2^16 unequal modes."""
    log_mass, draw_one = _tabulated(_deep_and_shallow)

    def draw(rng_key, num):
        well_key, normal_key = jax.random.split(rng_key)
        wells = draw_one(well_key, (num, num_wells))
        return jnp.concatenate([wells, jax.random.normal(normal_key, (num, num_wells))], axis=1)

    target = nb.target_from_log_density(_many_well, 2 * num_wells)
    return Density(target, num_wells * (log_mass + 0.5 * math.log(2 * math.pi)), draw)


def _double_well(x):
    return -((x**2 - 4.0) ** 2)


def _deep_and_shallow(x):
    return 0.5 * x + 6 * x**2 - x**4


def _double_wells(position):
    return jnp.sum(_double_well(position))


def _many_well(position):
    wells, normals = jnp.split(position, 2)
    return jnp.sum(_deep_and_shallow(wells)) - 0.5 * jnp.sum(normals**2)


def _tabulated(log_density, bound: float = 5.0, num: int = 100_001):
    """The log mass and a sampler of a density on the line that is negligible beyond `bound`."""
    grid = np.linspace(-bound, bound, num)
    density = np.exp(log_density(grid))
    # The trapezoidal rule: both ends are zero, so it converges faster than any power of the step.
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    log_mass = math.log(cumulative[-1] * (grid[1] - grid[0]))
    heights, places = jnp.asarray(cumulative / cumulative[-1]), jnp.asarray(grid)

    def draw(rng_key, shape):
        return jnp.interp(jax.random.uniform(rng_key, shape), heights, places)

    return log_mass, draw


# --- mixtures -------------------------------------------------------------------------------------


def normal_mixture(means) -> Density:
    """A mixture of normal distributions with unit variances and equal weights."""
    means = jnp.asarray(means)
    target = nb.target_from_log_density(Partial(_normal_mixture, means), means.shape[1])
    return Density(target, 0.0, Partial(_draw_mixture, jax.random.normal, means), means)


def student_mixture(locations) -> Density:
    """A mixture with equal weights of products of Student's t with two degrees of freedom."""
    locations = jnp.asarray(locations)
    target = nb.target_from_log_density(Partial(_student_mixture, locations), locations.shape[1])
    draw = Partial(_draw_mixture, Partial(jax.random.t, df=2.0), locations)
    return Density(target, 0.0, draw, locations)


def _normal_mixture(means, position):
    parts = -0.5 * jnp.sum((position - means) ** 2, axis=1)
    constant = math.log(len(means)) + 0.5 * position.size * math.log(2 * math.pi)
    return jax.nn.logsumexp(parts) - constant


def _student_mixture(locations, position):
    parts = jnp.sum(jax.scipy.stats.t.logpdf(position, 2.0, loc=locations), axis=1)
    return jax.nn.logsumexp(parts) - math.log(len(locations))


def _draw_mixture(noise, centres, rng_key, num: int):
    choice_key, noise_key = jax.random.split(rng_key)
    choice = jax.random.randint(choice_key, (num,), 0, len(centres))
    return centres[choice] + noise(noise_key, shape=(num, centres.shape[1]))


# --- Cox process ----------------------------------------------------------------------------------

COX_VARIANCE = 1.91
COX_MEAN = math.log(126) - COX_VARIANCE / 2


def cox_process(points, size: int, log_evidence: float = math.nan) -> Density:
    """Log-Gaussian Cox process of points in the unit square: the field itself, not whitened."""
    cells = np.clip((np.asarray(points) * size).astype(int), 0, size - 1)
    counts = np.zeros((size, size))
    np.add.at(counts, tuple(cells.T), 1)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1).reshape(-1, 2)
    distance = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
    factor = np.linalg.cholesky(COX_VARIANCE * np.exp(-distance * 33 / size))
    log_det = np.sum(np.log(np.diagonal(factor)))
    parts = (counts.ravel(), np.linalg.inv(factor), log_det)
    log_density = Partial(_cox_process, *map(jnp.asarray, parts))
    return Density(nb.target_from_log_density(log_density, size**2), log_evidence)


def _cox_process(counts, inverse_factor, log_det, position):
    # A product: triangular systems of a batch are solved one after the other.
    whitened = inverse_factor @ (position - COX_MEAN)
    prior = -0.5 * whitened @ whitened - log_det - 0.5 * position.size * math.log(2 * math.pi)
    return prior + jnp.sum(position * counts - jnp.exp(position) / counts.size)


# --- by name --------------------------------------------------------------------------------------


def _array(data: Path, name: str):
    return np.load(data / "mixture_means.npz")[name]


def _pines(data: Path):
    return np.load(data / "pines.npz")["points"]


LOADERS: dict[str, Callable[[Path], Density]] = {
    "funnel": lambda data: funnel(),
    "double_wells": lambda data: double_wells(),
    "many_well": lambda data: many_well(),
    "gmm40_2d": lambda data: normal_mixture(_array(data, "gmm40_means_2d")),
    "gmm40_50d": lambda data: normal_mixture(_array(data, "gmm40_means_50d")),
    "students_50d": lambda data: student_mixture(_array(data, "mos10_means_50d")),
    # The two small ones by benchmarks.cox_evidence, with standard errors of 0.013.
    "cox_8": lambda data: cox_process(_pines(data), 8, 494.354),
    "cox_16": lambda data: cox_process(_pines(data), 16, 491.808),
    "cox_40": lambda data: cox_process(_pines(data), 40, 501.74),
}
