"""The corrected draws that ArviZ gets are the posterior's, and a poor sampler shows in them."""

import dataclasses
import inspect
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.draws.draws import ReliabilityWarning
from numpyro_bridge.draws.inference_data import to_inference_data
from tests import targets
from tests.schools import BARE, draws_near, values


def mean_of(diagnostic: Any, idata):
    return float(diagnostic(idata, var_names=["mean"])["mean"])


def z_of_mean(idata, target):
    """Error of the posterior mean of `mean` in units of what ArviZ says its error is."""
    mean, covariance = targets.normal_posterior(target)
    x = idata["posterior"]["mean"]
    ess = mean_of(az.ess, idata)
    return abs(float(x.mean()) - mean[4]) / (covariance[4, 4] / ess) ** 0.5


@pytest.mark.parametrize("correction", ["metropolis", "psis"])
def test_corrected_draws_are_the_posterior_s(draws, target, correction):
    raw = to_inference_data(draws, correction=None, **BARE)
    assert z_of_mean(raw, target) > 8
    idata = to_inference_data(draws, correction=correction, **BARE)
    # ArviZ's error knows nothing of draws that "psis" repeats: a factor sqrt(ess) at most.
    assert z_of_mean(idata, target) < (4 if correction == "metropolis" else 4 / draws.ess**0.5)
    sd = targets.normal_posterior(target)[1][4, 4] ** 0.5
    assert float(idata["posterior"]["mean"].std()) == pytest.approx(float(sd), rel=0.08)


def test_raw_draws_are_left_as_they_are(draws):
    idata = to_inference_data(draws, correction=None, num_chains=2, **BARE)
    np.testing.assert_array_equal(values(idata, "posterior", "mean").ravel(), draws.sites["mean"])
    assert set(idata["sample_stats"].data_vars) == {"lp", "log_weight"}


def test_psis_draws_come_in_random_order(draws):
    idata = to_inference_data(draws, correction="psis", **BARE)
    x = values(idata, "posterior", "mean")
    repeats = np.mean(x[:, 1:] == x[:, :-1])
    assert repeats < 0.01  # systematic resampling alone would put all copies side by side


def test_a_poor_sampler_cannot_look_good(target):
    """ArviZ's own diagnostics see it, which they cannot for raw draws."""
    ess = {}
    for widen in (1.0, 1.5, 2.5):
        near = draws_near(target, jax.random.key(3), num=2000, shift=0.0, widen=widen)
        idata = to_inference_data(near, **BARE)
        ess[widen] = mean_of(az.ess, idata)
        rate = float(idata["sample_stats"]["acceptance_rate"].mean())
        assert (rate == pytest.approx(1.0)) if widen == 1.0 else (rate < 0.9)
    assert 1600 < ess[1.0] and ess[1.5] < 0.7 * ess[1.0] and ess[2.5] < 0.5 * ess[1.5]


def test_a_sampler_that_misses_the_posterior_warns_and_its_chains_disagree(target):
    far = draws_near(target, jax.random.key(4), num=2000, shift=3.0, widen=0.6)
    with pytest.warns(ReliabilityWarning, match="Not to be trusted"):
        idata = to_inference_data(far, **BARE)
    assert mean_of(az.rhat, idata) > 1.05


def test_an_unknown_correction_is_refused(draws):
    with pytest.raises(ValueError, match="'metropolis', 'psis' or None"):
        inspect.unwrap(to_inference_data)(draws, correction="mcmc")  # pyright: ignore


def test_weights_that_are_no_numbers_cannot_be_corrected(draws):
    broken = dataclasses.replace(draws, log_weight=draws.log_weight.at[3].set(jnp.nan))
    with pytest.raises(ValueError, match="1 of 4000 values are NaN"):
        to_inference_data(broken)
    with pytest.warns(ReliabilityWarning, match="not finite"):
        to_inference_data(broken, correction=None, **BARE)
