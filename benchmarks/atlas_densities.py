"""Plain log densities of the atlas benchmark: several modes, rings, moons and bananas."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import numpyro_bridge as nb


class Modes(NamedTuple):
    """What is known of the modes of a target."""

    masses: np.ndarray
    """The probability of each mode, shape `(num_modes,)`; they sum to one."""
    responsibilities: Callable[[dict[str, Any]], Any]
    """From values by site, with a leading axis of draws, to the probability of each mode at each
    draw, shape `(num, num_modes)`. Its mean under the target is `masses`."""


class Density(NamedTuple):
    """A log density with its evidence, and its modes where they can be listed."""

    target: nb.target.Target
    log_evidence: float
    modes: Modes | None = None


def modes_of_parts(masses, log_parts: Callable[[Any], Any]) -> Modes:
    """The modes of a mixture.

    Args:
        masses: The weight of each component.
        log_parts: From one position to the log of each weighted component.
    """

    def responsibilities(sites):
        return jax.vmap(lambda x: jax.nn.softmax(log_parts(x)))(jnp.asarray(sites["x"]))

    return Modes(np.asarray(masses, float), jax.jit(responsibilities))


def one_of(num: int, index_of: Callable[[dict[str, np.ndarray]], np.ndarray]):
    """Responsibilities that are one at the mode with this index and zero at the others."""

    def responsibilities(sites):
        index = np.asarray(index_of({name: np.asarray(value) for name, value in sites.items()}))
        return np.asarray(index[:, None] == np.arange(num), float)

    return responsibilities


# --- mixtures of normal distributions -------------------------------------------------------------


class NormalMixture(NamedTuple):
    """Normal distributions of unequal masses and shapes, times a constant."""

    masses: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    """Lower triangular factors of the covariances, shape `(num, dim, dim)`."""
    log_evidence: float

    def draw(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """Draw exactly, shape `(num, dim)`."""
        choice = rng.choice(len(self.masses), num, p=self.masses)
        noise = rng.normal(size=(num, self.means.shape[1]))
        return self.means[choice] + np.einsum("nij,nj->ni", self.factors[choice], noise)

    def separations(self) -> np.ndarray:
        """Distances of the means in standard deviations, one for each pair of modes."""
        pairs = zip(*np.triu_indices(len(self.masses), 1), strict=True)
        return np.asarray(
            [separation(self.means[i] - self.means[j], self.factors[[i, j]]) for i, j in pairs]
        )


def normal_mixture(num: int, dim: int) -> NormalMixture:
    """Make the mixture of this many modes in this many dimensions; always the same one.

    The largest mass is six times the smallest, scales differ by a factor of up to four, and each
    mode has its own directions. Every mode lies at a given number of standard deviations from an
    earlier one, and no pair is closer than 3 or farther than 30.
    """
    rng = np.random.default_rng([num, dim])
    masses = np.exp(rng.permutation(np.linspace(-0.9, 0.9, num)))
    factors = np.stack([_random_factor(rng, dim) for _ in range(num)])
    # Of two modes there is one distance, so it differs from case to case instead.
    first = {2: 30.0, 5: 3.0, 10: 10.0, 20: 30.0}[dim] if num == 2 else 22.0
    means = _separated_means(rng, factors, np.geomspace(first, 3.0, num - 1))
    place = rng.normal(0.0, 2.0, dim)
    log_evidence = round(rng.uniform(-20.0, 20.0), 3)
    return NormalMixture(
        masses / masses.sum(), means - means.mean(0) + place, factors, log_evidence
    )


def needle(dim: int) -> NormalMixture:
    """A mode of standard deviation 0.25 and mass 0.7, at a distance of 9 from one of 1 and 0.3."""
    means = np.zeros((2, dim))
    means[1, 3] = 9.0
    factors = np.asarray([1.0, 0.25])[:, None, None] * np.eye(dim)
    return NormalMixture(np.asarray([0.3, 0.7]), means, factors, 0.0)


def separation(difference, factors) -> float:
    """A distance in standard deviations of the mean of the two covariances."""
    covariance = np.mean(factors @ np.swapaxes(factors, 1, 2), axis=0)
    return float(np.sqrt(difference @ np.linalg.solve(covariance, difference)))


def _random_factor(rng: np.random.Generator, dim: int) -> np.ndarray:
    directions = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    scales = np.exp(rng.uniform(-0.7, 0.7) + rng.uniform(-0.5, 0.5, dim))
    return np.linalg.cholesky(directions * scales**2 @ directions.T)


def _separated_means(rng, factors, wanted, num_tries: int = 10_000) -> np.ndarray:
    means = [np.zeros(factors.shape[1])]
    for new, distance in enumerate(wanted, start=1):
        for _ in range(num_tries):
            old = rng.integers(new)
            direction = rng.normal(size=factors.shape[1])
            unit = direction / separation(direction, factors[[new, old]])
            candidate = means[old] + distance * unit
            found = [separation(candidate - means[i], factors[[new, i]]) for i in range(new)]
            if min(found) > 2.999 and max(found) < 30.001:
                means.append(candidate)
                break
        else:
            raise RuntimeError(f"no place for mode {new} within 3 and 30 of all others")
    return np.stack(means)


def density_of(mixture: NormalMixture) -> Density:
    """The unnormalised log density of a mixture, with its modes."""
    inverses = np.linalg.inv(mixture.factors)
    dim = mixture.means.shape[1]
    constants = np.log(mixture.masses) + np.linalg.slogdet(inverses)[1]
    constants = constants - 0.5 * dim * math.log(2 * math.pi) + mixture.log_evidence
    parts = Partial(_normal_parts, *map(_default, (constants, mixture.means, inverses)))
    target = nb.target_from_log_density(Partial(_sum_of_parts, parts), dim)
    return Density(target, mixture.log_evidence, modes_of_parts(mixture.masses, parts))


def _default(values):
    return jnp.asarray(values, jnp.result_type(float))


def _normal_parts(constants, means, inverses, position):
    whitened = jnp.einsum("kij,kj->ki", inverses, position - means)
    return constants - 0.5 * jnp.sum(whitened**2, axis=1)


def _sum_of_parts(parts, position):
    return jax.nn.logsumexp(parts(position))


def equal_normal_modes(means) -> Modes:
    """The modes of a mixture of unit normal distributions of equal weight."""

    def parts(position):
        return -0.5 * jnp.sum((position - means) ** 2, axis=1)

    return modes_of_parts(np.full(len(means), 1 / len(means)), parts)


def equal_student_modes(locations) -> Modes:
    """The modes of a mixture of products of Student's t with two degrees of freedom."""

    def parts(position):
        return jnp.sum(jax.scipy.stats.t.logpdf(position, 2.0, loc=locations), axis=1)

    return modes_of_parts(np.full(len(locations), 1 / len(locations)), parts)


