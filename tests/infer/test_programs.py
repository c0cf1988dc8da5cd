"""A default run compiles few programs, which is what most of its seconds are spent on."""

import subprocess
import sys

import pytest

MOST = 30

PROGRAM = """
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import numpyro_bridge as nb
from tests.compilations import listed_compilations

ESTIMATES = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(estimates):
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0))
    spread = numpyro.sample("spread", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", 8):
        away = numpyro.sample("away", dist.Normal())
        numpyro.sample("estimate", dist.Normal(mean + spread * away, ERRORS), obs=estimates)


with listed_compilations() as names:
    sampler = nb.BridgeSampler(eight_schools, progress_bar=False)
    posterior = sampler.run(jax.random.key(0), ESTIMATES)
    draws = posterior.sample(jax.random.key(1), num_samples=1_000)
assert posterior.atlas.num_charts == 1, posterior
assert "_fitted_uncompiled" in " ".join(names), "nothing was bent, which takes fewer programs"
print(len(names))
"""


@pytest.mark.slow
def test_a_run_with_one_bent_chart_compiles_few_programs():
    """In a process of its own, since others have compiled much of it already."""
    command = [sys.executable, "-c", PROGRAM]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert 10 < int(output) <= MOST
