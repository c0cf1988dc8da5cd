"""Files of posteriors: the same draws when they come back, and no other model, data or file."""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.storage import save_tree
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from tests import targets
from tests.catalogue import narrow
from tests.infer.trained import assert_same_draws


@pytest.fixture
def saved(posterior, tmp_path):
    path = tmp_path / "folder" / "posterior"
    posterior.save(path)
    return path


def test_a_loaded_posterior_gives_the_same_draws(posterior, saved):
    loaded = nb.load(saved, targets.regression)
    key = jax.random.key(1)
    assert_same_draws(loaded.sample(key, num_samples=100), posterior.sample(key, num_samples=100))
    assert loaded.report == posterior.report
    jax.tree.map(np.testing.assert_array_equal, loaded.metrics, posterior.metrics)
    assert loaded.standardisation.fit == posterior.standardisation.fit
    assert posterior.standardisation.fit.method == "laplace"
    # The data are in the file, and may be given again.
    x, y = targets.regression_data()
    again = nb.load(saved, targets.regression, x, y=y)
    assert_same_draws(again.sample(key, num_samples=100), loaded.sample(key, num_samples=100))


def other_regression(x, y=None):
    """The same sites and shapes under another prior."""
    w = numpyro.sample("w", dist.Normal(0, 5).expand([2]).to_event(1))
    intercept, slope = jnp.asarray(w)
    numpyro.sample("y", dist.Normal(intercept + slope * x, targets.NOISE), obs=y)


def larger_regression(x, y=None):
    """The same model with one parameter more."""
    scale = numpyro.sample("scale", dist.HalfNormal(1))
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    intercept, slope = jnp.asarray(w)
    numpyro.sample("y", dist.Normal(intercept + slope * x, scale), obs=y)


def renamed_regression(x, y=None):
    """The same density of sites with other names."""
    numpyro.handlers.scope(targets.regression, prefix="new")(x, y=y)


def test_another_model_or_other_data_are_refused(saved):
    message = "load it with the model and data it was trained on"
    with pytest.raises(ValueError, match=message):
        nb.load(saved, other_regression)
    with pytest.raises(ValueError, match="has 3 unconstrained dimensions.* had 2"):
        nb.load(saved, larger_regression)
    with pytest.raises(ValueError, match=r"these sites.*new/.*load it with that model"):
        nb.load(saved, renamed_regression)
    x, y = targets.regression_data(seed=5)
    with pytest.raises(ValueError, match=message):
        nb.load(saved, targets.regression, x, y=y)


def test_a_prior_is_told_from_another_beside_thousands_of_observations(tmp_path):
    def model(scale, y):
        mean = numpyro.sample("mean", dist.Normal(0, scale))
        numpyro.sample("y", dist.Normal(mean, 2), obs=y)

    y = 1 + 2 * np.random.default_rng(0).normal(size=3_000)
    sampler = nb.BridgeSampler(
        model,
        process=partial(nb.CMCD, num_steps=2, control=narrow(4)),
        standardise=nb.no_standardisation,
        num_iterations=1,
        progress_bar=False,
    )
    path = tmp_path / "posterior"
    sampler.run(jax.random.key(0), 10.0, y).save(path)
    nb.load(path, model, 10.0, y)
    with pytest.raises(ValueError, match="load it with the model and data"):
        nb.load(path, model, 30.0, y)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"not a posterior")
    with pytest.raises(ValueError, match="not a file of numpyro_bridge"):
        nb.load(path, targets.regression)
    save_tree(path, {"kind": "checkpoint"}, [])
    with pytest.raises(ValueError, match="holds a checkpoint, not a posterior"):
        nb.load(path, targets.regression)
    untrained_posterior(targets.skewed().target).save(path)
    with pytest.raises(ValueError, match="holds the posterior of a log density and not of a model"):
        nb.load(path, targets.regression)


def untrained_posterior(target: nb.target.Target) -> nb.Posterior:
    """A posterior on which no iteration was spent."""
    standardisation = nb.no_standardisation(jax.random.key(0), target)
    return nb.Posterior(
        process=nb.CMCD(jax.random.key(0), target.dim, num_steps=2, control=narrow(4)),
        target=StandardisedTarget(target, standardisation.map),
        standardisation=standardisation,
        metrics=None,
    )


class Table:
    """Data of a kind that no file of arrays can hold."""

    def __init__(self, values):
        self.values = values


def model_of_a_table(table):
    w = numpyro.sample("w", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(w, 1), obs=table.values)


def test_data_that_cannot_be_saved_are_asked_for(tmp_path):
    table = Table(np.asarray([1.0, 2.0]))
    posterior = untrained_posterior(
        nb.target_from_model(jax.random.key(0), model_of_a_table, table)
    )
    posterior.save(tmp_path / "file")
    with pytest.raises(ValueError, match=r"call nb.load\(path, model, \*args, \*\*kwargs\)"):
        nb.load(tmp_path / "file", model_of_a_table)
    loaded = nb.load(tmp_path / "file", model_of_a_table, table)
    assert loaded.standardisation.fit is None and loaded.metrics is None
    key = jax.random.key(1)
    assert_same_draws(loaded.sample(key, num_samples=10), posterior.sample(key, num_samples=10))


def test_a_posterior_of_another_precision_is_loaded_into_the_present_one(posterior, tmp_path):
    key = jax.random.key(1)
    process, map = jax.tree.map(
        lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x,
        (posterior.process, posterior.target.map),
    )
    target = StandardisedTarget(posterior.target.base, map)
    single = dataclasses.replace(posterior, process=process, target=target)
    with pytest.raises(ValueError, match="was made in float32 and JAX works in float64 now"):
        single.sample(key, num_samples=10)
    single.save(tmp_path / "file")
    loaded = nb.load(tmp_path / "file", targets.regression)
    np.testing.assert_allclose(
        loaded.sample(key, num_samples=10).position,
        posterior.sample(key, num_samples=10).position,
        atol=1e-3,
    )
