"""From a model to a posterior: draws with the right moments, evidence and predictions."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from tests import targets
from tests.infer.trained import TINY, assert_same_draws
from tests.statistics import assert_same_weighted_mean


@pytest.fixture(scope="module")
def draws(posterior) -> nb.Draws:
    return posterior.sample(jax.random.key(1), num_samples=2_500)


# --- draws ----------------------------------------------------------------------------------------


def test_draws_have_the_moments_and_the_evidence_of_the_exact_posterior(draws, data):
    mean, covariance, log_evidence = targets.regression_posterior(*data)
    # The posterior is normal, so a Laplace fit makes it standard and the bridge near exact.
    assert draws.ess > 0.9
    assert draws.log_evidence == pytest.approx(log_evidence, abs=5 * draws.log_evidence_error)
    assert draws.elbo <= log_evidence + 3 * draws.elbo_error
    for i in range(2):
        w = draws.sites["w"][:, i]
        assert_same_weighted_mean(w, draws.log_weight, mean[i])
        second = covariance[i, i] + mean[i] ** 2
        assert_same_weighted_mean(w**2, draws.log_weight, second)


def test_draws_have_the_shapes_asked_for(draws, posterior):
    assert draws.num_samples == 2_500
    assert {name: site.shape for name, site in draws.sites.items()} == {
        "w": (2_500, 2),
        "slope": (2_500,),
    }
    np.testing.assert_allclose(draws.sites["slope"], draws.sites["w"][:, 1])
    assert draws.log_weight.shape == draws.log_density.shape == (2_500,)
    assert draws.position.shape == (2_500, 2)
    assert draws.num_non_finite == 0 and draws.warnings == ()
    one = posterior.sample(jax.random.key(1), num_samples=1)
    assert one.num_samples == 1 and one.sites["w"].shape == (1, 2)
    with pytest.raises(
        ValueError, match="num_samples must be a whole number >= 1, such as 10, got 0"
    ):
        posterior.sample(jax.random.key(1), num_samples=0)


def test_draws_are_in_the_coordinates_of_the_model(draws, posterior):
    target = posterior.target.base
    assert draws.target is target
    log_density = jax.vmap(target.log_density)(draws.position[:50])
    np.testing.assert_allclose(draws.log_density[:50], log_density, rtol=1e-9)
    sites = jax.vmap(target.constrain)(draws.position[:50])
    np.testing.assert_allclose(draws.sites["w"][:50], sites["w"], rtol=1e-9)


def test_no_two_draws_are_the_same_and_the_same_key_repeats_them(draws, posterior):
    assert len(np.unique(draws.log_weight)) == 2_500
    assert_same_draws(posterior.sample(jax.random.key(1), num_samples=2_500), draws)
    other = posterior.sample(jax.random.key(2), num_samples=10)
    assert not np.any(np.isin(other.log_weight, draws.log_weight))


def test_a_result_says_how_it_was_made(posterior, draws):
    report = posterior.report
    assert report.process == "CMCD" and report.objective == "reverse_kl_ld"
    assert report.stopped is nb.training.Stop.BUDGET and report.num_iterations == 50
    assert len(posterior.metrics.elbo) == 50
    assert report.num_gradient_evaluations >= 50 * 32 * 5
    spent_on_drawing = draws.report.num_gradient_evaluations - report.num_gradient_evaluations
    assert spent_on_drawing >= 2_500 * 5
    assert draws.report.seconds.draw > 0 and report.seconds.draw is None
    assert report.seconds.standardise > 0 and report.seconds.train > 0
    assert report.seconds.compile >= 0  # zero where an earlier test has compiled the same training
    assert report.rounds == () and report.num_simulations is None
    assert repr(posterior) == (
        "Posterior(process: CMCD, 4 steps, dimensions: 2, training: 50 iterations)"
    )
    assert "None" not in repr(report) and "num_iterations=50" in repr(report)


# --- predictions ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_predictions_have_the_exact_moments(posterior, data):
    x, y = data
    mean, covariance, _ = targets.regression_posterior(x, y)
    key, new = jax.random.key(2), np.asarray([0.0, 2.0])
    for predicted, at in (
        (posterior.predictive(key, num_samples=4_000), x),
        (posterior.predictive(key, new, num_samples=4_000), new),
    ):
        design = np.stack([np.ones_like(at), at], axis=1)
        variance = np.sum(design @ covariance * design, axis=1) + targets.NOISE**2
        error = np.sqrt(variance / 4_000)
        assert np.all(np.abs(np.mean(predicted["y"], axis=0) - design @ mean) < 5 * error)
        np.testing.assert_allclose(np.var(predicted["y"], axis=0), variance, rtol=0.12)
        assert predicted.keys() == {"slope", "y"}
    few = posterior.predictive(key, new, num_samples=30, return_sites=["slope"])
    assert {name: x.shape for name, x in few.items()} == {"slope": (30,)}
    with pytest.raises(ValueError, match="x is a list: pass jnp.asarray"):
        posterior.predictive(jax.random.key(0), [0.5, 1.5])
    with pytest.raises(ValueError, match="the arguments hold data for y, which would be returned"):
        posterior.predictive(key, *data)
    with pytest.raises(ValueError, match=r"signature is regression\(x, y=None\)"):
        posterior.predictive(key, new, group=3)


# --- what else is told ----------------------------------------------------------------------------


def test_a_training_that_did_nothing_is_reported(posterior):
    idle = dataclasses.replace(
        posterior.report, num_skipped_updates=posterior.report.num_iterations
    )
    draws = dataclasses.replace(posterior, report=idle).sample(jax.random.key(0), num_samples=10)
    (warning,) = draws.warnings
    assert "50 of the 50 updates of the training were not finite" in warning
    assert not draws.verdict.trustworthy


# --- the sampler ----------------------------------------------------------------------------------


def test_a_sampler_remembers_nothing(posterior, data):
    sampler = nb.BridgeSampler(targets.regression, **TINY)
    before = dict(vars(sampler))
    x, y = data
    again = sampler.run(jax.random.key(0), x, y=y)
    assert vars(sampler) == before
    jax.tree.map(np.testing.assert_array_equal, again.process, posterior.process)


@pytest.mark.slow
def test_a_sampler_runs_in_float32(data):
    x, y = data
    with jax.enable_x64(False):
        sampler = nb.BridgeSampler(targets.regression, **TINY)
        posterior = sampler.run(jax.random.key(0), x.astype(np.float32), y=y.astype(np.float32))
        draws = posterior.sample(jax.random.key(1), num_samples=500)
        assert draws.log_weight.dtype == draws.sites["w"].dtype == jnp.float32
        *_, log_evidence = targets.regression_posterior(x, y)
        error = max(5 * draws.log_evidence_error, 1e-3)
        assert draws.log_evidence == pytest.approx(log_evidence, abs=error)
        assert math.isfinite(draws.elbo) and draws.ess > 0.9


def test_a_notebook_shows_how_a_posterior_draws(posterior):
    doubtful = dataclasses.replace(posterior, doubts=("Some of x < 0 may be missing.",))
    html = doubtful._repr_html_()
    assert "CMCD, 4 steps" in html and "50 iterations" in html
    assert "x &lt; 0" in html
