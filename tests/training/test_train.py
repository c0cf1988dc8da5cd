"""Training: reproducible, resumable, hard to break, and compiled once."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import numpyro_bridge as nb
from numpyro_bridge.training import loop as train
from tests import targets
from tests.catalogue import narrow
from tests.compilations import listed_compilations
from tests.hill import (
    TOP,
    Hill,
    assert_same,
    climb,
    climb_on_rough_ground,
    fit,
    interrupt_after,
)


def is_bad(rng_key):
    return jax.random.uniform(jax.random.fold_in(rng_key, 7)) < 0.1


def climb_with_gaps(rng_key, hill: Hill, top):
    """Every tenth batch or so is not a number, weights and loss alike."""
    loss, runs = climb(rng_key, hill, top)
    bad = jnp.where(is_bad(rng_key), jnp.nan, 0.0)
    return loss + bad * jnp.sum(hill.position), runs._replace(log_backward=runs.log_backward + bad)


def climb_with_bad_gradients(rng_key, hill: Hill, top):
    """Now and then the loss is finite and its gradient is not."""
    loss, runs = climb(rng_key, hill, top)
    # The square root of zero has no derivative.
    kept = jnp.where(is_bad(rng_key), 0.0, 1.0)
    return loss + jnp.sqrt(kept + 0 * hill.position[0]), runs


@pytest.mark.fast
def test_training_reaches_the_top_and_reports_every_iteration():
    training = fit(jax.random.key(0), Hill(), climb, TOP, num_iterations=260)
    np.testing.assert_allclose(training.module.position, TOP, atol=0.05)
    assert training.num_iterations == 260 == len(training.metrics.ess)
    assert training.stopped == "budget"
    assert training.num_skipped == 0
    assert np.all(np.isfinite(training.metrics.elbo))
    assert training.metrics.elbo[-1] > training.metrics.elbo[0]
    assert np.all((training.metrics.ess > 0) & (training.metrics.ess <= 1 + 1e-12))


def test_same_key_same_result():
    run = partial(fit, module=Hill(), loss=climb, data=TOP, num_iterations=60)
    first, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    assert_same(first.module, again.module)
    assert_same(first.metrics, again.metrics)
    assert not np.array_equal(first.metrics.elbo, other.metrics.elbo)


def test_interruption_returns_what_is_trained_so_far(monkeypatch):
    interrupt_after(monkeypatch, 3)
    training = fit(jax.random.key(0), Hill(), climb, TOP, num_iterations=1_000)
    assert training.stopped == "interrupted"
    assert training.num_iterations == 3 * train.CHUNK
    distance = jnp.linalg.norm(training.module.position - TOP)
    assert distance < 0.8 * jnp.linalg.norm(TOP)


def test_interruption_before_anything_is_trained_returns_the_start(monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_run_chunk", press)
    training = fit(jax.random.key(0), Hill(), climb, TOP, num_iterations=100)
    assert training.stopped == "interrupted"
    assert training.num_iterations == 0
    assert_same(training.module, Hill())


@pytest.mark.fast
@pytest.mark.parametrize("share", [0.3, 0.8])
@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_resumed_training_ends_where_uninterrupted_training_does(
    monkeypatch, tmp_path, tolerance, share
):
    """Both agree to the last bit, whether the interruption comes early or late."""
    run = partial(
        fit, jax.random.key(0), Hill(), climb, TOP, num_iterations=400, tolerance=tolerance
    )
    whole = run()
    assert whole.stopped == ("plateau" if tolerance else "budget")
    path = tmp_path / "checkpoint"
    with monkeypatch.context() as patch:
        interrupt_after(patch, int(share * whole.num_iterations / train.CHUNK))
        interrupted = run(checkpoint=path)
    assert interrupted.stopped == "interrupted"
    assert interrupted.num_iterations < whole.num_iterations
    for _ in range(2):  # the second time, all is done already
        resumed = run(checkpoint=path)
        assert_same(resumed.module, whole.module)
        assert_same(resumed.metrics, whole.metrics)
        assert resumed.stopped == whole.stopped


def test_updates_that_are_not_finite_are_skipped_and_counted():
    key = jax.random.key(0)
    training = fit(key, Hill(), climb_with_gaps, TOP, num_iterations=300)
    expected = jax.vmap(lambda i: is_bad(jax.random.fold_in(key, i)))(jnp.arange(300))
    assert 10 < int(jnp.sum(expected)) < 60
    np.testing.assert_array_equal(training.metrics.skipped, expected)
    assert training.num_skipped == int(jnp.sum(expected))
    np.testing.assert_allclose(training.module.position, TOP, atol=0.05)


def test_a_gradient_that_is_not_finite_is_skipped_too():
    key = jax.random.key(0)
    training = fit(key, Hill(), climb_with_bad_gradients, TOP, num_iterations=300)
    expected = jax.vmap(lambda i: is_bad(jax.random.fold_in(key, i)))(jnp.arange(300))
    np.testing.assert_array_equal(training.metrics.skipped, expected)
    assert np.all(np.isfinite(training.metrics.elbo))
    np.testing.assert_allclose(training.module.position, TOP, atol=0.05)


@pytest.mark.parametrize("loss", [climb, climb_on_rough_ground])
def test_a_plateau_ends_training_before_its_budget(loss):
    """On a hill where weights become equal, and on one where only the ELBO says that it is flat."""
    training = fit(jax.random.key(0), Hill(), loss, TOP, num_iterations=4_000, tolerance=0.01)
    assert training.stopped == "plateau"
    assert 2 * train.CHUNK <= training.num_iterations < 2_000
    np.testing.assert_allclose(training.module.position, TOP, atol=0.1)
    patient = fit(jax.random.key(0), Hill(), loss, TOP, num_iterations=500, tolerance=0.0)
    assert patient.stopped == "budget" and patient.num_iterations == 500


@pytest.mark.parametrize("num_iterations", [30, 60, 90, 120])
def test_a_plateau_never_lengthens_the_budget(num_iterations):
    """Also where the plateau is reached at once and the budget is short."""
    top = jnp.zeros(3)  # where the hill is climbed from
    training = fit(
        jax.random.key(0), Hill(), climb, top, num_iterations=num_iterations, tolerance=0.05
    )
    assert training.num_iterations <= num_iterations


def test_a_collapse_restores_the_best_parameters_and_shortens_the_steps():
    """At this rate each step ends farther from the top than it began; at half of it, at the top."""
    key, optimizer = jax.random.key(0), optax.sgd(2.1)
    training = fit(key, Hill(), climb, TOP, optimizer=optimizer, num_iterations=300)
    assert np.min(training.metrics.elbo) < training.metrics.elbo[0] - 50
    np.testing.assert_allclose(training.module.position, TOP, atol=0.1)


def test_arrays_that_are_not_trainable_stay_as_they_are():
    run = partial(fit, jax.random.key(0), loss=climb, data=TOP, num_iterations=30)
    hill = eqx.tree_at(lambda h: h.ground, Hill(), jnp.asarray(2.0))
    tree = eqx.tree_at(lambda h: h.ground, jax.tree.map(lambda _: True, hill), False)
    by_tree = run(hill, trainable=tree).module
    by_shape = run(hill, trainable=lambda leaf: eqx.is_array(leaf) and leaf.ndim == 1).module
    everything = run(hill).module
    assert by_tree.ground == by_shape.ground == 2.0
    assert everything.ground != 2.0
    assert not np.array_equal(by_tree.position, hill.position)
    np.testing.assert_array_equal(by_tree.position, by_shape.position)


def test_a_filter_that_selects_nothing_is_refused():
    with pytest.raises(ValueError, match="trainable selects no array of Hill"):
        fit(jax.random.key(0), Hill(), climb, TOP, num_iterations=2, trainable=False)


def test_a_budget_is_at_least_one_iteration():
    with pytest.raises(ValueError, match="num_iterations must be a whole number >= 1.*got 0"):
        fit(jax.random.key(0), Hill(), climb, TOP, num_iterations=0)


def test_new_data_of_the_same_shapes_compile_nothing():
    sampler = nb.BridgeSampler(
        targets.regression,
        process=partial(nb.CMCD, num_steps=2, control=narrow(4)),
        standardise=nb.no_standardisation,
        num_iterations=30,
        num_trajectories=8,
        progress_bar=False,
    )
    runs = []
    for seed in (0, 1):
        x, y = targets.regression_data(seed)
        with listed_compilations() as compiled:
            posterior = sampler.run(jax.random.key(0), x, y=y)
        runs.append((compiled, posterior))
    (first, one), (second, two) = runs
    assert first.count("jit(_run_chunk)") == 1 and second == []
    assert two.report.seconds.compile == 0.0 < one.report.seconds.compile
    # The data did enter: other data, other ELBO.
    assert not np.allclose(one.metrics.elbo, two.metrics.elbo)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_training_keeps_the_float_precision_of_jax(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        known = targets.normal([0.5, -0.5], [[1.5, 0.4], [0.4, 0.8]])
        process = nb.CMCD(jax.random.key(0), 2, num_steps=3, diffusion=0.6, control=narrow(4))
        loss = Partial(nb.reverse_kl_ld, num_trajectories=64)
        optimizer = nb.bridge_optimizer(control=1e-2, diffusion=2e-2)
        training = fit(
            jax.random.key(1), process, loss, known.target, optimizer=optimizer, num_iterations=150
        )
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(training.module)}
    assert dtypes == {jnp.dtype(dtype)}
    start, end = training.metrics.elbo[:20].mean(), training.metrics.elbo[-20:].mean()
    assert math.isfinite(end)
    assert start + 0.05 < end < known.log_evidence + 0.05
    assert training.num_skipped == 0
