"""ArviZ objects of models that have more, or less, than a prior and a likelihood for each datum."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from scipy.stats import halfnorm, norm

from numpyro_bridge import set_memory_limit
from numpyro_bridge._core import memory
from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests import targets
from tests.schools import (
    DATA,
    SCALE,
    draws_at,
    draws_near,
    equally_weighted,
    groups_of,
    schools,
    values,
)


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
        "log_prior",
        "posterior_predictive",
        "observed_data",
    }
    assert not values(idata, "log_prior", "slope").any()  # flat
    assert "elbo" in idata.attrs and not {"log_evidence", "log_evidence_error"} & set(idata.attrs)
    assert idata["log_likelihood"]["score"].shape == (4, 100)  # one event, not four points


def test_summed_out_sites_are_drawn_anew_in_predictions():
    pytest.importorskip("funsor")

    def mixture(data):
        centre = numpyro.sample("centre", dist.Normal(0, 1))
        with numpyro.plate("point", len(data)):
            side = numpyro.sample("side", dist.Bernoulli(0.25), infer={"enumerate": "parallel"})
            numpyro.sample("score", dist.Normal(centre + 100 * side, 1), obs=data)

    draws = equally_weighted(mixture, DATA)
    with pytest.warns(UserWarning, match="log_likelihood and log_prior, since the discrete sites"):
        to_inference_data(draws, prior=False, predictive=False)
    idata = to_inference_data(draws, log_likelihood=False, log_prior=False)
    assert not {"log_likelihood", "log_prior", "prior", "prior_predictive"} & groups_of(idata)
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
        "posterior", "sample_stats", "log_likelihood", "log_prior", "prior", "constant_data"
    }  # fmt: skip
    assert list(idata["log_likelihood"].data_vars) == ["custom"]
    x = values(idata, "posterior", "x")
    np.testing.assert_allclose(
        values(idata, "log_likelihood", "custom"), -((DATA - x[..., None]) ** 2)
    )
    assert list(idata["log_prior"].data_vars) == ["x"]
    np.testing.assert_allclose(values(idata, "log_prior", "x"), norm.logpdf(x))


def test_log_prior_likelihood_and_log_determinants_make_the_joint_density():
    """Masks and scales of the sites count as in the joint density."""
    known = np.array([True, False, True, True])

    def model(data):
        spread = numpyro.sample("spread", dist.HalfNormal(2))
        with numpyro.handlers.scale(scale=3.0):
            slope = numpyro.sample("slope", dist.Normal(1, 2))
        with numpyro.plate("point", 4), numpyro.handlers.mask(mask=known):
            level = numpyro.sample("level", dist.Normal(slope, spread))
        numpyro.sample("score", dist.Normal(level, 1).to_event(1), obs=data)

    idata = to_inference_data(equally_weighted(model, DATA))
    spread, slope, level = (
        values(idata, "posterior", site) for site in ("spread", "slope", "level")
    )
    around = norm.logpdf(level, slope[..., None], spread[..., None])
    expected = {
        "spread": halfnorm.logpdf(spread, scale=2),
        "slope": 3 * norm.logpdf(slope, 1, 2),
        "level": np.where(known, around, 0),
    }
    for site, value in expected.items():
        np.testing.assert_allclose(values(idata, "log_prior", site), value, rtol=1e-9)
    joint = expected["spread"] + expected["slope"] + expected["level"].sum(-1)
    joint += values(idata, "log_likelihood", "score") + np.log(spread)  # its log-determinant
    np.testing.assert_allclose(values(idata, "sample_stats", "lp"), joint, rtol=1e-9)


def test_log_prior_has_one_number_for_each_event():
    def model(data):
        with numpyro.plate("group", 2):
            event = dist.Normal(0, 1).expand([3]).to_event(1)
            named = numpyro.sample("named", event, infer={"event_dims": ["axis"]})
            given = numpyro.sample("given", event)
        numpyro.sample("score", dist.Normal(named.sum() + given.sum(), 1), obs=data)

    labels = {"group": ["u", "v"], "axis": ["x", "y", "z"]}
    names = {"given": ["chain", "draw", "part", "place"]}
    idata = to_inference_data(equally_weighted(model, 1.0), coords=labels, dims=names)
    assert idata["posterior"]["given"].dims == ("chain", "draw", "part", "place")
    for site, last in [("named", "group"), ("given", "part")]:
        variable = idata["log_prior"][site]
        assert (variable.dims, variable.shape) == (("chain", "draw", last), (4, 100, 2))
        expected = norm.logpdf(values(idata, "posterior", site)).sum(-1)
        np.testing.assert_allclose(variable.values, expected)
    assert list(idata["log_prior"]["group"].values) == labels["group"]


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


def test_a_model_that_asks_for_a_key_has_a_likelihood_at_every_observation():
    def model(data):
        centre = numpyro.sample("centre", dist.Normal(0, 1))
        shift = jax.random.normal(numpyro.prng_key())
        numpyro.sample("score", dist.Normal(centre + shift, 1).expand([4]), obs=data)

    idata = to_inference_data(equally_weighted(model, DATA))
    shift = float(jax.random.normal(jax.random.key(0)))  # the key that NUTS gives
    means = values(idata, "posterior", "centre")[..., None] + shift
    np.testing.assert_allclose(
        values(idata, "log_likelihood", "score"), norm.logpdf(DATA, means), rtol=1e-6
    )


def test_sites_are_left_out_of_the_posterior_and_the_prior():
    def model(data):
        centre = numpyro.sample("centre", dist.Normal(0, 1))
        spread = numpyro.sample("spread", dist.HalfNormal())
        numpyro.deterministic("twice", 2 * centre)
        numpyro.sample("score", dist.Normal(centre, spread), obs=data)

    draws = equally_weighted(model, DATA)
    idata = to_inference_data(draws, exclude=["twice", "spread"])
    whole = to_inference_data(draws)
    for group in ("posterior", "prior"):
        assert set(idata[group].data_vars) == {"centre"}
        assert set(whole[group].data_vars) == {"centre", "spread", "twice"}
        assert np.array_equal(values(idata, group, "centre"), values(whole, group, "centre"))
    assert np.array_equal(*(values(one, "log_likelihood", "score") for one in (idata, whole)))
    for exclude in (["nothing"], ["centre", "spread", "twice"], "twice"):
        with pytest.raises(ValueError, match="exclude"):
            to_inference_data(draws, exclude=exclude)


def test_groups_that_would_take_too_much_memory_are_left_out_with_a_warning(monkeypatch):
    draws = equally_weighted(schools, SCALE, DATA)
    num_bytes = draws.num_samples * DATA.size * draws.log_weight.dtype.itemsize
    monkeypatch.setattr(memory, "_limit", num_bytes - 1)
    with pytest.warns(UserWarning, match=r"left out: log_likelihood and predictive, since each"):
        idata = to_inference_data(draws)
    assert not {"log_likelihood", "posterior_predictive", "prior_predictive"} & groups_of(idata)
    assert {"prior", "log_prior", "observed_data"} <= groups_of(idata)
    set_memory_limit(num_bytes)
    assert {"log_likelihood", "prior_predictive"} <= groups_of(to_inference_data(draws))


def test_a_large_model_is_run_at_one_draw_after_the_other_with_the_same_result():
    draws = equally_weighted(schools, SCALE, DATA)
    reading = draws.target.reading._replace(most_at_once=1)
    in_turn = dataclasses.replace(draws, target=dataclasses.replace(draws.target, reading=reading))
    first, second = (to_inference_data(each) for each in (draws, in_turn))
    for group in ("log_likelihood", "posterior_predictive", "prior_predictive"):
        site = next(iter(first[group].data_vars))
        np.testing.assert_allclose(
            values(first, group, site), values(second, group, site), rtol=1e-5, atol=1e-5
        )
