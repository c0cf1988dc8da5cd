"""Functions as targets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.target import LogDensityTarget, Target, target_from_log_density
from tests.target.models import KEY, count_traces, schools


@pytest.mark.fast
def test_target_of_a_function():
    target = target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 3)
    assert isinstance(target, LogDensityTarget) and isinstance(target, Target)
    assert target.dim == 3 and target.has_evidence
    point = target.at(jnp.array([1.0, 2.0, 3.0]))
    assert point.log_density == -7 and point.finite
    np.testing.assert_array_equal(point.score, [-1, -2, -3])
    np.testing.assert_array_equal(target.constrain(point.position)["x"], point.position)
    assert jnp.unique(target.initial_positions(KEY, 5)).size == 15


def test_arrays_of_a_function_are_arguments():
    def log_density(mean, x):
        return -0.5 * jnp.sum((x - mean) ** 2)

    run, traces = count_traces(lambda target, position: target.log_density(position))
    values = [
        run(target_from_log_density(jax.tree_util.Partial(log_density, mean), 2), jnp.zeros(2))
        for mean in (jnp.zeros(2), np.ones(2))
    ]
    assert values == [0, -1] and len(traces) == 1


@pytest.mark.parametrize("dim", [0, -1, True])
def test_dimension_must_be_a_positive_integer(dim):
    with pytest.raises(ValueError, match="dim must be a whole number >= 1"):
        target_from_log_density(jnp.sum, dim)


@pytest.mark.parametrize(
    ("fn", "got"),
    [
        (lambda x: x, r"shape \(2,\)"),
        (lambda x: jnp.sum(x, keepdims=True), r"shape \(1,\)"),
        (lambda x: 1.0, "float"),
        (lambda x: jnp.array(1), "int"),
    ],
    ids=["vector", "one entry", "number", "integer"],
)
def test_function_must_return_a_scalar(fn, got):
    with pytest.raises(ValueError, match=f"real JAX scalar.*returned {got}|returned shape.*{got}"):
        target_from_log_density(fn, 2)


def test_function_without_a_finite_start_is_refused():
    target = target_from_log_density(lambda x: jnp.log(x[0] - 5), 1)
    with pytest.raises(ValueError, match="No starting point"):
        target.initial_positions(KEY, 3)


@pytest.mark.parametrize("method", ["at", "log_density", "constrain", "log_prior"])
def test_batches_are_referred_to_vmap(method):
    # The run-time type checker of this test suite is faster than the message for two axes.
    with pytest.raises(ValueError, match=r"shape \(10,\), got shape \(9,\).*jax.vmap"):
        getattr(schools(), method)(jnp.zeros(9))
