"""A target with clipped scores: scores are shortened, and the density stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np

from numpyro_bridge.target.clipped import ClippedScore
from tests import targets

BOUND = 0.01
POSITION = jnp.asarray([3.0, -2.0])


def root_mean_square(vector):
    return jnp.sqrt(jnp.mean(vector**2))


def assert_shortened(score, original):
    """The direction is kept and the length is the bound."""
    assert root_mean_square(original) > BOUND
    expected = original * BOUND / root_mean_square(original)
    np.testing.assert_allclose(score, expected, rtol=1e-9)


def test_the_scores_of_posterior_and_prior_are_shortened():
    target = targets.conjugate_normal().target.with_prior()
    plain, clipped = target.at(POSITION), ClippedScore(target, bound=BOUND).at(POSITION)
    assert_shortened(clipped.score, plain.score)
    assert plain.prior is not None and clipped.prior is not None
    assert_shortened(clipped.prior.score, plain.prior.score)
    np.testing.assert_array_equal(clipped.position, plain.position)
    np.testing.assert_array_equal(clipped.log_density, plain.log_density)
    np.testing.assert_array_equal(clipped.prior.log_density, plain.prior.log_density)
    assert bool(clipped.finite)


def test_log_density_and_its_gradient_are_those_of_the_target():
    target = targets.skewed().target
    clipped = ClippedScore(target, bound=BOUND)
    value, gradient = jax.value_and_grad(clipped.log_density)(POSITION)
    expected_value, expected_gradient = jax.value_and_grad(target.log_density)(POSITION)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12)
    assert root_mean_square(gradient) > BOUND


def test_a_short_score_is_left_alone_and_a_point_without_prior_stays_so():
    target = targets.skewed().target
    plain, clipped = target.at(POSITION), ClippedScore(target, bound=1e6).at(POSITION)
    np.testing.assert_allclose(clipped.score, plain.score, rtol=1e-12)
    assert plain.prior is None and clipped.prior is None
