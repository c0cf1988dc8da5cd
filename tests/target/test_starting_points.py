"""Starting points, and draws of the prior."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
from numpyro import handlers
from numpyro.distributions import constraints

from numpyro_bridge.target import target_from_log_density, target_from_model
from tests.target.models import KEY, Y, dynamic_support, improper, one_site, schools


def test_starting_points_are_distinct_and_finite():
    target = target_from_model(KEY, dynamic_support)
    starts = target.initial_positions(KEY, 50)
    assert starts.shape == (50, 2) and jnp.unique(starts).size == 100
    assert jnp.abs(starts).max() < 2 and jax.jit(jax.vmap(target.at))(starts).finite.all()


def test_rare_starting_points_are_repeated():
    target = target_from_log_density(lambda x: jnp.where(x[0] > 1.98, -x[0], -jnp.inf), 1)
    starts = target.initial_positions(KEY, 20)
    assert jax.jit(jax.vmap(target.at))(starts).finite.all()


def far_from_zero(location, y):
    """The likelihood is NaN wherever NUTS would start."""
    with numpyro.plate("item", len(location)):
        value = numpyro.sample("value", dist.Normal(location, 0.1))
        numpyro.sample("y", dist.Normal(jnp.log(value - 10), 0.1), obs=y)


def test_prior_draws_stand_in_for_uniform_ones_that_are_never_finite():
    location = np.array([20.0, 30.0, 60.0])
    target = target_from_model(KEY, far_from_zero, location, np.log(location - 10))
    starts = target.initial_positions(KEY, 500)
    assert jax.jit(jax.vmap(target.at))(starts).finite.all()
    noise = np.ravel((starts - location) / 0.1)
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3
    # Compiled code does not know whether the uniform draws fail, and searches on all the same.
    compiled = jax.jit(lambda rng_key: target.initial_positions(rng_key, 500))(KEY)
    np.testing.assert_allclose(compiled, starts)


def test_prior_draws_fill_in_for_single_rows():
    def model():
        x = numpyro.sample("x", dist.Normal(3, 1))
        numpyro.factor("rarely in the box", jnp.where(x > 1.98, 0.0, -jnp.inf))

    starts = target_from_model(KEY, model).initial_positions(KEY, 50)
    in_box = starts < 2
    assert jnp.unique(starts).size == 50 and 0 < in_box.sum() < 50 and starts.min() > 1.98


def test_a_model_that_allows_little_of_its_prior_is_told_to_write_that_into_the_prior():
    def model():
        x = numpyro.sample("x", dist.Normal())
        numpyro.factor("far out", jnp.where(x > 2.6, 0.0, -jnp.inf))

    target = target_from_model(KEY, model)  # which tries more draws than the next line
    with pytest.raises(ValueError, match="nor in as many draws from the prior.*TruncatedNormal"):
        target.initial_positions(jax.random.key(4), 1)


def test_improper_prior_is_no_starting_point():
    def model():
        x = numpyro.sample("x", dist.ImproperUniform(constraints.real, (), ()))
        numpyro.factor("far", jnp.where(x > 3, -x, -jnp.inf))

    with pytest.raises(ValueError, match="No starting point.*factor 'far' has log probability"):
        target_from_model(KEY, model)


def test_prior_positions_follow_the_prior():
    target = schools()
    sites = jax.jit(jax.vmap(target.constrain))(target.prior_positions(jax.random.key(1), 2_000))
    priors = {
        "mu": scipy.stats.norm(0, 5),
        "tau": scipy.stats.halfcauchy(0, 5),
        "z": scipy.stats.norm(),
    }
    for name, prior in priors.items():
        assert scipy.stats.kstest(np.ravel(sites[name]), prior.cdf).pvalue > 1e-3


def test_prior_positions_of_supports_that_depend_on_values():
    target = target_from_model(KEY, dynamic_support)
    sites = jax.jit(jax.vmap(target.constrain))(target.prior_positions(KEY, 4_000))
    uniform = (sites["x"] - sites["low"]) / 2
    assert scipy.stats.kstest(np.asarray(uniform), "uniform").pvalue > 1e-3


def test_prior_draws_that_underflow_are_replaced():
    target = target_from_model(KEY, one_site(dist.Beta(1e-3, 1e-3)))
    positions = target.prior_positions(KEY, 50)
    assert jnp.isfinite(positions).all()


@pytest.mark.parametrize(
    ("model", "sites"),
    [
        (lambda: improper(Y), ("loc",)),
        (lambda: improper_in_plate(Y), ("loc",)),
        (lambda: masked_prior(Y), ("loc",)),
    ],
    ids=["improper", "improper in a plate", "masked prior"],
)
def test_improper_priors_have_no_evidence(model, sites):
    target = target_from_model(KEY, model)
    assert target.improper_sites == sites and not target.has_evidence
    assert target.prior_positions(KEY, 2) is None
    assert target.at(jnp.zeros(target.dim)).finite


def masked_prior(y):
    with handlers.mask(mask=False):
        loc = numpyro.sample("loc", dist.Normal())
    numpyro.sample("y", dist.Normal(loc, 1).expand(y.shape).to_event(1), obs=y)


def improper_in_plate(y):
    with numpyro.plate("row", 3):
        loc = numpyro.sample("loc", dist.ImproperUniform(constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(loc, 1), obs=y)


def test_scaled_prior_is_not_drawn():
    target = target_from_model(KEY, handlers.scale(one_site(dist.Normal()), 0.5))
    assert target.has_evidence and target.prior_positions(KEY, 2) is None


def test_prior_without_a_sampler_is_not_drawn():
    class Unsampled(dist.Normal):
        def sample(self, key, sample_shape=()):
            raise NotImplementedError

    assert target_from_model(KEY, one_site(Unsampled())).prior_positions(KEY, 2) is None
