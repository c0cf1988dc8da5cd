"""The answer to a random model without this package: NumPyro's potential energy, in float64.

In one and two dimensions a grid is summed. In more, draws of a Student distribution that was moved
to the posterior are weighted; where these weights are poor, NUTS gives means and deviations only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import initialize_model
from scipy import stats

REACH = 7.5
"""A grid reaches to the hyperbolic sine of this, in standard deviations: about 900."""
GRID = {1: 8_001, 2: 801}
"""Points of a grid along each axis."""
CLOSE = 2e-3
"""Half of the points must give the same log evidence and the same moments to this."""
NUM_WEIGHTED = 200_000
DF = 4
LEAST_EFFECTIVE = 4_000
"""Draws with fewer effective ones are no reference."""
LARGEST_KURTOSIS = 18.0
"""Above, 4,000 draws do not show a standard deviation to a tenth."""


class Independent(NamedTuple):
    """A posterior as NumPyro sees it, on flat vectors; to be used with float64 switched on."""

    shapes: dict[str, tuple[int, ...]]
    """The unconstrained shape of each latent site, sorted by name."""
    log_density: Callable[[Any], Any]
    """From a position, shape `(dim,)`."""
    sites: Callable[[Any], dict[str, Any]]
    """From a position to the values of its sites, in the model's own units."""
    potential: Callable[[Any], Any]
    """What NUTS takes: from unconstrained values by name to minus the log density."""

    @property
    def dim(self) -> int:
        """The number of coordinates."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())


def independent(model: Callable, args: tuple, kwargs: dict) -> Independent:
    """Ask NumPyro for the potential energy of a model."""
    info = initialize_model(
        jax.random.key(0), model, model_args=args, model_kwargs=kwargs, validate_grad=False
    )
    shapes = {name: jnp.shape(value) for name, value in sorted(info.param_info.z.items())}
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]

    def by_site(position):
        pieces = jnp.split(position, ends)
        return {
            name: piece.reshape(shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }

    def log_density(position):
        return -info.potential_fn(by_site(position))

    return Independent(
        shapes,
        log_density,
        lambda position: info.postprocess_fn(by_site(position)),
        info.potential_fn,
    )


class Moments(NamedTuple):
    """What is known of one site, each with the shape of the site."""

    mean: np.ndarray
    sd: np.ndarray
    is_checked: np.ndarray
    """Whether 4,000 draws show these: not where the tails are heavy, nor of a constant."""


class Reference(NamedTuple):
    """The answer, and where it is from."""

    method: str
    """"grid", "weighted draws" or "NUTS"."""
    log_evidence: float | None
    error: float
    """Standard error of the log evidence (nats); 0 of a grid."""
    moments: dict[str, Moments]


def reference(posterior: Independent) -> Reference | None:
    """Find the answer; None if no method is sure of it."""
    found = _on_grid(posterior) if posterior.dim in GRID else None
    return found or _weighted(posterior) or _by_nuts(posterior)


def _moments(sites: dict[str, Any], weight: np.ndarray) -> dict[str, Moments]:
    """Weighted moments; values with one row for each weight."""
    moments = {}
    used = weight > 0
    weight = weight[used]
    for name, values in sites.items():
        value = np.asarray(values, float)[used]
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.tensordot(weight, value, 1)
            centred = value - mean
            variance = np.tensordot(weight, centred**2, 1)
            kurtosis = np.tensordot(weight, centred**4, 1) / variance**2
            constant = variance <= 1e-12 * np.maximum(mean**2, 1e-12)
            is_checked = (kurtosis < LARGEST_KURTOSIS) & ~constant
        moments[name] = Moments(mean, np.sqrt(variance), is_checked)
    return moments


def _normalised(log_weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights that sum to one, and the logarithm of what they summed to.

    Where a density is not a number, or infinite, it counts as nothing: in the outermost corners.
    """
    log_weight = np.where(np.isfinite(log_weight), log_weight, -np.inf)
    largest = np.max(log_weight)
    weight = np.exp(log_weight - largest)
    return weight / weight.sum(), float(largest + np.log(weight.sum()))


# --- a grid ---------------------------------------------------------------------------------------


