"""Arguments that are no numbers are named, with what to pass in their place."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas
import pytest

from numpyro_bridge.target import target_from_model

KEY = jax.random.key(0)
X = jnp.arange(3.0)


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    numpyro.sample("y", dist.Normal(slope * x, 1.0).to_event(1), obs=y)


UNUSABLE = {
    "text": ("hello", "y is a str: pass numbers"),
    "objects": (np.array([1.0, None, 2.0]), "y is an array of type object: pass numbers"),
    "dates": (np.array(["2020-01-01"] * 3, "datetime64[D]"), "y is an array of type datetime64"),
    "masked": (np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]), r"y is a masked array.*filled\(0\)"),
    "series": (pandas.Series([1.0, 2.0, 3.0]), r"y is a Series: pass y.to_numpy\(\)"),
    "frame": (pandas.DataFrame({"a": [1.0, 2.0, 3.0]}), r"y is a DataFrame: pass y.to_numpy\(\)"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_number_is_refused_by_name(name):
    value, message = UNUSABLE[name]
    with pytest.raises(ValueError, match=f"cannot compute with its arguments: {message}"):
        target_from_model(KEY, line, X, y=value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_list_of_numbers_is_refused_where_the_model_computes_with_it():
    with pytest.raises(ValueError, match=r"y is a list: pass jnp.asarray\(y\)"):
        target_from_model(KEY, line, X, y=[1.0, 2.0, 3.0])


def test_a_model_may_take_what_it_can_use():
    def model(frame, names):
        slope = numpyro.sample("slope", dist.Normal())
        for name in names:
            numpyro.sample(name, dist.Normal(slope, 1.0), obs=frame[name].to_numpy())

    frame = pandas.DataFrame({"a": [1.0, 2.0]})
    assert target_from_model(KEY, model, frame, ["a"]).dim == 1


def test_an_error_of_another_cause_stays_as_it_is():
    def model(rows):
        numpyro.sample("x", dist.Normal())
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        target_from_model(KEY, model, [1.0, 2.0])
