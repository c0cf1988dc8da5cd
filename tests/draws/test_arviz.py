"""ArviZ's own functions work on corrected draws, in the releases 0.x and 1.x alike."""

import functools
from typing import Any

import arviz
import jax
import numpy as np
import pytest
from matplotlib import pyplot

from numpyro_bridge.draws.inference_data import to_inference_data
from tests.schools import AZ1, draws_near

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