# --- wells ----------------------------------------------------------------------------------------

SHALLOW = 0.15569290378886083
"""The probability of the shallow side of one well of the 32-dimensional many-well."""


def corner_modes(dim: int) -> Modes:
    """The modes of independent symmetric double wells: all patterns of signs, of equal mass."""

    def index_of(sites):
        return (sites["x"] > 0) @ (2 ** np.arange(dim))

    return Modes(np.full(2**dim, 2.0**-dim), one_of(2**dim, index_of))


def shallow_counts(num_wells: int = 16) -> Modes:
    """The modes of the many-well, grouped by how many of its wells are on their shallow side."""
    count = np.arange(num_wells + 1)
    masses = [math.comb(num_wells, int(c)) for c in count]
    masses = masses * SHALLOW**count * (1 - SHALLOW) ** (num_wells - count)

    def index_of(sites):
        return np.sum(sites["x"][:, :num_wells] < 0, axis=1)

    return Modes(masses, one_of(num_wells + 1, index_of))


# --- rings, moons and bananas ---------------------------------------------------------------------

RING_RADIUS, RING_WIDTH = 4.0, 0.25
MOON_RADIUS, MOON_WIDTH, MOON_REACH = 2.0, 0.4, 0.6


def ring() -> Density:
    """A ring in the plane; its evidence is an integral over the radius."""
    radius = np.linspace(0.0, RING_RADIUS + 20 * RING_WIDTH, 20_001)
    density = 2 * np.pi * radius * np.exp(-0.5 * ((radius - RING_RADIUS) / RING_WIDTH) ** 2)
    log_evidence = float(np.log(np.trapezoid(density, radius)))
    return Density(nb.target_from_log_density(_ring, 2), log_evidence)


def moons() -> Density:
    """Two moons that face each other, weakly joined: two halves of equal mass.

    The first potential of Rezende and Mohamed (2015), arXiv:1505.05770.
    """
    grid = np.linspace(-6.0, 6.0, 1_201)
    x, y = np.meshgrid(grid, grid, indexing="ij")
    radial = -0.5 * ((np.hypot(x, y) - MOON_RADIUS) / MOON_WIDTH) ** 2
    sides = [-0.5 * ((x + sign * MOON_RADIUS) / MOON_REACH) ** 2 for sign in (-1, 1)]
    density = np.exp(radial + np.logaddexp(*sides))
    log_evidence = float(np.log(np.sum(density)) + 2 * np.log(grid[1] - grid[0]))
    halves = Modes(np.full(2, 0.5), one_of(2, lambda sites: sites["x"][:, 0] > 0))
    return Density(nb.target_from_log_density(_moons, 2), log_evidence, halves)


def rosenbrock(num_pairs: int) -> Density:
    """Independent bananas, $-(1 - x)^2 - 100 (y - x^2)^2$ for each pair of coordinates."""
    log_evidence = num_pairs * math.log(math.pi / 10)
    return Density(nb.target_from_log_density(_rosenbrock, 2 * num_pairs), log_evidence)


def _radius(position):
    # Not the norm: its gradient at the origin is not a number.
    return jnp.sqrt(jnp.sum(position**2) + 1e-12)


def _ring(position):
    return -0.5 * ((_radius(position) - RING_RADIUS) / RING_WIDTH) ** 2


def _moons(position):
    radial = -0.5 * ((_radius(position) - MOON_RADIUS) / MOON_WIDTH) ** 2
    sides = [-0.5 * ((position[0] + s * MOON_RADIUS) / MOON_REACH) ** 2 for s in (-1, 1)]
    return radial + jnp.logaddexp(*sides)


def _rosenbrock(position):
    x, y = position.reshape(-1, 2).T
    return -jnp.sum((1 - x) ** 2 + 100 * (y - x**2) ** 2)
