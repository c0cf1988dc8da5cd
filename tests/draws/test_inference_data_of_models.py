"""ArviZ objects of models that have more, or less, than a prior and a likelihood for each datum."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints

from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests import targets
from tests.schools import DATA, draws_at, draws_near, equally_weighted, groups_of, values


def test_a_plain_density_has_a_posterior_and_statistics_only():
    target = target_from_log_density(lambda x: -0.5 * x @ x, 3)
    idata = to_inference_data(
        draws_near(target, jax.random.key(0), num=400), dims={"x": ["axis"]}, num_chains=2
    )
    assert groups_of(idata) == {"posterior", "sample_stats"}
    assert idata["posterior"]["x"].dims == ("chain", "draw", "axis")
    assert idata["posterior"]["x"].shape == (2, 200, 3)


def test_an_improper_prior_has_neither_prior_groups_nor_evidence():
    def model(data):
        slope = numpyro.sample("slope", dist.ImproperUniform(constraints.real, (), ()))
        numpyro.sample("score", dist.Normal(slope, 1).expand([4]).to_event(1), obs=data)

    idata = to_inference_data(equally_weighted(model, DATA))
    assert groups_of(idata) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "posterior_predictive",
        "observed_data",
    }
    assert "elbo" in idata.attrs and not {"log_evidence", "log_evidence_error"} & set(idata.attrs)
    assert idata["log_likelihood"]["score"].shape == (4, 100)  # one event, not four points


def test_summed_out_sites_are_drawn_anew_in_predictions():
    pytest.importorskip("funsor")

    def mixture(data):
        centre = numpyro.sample("centre", dist.Normal(0, 1))
        with numpyro.plate("point", len(data)):
            side = numpyro.sample("side", dist.Bernoulli(0.25), infer={"enumerate": "parallel"})
            numpyro.sample("score", dist.Normal(centre + 100 * side, 1), obs=data)

    idata = to_inference_data(equally_weighted(mixture, DATA))
    assert not {"log_likelihood", "prior", "prior_predictive"} & groups_of(idata)
    on_the_right = values(idata, "posterior_predictive", "score") > 50
    assert abs(on_the_right.mean() - 0.25) < 4 * (0.25 * 0.75 / on_the_right.size) ** 0.5


def test_a_time_series_is_predicted_inside_its_scan():
    def walk(data):
        def step(level, value):
            level = numpyro.sample("level", dist.Normal(level, 1))
            numpyro.sample("score", dist.Normal(level, 0.1), obs=value)
            return level, None

        scan(step, 0.0, data)

    idata = to_inference_data(equally_weighted(walk, DATA))
    residual = values(idata, "posterior_predictive", "score") - values(idata, "posterior", "level")
    assert abs((residual / 0.1).var() - 1) < 4 * (2 / residual.size) ** 0.5


def test_factors_are_likelihood_but_not_data_and_log_determinants_are_neither():
    def model(data):
        x = numpyro.sample("x", dist.Normal(0, 1))
        numpyro.factor("custom", -((data - x) ** 2))
        numpyro.factor("_x_log_det", x)

    draws = equally_weighted(model, DATA)
    idata = to_inference_data(draws)
    assert groups_of(idata) == {
        "posterior", "sample_stats", "log_likelihood", "prior", "constant_data"
    }  # fmt: skip
    assert list(idata["log_likelihood"].data_vars) == ["custom"]
    x = values(idata, "posterior", "x")
    np.testing.assert_allclose(
        values(idata, "log_likelihood", "custom"), -((DATA - x[..., None]) ** 2)
    )


def test_array_arguments_of_any_shape_become_constant_data():
    def model(table, *more, label, data, **options):
        x = numpyro.sample("x", dist.Normal(0, options["spread"]))
        numpyro.sample("score", dist.Normal(x + table["a"], 1), obs=data)

    wrapped = numpyro.handlers.block(model, hide=[])
    target = target_from_model(
        jax.random.key(0),
        wrapped,
        {"a": np.zeros(4), "b": np.arange(3)},
        np.ones(2),
        label="north",
        data=DATA,
        spread=2.0,
    )
    position = target.initial_positions(jax.random.key(1), 400)
    idata = to_inference_data(
        draws_at(target, position, targets.each(target.log_density, position))
    )
    constants = {name: value.values for name, value in idata["constant_data"].data_vars.items()}
    expected = dict(table_a=np.zeros(4), table_b=np.arange(3), more_0=np.ones(2), spread=2.0)
    assert constants.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(constants[name], value)


def test_models_that_need_the_numbers_of_their_data_are_converted():
    def model(group, data):
        with numpyro.plate("group", int(group.max()) + 1):
            level = jnp.asarray(numpyro.sample("level", dist.Normal(0, 1)))
        with numpyro.plate("point", len(data)):
            numpyro.sample("score", dist.Normal(level[group], 1), obs=data)

    idata = to_inference_data(equally_weighted(model, np.array([0, 1, 1, 2]), DATA))
    assert idata["posterior"]["level"].dims == ("chain", "draw", "group")
    assert idata["posterior_predictive"]["score"].dims == ("chain", "draw", "point")


def test_plates_with_names_that_arviz_reserves_are_renamed():
    def model(data):
        x = numpyro.sample("x", dist.Normal(0, 1))
        with numpyro.plate("sample", len(data)):
            numpyro.sample("score", dist.Normal(x, 1), obs=data)

    idata = to_inference_data(equally_weighted(model, DATA))
    assert idata["log_likelihood"]["score"].dims == ("chain", "draw", "sample_plate")
