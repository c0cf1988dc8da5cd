"""Diffusion: how much noise there is at first, and how the steps share it."""

import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.processes.diffusion import Diffusion, cosine_rates, linear_rates


@pytest.mark.parametrize("num_steps", [1, 2, 5, 96])
@pytest.mark.parametrize("rates", [cosine_rates, linear_rates])
def test_rates_have_mean_one_and_fall(rates, num_steps):
    relative = rates(num_steps)
    assert relative.shape == (num_steps,)
    assert np.all(relative > 0) and np.all(np.diff(relative) <= 0)
    # Cosine rates that would vanish are raised to a hundredth, which adds a little to the mean.
    assert float(jnp.mean(relative)) == pytest.approx(1.0, abs=0.005)


def test_linear_rates_have_mean_one_exactly():
    np.testing.assert_allclose(jnp.mean(linear_rates(7)), 1.0, rtol=1e-12)


def test_the_root_mean_square_of_the_noise_is_its_scale():
    for rates in (None, linear_rates(5)):
        diffusion = Diffusion(5, 3, 0.3, rates)
        assert diffusion.log_noise.shape == (5, 3)
        variance = jnp.mean(jnp.exp(2 * diffusion.log_noise), axis=0)
        np.testing.assert_allclose(jnp.sqrt(variance), 0.3, rtol=1e-9)


def test_a_step_has_its_own_deviation_and_variance():
    rates = linear_rates(4)
    diffusion, step = Diffusion(4, 2, 0.5, rates), jnp.asarray(2)
    np.testing.assert_allclose(diffusion.variance(step), jnp.full(2, 0.25 * rates[2]), rtol=1e-9)
    np.testing.assert_allclose(diffusion(step) ** 2, diffusion.variance(step), rtol=1e-9)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
        Diffusion(0, 2, 0.5)
    for scale in (0.0, -0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="scale must be a positive number"):
            Diffusion(3, 2, scale)
    for rates in (cosine_rates, linear_rates):
        with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
            rates(0)
