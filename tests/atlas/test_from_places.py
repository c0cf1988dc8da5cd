"""Starts of tempering that cover modes which lie apart, and the density that they follow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.from_places import from_places
from numpyro_bridge.atlas.particles import from_prior_or_fit, tempered_particles
from tests import targets
from tests.mixtures import mixture
from tests.statistics import assert_same_mean

MASS = 0.7
FAR = mixture([MASS, 1 - MASS], [[10.0, 0.0], [-10.0, 0.0]], [0.5, 0.8])


@pytest.fixture(scope="module")
def reference():
    return from_places(jax.random.key(0), FAR.target, 4_000)


def test_the_draws_follow_the_density(reference):
    """The mean of a known density over that of the draws is one."""
    known = FAR.target.log_density
    ratio = jax.vmap(lambda x: known(x) - reference.log_density(FAR.target, x))(reference.position)
    assert_same_mean(jnp.exp(ratio), 1.0)
    both = jax.vmap(lambda x: reference.log_ratio(FAR.target, x))(reference.position)
    np.testing.assert_allclose(both, ratio, atol=1e-9)


@pytest.mark.slow
def test_particles_keep_both_modes_with_their_masses(reference):
    particles = tempered_particles(jax.random.key(1), FAR.target, reference)
    weight = jax.nn.softmax(particles.log_weight)
    share = float(jnp.sum(weight * (particles.position[:, 0] > 0)))
    # Particles share ancestors: a binomial error would be too small.
    assert share == pytest.approx(MASS, abs=0.05)
    assert particles.log_evidence == pytest.approx(0.0, abs=0.1)
    assert particles.num_gradient_evaluations > reference.num_gradient_evaluations > 1_000


@pytest.mark.slow
def test_a_single_place_changes_nothing():
    target = targets.conjugate_normal().target
    wide = from_prior_or_fit(jax.random.key(0), target, 300)
    start = from_places(jax.random.key(0), target, 300)
    np.testing.assert_array_equal(start.position, wide.position)
    assert start.num_gradient_evaluations > 0
