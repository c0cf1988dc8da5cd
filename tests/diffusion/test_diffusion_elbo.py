"""What a denoising loss is: theorems on normal data, where every integral is known."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import numpyro_bridge as nb
from numpyro_bridge.diffusion import adapted_schedule, negative_elbo, weightings
from numpyro_bridge.diffusion.noise import FlowPath, Tabulated, Truncated, VPCosine, VPLinear
from tests import catalogue, denoisers
from tests.statistics import assert_same_mean

ENDS = (-8.0, 7.0)
MEAN, SCALE, DIM = 0.7, 0.5, 2
NORMAL = denoisers.gaussian(MEAN, SCALE, DIM)
DENOISER = denoisers.exact(NORMAL, Truncated(VPCosine(), *ENDS))
DRAWS = nb.diffusion.Samples(NORMAL.draw(jax.random.key(9), 40_000))

WEIGHTINGS = {
    weightings.uniform: True,
    weightings.flow: True,
    weightings.sigmoid: True,
    weightings.cosine: False,
    weightings.edm: False,
    weightings.logit_normal: False,
    weightings.p2: False,
    weightings.min_snr: False,
}


def known_error(log_snr):
    """Squared error of the noise that the best denoiser of normal data makes."""
    snr = np.exp(log_snr)
    return DIM * SCALE**2 * snr / (SCALE**2 * snr + 1)


def known_loss(weighting) -> float:
    levels = jnp.linspace(*ENDS, 20_001)
    values = np.asarray(jax.vmap(weighting)(levels)) * known_error(np.asarray(levels))
    return float(0.5 * np.trapezoid(values, levels))


def losses_of(denoiser, samples, num: int = 64, **settings):
    """Independent estimates of the loss."""
    loss = partial(nb.diffusion_elbo, num_draws=64, **settings)
    keys = jax.random.split(jax.random.key(0), num)
    return eqx.filter_jit(jax.vmap(lambda key: loss(key, denoiser, samples)[0]))(keys)


SCHEDULES = {
    "cosine": DENOISER.schedule,
    "linear": Truncated(VPLinear(), *ENDS),
    "flow": Truncated(FlowPath(), *ENDS),
    "table": Tabulated(jnp.asarray([ENDS[0], -2.0, 1.0, 2.0, ENDS[1]])),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_weighted_loss_depends_on_the_ends_of_the_schedule_alone(schedule):
    weighting = partial(weightings.sigmoid, shift=1.0)
    losses = losses_of(DENOISER, DRAWS, schedule=schedule, weighting=weighting)
    assert_same_mean(losses, known_loss(weighting))
    assert np.std(losses) < 0.5 * np.mean(losses)


def test_other_ends_are_another_loss():
    with pytest.raises(AssertionError, match="standard errors"):
        losses = losses_of(DENOISER, DRAWS, schedule=Truncated(VPCosine(), -8.0, 4.0))
        assert_same_mean(losses, known_loss(weightings.uniform))


@pytest.fixture(scope="module")
def by_level() -> nb.diffusion.ElboByLevel:
    return nb.diffusion.elbo_by_level(
        jax.random.key(1), DENOISER, DRAWS, num_levels=301, num_draws=20_000
    )


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=lambda weighting: weighting.__name__)
def test_a_weighted_loss_is_the_mixture_of_the_bounds_at_all_levels(by_level, weighting):
    in_parts, whole = by_level.loss_from_parts(weighting), by_level.loss(weighting)
    np.testing.assert_allclose(in_parts, whole, rtol=2e-3)
    np.testing.assert_allclose(whole, known_loss(weighting), rtol=0.02)


def test_the_divergence_below_a_level_is_the_integral_of_the_error(by_level):
    np.testing.assert_allclose(by_level.error, known_error(by_level.log_snr), rtol=0.05)
    snr, first = np.exp(by_level.log_snr), np.exp(ENDS[0])
    integral = 0.5 * DIM * np.log((SCALE**2 * snr + 1) / (SCALE**2 * first + 1))
    divergence = by_level.divergence - by_level.start
    np.testing.assert_allclose(divergence, integral, rtol=0.02, atol=1e-3)
    assert by_level.plot(weightings.edm, weightings.flow)[1].get_legend() is not None


@pytest.mark.slow
@pytest.mark.parametrize(("weighting", "monotone"), WEIGHTINGS.items())
def test_a_weighting_mixes_bounds_if_it_never_rises(by_level, weighting, monotone):
    assert weightings.is_monotone(weighting) == monotone
    smallest = np.min(by_level.mass(weighting)) / np.max(np.abs(by_level.mass(weighting)) + 1e-9)
    assert (smallest > -1e-6) == monotone
    mended = weightings.Monotone(weighting)
    assert weightings.is_monotone(mended)
    levels = jnp.linspace(-9.0, 9.0, 31)
    values, mended = (np.asarray(jax.vmap(w)(levels)) for w in (weighting, mended))
    assert np.all(mended >= values)
    # Nothing is changed beyond the last peak, where the weighting falls.
    peak = np.argmax(values)
    np.testing.assert_allclose(mended[peak + 2 :], values[peak + 2 :], rtol=1e-4)
    highest = np.max(jax.vmap(weighting)(jnp.asarray(weightings.GRID)))
    np.testing.assert_allclose(mended[:peak], highest, rtol=1e-4)


def test_flow_matching_is_its_weighting_term_by_term():
    denoiser = nb.diffusion.untrained_denoiser(
        jax.random.key(0),
        DIM,
        width=8,
        depth=1,
        schedule=FlowPath(),
        prediction=nb.diffusion.predicts_flow,
    )
    denoiser = catalogue.perturbed(jax.random.key(1), denoiser)
    key = jax.random.key(2)
    _, plain = eqx.filter_jit(nb.flow_matching)(key, denoiser, DRAWS)
    _, weighted = eqx.filter_jit(partial(nb.diffusion_elbo, weighting=weightings.flow))(
        key, denoiser, DRAWS
    )
    np.testing.assert_allclose(plain.loss, weighted.loss, rtol=1e-9)


def test_the_uniform_weighting_is_the_negative_elbo():
    """It is the entropy of the data where the denoiser is exact, and more where it is not."""
    entropy = 0.5 * DIM * np.log(2 * np.pi * np.e * SCALE**2)
    keys = jax.random.split(jax.random.key(3), 40)

    @jax.jit
    def bounds(denoiser):
        return jax.vmap(lambda key: negative_elbo(key, denoiser, DRAWS, num_draws=512))(keys)

    # What is lost beyond the last level: the data are narrower than the variance that is assumed.
    ratio = (1 + np.exp(ENDS[1])) / (1 / SCALE**2 + np.exp(ENDS[1]))
    lost = 0.5 * DIM * (ratio - 1 - np.log(ratio))
    right = bounds(DENOISER)
    assert_same_mean(right, entropy + lost)
    wrong = bounds(eqx.tree_at(lambda d: d.network.means, DENOISER, NORMAL.means + 0.2))
    divergence = 0.5 * DIM * (0.2 / SCALE) ** 2
    assert_same_mean(wrong - right, divergence)


def test_an_adapted_schedule_takes_the_noise_away_and_not_the_loss():
    weighting = partial(weightings.sigmoid, shift=0.0)
    schedule = adapted_schedule(jax.random.key(4), DENOISER, DRAWS, weighting=weighting)
    np.testing.assert_allclose(schedule.knots[jnp.array([0, -1])], ENDS, rtol=1e-9)
    plain, adapted = (
        losses_of(DENOISER, DRAWS, weighting=weighting, schedule=s) for s in (None, schedule)
    )
    assert_same_mean(adapted, known_loss(weighting))
    # One draw's loss is as large at any time, on average: what is left is the noise of the draw.
    loss = partial(nb.diffusion_elbo, num_draws=8_000, weighting=weighting, schedule=schedule)
    _, losses = eqx.filter_jit(loss)(jax.random.key(5), DENOISER, DRAWS)
    parts = np.mean(np.asarray(losses.loss).reshape(8, -1), axis=1)
    np.testing.assert_allclose(parts, np.mean(parts), rtol=0.15)
    assert np.std(adapted) < np.std(plain)


def test_weights_and_contexts_travel_with_their_draws():
    positions = jnp.arange(4.0)[:, None]
    log_weight = jnp.log(jnp.asarray([1.0, 0.0, 2.0, 5.0]))
    samples = nb.diffusion.Samples(positions, log_weight, score=-positions, context=10 * positions)
    batch = samples.minibatch(jax.random.key(0), 20_000)
    assert batch.log_weight is None
    np.testing.assert_array_equal(batch.context, 10 * batch.position)
    np.testing.assert_array_equal(batch.score, -batch.position)
    expected = np.asarray([1, 0, 2, 5]) / 8
    assert_same_mean(batch.position == jnp.arange(4.0), np.tile(expected, (2, 1)))
    even = samples._replace(log_weight=None).minibatch(jax.random.key(0), 20_000)
    assert_same_mean(even.position == jnp.arange(4.0), np.full((2, 4), 0.25))


def test_the_bound_over_all_levels_wants_finite_ends():
    with pytest.raises(ValueError, match="from log-SNR -inf to inf"):
        nb.diffusion.elbo_by_level(jax.random.key(0), denoisers.exact(NORMAL, FlowPath()), DRAWS)


@pytest.mark.slow
def test_fit_trains_a_denoiser_on_weighted_draws():
    """From draws of one distribution, weighted to another, the denoiser learns the second."""
    wide = 1.5 * jax.random.normal(jax.random.key(0), (4_000, 1))
    log_ratio = -0.5 * ((wide[:, 0] - 0.5) / 0.6) ** 2 + 0.5 * (wide[:, 0] / 1.5) ** 2
    training = nb.training.fit(
        jax.random.key(1),
        nb.diffusion.untrained_denoiser(jax.random.key(2), 1, width=16, depth=1),
        jax.tree_util.Partial(nb.diffusion_elbo, num_draws=128),
        nb.diffusion.Samples(wide, log_ratio),
        optimizer=optax.adam(1e-2),
        num_iterations=400,
        tolerance=0.0,
        metrics=nb.training.LossMetrics,
        progress_bar=False,
    )
    expected = denoisers.exact(denoisers.gaussian(0.5, 0.6, 1))
    noisy, time = jnp.linspace(-1.0, 1.5, 5)[:, None], jnp.asarray(0.5)
    seen, right = (jax.vmap(d, in_axes=(0, None))(noisy, time) for d in (training.module, expected))
    np.testing.assert_allclose(seen.clean, right.clean, atol=0.12)
    # What it reports is a loss, and not called an ELBO.
    assert np.isfinite(training.metrics.loss).all() and training.metrics.loss.shape == (400,)
    assert not hasattr(training.metrics, "elbo")
