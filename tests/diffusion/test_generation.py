"""Generation: what each step does, on distributions whose flows are known."""

import sys
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import numpyro_bridge as nb
from numpyro_bridge.diffusion import generation
from numpyro_bridge.diffusion.generation import base, even_times
from numpyro_bridge.diffusion.generation.generate import generate_from
from numpyro_bridge.diffusion.noise import (
    VE,
    FlowPath,
    ScheduleFrom,
    Truncated,
    VPCosine,
    VPLinear,
)
from tests import denoisers

SCHEDULES = {"flow": FlowPath(), "cosine": VPCosine(), "linear": VPLinear(), "exploding": VE()}
PIECE = Truncated(VPCosine(), -7.0, 6.0)
KEY = jax.random.key(0)


def noisy_at(time, position) -> base.Noisy:
    time = jnp.asarray(time)
    return base.Noisy(position, time, jnp.zeros_like(position), time)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_ddim_is_eulers_step_of_the_flow(schedule):
    """To rounding, from any time to any later one, also from pure noise and to pure data."""
    denoiser = denoisers.exact(denoisers.mixture(), schedule)
    for time, then in ((0.0, 0.3), (0.2, 0.7), (0.6, 1.0)):
        noisy = noisy_at(time, jnp.asarray([0.4, -1.3]))
        steps = [
            step(KEY, denoiser, noisy, jnp.asarray(then)).position
            for step in (generation.ddim_step, generation.euler_step)
        ]
        np.testing.assert_allclose(steps[0], steps[1], rtol=1e-10, atol=1e-12)


def test_ddim_does_not_see_the_scale_of_a_schedule():
    """Any rescaling of alpha and sigma, different at every time, gives the same draw."""
    data, cosine = denoisers.mixture(), VPCosine()
    scaled = ScheduleFrom(
        lambda time: (1 + 3 * time**2) * cosine.at(time).alpha,
        lambda time: (1 + 3 * time**2) * cosine.at(time).sigma,
    )
    draws = [
        generation.generate_many(
            KEY, denoisers.exact(data, s), generation.ddim_step, even_times(7), 50, dim=2
        )
        for s in (cosine, scaled)
    ]
    np.testing.assert_allclose(draws[0], draws[1], rtol=1e-9)


DETERMINISTIC = {
    "ddim": (generation.ddim_step, 1),
    "euler": (generation.euler_step, 1),
    "heun": (generation.heun_step, 2),
    "dpm": (generation.dpm_solver_step, 2),
}


@pytest.mark.parametrize(("step", "order"), DETERMINISTIC.values(), ids=DETERMINISTIC)
def test_deterministic_steps_have_their_order(step, order):
    """On normal data the flow keeps the number of standard deviations from the mean."""
    mean, scale = 0.7, 0.5
    denoiser = denoisers.exact(denoisers.gaussian(mean, scale, 1), Truncated(VPCosine(), -3.0, 4.0))
    first, last = (denoiser.schedule.at(jnp.asarray(time)) for time in (0.0, 1.0))
    start = jnp.asarray([1.4])

    def spread(level):
        return jnp.sqrt(level.alpha**2 * scale**2 + level.sigma**2)

    exact = last.alpha * mean + spread(last) / spread(first) * (start - first.alpha * mean)

    def error(num_steps):
        keys = jax.random.split(KEY, num_steps)
        end = generate_from(keys, denoiser, step, even_times(num_steps), noisy_at(0.0, start))
        return float(jnp.abs(end - exact / last.alpha)[0])

    few, many = error(40), error(80)
    assert few > 1e-7
    assert abs(few / many - 2**order) < 0.1 * 2**order


def coefficients(step, denoiser, time, then):
    """Mean at two noisy vectors and variance of a random step in one dimension."""
    keys = jax.random.split(KEY)
    noises = [jax.random.normal(key, (1,)) for key in keys]
    means, variance = [], None
    for start in (0.0, 1.0):
        noisy = noisy_at(time, jnp.asarray([start]))
        one, two = (step(key, denoiser, noisy, jnp.asarray(then)).position for key in keys)
        scale = (one - two) / (noises[0] - noises[1])
        means.append(float((one - scale * noises[0])[0]))
        variance = float(scale[0] ** 2)
    return np.asarray([*means, variance])


def test_ddpm_is_ddim_over_twice_the_step_and_noise_put_back():
    """The mean to rounding, the variance to second order in the step of the log-SNR."""
    denoiser = denoisers.exact(denoisers.mixture(1), PIECE)
    time = denoiser.schedule.time_of(jnp.asarray(0.5))

    def difference(gap):
        then = denoiser.schedule.time_of(jnp.asarray(0.5 + gap))
        steps = (generation.ddpm_step, generation.churned_step(1.0))
        ddpm, churned = (coefficients(step, denoiser, time, then) for step in steps)
        np.testing.assert_allclose(ddpm[:2], churned[:2], rtol=1e-9)
        return abs(ddpm[2] - churned[2])

    wide, narrow = difference(0.1), difference(0.05)
    assert wide > 1e-4
    np.testing.assert_allclose(wide / narrow, 4.0, rtol=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0, 3.0])
