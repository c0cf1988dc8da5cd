"""Hamiltonian moves of particles leave the target distribution as it is."""

import jax
import numpy as np

from numpyro_bridge.atlas.particles import refreshed
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from tests.mixtures import mixture, normals_at
from tests.statistics import assert_same_mean

SKEWED = mixture([0.7, 0.3], [[-0.5, -0.5], [1.5, 1.5]], [0.5, [[1.0, 0.0], [0.6, 0.8]]])


def test_moves_leave_exact_draws_exact():
    """A step size that depends on the momentum would make them drift."""
    exact = SKEWED.draw(jax.random.key(0), 20_000)
    moved = refreshed(jax.random.key(1), SKEWED.target, exact)
    assert np.mean(np.any(moved != exact, axis=1)) > 0.99
    for power in (1, 2, 3):
        assert_same_mean(moved**power, exact**power)
    assert_same_mean(moved[:, 0] * moved[:, 1], exact[:, 0] * exact[:, 1])


def test_moves_in_other_coordinates_are_moves_of_the_same_target():
    normal = normals_at([[3.0, -1.0]], [[[2.0, 0.0], [1.0, 0.1]]])
    target = mixture([1.0], normal.location, normal.factor)
    (whole,) = target.maps
    inside = jax.vmap(whole.inverse)(target.draw(jax.random.key(2), 5_000))
    moved = refreshed(jax.random.key(3), StandardisedTarget(target.target, whole), inside)
    assert_same_mean(np.asarray(moved), np.zeros((2, 2)))
    assert_same_mean(np.asarray(moved) ** 2, np.ones((2, 2)))