def _on_grid(posterior: Independent) -> Reference | None:
    """Sum a grid that is fine where the mass is, and wide; its place is found by doing so."""
    dim = posterior.dim
    log_density = jax.jit(jax.vmap(posterior.log_density))
    line = np.linspace(-REACH, REACH, GRID[dim])
    steps = np.stack(np.meshgrid(*[line] * dim, indexing="ij"), -1).reshape(-1, dim)
    every_second = np.all(np.indices([GRID[dim]] * dim).reshape(dim, -1) % 2 == 0, axis=0)
    place, scale = np.zeros(dim), np.full(dim, 0.3)
    for _ in range(8):
        points = place + scale * np.sinh(steps)
        log_volume = np.sum(np.log(scale * np.cosh(steps) * (line[1] - line[0])), axis=1)
        weight, log_evidence = _normalised(np.asarray(log_density(points), float) + log_volume)
        moved = weight @ points
        spread = np.sqrt(weight @ (points - moved) ** 2)
        if not np.all(np.isfinite(spread)) or np.any(spread == 0):
            return None
        still = np.all(np.abs(moved - place) < 0.5 * scale) & np.all(
            np.abs(np.log(spread / scale)) < 0.5
        )
        if still:
            break
        place, scale = moved, spread
    else:
        return None
    with np.errstate(divide="ignore"):
        half, half_evidence = _normalised(np.log(weight[every_second]))
    shift = half_evidence + dim * np.log(2.0)
    off = np.abs(half @ points[every_second] - moved) / spread
    if abs(shift) > CLOSE or np.any(off > CLOSE):
        return None
    keep = weight > 1e-14
    sites = jax.jit(jax.vmap(posterior.sites))(points[keep])
    return Reference("grid", log_evidence, 0.0, _moments(sites, weight[keep]))


# --- weighted draws -------------------------------------------------------------------------------


def _weighted(posterior: Independent) -> Reference | None:
    """Weight draws of a Student distribution that follows them, from a wide one at the origin."""
    dim, rng = posterior.dim, np.random.default_rng(0)
    log_density = jax.jit(jax.vmap(posterior.log_density))
    place, covariance = np.zeros(dim), 4.0 * np.eye(dim)
    for _ in range(12):
        points, log_weight = _draw(rng, log_density, place, covariance, NUM_WEIGHTED // 10)
        weight = _tempered(log_weight)
        place = weight @ points
        covariance = np.cov(points.T, aweights=weight, ddof=0).reshape(dim, dim)
        covariance += 1e-8 * np.eye(dim)
    points, log_weight = _draw(rng, log_density, place, covariance, NUM_WEIGHTED)
    weight, log_sum = _normalised(log_weight)
    effective = 1 / np.sum(weight**2)
    if effective < LEAST_EFFECTIVE or np.max(weight) > 0.005:
        return None
    sites = jax.jit(jax.vmap(posterior.sites))(points)
    error = np.sqrt(1 / effective - 1 / NUM_WEIGHTED)
    log_evidence = log_sum - np.log(NUM_WEIGHTED)
    return Reference("weighted draws", float(log_evidence), float(error), _moments(sites, weight))


def _draw(rng, log_density, place, covariance, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw from a Student distribution, one in ten of three times its width; with log weights."""
    narrow, wide = (
        stats.multivariate_t(place, factor * covariance, DF, allow_singular=True)
        for factor in (1.0, 9.0)
    )
    num_wide = num // 10
    points = np.concatenate(
        [
            narrow.rvs(num - num_wide, random_state=rng).reshape(-1, len(place)),
            wide.rvs(num_wide, random_state=rng).reshape(-1, len(place)),
        ]
    )
    log_proposal = np.logaddexp(
        np.log(0.9) + narrow.logpdf(points), np.log(0.1) + wide.logpdf(points)
    )
    return points, np.asarray(log_density(points), float) - log_proposal


def _tempered(log_weight: np.ndarray) -> np.ndarray:
    """Weights to a power of at most one at which a tenth of the draws count."""
    power = 1.0
    while True:
        weight, _ = _normalised(power * log_weight)
        if 1 / np.sum(weight**2) > 0.05 * len(weight) or power < 1e-4:
            return weight
        power *= 0.7


# --- NUTS -----------------------------------------------------------------------------------------


def _by_nuts(posterior: Independent) -> Reference | None:
    """Run a few chains, which must agree; they say nothing of the evidence."""
    chains, kept = 4, 2_000
    kernel = NUTS(potential_fn=posterior.potential, target_accept_prob=0.95)
    runner = MCMC(
        kernel,
        num_warmup=1_000,
        num_samples=kept,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    starts = {
        name: jax.random.uniform(jax.random.key(i), (chains, *shape), minval=-1.0, maxval=1.0)
        for i, (name, shape) in enumerate(posterior.shapes.items())
    }
    runner.run(jax.random.key(1), init_params=starts)
    values = runner.get_samples(group_by_chain=True)
    flat = np.concatenate(
        [np.asarray(values[name], float).reshape(chains, kept, -1) for name in posterior.shapes], -1
    )
    within, between = flat.var(1).mean(0), flat.mean(1).var(0, ddof=1)
    if np.any(between > 0.003 * within):
        return None
    sites = jax.jit(jax.vmap(posterior.sites))(flat.reshape(chains * kept, -1))
    even = np.full(chains * kept, 1 / (chains * kept))
    return Reference("NUTS", None, 0.0, _moments(sites, even))
