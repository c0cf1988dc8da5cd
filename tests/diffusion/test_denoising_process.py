"""A denoiser as a process: exact weights, whatever it was trained to."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.weights import effective_sample_size
from numpyro_bridge.diffusion import negative_elbo
from numpyro_bridge.diffusion.denoiser import predicts_velocity
from numpyro_bridge.trajectories.simulate import simulate_many
from tests import catalogue, denoisers, targets
from tests.statistics import assert_same_mean

DATA = denoisers.mixture(1)
TARGET = nb.target_from_log_density(
    jax.tree_util.Partial(lambda data, x: data.log_prob(x) - 2.0, DATA), 1
)
run_forward = eqx.filter_jit(simulate_many)


@eqx.filter_jit
def run_backward(rng_key, process, target, positions):
    backward = jax.vmap(nb.trajectories.simulate_backward, in_axes=(0, None, None, 0))
    keys = jax.random.split(rng_key, len(positions))
    return backward(keys, process, target, positions)


@pytest.mark.fast
@pytest.mark.parametrize("num_steps", [1, 3])
def test_both_chains_agree_on_a_standard_normal_target(num_steps):
    """At any number of steps, to rounding."""
    known = targets.normal(np.zeros(2), np.eye(2))
    denoiser = nb.diffusion.untrained_denoiser(jax.random.key(0), 2, width=8, depth=1)
    process = nb.diffusion.DenoisingProcess(denoiser, 2, num_steps=num_steps)
    runs = run_forward(jax.random.key(1), process, known.target, 100)
    np.testing.assert_allclose(runs.log_weight, known.log_evidence, rtol=1e-9)
    assert process.log_snrs.shape == (num_steps + 1,)


def test_an_exact_denoiser_weighs_alike_as_the_steps_get_small():
    process = partial(nb.diffusion.DenoisingProcess, denoisers.exact(DATA), 1)
    few, many = (
        run_forward(jax.random.key(2), process(num_steps=num), TARGET, 4_000) for num in (8, 128)
    )
    assert_same_mean(jnp.exp(many.log_weight + 2.0), 1.0)
    assert np.std(many.log_weight) < 0.4 * np.std(few.log_weight)
    assert float(effective_sample_size(many.log_weight)) > 0.95


@pytest.mark.slow
def test_the_upper_bound_is_the_negative_elbo_of_the_draws():
    """EUBO of the discrete chains = mean log density of the draws + the bound by integration."""
    denoiser = eqx.tree_at(lambda d: d.network.means, denoisers.exact(DATA), DATA.means + 0.15)
    draws = DATA.draw(jax.random.key(3), 20_000)
    runs = run_backward(
        jax.random.key(4), nb.diffusion.DenoisingProcess(denoiser, 1, num_steps=96), TARGET, draws
    )
    upper = float(jnp.mean(runs.log_weight))
    bound = negative_elbo(
        jax.random.key(5), denoiser, nb.diffusion.Samples(draws), num_draws=50_000
    )
    by_integration = float(bound + jnp.mean(jax.vmap(TARGET.log_density)(draws)))
    assert upper + 2.0 > 0.05  # the denoiser is wrong, so the bound is not met
    np.testing.assert_allclose(upper + 2.0, by_integration + 2.0, atol=0.05)


def test_the_target_is_asked_at_the_clean_vector_alone():
    """Elsewhere on a path nothing depends on it, not even whether it is finite."""

    def log_density(x):
        return jnp.where(jnp.abs(x[0]) < 3, -jnp.sum(x**2), jnp.nan)

    target = nb.target_from_log_density(log_density, 1)
    runs = run_forward(
        jax.random.key(6), catalogue.denoising_process(jax.random.key(0), 1), target, 4_000
    )
    position, finite = runs.states.position[..., 0], runs.states.finite
    outside = jnp.abs(position) > 3
    assert jnp.any(outside[:, :-1])
    assert jnp.all(finite[:, :-1])
    np.testing.assert_array_equal(finite[:, -1], ~outside[:, -1])
    np.testing.assert_array_equal(runs.states.log_density[:, :-1], 0.0)


@pytest.mark.slow
def test_scales_and_levels_are_learned_afterwards():
    """While the denoiser stays fixed, `reverse_kl_ld` raises the ELBO of a bridge of few steps."""
    process = nb.diffusion.DenoisingProcess(denoisers.exact(DATA), 1, num_steps=4)
    held = eqx.tree_at(
        lambda p: p.denoiser,
        jax.tree.map(eqx.is_inexact_array, process),
        replace_fn=lambda d: False,
    )
    training = nb.training.fit(
        jax.random.key(7),
        process,
        jax.tree_util.Partial(nb.reverse_kl_ld, num_trajectories=128),
        TARGET,
        optimizer=optax.adam(2e-2),
        num_iterations=150,
        trainable=held,
        progress_bar=False,
    )
    before, after = (
        float(jnp.mean(run_forward(jax.random.key(8), p, TARGET, 8_000).log_weight))
        for p in (process, training.module)
    )
    assert before + 0.02 < after < -2.0 + 0.01
    np.testing.assert_array_equal(training.module.denoiser.network.means, DATA.means)
    assert jnp.all(jnp.diff(training.module.log_snrs[:-1]) > 0)


def test_a_bridge_needs_a_step():
    denoiser = nb.diffusion.Denoiser(DATA, prediction=predicts_velocity)
    with pytest.raises(ValueError, match="num_steps must be a whole number >= 1.*got 0"):
        nb.diffusion.DenoisingProcess(denoiser, 1, num_steps=0)


def test_a_bridge_needs_a_denoiser(as_users):
    with pytest.raises(ValueError, match="made from a trained denoiser, as nb.DiffusionSampler"):
        nb.BridgeSampler(
            lambda: numpyro.sample("x", dist.Normal()), process=nb.diffusion.DenoisingProcess
        )
