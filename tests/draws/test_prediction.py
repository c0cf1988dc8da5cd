"""Predictions and criticism: replicated data, log likelihoods, leave-one-out, and their plot."""

from typing import Any

import arviz as az
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from matplotlib import pyplot

from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.draws.plots import plot_predictive
from numpyro_bridge.target import target_from_log_density
from tests.schools import AZ1, BARE, DATA, SCALE, values


@pytest.mark.parametrize(
    ("group", "latent"), [("posterior_predictive", "posterior"), ("prior_predictive", "prior")]
)
def test_predictions_are_drawn_anew_around_their_own_draw(idata, group, latent):
    """Given the effects, predictions are normal around them, independent from draw to draw."""
    residual = (values(idata, group, "score") - values(idata, latent, "effect")) / SCALE
    num = residual.size
    assert abs(residual.mean()) < 4 / num**0.5
    assert abs(residual.var() - 1) < 4 * (2 / num) ** 0.5
    assert np.unique(residual).size == num


def test_leave_one_out_is_the_exact_one_with_a_k_hat_for_each_observation(idata):
    """The predictive distribution of each score given the others is normal, and known."""
    covariance = np.diag(SCALE**2 + 1) + 4.0
    precision = np.linalg.inv(covariance)
    variance = 1 / np.diag(precision)
    exact = norm.logpdf(DATA, DATA - precision @ DATA * variance, np.sqrt(variance))
    loo = az.loo(idata, pointwise=True)
    pointwise = np.asarray(loo.elpd_i if AZ1 else loo.loo_i)
    np.testing.assert_allclose(pointwise, exact, atol=0.03)
    assert loo.pareto_k.shape == (4,) and np.all(np.asarray(loo.pareto_k) < 0.7)
    if not AZ1:  # ArviZ 1.x has no WAIC
        waic: Any = az.waic(idata)
        assert waic.elpd_waic == pytest.approx(float(np.sum(exact)), abs=0.2)


def test_log_likelihood_of_draws_is_that_of_the_groups(draws):
    raw = to_inference_data(draws, correction=None, prior=False, predictive=False)
    of_draws = draws.log_likelihood()["score"]
    expected = values(raw, "log_likelihood", "score").reshape(4000, 4)
    np.testing.assert_allclose(of_draws, expected)
    np.testing.assert_allclose(of_draws, norm.logpdf(DATA, draws.sites["effect"], SCALE))


def test_a_log_density_predicts_nothing():
    target = target_from_log_density(lambda x: -0.5 * x @ x, 1)
    position = jnp.zeros((3, 1))
    draws = Draws({"x": position}, jnp.zeros(3), position, jnp.zeros(3), target)
    with pytest.raises(ValueError, match="log_likelihood needs a NumPyro model"):
        draws.log_likelihood()


@pytest.mark.parametrize("group", ["posterior_predictive", "prior_predictive"])
def test_predictions_are_shown_with_the_data(idata, group):
    figure = plot_predictive(idata, group, max_draws=20)
    (panel,) = figure.axes
    assert panel.get_title() == "score" and len(panel.lines) == 21
    np.testing.assert_array_equal(np.unique(panel.lines[-1].get_xdata()[1:]), np.sort(DATA))
    pyplot.close(figure)


def test_predictions_that_are_not_there_are_asked_for(draws):
    bare = to_inference_data(draws, **BARE)
    with pytest.raises(ValueError, match="has no posterior_predictive: make it by"):
        plot_predictive(bare)
