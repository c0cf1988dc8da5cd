"""The way of the data once: a model, a trained bridge, weighted draws, an ArviZ object, a file."""

import arviz
import jax
import numpy as np
import pytest

import numpyro_bridge as nb
from tests import targets
from tests.posteriors import CMCD, X, Y, nearly_standard
from tests.statistics import assert_same_weighted_mean

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def posterior() -> nb.Posterior:
    sampler = nb.BridgeSampler(
        targets.regression,
        process=CMCD,
        standardise=nearly_standard,
        num_iterations=50,
        num_trajectories=64,
        progress_bar=False,
    )
    return sampler.run(jax.random.key(0), X, y=Y)


@pytest.fixture(scope="module")
def draws(posterior) -> nb.Draws:
    return posterior.sample(jax.random.key(1), num_samples=2_000)


def test_draws_have_the_moments_and_the_evidence_of_the_posterior(draws):
    mean, _, log_evidence = targets.regression_posterior(X, Y)
    assert abs(draws.log_evidence - log_evidence) < 4 * draws.log_evidence_error < 0.1
    assert draws.elbo < log_evidence + 3 * draws.elbo_error
    for i in range(2):
        assert_same_weighted_mean(draws.sites["w"][:, i], draws.log_weight, mean[i])


def test_arviz_gets_corrected_draws_with_predictions(draws):
    mean, *_ = targets.regression_posterior(X, Y)
    idata = nb.to_inference_data(draws, num_chains=4)
    assert idata["posterior"]["w"].shape == (4, 500, 2)
    assert idata["posterior_predictive"]["y"].shape == (4, 500, 6)
    error = np.asarray(arviz.mcse(idata, var_names=["w"], method="mean")["w"])
    assert np.all(np.abs(idata["posterior"]["w"].values.mean((0, 1)) - mean) < 4.5 * error)


def test_a_file_holds_the_whole_posterior(posterior, draws, tmp_path):
    posterior.save(tmp_path / "posterior")
    again = nb.load(tmp_path / "posterior", targets.regression)
    same = again.sample(jax.random.key(1), num_samples=2_000)
    np.testing.assert_allclose(same.log_weight, draws.log_weight, rtol=1e-9, atol=1e-9)