def test_churn_leaves_the_marginals_unchanged(amount):
    """At every time mean and variance are right, to first order in the step."""
    mean, scale = 0.7, 0.5
    denoiser = denoisers.exact(denoisers.gaussian(mean, scale, 1), PIECE)
    step = generation.churned_step(amount)

    def affine(time, then):
        """Offset, slope and variance; noise of two keys tells the last from the others."""
        keys = jax.random.split(KEY)
        noises = jnp.stack([jax.random.normal(key, (1,))[0] for key in keys])

        def end(key, start):
            noisy = noisy_at(time, jnp.asarray([start]))
            return step(key, denoiser, noisy, then).position[0]

        one, two, other = end(keys[0], 0.0), end(keys[1], 0.0), end(keys[0], 1.0)
        noise = (one - two) / (noises[0] - noises[1])
        return one - noise * noises[0], other - one, noise**2

    @partial(jax.jit, static_argnums=0)
    def worst(num_steps):
        times = even_times(num_steps)
        level = jax.vmap(denoiser.schedule.at)(times)
        right = level.alpha * mean, level.alpha**2 * scale**2 + level.sigma**2
        offset, slope, added = jax.vmap(affine)(times[:-1], times[1:])

        def follow(moments, rule):
            mean, variance = moments
            moments = rule[0] + rule[1] * mean, rule[1] ** 2 * variance + rule[2]
            return moments, moments

        _, found = jax.lax.scan(follow, (right[0][0], right[1][0]), (offset, slope, added))
        pairs = zip(found, right, strict=True)
        errors = [jnp.max(jnp.abs(ours - exact[1:])) for ours, exact in pairs]
        return jnp.max(jnp.stack(errors))

    few, many = float(worst(50)), float(worst(200))
    assert many < 0.03
    assert few > 2.5 * many


def test_churn_refuses_to_take_noise_away():
    with pytest.raises(ValueError, match="amount must be a number >= 0.*got -0.1"):
        generation.churned_step(-0.1)


@pytest.mark.parametrize("step", [generation.ddpm_step, generation.churned_step(1.0)])
def test_random_steps_go_from_pure_noise_to_pure_data(step):
    """Infinite log-SNR at both ends does no harm, and the draws are about right."""
    data = denoisers.mixture()
    denoiser = denoisers.exact(data, VPCosine())
    draws = generation.generate_many(KEY, denoiser, step, even_times(64), 4_000, dim=2)
    exact = data.draw(jax.random.key(1), 4_000)
    np.testing.assert_allclose(jnp.mean(draws, 0), jnp.mean(exact, 0), atol=0.08)
    np.testing.assert_allclose(jnp.std(draws, 0), jnp.std(exact, 0), rtol=0.06)


# --- reflow ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straightened():
    """A one-dimensional flow to two modes, and the same flow learned from its own pairs."""
    bent = denoisers.exact(denoisers.mixture(1), Truncated(FlowPath(), -12.0, 12.0))
    pairs = nb.diffusion.reflow_pairs(jax.random.key(1), bent, 4_000, dim=1)
    training = nb.training.fit(
        jax.random.key(2),
        nb.diffusion.untrained_denoiser(
            jax.random.key(3), 1, width=32, depth=2, prediction=nb.diffusion.predicts_flow
        ),
        jax.tree_util.Partial(nb.flow_matching, num_draws=256),
        pairs,
        optimizer=optax.adam(5e-3),
        num_iterations=600,
        tolerance=0.0,
        metrics=nb.training.LossMetrics,
        progress_bar=False,
    )
    return bent, training.module


@pytest.mark.slow
def test_reflow_straightens(straightened):
    before, after = (nb.diffusion.curvature(KEY, flow, dim=1) for flow in straightened)
    assert float(before) > 0.1
    assert float(after) < 0.3 * float(before)


def test_few_steps_lose_less_after_reflow(straightened):
    exact = jnp.sort(denoisers.mixture(1).draw(jax.random.key(4), 20_000)[:, 0])

    def distance(flow):
        """Earth mover's distance from the data to what four of Euler's steps generate."""
        few = generation.generate_many(
            KEY,
            nb.diffusion.with_flow_path(flow),
            generation.euler_step,
            even_times(4),
            20_000,
            dim=1,
        )
        return float(jnp.mean(jnp.abs(jnp.sort(few[:, 0]) - exact)))

    before, after = map(distance, straightened)
    assert after < 0.5 * before, (before, after)


# --- densities ------------------------------------------------------------------------------------

FINE = Truncated(VPCosine(), -16.0, 16.0)


@pytest.mark.parametrize("data", [denoisers.gaussian(), denoisers.mixture()], ids=["normal", "two"])
def test_the_flow_has_the_density_of_the_data(data):
    denoiser = denoisers.exact(data, FINE)
    clean = data.draw(jax.random.key(5), 20)
    density = eqx.filter_jit(jax.vmap(partial(nb.diffusion.log_density, denoiser, tolerance=1e-6)))
    np.testing.assert_allclose(density(clean), jax.vmap(data.log_prob)(clean), atol=1e-3)


def test_in_many_dimensions_the_divergence_is_estimated():
    """For round normal data the Jacobian is a multiple of one: any probe gives its trace."""
    data = denoisers.gaussian(0.3, 0.8, dim=70)
    denoiser = denoisers.exact(data, FINE)
    clean = data.draw(jax.random.key(6), 1)[0]
    density = partial(nb.diffusion.log_density, denoiser, num_probes=2)
    estimate = eqx.filter_jit(density)(clean, rng_key=KEY)
    np.testing.assert_allclose(estimate, data.log_prob(clean), atol=5e-3)
    with pytest.raises(ValueError, match="needs rng_key=...; this vector has 70"):
        density(clean)


def test_noise_flows_to_the_quantile_that_it_is():
    data = denoisers.gaussian(0.7, 0.5, dim=2)
    noise = jnp.asarray([1.0, -2.0])
    draw = eqx.filter_jit(nb.diffusion.flow_of)(denoisers.exact(data, FINE), noise)
    np.testing.assert_allclose(draw, 0.7 + 0.5 * noise, atol=1e-3)


def test_a_missing_solver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r'pip install "numpyro-bridge\[ode\]"'):
        nb.diffusion.log_density(denoisers.exact(denoisers.gaussian(), FINE), jnp.zeros(2))
