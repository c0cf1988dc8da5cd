"""Large deterministic sites need not be kept, and batches are as large as memory allows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core import memory
from numpyro_bridge.infer.drawing import BATCHES, _sizes_within_memory
from numpyro_bridge.infer.kept_sites import kept_sites
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests import targets
from tests.posteriors import posterior_of

TARGET = target_from_model(jax.random.key(0), targets.regression, *targets.regression_data())
"""The latent site "w" has two numbers, the deterministic site "slope" one."""


def direct() -> nb.Posterior:
    return posterior_of(TARGET, nb.processes.Direct(jax.random.key(0), 2))


@pytest.mark.fast
def test_all_sites_are_kept_but_those_that_are_excluded():
    everything, less = kept_sites(TARGET), kept_sites(TARGET, ["slope"])
    assert (set(everything.names), everything.num_numbers) == ({"w", "slope"}, 3)
    assert (less.names, less.num_numbers) == (("w",), 2)
    whole, part = (
        direct().sample(jax.random.key(1), 30, exclude=exclude) for exclude in ((), ("slope",))
    )
    assert set(whole.sites) == {"w", "slope"} and set(part.sites) == {"w"}
    np.testing.assert_array_equal(part.sites["w"], whole.sites["w"])
    np.testing.assert_array_equal(part.log_weight, whole.log_weight)


@pytest.mark.fast
@pytest.mark.parametrize("exclude", [["w"], ["nothing"], "slope"])
def test_other_names_are_refused(exclude):
    with pytest.raises(ValueError, match="exclude"):
        kept_sites(TARGET, exclude)
    with pytest.raises(ValueError, match=r"deterministic sites, which are \[\]"):
        kept_sites(target_from_log_density(lambda x: -jnp.sum(x**2), 2), ["x"])


@pytest.mark.fast
def test_batches_are_as_large_as_memory_allows(monkeypatch):
    monkeypatch.setattr(memory, "_limit", 500_000_000)
    assert _sizes_within_memory(3) == list(BATCHES)
    assert _sizes_within_memory(1_000_000)[-1] == 50
    assert _sizes_within_memory(10**9) == [1]
    nb.set_memory_limit(250)
    draws = direct().sample(jax.random.key(1), 12)
    assert draws.num_samples == 12 and draws.report.num_gradient_evaluations == 15
    assert len(np.unique(np.asarray(draws.position), axis=0)) == 12
