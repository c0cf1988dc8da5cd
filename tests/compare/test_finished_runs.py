"""A run of NUTS that has finished is compared as it is, if it is of the same model and data."""

import jax
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS

from numpyro_bridge.compare import Comparison, compare_with_nuts
from tests.effects import DATA, ERROR, SHORT, effects, finished_nuts


@pytest.fixture(scope="module")
def nuts_run():
    return finished_nuts(effects, ERROR, data=DATA)


def test_finished_run_is_taken_as_it_is(posterior, nuts_run):
    result = compare_with_nuts(posterior, jax.random.key(2), mcmc=nuts_run, **SHORT)
    assert isinstance(result, Comparison)
    drawn = result.nuts["posterior"]["effect"].values
    np.testing.assert_array_equal(drawn, nuts_run.get_samples(group_by_chain=True)["effect"])
    assert result.nuts_costs.total_seconds is None is result.nuts_costs.ess_per_second
    assert np.isnan(result.costs.loc["total_seconds", "nuts"])
    steps = nuts_run.get_extra_fields()["num_steps"].sum()
    assert result.costs.loc["gradients_drawing", "nuts"] == steps
    assert np.all(np.abs(result.table["z"]) < 4)


def test_run_of_other_data_is_refused(posterior, nuts_run):
    other = MCMC(NUTS(effects), num_warmup=10, num_samples=10, progress_bar=False)
    with pytest.raises(ValueError, match="has not run yet"):
        compare_with_nuts(posterior, jax.random.key(2), mcmc=other)
    moved = nuts_run.last_state._replace(potential_energy=nuts_run.last_state.potential_energy + 1)
    other = MCMC(NUTS(effects), num_warmup=10, num_samples=200, num_chains=2)
    other.__dict__ |= nuts_run.__dict__ | {"_last_state": moved}
    with pytest.raises(ValueError, match="same model and data"):
        compare_with_nuts(posterior, jax.random.key(2), mcmc=other)


def test_run_of_other_data_is_refused_where_its_chains_ended_by_chance_as_high(posterior, nuts_run):
    other = MCMC(NUTS(effects), num_warmup=10, num_samples=200, num_chains=2)
    kwargs = {"data": nuts_run._kwargs["data"] + 0.05}
    other.__dict__ |= nuts_run.__dict__ | {"_kwargs": kwargs}
    with pytest.raises(ValueError, match="at its draws the log density"):
        compare_with_nuts(posterior, jax.random.key(2), mcmc=other)


def test_run_of_another_model_is_refused(of_log_density, nuts_run):
    with pytest.raises(ValueError, match=r"sites \{'x': \(2,\)\}.*\['x'\] are missing"):
        compare_with_nuts(of_log_density, jax.random.key(2), mcmc=nuts_run)
