"""The log densities and the NumPyro models of the honesty benchmark; parameters are arguments."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array
from scipy import stats

MAX_PARTS = 12
LARGEST_LOG_SCALE = 20.0
"""A flaring part has a constant scale beyond this; its integral is one whatever the scale does."""

LARGEST_LOG_VOLUME = 2.0
"""Volumes of the modes of a posterior differ by no more than the exponential of twice this."""


def log_uniform(rng: np.random.Generator, low: float, high: float, size=None):
    """Draw numbers whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def scales_of(rng: np.random.Generator, size: int) -> tuple[np.ndarray, str]:
    """Units of the coordinates: all near one, all the same, or each its own."""
    choice = rng.choice(3, p=(0.4, 0.3, 0.3))
    if choice == 0:
        return log_uniform(rng, 0.5, 2.0, size), "scales near 1"
    if choice == 1 or size == 1:
        scale = log_uniform(rng, 1e-3, 1e3)
        return np.full(size, scale), f"scale {scale:.2g}"
    scales = log_uniform(rng, 1e-3, 1e3, size)
    return scales, f"scales {scales.min():.2g} to {scales.max():.2g}"


def default_float(values) -> Array:
    """Turn numbers into an array of the default type of JAX."""
    return jnp.asarray(values, jnp.result_type(float))


# --- log densities --------------------------------------------------------------------------------


class Mixture(eqx.Module):
    """A log density that is a mixture; one program serves all mixtures of the same dimension.

    A draw of part k is `mean_k + factor_k T_k(e)`, where e is standard normal or Student. The map T
    adds `bend (e_{j-1}^2 - 1)` to e_j, for odd j, and then multiplies e_j by exp(flare_j e_0), for
    j > 0. The first has Jacobian one; that of the second is a sum in the log density.
    """

    constant: Array
    log_weight: Array
    """With the normalising constants of the parts, shape `(MAX_PARTS,)`; -1e30 for padding."""
    mean: Array
    inverse: Array
    """Inverse factors, shape `(MAX_PARTS, dim, dim)`."""
    bend: Array
    flare: Array
    df: Array
    is_student: Array

    def __call__(self, position):
        """Return the log density at one position."""
        parts = (self.mean, self.inverse, self.bend, self.flare, self.df, self.is_student)
        logs = jax.vmap(partial(_log_part, position))(*parts)
        return self.constant + jax.nn.logsumexp(self.log_weight + logs)


def _log_part(position, mean, inverse, bend, flare, df, is_student):
    whitened = inverse @ (position - mean)
    log_scale = jnp.clip(flare * whitened[0], -LARGEST_LOG_SCALE, LARGEST_LOG_SCALE)
    straight = whitened * jnp.exp(-log_scale)
    straight = straight - bend * (jnp.roll(straight, 1) ** 2 - 1)
    square = jnp.sum(straight**2)
    student = -0.5 * (df + position.size) * jnp.log1p(square / df)
    return jnp.where(is_student, student, -0.5 * square) - jnp.sum(log_scale)


class SkewedProduct(eqx.Module):
    """A log density whose coordinates, after a linear map, are independent and skewed.

    Each is the logit of a Beta variable, or a normal density with two scales, one on each side.
    """

    constant: Array
    place: Array
    inverse: Array
    left: Array
    right: Array
    is_logit: Array

    def __call__(self, position):
        """Return the log density at one position."""
        y = self.inverse @ (position - self.place)
        logit = -self.left * jax.nn.softplus(-y) - self.right * jax.nn.softplus(y)
        normal = -0.5 * (y / jnp.where(y < 0, self.left, self.right)) ** 2
        return self.constant + jnp.sum(jnp.where(self.is_logit, logit, normal))


# --- models with constraints ----------------------------------------------------------------------


class Conjugate(NamedTuple):
    """What is given to a model, and its exact posterior."""

    given: dict[str, np.ndarray]
    log_marginal: float
    """The log evidence of the data, without the constant factor."""
    moments: dict[str, tuple[np.ndarray, np.ndarray]]
    """The mean and the standard deviation of each site."""
    draw: Callable[[np.random.Generator, int], dict[str, np.ndarray]]
    heavy: dict[str, np.ndarray]
    """Which coordinates of a site have Student tails of at most four degrees of freedom."""


class Family(NamedTuple):
    """A model, and what makes its arguments with their exact answer."""

    model: Callable
    make: Callable[[np.random.Generator, int, bool], Conjugate]
    """From a generator, the size of the model, and whether there are data."""
    dim: int = 1
    """Unconstrained coordinates for each unit of the size."""


