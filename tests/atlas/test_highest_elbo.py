"""Where a density has no tops, normal distributions stand for each of its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.climbs import climb_from
from numpyro_bridge.atlas.highest_elbo import normals_of_highest_elbo
from numpyro_bridge.target import target_from_log_density
from tests import targets

SCALE, APART = 0.01, 0.3


def two_funnels(x):
    """Neal's funnel and the same one moved along its second coordinate, both a hundredth as big."""
    log_density = targets.funnel(12).target.log_density
    moved = x - APART * (jnp.arange(12) == 1)
    return jnp.logaddexp(log_density(x / SCALE), log_density(moved / SCALE))


@pytest.mark.slow
def test_each_of_two_funnels_keeps_a_normal_distribution_of_its_own():
    """Climbs end in the narrow necks, from where a wide normal distribution would leave."""
    target = target_from_log_density(two_funnels, 12)
    noise = jax.random.normal(jax.random.key(0), (32, 12))
    starts = SCALE * (0.3 * noise - 6.0 * (jnp.arange(12) == 0))
    tops = climb_from(jax.random.key(1), target, starts.at[::2, 1].add(APART))
    fits = normals_of_highest_elbo(jax.random.key(2), target, tops)
    places = np.asarray(fits.normals.location)[:, 1]
    assert np.min(np.abs(places)) < 3 * SCALE and np.min(np.abs(places - APART)) < 3 * SCALE
    assert np.all(np.diff(fits.elbo) <= 0) and sum(fits.counts) <= 8 < fits.num_evaluations
    # The ELBO of each is below the evidence of both, up to the error of its draws.
    assert fits.elbo[0] < 0.5 + np.log(2.0) + 12 * np.log(SCALE) + 0.1
