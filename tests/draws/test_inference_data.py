"""ArviZ objects of a hierarchical normal model, whose posterior is Gaussian and known exactly."""

import dataclasses
import inspect
import sys
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import multivariate_normal, norm
from matplotlib import pyplot
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints

from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.draws.plots import plot_predictive
from numpyro_bridge.draws.verdict import ReliabilityWarning
from numpyro_bridge.target import target_from_log_density, target_from_model
from numpyro_bridge.training import Round, RunReport, Seconds, Stop
from tests import targets

DATA = np.array([1.2, -0.4, 0.9, 2.5])
SCALE = np.array([1.5, 2.0, 1.5, 2.5])
AZ1 = int(az.__version__.split(".")[0]) >= 1
BARE: dict[str, Any] = dict(prior=False, predictive=False, log_likelihood=False)
REPORT = RunReport(
    "CMCD",
    stopped=Stop.PLATEAU,
    num_gradient_evaluations=512,
    seconds=Seconds(train=12.5, draw=0.25),
)


def schools(scale, data=None):
    mean = numpyro.sample("mean", dist.Normal(0, 2))
    with numpyro.plate("school", 4):
        effect = numpyro.sample("effect", dist.Normal(mean, 1))
        numpyro.deterministic("twice", 2 * effect)
        numpyro.sample("score", dist.Normal(effect, scale), obs=data)


def draws_near(target, rng_key, num=4000, shift=0.3, widen=1.2, **fields):
    """Importance draws from the posterior, moved by `shift` and `widen` posterior deviations."""
    mean, covariance = targets.normal_posterior(target)
    root = jnp.linalg.cholesky(covariance)
    centre = mean + shift * jnp.diag(root)
    position = centre + widen * jax.random.normal(rng_key, (num, target.dim)) @ root.T
    return draws_at(
        target,
        position,
        multivariate_normal.logpdf(position, centre, widen**2 * covariance),
        **fields,
    )


def draws_at(target, position, log_proposal, **fields):
    log_density = targets.each(target.log_density, position)
    sites = targets.each(target.constrain, position)
    return Draws(sites, log_density - log_proposal, position, log_density, target, **fields)


def equally_weighted(model, *args, num=400):
    """Draws that only have to be there, for what the model allows."""
    target = target_from_model(jax.random.key(0), model, *args)
    position = target.initial_positions(jax.random.key(1), num)
    return draws_at(target, position, targets.each(target.log_density, position))


def groups_of(idata):
    names = idata.groups if AZ1 else idata.groups()
    return {name.strip("/") for name in names} - {""}


def mean_of(diagnostic: Any, idata):
    return float(diagnostic(idata, var_names=["mean"])["mean"])


def values(idata, group, name):
    return np.asarray(idata[group][name].values)


@pytest.fixture(scope="module")
def target():
    return target_from_model(jax.random.key(0), schools, SCALE, data=DATA)


@pytest.fixture(scope="module")
def draws(target):
    return draws_near(target, jax.random.key(1), report=REPORT)


@pytest.fixture(scope="module")
def idata(draws):
    return to_inference_data(draws, coords={"school": ["A", "B", "C", "D"]})


def z_of_mean(idata, target):
    """Error of the posterior mean of `mean` in units of what ArviZ says its error is."""
    mean, covariance = targets.normal_posterior(target)
    x = idata["posterior"]["mean"]
    ess = mean_of(az.ess, idata)
    return abs(float(x.mean()) - mean[4]) / (covariance[4, 4] / ess) ** 0.5


# --- the structure --------------------------------------------------------------------------------


def test_groups_and_dims(idata):
    assert groups_of(idata) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "posterior_predictive",
        "prior",
        "prior_predictive",
        "observed_data",
        "constant_data",
    }
    for group, name, dims, shape in [
        ("posterior", "mean", ("chain", "draw"), (4, 1000)),
        ("posterior", "effect", ("chain", "draw", "school"), (4, 1000, 4)),
        ("posterior", "twice", ("chain", "draw", "school"), (4, 1000, 4)),
        ("sample_stats", "lp", ("chain", "draw"), (4, 1000)),
        ("sample_stats", "acceptance_rate", ("chain", "draw"), (4, 1000)),
        ("log_likelihood", "score", ("chain", "draw", "school"), (4, 1000, 4)),
        ("posterior_predictive", "score", ("chain", "draw", "school"), (4, 1000, 4)),
        ("prior", "twice", ("chain", "draw", "school"), (1, 1000, 4)),
        ("prior_predictive", "score", ("chain", "draw", "school"), (1, 1000, 4)),
        ("observed_data", "score", ("school",), (4,)),
    ]:
        variable = idata[group][name]
        assert (variable.dims, variable.shape) == (dims, shape), (group, name)
    assert list(idata["posterior"]["school"].values) == ["A", "B", "C", "D"]
    assert idata["sample_stats"]["accepted"].dtype == bool


