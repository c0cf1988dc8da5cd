"""Simulations of a model: latent values from its prior, data given them, and what a mask hides."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

import numpyro_bridge as nb
from numpyro_bridge.target.simulation import prior_predictive, shown_data, target_of_data, with_data
from tests import targets
from tests.statistics import assert_same_mean

X, Y = targets.regression_data()


def data_target(model, *args, **kwargs) -> nb.target.ModelTarget:
    target = nb.target_from_model(jax.random.key(0), model, *args, **kwargs)
    return target_of_data(jax.random.key(0), target)


def test_simulations_follow_the_joint_distribution():
    """Each has noise of its own, independent of the latent values."""
    target = data_target(targets.regression, X, y=Y)
    made = prior_predictive(jax.random.key(1), target, 4_000)
    w = made.position
    noise = (made.data["y"] - w[:, :1] - w[:, 1:] * X) / targets.NOISE
    assert_same_mean(w, 0.0)
    assert_same_mean(w**2, 1.0)
    assert_same_mean(noise, 0.0)
    assert_same_mean(noise**2, 1.0)
    assert_same_mean(w[:, :1] * noise, 0.0)


def test_a_target_of_data_is_that_of_the_model_with_these_data():
    target = with_data(data_target(targets.regression, X, y=jnp.zeros(6)), {"y": jnp.asarray(Y)})
    known = targets.conjugate_normal().target
    position = jnp.asarray([0.3, -1.0])
    np.testing.assert_allclose(target.log_density(position), known.log_density(position))


def test_what_a_mask_hides_is_not_shown():
    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with handlers.mask(mask=~jnp.isnan(y)), numpyro.plate("n", 3):
            numpyro.sample("y", dist.Normal(mu, 1), obs=jnp.where(jnp.isnan(y), 5.0, y))

    y = jnp.asarray([0.5, jnp.nan, 2.0])
    target = nb.target_from_model(jax.random.key(0), model, y)
    np.testing.assert_allclose(shown_data(target)["y"], [0.5, 0.0, 2.0])
    made = prior_predictive(jax.random.key(0), target_of_data(jax.random.key(0), target), 10)
    assert jnp.all(made.data["y"] != 0) and jnp.all((made.shown["y"] == 0) == jnp.isnan(y))


def test_discrete_latent_sites_are_simulated_and_summed_out():
    pytest.importorskip("funsor")

    def mixture(y):
        centre = numpyro.sample("centre", dist.Normal(0, 1))
        with numpyro.plate("point", len(y)):
            side = numpyro.sample("side", dist.Bernoulli(0.25), infer={"enumerate": "parallel"})
            numpyro.sample("y", dist.Normal(centre + 100 * side, 1), obs=y)

    target = data_target(mixture, jnp.zeros(2))
    made = prior_predictive(jax.random.key(0), target, 2_000)
    assert_same_mean(made.data["y"] > 50, 0.25)
    data, (centre,) = {"y": jnp.asarray([0.3, 99.0])}, made.position[0]
    value = with_data(target, data).log_density(made.position[0])
    logpdf = jax.scipy.stats.norm.logpdf
    expected = logpdf(centre) + jnp.sum(
        jnp.logaddexp(
            jnp.log(0.75) + logpdf(data["y"], centre),
            jnp.log(0.25) + logpdf(data["y"], centre + 100),
        )
    )
    np.testing.assert_allclose(value, expected)
