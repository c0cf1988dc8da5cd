"""Discrete latent sites are summed out."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
from numpyro.contrib.control_flow import scan

from numpyro_bridge.target import target_from_model
from tests.target.models import ENUMERATE, KEY, Y


def mixture(y):
    weight = numpyro.sample("weight", dist.Beta(1.0, 1.0))
    loc = numpyro.sample("loc", dist.Normal(0, 5).expand([2]).to_event(1))
    shift = numpyro.deterministic("shift", loc[1] - loc[0])
    with numpyro.plate("row", y.shape[0]):
        kind = numpyro.sample("kind", dist.Bernoulli(weight), infer=ENUMERATE)
        centre = numpyro.deterministic("centre", loc[0] + kind * shift)
        numpyro.sample("y", dist.Normal(centre, 1), obs=y)


def test_discrete_sites_are_summed_out():
    target = target_from_model(KEY, mixture, Y)
    assert list(target.sites) == ["loc", "weight"] and target.dim == 3
    loc, logit = np.array([-0.5, 1.0]), 0.4
    position = jnp.array([*loc, logit])
    weight = scipy.special.expit(logit)
    expected = scipy.stats.norm(0, 5).logpdf(loc).sum() + np.log(weight * (1 - weight))
    pdf = scipy.stats.norm(loc[:, None], 1).pdf(Y)
    expected += np.log((1 - weight) * pdf[0] + weight * pdf[1]).sum()
    batch = jax.jit(jax.vmap(target.at))(jnp.stack([position, position]))
    np.testing.assert_allclose(batch.log_density, expected)
    constrained = target.constrain(position)
    assert set(constrained) == {"weight", "loc", "shift"}  # "centre" depends on "kind"
    np.testing.assert_allclose(constrained["shift"], 1.5)
    assert target.dims == {"weight": [], "loc": [], "shift": [], "y": ["row"]}
    np.testing.assert_array_equal(target.observed["y"], Y)
    np.testing.assert_allclose(target.unconstrain(constrained), position)
    assert target.prior_positions(KEY, 2) is None and target.has_evidence
    with pytest.raises(ValueError, match="does not split into prior and likelihood"):
        target.log_prior(position)


def test_hidden_markov_chain_is_summed_out():
    def model(y):
        stay = numpyro.sample("stay", dist.Beta(2.0, 1.0))
        matrix = jnp.stack([jnp.stack([stay, 1 - stay]), jnp.stack([1 - stay, stay])])

        def step(state, y):
            state = numpyro.sample("state", dist.Categorical(matrix[state]), infer=ENUMERATE)
            numpyro.sample("y", dist.Normal(2.0 * state, 1), obs=y)
            return state, None

        scan(step, 0, y)

    target = target_from_model(KEY, model, Y)
    stay = scipy.special.expit(0.3)
    forward, matrix = np.array([1.0, 0.0]), np.array([[stay, 1 - stay], [1 - stay, stay]])
    for y in Y:
        forward = (forward @ matrix) * scipy.stats.norm([0, 2], 1).pdf(y)
    prior = scipy.stats.beta(2, 1).logpdf(stay) + np.log(stay * (1 - stay))
    value = target.log_density(jnp.array([0.3]))
    np.testing.assert_allclose(value, prior + np.log(forward.sum()))


def test_unmarked_discrete_sites_are_summed_out_with_a_warning():
    def model():
        p = numpyro.sample("p", dist.Beta(1.0, 1.0))
        numpyro.sample("coin", dist.Bernoulli(p))

    with pytest.warns(UserWarning, match="'coin' .Bernoulli.* is summed out"):
        target = target_from_model(KEY, model)
    p = scipy.special.expit(0.3)
    np.testing.assert_allclose(target.log_density(jnp.array([0.3])), np.log(p * (1 - p)))


def test_missing_funsor_is_named(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "funsor" or "contrib.funsor" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "funsor", None)
    with pytest.raises(ImportError, match="pip install funsor"):
        target_from_model(KEY, mixture, Y)
