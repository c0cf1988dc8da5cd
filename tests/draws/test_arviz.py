"""ArviZ's own functions work on corrected draws, in the releases 0.x and 1.x alike."""

import functools
from typing import Any

import arviz
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from matplotlib import pyplot

from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.target import target_from_model
from tests.schools import AZ1, DATA, draws_near

EFFECTS = {"var_names": ["mean", "effect"]}
PLOTS = {
    "plot_autocorr": EFFECTS,
    "plot_ess": EFFECTS,
    "plot_forest": EFFECTS,
    "plot_mcse": EFFECTS,
    "plot_pair": EFFECTS,
    "plot_rank": EFFECTS,
    "plot_trace": EFFECTS,
    # Each of these is there in one of the two.
    "plot_posterior": EFFECTS,
    "plot_density": EFFECTS,
    **({"plot_dist": EFFECTS} if AZ1 else {}),  # that of 0.x takes arrays
    "plot_prior_posterior": EFFECTS,
    "plot_ppc": {},
    "plot_bpv": {},
    "plot_ppc_dist": {},
    "plot_ppc_pit": {},
    "plot_loo_pit": {} if AZ1 else {"y": "score"},
    "plot_psense_dist": {"var_names": ["mean"]},
    "plot_psense_quantities": {"var_names": ["mean"]},
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    pyplot.close("all")


# Both draw with libraries that announce what they will change.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", [name for name in PLOTS if hasattr(arviz, name)])
def test_plots_of_arviz_work(name, idata):
    assert getattr(arviz, name)(idata, **PLOTS[name]) is not None


def test_a_summary_has_the_moments_of_the_weighted_draws(idata, draws):
    table: Any = arviz.summary(idata, var_names=["mean"], round_to="none" if AZ1 else None)
    weight = np.asarray(jax.nn.softmax(draws.log_weight))
    mean = weight @ np.asarray(draws.sites["mean"])
    assert abs(table.loc["mean", "mean"] - mean) < 0.1


@pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # of ArviZ 0.x
def test_models_are_compared_by_leave_one_out(target, idata):
    convert = functools.partial(to_inference_data, prior=False, predictive=False)
    other = convert(draws_near(target, jax.random.key(7), shift=0.0, widen=1.1))
    table = arviz.compare({"a": idata, "b": other})
    assert set(table.index) == {"a", "b"}
    assert arviz.loo(idata).pareto_k.shape == (4,)


def sensitivity(idata: Any, component: str, sites: list[str] | None = None) -> Any:
    """How far the posterior moves with a power of the prior or the likelihood, by parameter."""
    if AZ1:
        return arviz.psense(idata, group=component, group_var_names=sites)
    return arviz.psens(idata, component=component, component_var_names=sites)


def test_a_prior_that_matters_is_more_sensitive_than_one_that_does_not():
    def model(data):
        near = numpyro.sample("near", dist.Normal(0, 0.5))
        wide = numpyro.sample("wide", dist.Normal(0, 50))
        with numpyro.plate("point", 4):
            numpyro.sample("first", dist.Normal(near, 1), obs=data)
            numpyro.sample("second", dist.Normal(wide, 1), obs=data)

    target = target_from_model(jax.random.key(0), model, DATA)
    draws = draws_near(target, jax.random.key(1), num=400, shift=0.0, widen=1.0)
    idata = to_inference_data(draws, prior=False, predictive=False)
    of_prior = sensitivity(idata, "prior")
    assert of_prior["near"] > 0.1 and of_prior["wide"] < 0.03
    assert sensitivity(idata, "prior", ["wide"])["near"] < 0.001
    of_likelihood = sensitivity(idata, "likelihood")
    assert min(of_likelihood["near"], of_likelihood["wide"]) > 0.05


def test_the_sites_whose_prior_is_meant_can_be_named(idata):
    whole, of_mean = sensitivity(idata, "prior"), sensitivity(idata, "prior", ["mean"])
    assert whole["effect"].shape == of_mean["effect"].shape == (4,)
    assert abs(of_mean["mean"] - whole["mean"]) > 0.01  # the effects have a prior as well
    if AZ1:  # 0.x has no table
        table: Any = arviz.psense_summary(idata, prior_var_names=["mean"])
        assert table.loc["mean", "prior"] == pytest.approx(float(of_mean["mean"]), abs=1e-3)