def _one_site(site: str, given, posterior, size, log_marginal: Any = 0.0) -> Conjugate:
    """A model with one site, whose posterior is a frozen distribution of SciPy."""

    def draw(rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
        return {site: posterior.rvs((num, *size), random_state=rng)}

    moments = (posterior.mean(), np.sqrt(posterior.var()))
    return Conjugate(given, float(np.sum(log_marginal)), {site: moments}, draw, {})


def rates(given: dict[str, Any]):
    """Gamma priors, and Poisson counts."""
    rate = numpyro.sample("rate", dist.Gamma(given["shape"], given["inverse_scale"]).to_event(1))
    if "counts" in given:
        counts = dist.Poisson(rate * given["exposure"]).to_event(1)
        numpyro.sample("counts", counts, obs=given["counts"])
    numpyro.factor("constant", given["log_constant"])


def _make_rates(rng: np.random.Generator, size: int, has_data: bool) -> Conjugate:
    shape, inverse = log_uniform(rng, 0.5, 20.0, size), log_uniform(rng, 1e-3, 1e3, size)
    prior = stats.gamma(shape, scale=1 / inverse)
    given = {"shape": shape, "inverse_scale": inverse}
    if not has_data:
        return _one_site("rate", given, prior, (size,))
    exposure = log_uniform(rng, 0.3, 30.0, size) * inverse / shape
    counts = rng.poisson(prior.rvs(random_state=rng) * exposure)
    posterior = stats.gamma(shape + counts, scale=1 / (inverse + exposure))
    log_marginal = stats.nbinom.logpmf(counts, shape, inverse / (inverse + exposure))
    given |= {"exposure": exposure, "counts": counts}
    return _one_site("rate", given, posterior, (size,), log_marginal)


def shares(given: dict[str, Any]):
    """Beta priors, and Binomial counts."""
    share = numpyro.sample("share", dist.Beta(given["ones"], given["zeros"]).to_event(1))
    if "counts" in given:
        counts = dist.Binomial(given["total"], share).to_event(1)
        numpyro.sample("counts", counts, obs=given["counts"])
    numpyro.factor("constant", given["log_constant"])


def _make_shares(rng: np.random.Generator, size: int, has_data: bool) -> Conjugate:
    ones, zeros = log_uniform(rng, 0.7, 20.0, (2, size))
    given, prior = {"ones": ones, "zeros": zeros}, stats.beta(ones, zeros)
    if not has_data:
        return _one_site("share", given, prior, (size,))
    total = rng.integers(1, 100, size)
    counts = rng.binomial(total, prior.rvs(random_state=rng))
    posterior = stats.beta(ones + counts, zeros + total - counts)
    log_marginal = stats.betabinom.logpmf(counts, total, ones, zeros)
    given |= {"total": total, "counts": counts}
    return _one_site("share", given, posterior, (size,), log_marginal)


def simplex(given: dict[str, Any]):
    """Shares that sum to one, with a Dirichlet prior, and Multinomial counts."""
    share = numpyro.sample("share", dist.Dirichlet(given["concentration"]))
    if "counts" in given:
        counts = dist.Multinomial(given["total"], share)
        numpyro.sample("counts", counts, obs=given["counts"])
    numpyro.factor("constant", given["log_constant"])


def _make_simplex(rng: np.random.Generator, size: int, has_data: bool) -> Conjugate:
    concentration = log_uniform(rng, 0.7, 20.0, size + 1)
    given, prior = {"concentration": concentration}, stats.dirichlet(concentration)
    if not has_data:
        return _one_site("share", given, prior, ())
    total = rng.integers(1, 300)
    counts = rng.multinomial(total, prior.rvs(random_state=rng)[0])
    posterior = stats.dirichlet(concentration + counts)
    log_marginal = stats.dirichlet_multinomial(concentration, total).logpmf(counts)
    given |= {"total": total, "counts": counts}
    return _one_site("share", given, posterior, (), log_marginal)


def sizes(given: dict[str, Any]):
    """Log-normal priors, and one observation of each size with a log-normal error."""
    size = numpyro.sample("size", dist.LogNormal(given["log_median"], given["width"]).to_event(1))
    if "seen" in given:
        seen = dist.LogNormal(jnp.log(size), given["error"]).to_event(1)
        numpyro.sample("seen", seen, obs=given["seen"])
    numpyro.factor("constant", given["log_constant"])


def _make_sizes(rng: np.random.Generator, size: int, has_data: bool) -> Conjugate:
    log_median, width = np.log(log_uniform(rng, 1e-3, 1e3, size)), log_uniform(rng, 0.1, 1.5, size)
    given = {"log_median": log_median, "width": width}
    if not has_data:
        prior = stats.lognorm(width, scale=np.exp(log_median))
        return _one_site("size", given, prior, (size,))
    error = width * log_uniform(rng, 0.1, 3.0, size)
    both = np.hypot(width, error)
    log_seen = log_median + both * rng.normal(size=size)
    location = log_median + (width / both) ** 2 * (log_seen - log_median)
    posterior = stats.lognorm(width * error / both, scale=np.exp(location))
    log_marginal = stats.norm.logpdf(log_seen, log_median, both) - log_seen
    given |= {"error": error, "seen": np.exp(log_seen)}
    return _one_site("size", given, posterior, (size,), log_marginal)


def groups(given: dict[str, Any]):
    """Groups of normal observations, each with an unknown mean and an unknown precision."""
    gamma = dist.Gamma(given["shape"], given["inverse_scale"]).to_event(1)
    precision = numpyro.sample("precision", gamma)
    deviation = 1 / jnp.sqrt(given["strength"] * precision)
    mean = numpyro.sample("mean", dist.Normal(given["place"], deviation).to_event(1))
    if "seen" in given:
        seen = dist.Normal(mean, 1 / jnp.sqrt(precision)).to_event(1)
        numpyro.sample("seen", seen, obs=given["seen"])
    numpyro.factor("constant", given["log_constant"])


class _NormalGamma(NamedTuple):
    """Of each group, the parameters of its normal-gamma distribution."""

    shape: np.ndarray
    inverse_scale: np.ndarray
    strength: np.ndarray
    place: np.ndarray

    def draw(self, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
        """Draw exactly."""
        size = (num, len(self.shape))
        precision = rng.gamma(self.shape, 1 / self.inverse_scale, size)
        noise = rng.normal(size=size) / np.sqrt(self.strength * precision)
        return {"precision": precision, "mean": self.place + noise}

    def log_density(self, precision: np.ndarray, mean: np.ndarray) -> float:
        """Evaluate the joint log density of all groups."""
        gamma = stats.gamma.logpdf(precision, self.shape, scale=1 / self.inverse_scale)
        deviation = 1 / np.sqrt(self.strength * precision)
        return float(np.sum(gamma + stats.norm.logpdf(mean, self.place, deviation)))

    def answer(self, data: dict[str, np.ndarray], prior: "_NormalGamma") -> Conjugate:
        """What is known if this is the posterior under these data and this prior."""
        precision = self.shape / self.inverse_scale
        # The evidence is prior times likelihood over posterior, at any place.
        log_marginal = prior.log_density(precision, self.place)
        log_marginal -= self.log_density(precision, self.place)
        if data:
            seen = stats.norm.logpdf(data["seen"], self.place, 1 / np.sqrt(precision))
            log_marginal += float(np.sum(seen))
        variance = self.inverse_scale / (self.strength * (self.shape - 1))
        moments = {
            "precision": (precision, np.sqrt(self.shape) / self.inverse_scale),
            "mean": (self.place, np.sqrt(variance)),
        }
        # The marginal of a mean is Student, with twice the shape as its degrees of freedom.
        heavy = {"mean": 2 * self.shape <= 4}
        return Conjugate({**prior._asdict(), **data}, log_marginal, moments, self.draw, heavy)


def _make_groups(rng: np.random.Generator, size: int, has_data: bool) -> Conjugate:
    shape, strength = log_uniform(rng, 1.6, 20.0, size), log_uniform(rng, 0.1, 3.0, size)
    unit = log_uniform(rng, 1e-3, 1e3, size)
    place = unit * rng.normal(size=size) / np.sqrt(strength)
    prior = _NormalGamma(shape, shape * unit**2, strength, place)
    if not has_data:
        return prior.answer({}, prior)
    num = 5
    truth = {site: value[0] for site, value in prior.draw(rng, 1).items()}
    seen = truth["mean"] + rng.normal(size=(num, size)) / np.sqrt(truth["precision"])
    middle = seen.mean(0)
    squares = np.sum((seen - middle) ** 2, axis=0)
    squares += strength * num / (strength + num) * (middle - place) ** 2
    posterior = _NormalGamma(
        shape + num / 2,
        prior.inverse_scale + squares / 2,
        strength + num,
        (strength * place + num * middle) / (strength + num),
    )
    return posterior.answer({"seen": seen}, prior)


FAMILIES = {
    "Gamma": Family(rates, _make_rates),
    "Beta": Family(shares, _make_shares),
    "Dirichlet": Family(simplex, _make_simplex),
    "LogNormal": Family(sizes, _make_sizes),
    "normal and Gamma": Family(groups, _make_groups, 2),
}
"""Each model by the name of its prior."""
