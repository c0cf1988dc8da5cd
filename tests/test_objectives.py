"""Losses: estimators of one gradient agree, and those of two do not."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import numpyro_bridge as nb
from tests import catalogue, targets
from tests.statistics import z_scores

TARGET = targets.skewed().target
NUM_BATCHES = 400


class DetachedScore(nb.AbstractProcess):
    """A process that differentiates nothing through the score: another gradient along the path."""

    inner: nb.AbstractProcess

    def __init__(self, inner):
        self.inner = inner

    @property
    def num_steps(self):
        return self.inner.num_steps

    def initial(self, target):
        return self.inner.initial(target)

    def controls(self, step, point):
        return self.inner.controls(step, point._replace(score=jax.lax.stop_gradient(point.score)))

    def forward(self, step, state, target):
        return self.inner.forward(step, state, target)

    def backward(self, step, state, target):
        return self.inner.backward(step, state, target)


@eqx.filter_jit
def gradients(objective, rng_key, process, num_batches: int, num_trajectories: int):
    """One gradient a batch, in rows, with a column for each parameter."""
    params, static = eqx.partition(process, eqx.is_inexact_array)

    def gradient(key):
        def loss(params):
            process = eqx.combine(params, static)
            return objective(key, process, TARGET, num_trajectories=num_trajectories)[0]

        return ravel_pytree(jax.grad(loss)(params))[0]

    return jax.lax.map(gradient, jax.random.split(rng_key, num_batches), batch_size=20)


@functools.cache
def many_gradients(objective: str, name: str):
    objective_key, process = jax.random.key(len(objective)), catalogue.untrained(name, size=0.1)
    return gradients(catalogue.OBJECTIVES[objective], objective_key, process, NUM_BATCHES, 64)


def columns_of(name: str, where) -> np.ndarray:
    """Which columns of `gradients` belong to a part of the process."""
    params = eqx.filter(catalogue.untrained(name), eqx.is_inexact_array)
    marked = jax.tree.map(jnp.zeros_like, params)
    marked = eqx.tree_at(where, marked, replace_fn=lambda x: jax.tree.map(jnp.ones_like, x))
    return np.asarray(ravel_pytree(marked)[0]) > 0


@pytest.mark.parametrize("name", ["CMCD", "DBS"])
def test_reverse_kl_and_its_log_derivative_form_have_one_gradient(name):
    along_path = many_gradients("reverse_kl", name)
    log_derivative = many_gradients("reverse_kl_ld", name)
    z = z_scores(along_path, log_derivative)
    assert np.max(np.abs(z)) < 5
    assert np.median(np.abs(z)) < 1  # 0.67 for exact agreement
    # The agreement says something: most entries, of all parts, are far from zero.
    signal = np.abs(z_scores(along_path, np.zeros(())))
    assert np.median(signal) > 5
    for part in (lambda p: p.log_diffusion, lambda p: p.initial_law):
        assert np.max(signal[columns_of(name, part)]) > 5
    if name == "CMCD":
        assert np.max(signal[columns_of(name, lambda p: p.annealing)]) > 5


def test_a_detached_score_has_another_gradient_along_the_path():
    process = DetachedScore(catalogue.untrained("CMCD", size=0.1))
    detached = gradients(nb.reverse_kl, jax.random.key(5), process, NUM_BATCHES, 64)
    assert np.max(np.abs(z_scores(detached, many_gradients("reverse_kl_ld", "CMCD")))) > 8


@eqx.filter_jit
def evaluate(objective, process, num_trajectories: int):
    return objective(jax.random.key(0), process, TARGET, num_trajectories=num_trajectories)


def test_every_objective_reports_on_the_trajectories_of_its_key():
    process = catalogue.untrained("CMCD")
    loss, runs = evaluate(nb.reverse_kl, process, 16)
    np.testing.assert_allclose(loss, -jnp.mean(runs.log_weight), rtol=1e-9)
    _, same_runs = evaluate(nb.reverse_kl_ld, process, 16)
    np.testing.assert_allclose(same_runs.log_weight, runs.log_weight, rtol=1e-9)
    loss, same_runs = evaluate(nb.log_variance, process, 16)
    np.testing.assert_allclose(same_runs.log_weight, runs.log_weight, rtol=1e-9)
    np.testing.assert_allclose(loss, 0.5 * np.var(runs.log_weight, ddof=1), rtol=1e-9)


def test_log_variance_and_reverse_kl_ld_have_one_gradient_against_a_fixed_backward_chain():
    """Batch by batch, to rounding: with the leave-one-out baseline the two are one estimator."""
    process = catalogue.perturbed(jax.random.key(1), catalogue.LearnedForward(jax.random.key(0), 2))
    log_derivative = gradients(nb.reverse_kl_ld, jax.random.key(2), process, 3, 16)
    log_variance = gradients(nb.log_variance, jax.random.key(2), process, 3, 16)
    scale = float(jnp.max(jnp.abs(log_derivative)))
    assert scale > 0.01
    np.testing.assert_allclose(log_variance, log_derivative, atol=1e-11 * scale)


def test_log_variance_has_another_gradient_where_the_backward_chain_learns():
    z = z_scores(many_gradients("log_variance", "CMCD"), many_gradients("reverse_kl_ld", "CMCD"))
    assert np.max(np.abs(z)) > 8


@pytest.mark.parametrize("objective", [nb.reverse_kl_ld, nb.log_variance])
def test_losses_that_compare_trajectories_refuse_a_single_one(objective):
    with pytest.raises(ValueError, match="at least .*num_trajectories|num_trajectories.*at least"):
        objective(jax.random.key(0), catalogue.untrained("CMCD"), TARGET, num_trajectories=1)
