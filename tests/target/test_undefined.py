"""A density that is no number at many draws of its own prior is told."""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest

from numpyro_bridge.atlas import explore
from numpyro_bridge.target import target_from_log_density, target_from_model
from numpyro_bridge.target.undefined import undefined_at_prior_draws

KEY = jax.random.key(0)
Y = jnp.array([1.0, 2.2, 2.9])


def negative_scale(y):
    mean = numpyro.sample("mean", dist.Normal())
    scale = numpyro.sample("scale", dist.Normal())
    numpyro.sample("y", dist.Normal(mean, scale).expand([3]), obs=y)


def half_is_infinite(y):
    mean = numpyro.sample("mean", dist.Normal())
    numpyro.factor("odd", jnp.where(mean > 0, jnp.inf, 0.0))


def half_is_impossible(y):
    mean = numpyro.sample("mean", dist.Normal())
    numpyro.factor("positive", jnp.where(mean > 0, 0.0, -jnp.inf))


def said_of(model):
    target = target_from_model(KEY, model, Y)
    prior = target.prior_positions(KEY, 256)
    assert prior is not None
    return undefined_at_prior_draws(target, prior)


@pytest.mark.parametrize("model, site", [(negative_scale, "y"), (half_is_infinite, "odd")])
def test_a_density_that_is_no_number_is_told(model, site):
    text = said_of(model)
    share = int(text.split("%")[0].split()[-1])
    assert 35 < share < 65 and f"'{site}' has log probability" in text


def test_a_place_that_is_impossible_is_no_fault():
    assert said_of(half_is_impossible) == ""


def test_a_log_density_has_no_prior_to_look_at():
    target = target_from_log_density(lambda x: -0.5 * x @ x, 2)
    assert undefined_at_prior_draws(target, jnp.zeros((4, 2))) == ""


@pytest.mark.slow
def test_exploring_tells_it():
    seen = explore(KEY, target_from_model(KEY, negative_scale, Y))
    assert "of the draws from the prior the log density is NaN" in seen.undefined
