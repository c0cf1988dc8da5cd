"""What a denoiser learns from: draws in coordinates of unit scale, and some held out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.diffusion.noise import VPCosine
from numpyro_bridge.diffusion.samples import Samples
from numpyro_bridge.infer.learning import divided, map_of_draws, training_levels
from tests import denoisers


def test_a_tenth_of_the_draws_is_held_out_and_none_is_lost():
    positions = jnp.arange(20.0)[:, None]
    parts = divided(jax.random.key(0), Samples(positions, jnp.arange(20.0)))
    assert parts.training.position.shape == (18, 1) and parts.held_out.position.shape == (2, 1)
    together = jnp.concatenate([parts.training.position, parts.held_out.position])
    np.testing.assert_array_equal(jnp.sort(together, axis=0), positions)
    for part in parts:
        np.testing.assert_array_equal(part.log_weight, part.position[:, 0])


def test_weighted_draws_have_mean_zero_and_unit_covariance_in_their_map():
    rng = np.random.default_rng(0)
    positions = jnp.asarray(rng.normal(size=(50, 3)) * [1.0, 10.0, 0.1] + [5.0, -3.0, 0.0])
    log_weight = jnp.asarray(rng.normal(size=50))
    inside = jax.vmap(map_of_draws(positions, log_weight).inverse)(positions)
    weight = jax.nn.softmax(log_weight)
    mean = weight @ inside
    covariance = (inside.T * weight) @ inside
    np.testing.assert_allclose(mean, 0.0, atol=1e-6)
    np.testing.assert_allclose(covariance, jnp.eye(3), atol=1e-4)


def test_levels_of_training_need_finite_ends():
    endless = denoisers.exact(denoisers.mixture(), VPCosine())
    for with_scores in (True, False):
        with pytest.raises(ValueError, match="the loss needs finite ends, as Truncated"):
            training_levels(endless, with_scores=with_scores)


def test_levels_of_training_run_between_the_ends_of_the_denoiser():
    denoiser = denoisers.exact(denoisers.mixture())
    ends = jnp.asarray([0.0, 1.0])
    expected = jax.vmap(denoiser.schedule.log_snr)(ends)
    for with_scores in (True, False):
        schedule = training_levels(denoiser, with_scores=with_scores)
        found = jax.vmap(schedule.log_snr)(ends)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
