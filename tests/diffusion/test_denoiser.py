"""Noise schedules, and the four quantities that a denoiser may predict."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.descriptions import blank_arrays, describe
from numpyro_bridge._core.rebuilding import rebuild
from numpyro_bridge.diffusion import noise as noise_schedules
from numpyro_bridge.diffusion.denoiser import ancestral_coefficients, renoised
from numpyro_bridge.diffusion.noise import Level, Truncated, unit_level
from tests import denoisers
from tests.statistics import assert_same_mean

SCHEDULES = {
    "FlowPath": noise_schedules.FlowPath(),
    "VPCosine": noise_schedules.VPCosine(),
    "VPLinear": noise_schedules.VPLinear(),
    "VE": noise_schedules.VE(),
    "EDM": noise_schedules.EDM(),
    "ScheduleFrom": noise_schedules.ScheduleFrom(lambda t: 2 * t**2, lambda t: 3 - 3 * t),
    "Tabulated": noise_schedules.Tabulated(jnp.asarray([-8.0, -1.0, 2.0, 9.0])),
    "Truncated": Truncated(noise_schedules.FlowPath(), -6.0, 7.0),
}
TIMES = jnp.linspace(0.02, 0.98, 9)
PREDICTIONS = [
    nb.diffusion.predicts_clean,
    nb.diffusion.predicts_noise,
    nb.diffusion.predicts_velocity,
    nb.diffusion.predicts_flow,
]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_schedule_rises_and_is_inverted(schedule):
    log_snr = jax.vmap(schedule.log_snr)(TIMES)
    np.testing.assert_allclose(jax.vmap(schedule.time_of)(log_snr), TIMES, rtol=1e-9)
    assert jnp.all(jnp.diff(log_snr) > 0)
    step = 1e-6
    ahead, behind = (jax.vmap(schedule.log_snr)(TIMES + sign * step) for sign in (1, -1))
    slope = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(jax.vmap(schedule.rate)(TIMES), slope, rtol=1e-5)


def test_schedules_run_from_noise_to_data():
    for schedule in (SCHEDULES["FlowPath"], SCHEDULES["VPCosine"]):
        np.testing.assert_allclose(schedule.at(jnp.asarray(0.0)), (0.0, 1.0), atol=1e-12)
        np.testing.assert_allclose(schedule.at(jnp.asarray(1.0)), (1.0, 0.0), atol=1e-12)
    piece = SCHEDULES["Truncated"]
    ends = [piece.log_snr(jnp.asarray(time)) for time in (0.0, 1.0)]
    np.testing.assert_allclose(ends, (-6.0, 7.0), rtol=1e-9)
    with pytest.raises(ValueError, match="log_snr_min should be below log_snr_max, got 3.0"):
        Truncated(noise_schedules.VPCosine(), 3.0, -3.0)


class Speaking(eqx.Module):
    """An exact network that predicts another quantity, from which the same follows."""

    exact: denoisers.ExactVelocity
    prediction: object = eqx.field(static=True)

    def __call__(self, noisy, log_snr, context=None):
        level = unit_level(log_snr)
        of_clean, of_noise = self.prediction(level)
        clean, noise = self.exact.parts(noisy, level)
        return of_clean * clean + of_noise * noise


@pytest.mark.fast
@pytest.mark.parametrize("prediction", PREDICTIONS, ids=lambda function: function.__name__)
def test_every_kind_of_prediction_gives_the_same_denoiser(prediction):
    """What the denoiser returns does not depend on what its network predicts."""
    exact = denoisers.mixture()
    denoiser = nb.diffusion.Denoiser(Speaking(exact, prediction), prediction=prediction)
    clean, noise = jnp.asarray([0.3, -0.4]), jnp.asarray([-1.1, 0.6])
    for level in (Level(jnp.asarray(3.0), jnp.asarray(1.0)), unit_level(jnp.asarray(-2.0))):
        noisy = level.mix(clean, noise)
        expected = exact.parts(noisy / level.scale, level.unit)
        seen = denoiser.at_level(noisy, level)
        np.testing.assert_allclose(seen, expected, rtol=1e-10)
        np.testing.assert_allclose(level.mix(*seen), noisy, rtol=1e-10)
        error = jnp.sum((expected[1] - noise) ** 2)
        np.testing.assert_allclose(denoiser.noise_error(clean, noise, level), error, rtol=1e-9)
        of_clean, of_noise = prediction(level.unit)
        spoken = {
            nb.diffusion.predicts_clean: seen.clean,
            nb.diffusion.predicts_noise: seen.noise,
            nb.diffusion.predicts_velocity: seen.velocity(level),
            nb.diffusion.predicts_flow: seen.flow,
        }
        said = of_clean * seen.clean + of_noise * seen.noise
        np.testing.assert_allclose(spoken[prediction], said, rtol=1e-10)


def test_the_score_is_that_of_the_noisy_density():
    exact, level = denoisers.mixture(), unit_level(jnp.asarray(0.5))
    noisy = jnp.asarray([0.2, -0.9])
    score = jax.grad(lambda z: jax.nn.logsumexp(exact.log_parts(z, level)))(noisy)
    seen = denoisers.exact(exact).at_level(noisy, level)
    np.testing.assert_allclose(seen.score(level), score, rtol=1e-10)


def test_an_untrained_denoiser_is_exact_for_a_standard_normal_distribution():
    denoiser = nb.diffusion.untrained_denoiser(jax.random.key(0), 2, width=8, depth=1)
    noisy = jnp.asarray([0.4, -2.0])
    for log_snr in (-3.0, 2.0, jnp.inf):
        level = unit_level(jnp.asarray(log_snr))
        seen = eqx.filter_jit(nb.diffusion.Denoiser.at_level)(denoiser, noisy, level)
        np.testing.assert_allclose(seen.clean, level.alpha * noisy, rtol=1e-10)


def test_the_network_wants_the_context_it_was_made_for():
    with_context = nb.diffusion.untrained_denoiser(
        jax.random.key(0), 2, width=8, depth=1, context_size=3
    )
    noisy, time = jnp.zeros(2), jnp.asarray(0.5)
    assert with_context(noisy, time, jnp.ones(3)).clean.shape == (2,)
    with pytest.raises(ValueError, match="takes a context of size 3, got none"):
        with_context(noisy, time)
    without = nb.diffusion.untrained_denoiser(jax.random.key(0), 2, width=8, depth=1)
    with pytest.raises(ValueError, match="takes a context of size 0, got shape"):
        without(noisy, time, jnp.ones(3))


def test_the_target_score_identity_changes_the_noise_of_the_gradient_and_not_its_mean():
    """At the exact denoiser the gradient is zero on average, with scores and without."""
    exact = denoisers.mixture()
    denoiser, level = denoisers.exact(exact), unit_level(jnp.asarray(-0.5))
    clean = exact.draw(jax.random.key(0), 20_000)
    noise = jax.random.normal(jax.random.key(1), clean.shape)

    class Shifted(eqx.Module):
        shift: jax.Array

        def __call__(self, noisy, log_snr, context=None):
            return exact(noisy, log_snr) + self.shift * jnp.tanh(noisy)

    def gradient(clean, noise, score):
        def error(shift):
            shifted = eqx.tree_at(lambda d: d.network, denoiser, Shifted(shift))
            return shifted.noise_error(clean, noise, level, score=score)

        return jax.grad(error)(jnp.zeros(2))

    scores = jax.jit(jax.vmap(jax.grad(exact.log_prob)))(clean)
    plain = jax.jit(jax.vmap(partial(gradient, score=None)))(clean, noise)
    informed = jax.jit(jax.vmap(gradient))(clean, noise, scores)
    assert_same_mean(plain, 0.0)
    assert_same_mean(informed, 0.0)
    # A normal distribution with unit scale, wherever it lies, leaves no noise at all.
    shifted = denoisers.gaussian(0.7, 1.0)
    error = denoisers.exact(shifted).noise_error(
        clean[0], noise[0], level, score=jax.grad(shifted.log_prob)(clean[0])
    )
    np.testing.assert_allclose(error, 0.0, atol=1e-20)


def test_ancestral_kernels_and_renoising_are_those_of_normal_data():
    """Data, a step towards them, and noise put back have the right joint distributions."""
    now, then = unit_level(jnp.asarray(-1.0)), unit_level(jnp.asarray(1.5))
    scale = 0.6
    of_noisy, of_clean, variance = ancestral_coefficients(now, then, scale**2)
    gain = now.alpha * scale**2 / (now.alpha**2 * scale**2 + now.sigma**2)
    slope = of_noisy + of_clean * gain
    spread = now.alpha**2 * scale**2 + now.sigma**2
    # Both levels together are normal; what they share gives covariance and variance.
    shared = then.alpha * now.alpha * scale**2 + now.alpha / then.alpha * then.sigma**2
    np.testing.assert_allclose(slope * spread, shared, rtol=1e-12)
    later = then.alpha**2 * scale**2 + then.sigma**2
    np.testing.assert_allclose(slope**2 * spread + variance, later, rtol=1e-12)
    keys = jax.random.split(jax.random.key(0), 20_000)
    back = jax.vmap(lambda key: renoised(key, jnp.ones(1), then, now))(keys)[:, 0]
    mean = now.alpha / then.alpha
    added = now.sigma**2 - (mean * then.sigma) ** 2
    assert_same_mean(back, float(mean))
    assert_same_mean((back - mean) ** 2, float(added))


def test_a_denoiser_is_saved_with_what_it_predicts():
    denoiser = nb.diffusion.untrained_denoiser(
        jax.random.key(0), 2, width=8, depth=1, prediction=nb.diffusion.predicts_flow
    )
    arrays = []
    description = describe(denoiser, arrays)
    assert len(blank_arrays(description)) == len(arrays)
    again = rebuild(description, list(arrays))
    assert again.prediction is nb.diffusion.predicts_flow
    noisy, time = jnp.ones(2), jnp.asarray(0.3)
    np.testing.assert_array_equal(again(noisy, time).clean, denoiser(noisy, time).clean)