def test_labels_default_to_integers_and_dims_can_be_given(draws):
    idata = to_inference_data(
        draws,
        prior=False,
        predictive=False,
        dims={"scale": ["instrument"], "twice": ["double"]},
        coords={"instrument": list("wxyz")},
    )
    np.testing.assert_array_equal(idata["posterior"]["school"], np.arange(4))
    assert idata["posterior"]["twice"].dims == ("chain", "draw", "double")
    assert list(idata["constant_data"]["scale"]["instrument"].values) == list("wxyz")


def test_data_are_kept_and_observations_are_not_constants(idata):
    np.testing.assert_array_equal(values(idata, "observed_data", "score"), DATA)
    assert list(idata["constant_data"].data_vars) == ["scale"]
    np.testing.assert_array_equal(values(idata, "constant_data", "scale"), SCALE)


def test_groups_can_be_left_out(draws):
    idata = to_inference_data(draws, prior=False, predictive=False, log_likelihood=False)
    assert groups_of(idata) == {"posterior", "sample_stats", "observed_data", "constant_data"}
    idata = to_inference_data(draws, predictive=False, log_likelihood=False)
    assert "prior" in groups_of(idata) and "prior_predictive" not in groups_of(idata)


def test_left_over_draws_are_dropped_and_that_is_said(draws):
    with pytest.warns(UserWarning, match="4000 draws do not divide into 3 chains.*last 1 are left"):
        idata = to_inference_data(draws, num_chains=3, **BARE)
    assert idata["posterior"]["mean"].shape == (3, 1333)


def test_the_same_draws_give_the_same_object(draws, idata):
    again, other = to_inference_data(draws), to_inference_data(draws, rng_key=jax.random.key(7))
    for group, name in [
        ("posterior", "mean"),
        ("posterior_predictive", "score"),
        ("prior", "mean"),
    ]:
        same = values(idata, group, name)
        np.testing.assert_array_equal(same, values(again, group, name))
        assert np.any(same != values(other, group, name))


# --- the numbers ----------------------------------------------------------------------------------


def test_statistics_belong_to_their_draws(idata, draws, target):
    """Every array is indexed alike: each is recomputed from the posterior draws themselves."""
    sites = {name: values(idata, "posterior", name) for name in ("mean", "effect")}
    position = targets.each(jax.vmap(target.unconstrain), sites)
    lp = targets.each(jax.vmap(target.log_density), position)
    np.testing.assert_allclose(values(idata, "sample_stats", "lp"), lp, rtol=1e-9)
    weight_of = dict(zip(np.asarray(draws.log_density), np.asarray(draws.log_weight), strict=True))
    expected = [weight_of[value] for value in values(idata, "sample_stats", "lp").ravel()]
    np.testing.assert_array_equal(values(idata, "sample_stats", "log_weight").ravel(), expected)
    np.testing.assert_allclose(
        values(idata, "log_likelihood", "score"),
        norm.logpdf(DATA, sites["effect"], SCALE),
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("group", "latent"), [("posterior_predictive", "posterior"), ("prior_predictive", "prior")]
)
def test_predictions_are_drawn_anew_around_their_own_draw(idata, group, latent):
    """Given the effects, predictions are normal around them, independent from draw to draw."""
    residual = (values(idata, group, "score") - values(idata, latent, "effect")) / SCALE
    num = residual.size
    assert abs(residual.mean()) < 4 / num**0.5
    assert abs(residual.var() - 1) < 4 * (2 / num) ** 0.5
    assert np.unique(residual).size == num


def test_prior_draws_have_the_prior_s_law(idata):
    mean, effect = values(idata, "prior", "mean")[0], values(idata, "prior", "effect")[0]
    for standard in (mean / 2, (effect - mean[:, None]).ravel()):
        assert abs(standard.mean()) < 4 / standard.size**0.5
        assert abs(standard.var() - 1) < 4 * (2 / standard.size) ** 0.5
    np.testing.assert_array_equal(values(idata, "prior", "twice")[0], 2 * effect)


