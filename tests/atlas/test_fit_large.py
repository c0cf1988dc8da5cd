"""The normal distribution of highest ELBO, and annealed moves, in many dimensions."""

from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge.atlas.fit_large import inverse_factor, normal_by_newton, num_gradients
from numpyro_bridge.atlas.standardised_target import log_weights_of
from numpyro_bridge.infer import seeing
from tests.compilations import all_called_that_is_compiled_ahead

DIM = 30


def covariance(dim: int):
    root = jax.random.normal(jax.random.key(7), (dim, dim))
    return root @ root.T / dim + 0.1 * jnp.eye(dim)


def normal_target(dim: int):
    precision = jnp.linalg.inv(covariance(dim))
    mean = jnp.arange(dim) / dim
    return nb.target_from_log_density(
        lambda x: -0.5 * (x - mean) @ precision @ (x - mean), dim
    ), mean


def counts_target(dim: int):
    """Independent Poisson counts with a normal prior on their log rates, which are then skewed."""
    counts = jnp.arange(dim) % 3
    return nb.target_from_log_density(
        lambda x: jnp.sum(counts * x - jnp.exp(x) - 0.5 * x**2 - 0.5 * jnp.log(2 * jnp.pi)), dim
    )


def evidence_of_counts(dim: int) -> float:
    x = np.linspace(-12, 6, 20_001)
    logs = [k * x - np.exp(x) - 0.5 * x**2 - 0.5 * np.log(2 * np.pi) for k in range(3)]
    each = [np.log(np.trapezoid(np.exp(one), x)) for one in logs]
    return float(sum(each[i % 3] for i in range(dim)))


def test_a_normal_target_is_found_exactly(key):
    target, mean = normal_target(DIM)
    maps = normal_by_newton(key, target, jnp.ones((2, DIM)))
    for number in range(4):
        factor = maps.factor[number]
        assert np.allclose(maps.location[number], mean, atol=1e-6)
        assert np.allclose(factor @ factor.T, covariance(DIM), atol=1e-6)
        assert np.allclose(factor, np.tril(factor))


@pytest.mark.slow
def test_the_second_map_has_the_highest_elbo_of_all_normal_distributions(key):
    """At the optimum the mean score is zero, and the mean curvature is the precision."""
    target = counts_target(DIM)
    maps = normal_by_newton(key, target, jnp.zeros((1, DIM)))
    at_mode, best = (jax.tree.map(lambda leaf: leaf[i], maps) for i in range(2))  # noqa: B023
    noise = jax.random.normal(jax.random.key(1), (20_000, DIM))
    elbos = [float(jnp.mean(log_weights_of(one, target, noise))) for one in (at_mode, best)]
    assert elbos[0] < elbos[1] < evidence_of_counts(DIM)
    # Coordinates are independent: Newton's iteration in one dimension, with exact means.
    counts = np.arange(DIM) % 3
    mean, variance = np.zeros(DIM), np.ones(DIM)
    for _ in range(200):
        rate = np.exp(mean + variance / 2)
        variance = 1 / (1 + rate)
        mean = mean + variance * (counts - rate - mean)
    found = np.diagonal(best.factor @ best.factor.T)
    assert np.allclose(best.location, mean, atol=0.15)
    assert np.allclose(found, variance, rtol=0.15)


def test_a_far_start_of_a_curved_valley_needs_damping(key):
    """Rosenbrock's density from a start where its Hessian is not positive definite."""
    target = nb.target_from_log_density(
        lambda x: -(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2), 2
    )
    maps = normal_by_newton(key, target, jnp.array([[-1.5, 4.0], [0.0, 1.0]]))
    # It stops a tenth of a standard deviation away.
    assert np.allclose(maps.location[0], 1.0, atol=0.1)
    assert np.allclose(maps.location[1], 1.0, atol=0.1)


def test_an_indefinite_matrix_has_no_factor():
    matrix = jnp.array([[1.0, 0.0], [0.0, -1.0]])
    assert not np.all(np.isfinite(inverse_factor(matrix, jnp.array(0.0))))
    damped = inverse_factor(matrix, jnp.array(3.0))
    assert np.allclose(damped @ damped.T, np.linalg.inv(np.diag([4.0, 2.0])))


def test_beyond_the_limit_there_is_no_map(key):
    target = nb.target_from_log_density(lambda x: -0.5 * x @ x, 6_001)
    assert normal_by_newton(key, target, jnp.zeros((1, 6_001))) is None
    assert num_gradients(100) < num_gradients(200)


@pytest.mark.slow
@pytest.mark.parametrize("dim, most", [(120, 300), (DIM, DIM - 1)])
def test_many_dimensions_are_sampled_without_training(dim, most, monkeypatch):
    """Log rates in many dimensions, or in more than those in which several modes are looked for."""
    monkeypatch.setattr(seeing, "DENSE_LIMIT", most)
    target = counts_target(dim)
    # Where modes are looked for, programs are compiled meanwhile; elsewhere none is.
    with all_called_that_is_compiled_ahead() if dim <= most else nullcontext():
        posterior = nb.BridgeSampler(target, progress_bar=False).run(jax.random.key(2))
    assert posterior.report.process in ("UHA", "Direct") and posterior.metrics is None
    draws = posterior.sample(jax.random.key(3), 2_000)
    error = draws.log_evidence - evidence_of_counts(dim)
    assert abs(error) < 4 * draws.log_evidence_error + 0.02
    assert draws.ess > 0.2
    assert (posterior.atlas is not None) == (dim <= most)
    assert "looked" in draws.verdict.text
