"""ArviZ objects: their groups, dimensions, labels, attributes and files."""

import dataclasses
import sys
from typing import Any

import arviz as az
import jax
import numpy as np
import pytest
from jax.scipy.stats import norm

from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.training import Round, RunReport
from tests import targets
from tests.schools import AZ1, BARE, DATA, REPORT, SCALE, groups_of, values


def test_groups_and_dims(idata):
    assert groups_of(idata) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "log_prior",
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
        ("log_prior", "mean", ("chain", "draw"), (4, 1000)),
        ("log_prior", "effect", ("chain", "draw", "school"), (4, 1000, 4)),
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
        log_prior=False,
        dims={"scale": ["instrument"], "twice": ["double"], "mean": ["chain", "draw"]},
        coords={"instrument": list("wxyz")},
    )
    np.testing.assert_array_equal(idata["posterior"]["school"], np.arange(4))
    assert idata["posterior"]["twice"].dims == ("chain", "draw", "double")
    assert idata["posterior"]["mean"].dims == ("chain", "draw")
    assert list(idata["constant_data"]["scale"]["instrument"].values) == list("wxyz")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"coords": {"school": list("ABC")}}, "'school'.* has 3 labels.*has 4 entries"),
        ({"dims": {"mean": ["a"]}}, "'mean'.* has 1 names.*has 0 dimensions"),
        ({"dims": {"twice": ["a", "b"]}}, "'twice'.* has 2 names.*has 1 dimensions"),
    ],
)
def test_names_and_labels_that_do_not_fit_are_named_before_anything_is_drawn(
    draws, labels, message
):
    with pytest.raises(ValueError, match=message):
        to_inference_data(draws, **labels)


def test_data_are_kept_and_observations_are_not_constants(idata):
    np.testing.assert_array_equal(values(idata, "observed_data", "score"), DATA)
    assert list(idata["constant_data"].data_vars) == ["scale"]
    np.testing.assert_array_equal(values(idata, "constant_data", "scale"), SCALE)


def test_groups_can_be_left_out(draws):
    idata = to_inference_data(draws, **BARE)
    assert groups_of(idata) == {"posterior", "sample_stats", "observed_data", "constant_data"}
    groups = groups_of(to_inference_data(draws, **BARE | {"prior": True}))
    assert "prior" in groups and "prior_predictive" not in groups


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


def test_log_prior_is_the_density_of_each_site_given_those_that_it_depends_on(idata):
    mean, effect = values(idata, "posterior", "mean"), values(idata, "posterior", "effect")
    expected = {"mean": norm.logpdf(mean, 0, 2), "effect": norm.logpdf(effect, mean[..., None], 1)}
    assert set(idata["log_prior"].data_vars) == set(expected)
    for site, value in expected.items():
        np.testing.assert_allclose(values(idata, "log_prior", site), value, rtol=1e-9)
    joint = expected["mean"] + expected["effect"].sum(-1)
    joint += values(idata, "log_likelihood", "score").sum(-1)
    np.testing.assert_allclose(values(idata, "sample_stats", "lp"), joint, rtol=1e-9)


def test_prior_draws_are_the_prior_s(idata):
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


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_chains", [0, -1, 4001])
def test_chains_need_draws(draws, num_chains):
    with pytest.raises(
        ValueError,
        match="num_chains (must be a whole number >= 1|should be between 1 and .* draws, 4000)",
    ):
        to_inference_data(draws, num_chains=num_chains)


def test_without_arviz_the_error_says_what_to_install(draws, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install"):
        to_inference_data(draws)