def test_arviz_runs_on_the_result(idata):
    table = az.summary(idata, var_names=["mean", "effect"], round_to="none")
    assert len(table) == 5 and np.all(np.asarray(table["r_hat"], float) < 1.05)
    # What leave-one-out estimates: the log density of each score given the others, here exact.
    precision = np.linalg.inv(4 * np.ones((4, 4)) + np.eye(4) + np.diag(SCALE**2))
    variance = 1 / np.diag(precision)
    expected = norm.logpdf(DATA, DATA - variance * (precision @ DATA), variance**0.5).sum()
    loo: Any = az.loo(idata)
    assert abs(float(loo.elpd if AZ1 else loo.elpd_loo) - expected) < 0.1


# --- the corrections ------------------------------------------------------------------------------


@pytest.mark.parametrize("correction", ["metropolis", "psis"])
def test_corrected_draws_are_the_posterior_s(draws, target, correction):
    raw = to_inference_data(draws, correction=None, **BARE)
    assert z_of_mean(raw, target) > 8
    idata = to_inference_data(draws, correction=correction, **BARE)
    # ArviZ's error knows nothing of draws that "psis" repeats: a factor sqrt(ess) at most.
    assert z_of_mean(idata, target) < (4 if correction == "metropolis" else 4 / draws.ess**0.5)
    sd = targets.normal_posterior(target)[1][4, 4] ** 0.5
    assert float(idata["posterior"]["mean"].std()) == pytest.approx(float(sd), rel=0.08)


def test_raw_draws_are_left_as_they_are(draws):
    idata = to_inference_data(draws, correction=None, num_chains=2, **BARE)
    np.testing.assert_array_equal(values(idata, "posterior", "mean").ravel(), draws.sites["mean"])
    assert set(idata["sample_stats"].data_vars) == {"lp", "log_weight"}


def test_psis_draws_come_in_random_order(draws):
    idata = to_inference_data(draws, correction="psis", **BARE)
    x = values(idata, "posterior", "mean")
    repeats = np.mean(x[:, 1:] == x[:, :-1])
    assert repeats < 0.01  # systematic resampling alone would put all copies side by side


def test_a_poor_sampler_cannot_look_good(target):
    """ArviZ's own diagnostics see it, which they cannot for raw draws."""
    ess = {}
    for widen in (1.0, 1.5, 2.5):
        near = draws_near(target, jax.random.key(3), num=2000, shift=0.0, widen=widen)
        idata = to_inference_data(near, **BARE)
        ess[widen] = mean_of(az.ess, idata)
        rate = float(idata["sample_stats"]["acceptance_rate"].mean())
        assert (rate == pytest.approx(1.0)) if widen == 1.0 else (rate < 0.9)
    assert 1600 < ess[1.0] and ess[1.5] < 0.7 * ess[1.0] and ess[2.5] < 0.5 * ess[1.5]


def test_a_sampler_that_misses_the_posterior_warns_and_its_chains_disagree(target):
    far = draws_near(target, jax.random.key(4), num=2000, shift=3.0, widen=0.6)
    with pytest.warns(ReliabilityWarning, match="Not to be trusted"):
        idata = to_inference_data(far, **BARE)
    assert mean_of(az.rhat, idata) > 1.05


# --- attributes and files -------------------------------------------------------------------------


def test_attributes_say_what_arviz_has_no_place_for(idata, draws):
    for attrs in (idata.attrs, idata["posterior"].attrs, idata["sample_stats"].attrs):
        for name in ("elbo", "log_evidence", "log_evidence_error", "ess", "pareto_k"):
            assert attrs[name] == getattr(draws, name)
        assert REPORT.attributes().items() <= attrs.items()
        assert attrs["inference_library"] == "numpyro_bridge"
        assert attrs["correction"] == "metropolis"
        assert isinstance(attrs["inference_library_version"], str)
    assert "created_at" in idata["posterior"].attrs


