"""What is said of a model that runs, and is probably not the one that was meant."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from numpyro_bridge.target import target_from_model

KEY = jax.random.key(0)


def notes_of(model, *args):
    return " ".join(target_from_model(KEY, model, *args).notes)


def line(x, y):
    slope = numpyro.sample("slope", dist.Normal())
    numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def test_values_paired_with_every_distribution_are_noted():
    x, y = jnp.arange(3.0), jnp.arange(3.0)[:, None]
    assert "y has values of shape (3, 1) and distributions of shape (3,)" in notes_of(line, x, y)


def test_one_value_under_the_distributions_of_a_whole_plate_is_noted():
    def model(y):
        mean = numpyro.sample("mean", dist.Normal())
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    assert "y has values of shape () and distributions of shape (3,)" in notes_of(model, 1.0)


@pytest.mark.parametrize(
    "x, y", [(np.arange(3.0), np.ones(3)), (np.ones(()), np.ones(3)), (np.ones((1, 3)), np.ones(3))]
)
def test_values_paired_once_are_not_noted(x, y):
    assert notes_of(line, x, y) == ""


def test_an_event_is_one_value():
    def model(y):
        mean = numpyro.sample("mean", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.MultivariateNormal(mean, jnp.eye(2)), obs=y)

    assert notes_of(model, np.ones((3, 2))) == ""


def test_data_without_a_value_are_noted():
    assert "not a single value in y" in notes_of(line, np.zeros(0), np.zeros(0))


def test_a_model_that_changes_by_itself_is_refused_at_once():
    numbers = np.random.default_rng(0)

    def model():
        x = numpyro.sample("x", dist.Normal())
        numpyro.sample("y", dist.Normal(x, 1.0), obs=numbers.normal(size=3))

    with pytest.raises(ValueError, match=r"does not compute the same each time.*numpyro\.prng_key"):
        target_from_model(KEY, model)


def test_data_left_out_of_the_call_are_noted():
    assert "observes nothing" in notes_of(lambda: line(np.ones(3), None))
    assert notes_of(lambda: numpyro.factor("f", -(numpyro.sample("a", dist.Normal()) ** 2))) == ""
