"""Targets of which everything is known: evidence, and how to draw from them exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.stats import norm
from jax.tree_util import Partial
from scipy.stats import multivariate_normal

from numpyro_bridge.target import Target, target_from_log_density, target_from_model


@dataclass(frozen=True)
class Known:
    """A target, its log evidence in nats, and `draw(rng_key, num) -> (num, dim)`, exact."""

    target: Target
    log_evidence: float
    draw: Callable


NOISE = 2.0
"""Standard deviation of the responses in `regression`."""


def regression(x, y=None):
    """Linear regression with known noise: normal prior, normal posterior."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    intercept, slope = jnp.asarray(w)
    numpyro.deterministic("slope", slope)
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + slope * x, NOISE), obs=y)


def unordered():
    """Sites of unequal sizes, which the model does not sample in the order of their names."""
    numpyro.sample("z", dist.Normal(5.0, 0.01))
    numpyro.sample("a", dist.Normal(UNORDERED_MEANS["a"], 0.01).to_event(1))


UNORDERED_MEANS = {"z": np.asarray(5.0), "a": np.asarray([-5.0, -6.0])}
"""The means of both sites."""


def regression_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Covariate and response, six of each."""
    noise = np.random.default_rng(seed).normal(size=(2, 6))
    return noise[0], 0.4 - 0.9 * noise[0] + NOISE * noise[1]


def regression_posterior(x, y) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, covariance and log evidence."""
    design = np.stack([np.ones_like(x), x], axis=1)
    covariance = np.linalg.inv(np.eye(2) + design.T @ design / NOISE**2)
    marginal = design @ design.T + NOISE**2 * np.eye(len(x))
    evidence = float(multivariate_normal.logpdf(y, np.zeros(len(x)), marginal))
    return covariance @ design.T @ y / NOISE**2, covariance, evidence


def conjugate_normal() -> Known:
    """The posterior of `regression`: a NumPyro model."""
    x, y = regression_data()
    mean, covariance, log_evidence = regression_posterior(x, y)

    def draw(rng_key, num):
        return jax.random.multivariate_normal(rng_key, mean, covariance, (num,))

    return Known(target_from_model(jax.random.key(0), regression, x, y=y), log_evidence, draw)


def skewed() -> Known:
    """Two independent Gumbel distributions times exp(1.5): one tail light, the other heavy."""

    def log_density(x):
        return 1.5 - jnp.sum(x + jnp.exp(-x))

    def draw(rng_key, num):
        return jax.random.gumbel(rng_key, (num, 2))

    return Known(target_from_log_density(log_density, 2), 1.5, draw)


def funnel(dim: int = 5) -> Known:
    """Neal's funnel (2003) times exp(0.5): the first coordinate sets the width of all others."""

    def log_density(x):
        width = jnp.exp(x[0] / 2)
        return 0.5 + norm.logpdf(x[0], 0, 1.5) + jnp.sum(norm.logpdf(x[1:], 0, width))

    def draw(rng_key, num):
        noise = jax.random.normal(rng_key, (num, dim))
        neck = 1.5 * noise[:, :1]
        return jnp.concatenate([neck, jnp.exp(neck / 2) * noise[:, 1:]], axis=1)

    return Known(target_from_log_density(log_density, dim), 0.5, draw)


def power_of_funnel(power: float) -> Target:
    """In two dimensions, all powers in one program; the power of 0 is flat."""
    return target_from_log_density(Partial(_power_of_funnel, jnp.asarray(power)), 2)


def _power_of_funnel(power, x):
    return power * funnel(2).target.log_density(x)


HEAVY = 0.7
"""Weight of the mode at positive positions in `two_modes`."""


def two_modes(distance: float = 2.0) -> Known:
    """Two unequal normal distributions, times exp(-2), at `±distance` in two dimensions."""
    centres = distance * jnp.asarray([[1.0, 1.0], [-1.0, -1.0]])
    scales = jnp.asarray([0.6, 0.8])
    weights = jnp.asarray([HEAVY, 1 - HEAVY])

    def log_density(x):
        squares = jnp.sum((x - centres) ** 2, axis=1) / scales**2
        parts = jnp.log(weights) - 0.5 * squares - 2 * jnp.log(scales) - math.log(2 * math.pi)
        return jax.nn.logsumexp(parts) - 2.0

    def draw(rng_key, num):
        choice_key, noise_key = jax.random.split(rng_key)
        choice = jax.random.categorical(choice_key, jnp.log(weights), shape=(num,))
        return centres[choice] + scales[choice, None] * jax.random.normal(noise_key, (num, 2))

    return Known(target_from_log_density(log_density, 2), -2.0, draw)


def _normal_log_density(mean, precision, position):
    return -0.5 * (position - mean) @ precision @ (position - mean)


def normal(mean, covariance) -> Known:
    """A normal density without its normalising constant; all of one size share compiled code."""
    mean, covariance = jnp.asarray(mean, float), jnp.asarray(covariance, float)
    precision = jnp.linalg.inv(covariance)
    target = target_from_log_density(Partial(_normal_log_density, mean, precision), mean.size)
    log_det = float(jnp.linalg.slogdet(covariance)[1])
    log_evidence = 0.5 * log_det + 0.5 * mean.size * math.log(2 * math.pi)

    def draw(rng_key, num):
        return jax.random.multivariate_normal(rng_key, mean, covariance, (num,))

    return Known(target, log_evidence, draw)


@eqx.filter_jit
def each(method, batch):
    """The values of a method of a target over a batch of positions."""
    return jax.vmap(method)(batch)


@eqx.filter_jit
def normal_posterior(target):
    """Mean and covariance of a target that is Gaussian, from its derivatives at the origin."""
    origin = jnp.zeros(target.dim)
    covariance = jnp.linalg.inv(-jax.hessian(target.log_density)(origin))
    return covariance @ jax.grad(target.log_density)(origin), covariance


@jax.custom_vjp
def halved_until_small(x):
    """A loop that ends by its numbers, as that of a solver does, with a derivative of zero."""
    return jax.lax.while_loop(lambda y: jnp.abs(y) > 1e-3, lambda y: 0.5 * y, x)


halved_until_small.defvjp(
    lambda x: (halved_until_small(x), None), lambda _, cotangent: (0.0 * cotangent,)
)