def test_netcdf_round_trip(draws, tmp_path):
    rounds = (Round(0.25, -3.5, 0.4, 2.0), Round(0.5, -3.25, float("inf"), 1.5))
    report = dataclasses.replace(REPORT, rounds=rounds, num_temperatures=7)
    draws = dataclasses.replace(draws, report=report)
    idata = to_inference_data(draws, coords={"school": ["A", "B", "C", "D"]})
    path = tmp_path / "draws.nc"
    idata.to_netcdf(str(path))
    back: Any = az.from_netcdf(str(path))
    assert groups_of(back) == groups_of(idata)
    for group in groups_of(idata):
        for name, variable in idata[group].data_vars.items():
            assert back[group][name].dims == variable.dims
            np.testing.assert_array_equal(back[group][name].values, variable.values)
        for name, labels in idata[group].coords.items():
            np.testing.assert_array_equal(back[group].coords[name].values, labels.values)
    for attrs in (back.attrs, back["posterior"].attrs):
        assert attrs["log_evidence"] == draws.log_evidence and attrs["process"] == "CMCD"
        assert RunReport.from_attributes(attrs) == report
    back.close()


# --- what other models allow ----------------------------------------------------------------------


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


# --- errors that teach ----------------------------------------------------------------------------


def test_an_unknown_correction_is_refused(draws):
    with pytest.raises(ValueError, match="'metropolis', 'psis' or None"):
        inspect.unwrap(to_inference_data)(draws, correction="mcmc")  # pyright: ignore


@pytest.mark.parametrize("num_chains", [0, -1, 4001])
def test_chains_need_draws(draws, num_chains):
    with pytest.raises(ValueError, match="between 1 and the number of draws, 4000"):
        to_inference_data(draws, num_chains=num_chains)


def test_weights_that_are_no_numbers_cannot_be_corrected(draws):
    broken = dataclasses.replace(draws, log_weight=draws.log_weight.at[3].set(jnp.nan))
    with pytest.raises(ValueError, match="1 of 4000 values are NaN"):
        to_inference_data(broken)
    with pytest.warns(ReliabilityWarning, match="not finite"):
        to_inference_data(broken, correction=None, **BARE)


def test_without_arviz_the_error_says_what_to_install(draws, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install"):
        to_inference_data(draws)


# --- predictions ----------------------------------------------------------------------------------


def test_leave_one_out_is_the_exact_one_with_a_k_hat_for_each_observation(idata):
    """The predictive law of each score given the others is normal, and known."""
    covariance = np.diag(SCALE**2 + 1) + 4.0
    precision = np.linalg.inv(covariance)
    variance = 1 / np.diag(precision)
    exact = norm.logpdf(DATA, DATA - precision @ DATA * variance, np.sqrt(variance))
    loo = az.loo(idata, pointwise=True)
    pointwise = np.asarray(loo.elpd_i if AZ1 else loo.loo_i)
    np.testing.assert_allclose(pointwise, exact, atol=0.03)
    assert loo.pareto_k.shape == (4,) and np.all(np.asarray(loo.pareto_k) < 0.7)
    if not AZ1:  # ArviZ 1.x has no WAIC
        waic: Any = az.waic(idata)
        assert waic.elpd_waic == pytest.approx(float(np.sum(exact)), abs=0.2)


def test_log_likelihood_of_draws_is_that_of_the_groups(draws):
    raw = to_inference_data(draws, correction=None, prior=False, predictive=False)
    of_draws = draws.log_likelihood()["score"]
    expected = values(raw, "log_likelihood", "score").reshape(4000, 4)
    np.testing.assert_allclose(of_draws, expected)
    np.testing.assert_allclose(of_draws, norm.logpdf(DATA, draws.sites["effect"], SCALE))


def test_a_log_density_predicts_nothing():
    target = target_from_log_density(lambda x: -0.5 * x @ x, 1)
    position = jnp.zeros((3, 1))
    draws = Draws({"x": position}, jnp.zeros(3), position, jnp.zeros(3), target)
    with pytest.raises(ValueError, match="log_likelihood needs a NumPyro model"):
        draws.log_likelihood()


@pytest.mark.parametrize("group", ["posterior_predictive", "prior_predictive"])
def test_predictions_are_shown_with_the_data(idata, group):
    figure = plot_predictive(idata, group, max_draws=20)
    (panel,) = figure.axes
    assert panel.get_title() == "score" and len(panel.lines) == 21
    np.testing.assert_array_equal(np.unique(panel.lines[-1].get_xdata()[1:]), np.sort(DATA))
    pyplot.close(figure)


def test_predictions_that_are_not_there_are_asked_for(draws):
    bare = to_inference_data(draws, **BARE)
    with pytest.raises(ValueError, match="has no posterior_predictive: make it by"):
        plot_predictive(bare)
