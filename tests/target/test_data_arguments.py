"""Which arguments of a model are data is found out by trying, or said by name."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers

from numpyro_bridge.target.data_arguments import call_without_data


def model(x, scale=None, *, y=None, **counts):
    """Two data arguments, one of them of another name than its site, and one that is no data."""
    mu = numpyro.sample("mu", dist.Normal(0, 1 if scale is None else scale))
    with numpyro.plate("n", x.shape[0]):
        numpyro.sample("obs", dist.Normal(mu + x, 1), obs=y)
    numpyro.sample("total", dist.Poisson(jnp.exp(mu)), obs=counts.get("total"))


X = jnp.arange(3.0)


def test_data_are_the_arguments_that_make_a_site_observed():
    call = call_without_data(model, (X,), {"total": None})
    assert call.data_sites == {"y": "obs", "total": "total"}
    args, kwargs = call.with_data({"obs": jnp.ones(3), "total": jnp.asarray(4)})
    assert args[0] is X and len(args) == 1
    np.testing.assert_array_equal(kwargs["y"], np.ones(3))
    assert kwargs["total"] == 4 and [*kwargs] == ["total", "y"]


@pytest.mark.parametrize("wrapped", [handlers.block(model, hide=["none"]), partial(model, X)])
def test_handlers_and_partial_functions_have_arguments_too(wrapped):
    args = () if isinstance(wrapped, partial) else (X,)
    assert call_without_data(wrapped, args, {}).data_sites == {"y": "obs"}


def positional(y, x):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    numpyro.sample("obs", dist.Normal(mu + x, 1).to_event(1), obs=y)


def test_data_given_by_position_stay_there():
    call = call_without_data(positional, (None, X), {})
    args, kwargs = call.with_data({"obs": jnp.ones(3)})
    np.testing.assert_array_equal(args[0], np.ones(3))
    assert args[1] is X and kwargs == {}


def needs_shape(y):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("n", y.shape[0]):
        numpyro.sample("obs", dist.Normal(mu, 1), obs=y)


def test_data_that_give_the_shape_are_named(key):
    call = call_without_data(needs_shape, (np.zeros(3),), {}, {"y": "obs"})
    assert call.with_any_data(key)[0][0].shape == (3,)
    ((y,), _) = call.with_data({"obs": jnp.ones(3)})
    np.testing.assert_array_equal(y, np.ones(3))


def test_absent_data_are_drawn_from_the_model(key):
    call = call_without_data(model, (X,), {"total": None})
    _, kwargs = call.with_any_data(key)
    assert kwargs["y"].shape == (3,) and jnp.issubdtype(kwargs["total"].dtype, jnp.integer)
    assert np.ptp(kwargs["y"]) > 0


def test_errors_say_how_to_name_data():
    with pytest.raises(ValueError, match=r"none of the arguments \['y'\].*data_sites="):
        call_without_data(needs_shape, (np.zeros(3),), {})
    with pytest.raises(ValueError, match=r"arguments of the model are \['y'\], got {'z': 'obs'}"):
        call_without_data(needs_shape, (None,), {}, {"z": "obs"})
    with pytest.raises(
        ValueError, match=r"names the sites \['total'\], and .* the model has \['mu'"
    ):
        named = call_without_data(positional, (None, X), {}, {"y": "total"})
        named.with_any_data(jax.random.key(0))
    with pytest.raises(AttributeError) as caught:
        call_without_data(needs_shape, (None,), {})
    assert any("run with y=None" in note for note in caught.value.__notes__)
