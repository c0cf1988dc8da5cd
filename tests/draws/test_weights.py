"""Weights of known distribution: tails, evidence, resampling and Metropolis against arithmetic."""

import importlib

import arviz
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.diagnostics import psis_weights

from numpyro_bridge._core import weights
from numpyro_bridge._core.pareto import Pareto

pytestmark = pytest.mark.fast


def pareto_log_weight(rng_key, k, num):
    """Weights with a Pareto tail: exceedances over any threshold are generalised Pareto(k)."""
    return -k * jnp.log(jax.random.uniform(rng_key, (num,), minval=1e-300, maxval=1.0))


# --- sums -----------------------------------------------------------------------------------------


def test_effective_sample_size_counts_the_draws_that_count():
    log_weight = jnp.where(jnp.arange(100) < 25, 0.0, -jnp.inf)
    np.testing.assert_allclose(weights.effective_sample_size(log_weight), 0.25, rtol=1e-6)
    assert weights.effective_sample_size(jnp.full(7, -1234.5)) == pytest.approx(1.0, abs=1e-6)
    one_heavy = jnp.zeros(50).at[3].set(800.0)
    assert weights.effective_sample_size(one_heavy) == pytest.approx(1 / 50, rel=1e-6)


@pytest.mark.parametrize("shift", [-5e4, 0.0, 5e4])
def test_effective_sample_size_ignores_the_scale_of_weights(shift):
    log_weight = jax.random.normal(jax.random.key(0), (1000,))
    expected = np.sum(np.exp(log_weight)) ** 2 / (1000 * np.sum(np.exp(2 * log_weight)))
    np.testing.assert_allclose(
        weights.effective_sample_size(log_weight + shift), expected, rtol=1e-6
    )


def test_effective_sample_size_in_float32_never_exceeds_one():
    for num in (3, 1000, 12_345):
        log_weight = jnp.full(num, 0.1, jnp.float32)
        assert float(weights.effective_sample_size(log_weight)) <= 1.0


def test_log_evidence_and_its_error_are_calibrated():
    """Lognormal weights of known mean: the standard error is that of repeated estimates."""
    spread = 0.5
    log_weight = 3.0 + spread * jax.random.normal(jax.random.key(0), (400, 2000))
    estimates, errors = jax.vmap(weights.log_evidence)(log_weight)
    z = (estimates - (3.0 + spread**2 / 2)) / errors
    assert abs(z.mean()) * 400**0.5 < 4
    assert abs(z.std() - 1) < 4 / 800**0.5
    np.testing.assert_allclose(errors.mean(), np.sqrt(np.expm1(spread**2) / 2000), rtol=0.02)


def test_elbo_and_its_error_are_calibrated():
    log_weight = -1.0 + 2.0 * jax.random.normal(jax.random.key(0), (400, 200))
    means, errors = jax.vmap(weights.elbo)(log_weight)
    z = (means + 1.0) / errors
    assert abs(z.mean()) * 400**0.5 < 4
    assert abs(z.std() - 1) < 4 / 800**0.5


def test_elbo_is_below_the_evidence_and_equal_for_equal_weights():
    log_weight = jax.random.normal(jax.random.key(0), (100,))
    assert weights.elbo(log_weight)[0] < weights.log_evidence(log_weight)[0]
    for estimate, error in (weights.elbo(jnp.full(9, 2.5)), weights.log_evidence(jnp.full(9, 2.5))):
        np.testing.assert_allclose([estimate, error], [2.5, 0], atol=1e-12)


def test_one_draw_has_no_finite_error():
    assert weights.elbo(jnp.array([1.0])) == (1.0, np.inf)
    assert weights.log_evidence(jnp.array([1.0])) == (1.0, np.inf)


def test_zero_weights_count_in_the_mean():
    estimate, error = weights.log_evidence(jnp.array([0.0, -jnp.inf, 0.0, -1e10]))
    np.testing.assert_allclose(estimate, np.log(0.5))
    np.testing.assert_allclose(error, np.std([2, 0, 2, 0], ddof=1) / 2)


# --- Pareto smoothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0.2, 0.5, 0.8])
def test_tail_index_is_found(k):
    num, repeats = 20_000, 8
    keys = jax.random.split(jax.random.key(1), repeats)
    found = [weights.pareto_smooth(pareto_log_weight(key, k, num)).pareto_k for key in keys]
    tail = 3 * num**0.5
    expected = (tail * k + 10 * 0.5) / (tail + 10)  # the fit shrinks towards one half
    error = (1 + k) / tail**0.5 / repeats**0.5
    # The fit has a bias of a few percent itself, besides the Monte Carlo error.
    assert abs(np.mean(found) - expected) < 4 * error + 0.02


def test_tail_index_is_monotone():
    """The same uniform numbers, raised to heavier and heavier tails."""
    found = [
        weights.pareto_smooth(pareto_log_weight(jax.random.key(2), k, 4000)).pareto_k
        for k in (0.1, 0.3, 0.5, 0.7, 0.9, 1.5)
    ]
    assert all(low < high for low, high in zip(found, found[1:], strict=False))


def test_a_flipped_sign_is_noticed():
    """With the wrong sign, heavy weights would look excellent and light ones would be smoothed."""
    log_weight = pareto_log_weight(jax.random.key(3), 0.9, 4000)
    assert weights.pareto_smooth(log_weight).pareto_k > 0.7
    assert weights.pareto_smooth(-log_weight).pareto_k < 0
    smoothed = weights.pareto_smooth(log_weight).log_weight
    assert jnp.argmax(smoothed) == jnp.argmax(log_weight)


def test_smoothed_weights_are_normalised_ordered_and_less_heavy():
    log_weight = pareto_log_weight(jax.random.key(4), 0.9, 2000)
    smoothed, _ = weights.pareto_smooth(log_weight)
    np.testing.assert_allclose(jnp.sum(jnp.exp(smoothed)), 1.0, rtol=1e-9)
    by_raw = np.asarray(smoothed)[np.argsort(log_weight)]
    assert np.all(np.diff(by_raw) >= -1e-12)
    tail = int(3 * 2000**0.5)
    kept = np.argsort(log_weight)[: -tail - 2]
    np.testing.assert_allclose(np.diff((smoothed - log_weight)[kept]), 0, atol=1e-9)
    assert weights.effective_sample_size(smoothed) > weights.effective_sample_size(log_weight)


def test_a_quantile_may_be_infinite():
    quantiles = Pareto(shape=500.0, scale=1.0).quantile(np.asarray([0.0, 0.9999]))
    np.testing.assert_array_equal(quantiles, [0.0, np.inf])


@pytest.mark.parametrize("k", [0.1, 0.6, 1.2])
def test_the_fit_is_that_of_arviz_and_blackjax(k):
    log_weight = pareto_log_weight(jax.random.key(5), k, 3000)
    smoothed, pareto_k = weights.pareto_smooth(log_weight)
    assert abs(pareto_k - psis_weights(log_weight)[1]) < 0.01
    array_stats = getattr(arviz, "psislw", None)
    if array_stats is None:  # since version 1 it expects the opposite sign
        module = importlib.import_module("arviz_stats.base.array")
        other, other_k = module.array_stats.psislw(-np.asarray(log_weight))
    else:
        other, other_k = array_stats(np.asarray(log_weight))
    assert abs(pareto_k - other_k) < 0.01
    np.testing.assert_allclose(smoothed, other, atol=0.05)


@pytest.mark.parametrize("num", [2, 24, 25, 1000])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_equal_weights_are_perfect(num, dtype):
    smoothed, pareto_k = weights.pareto_smooth(jnp.full(num, -321.7, dtype))
    assert pareto_k == -np.inf
    np.testing.assert_allclose(jnp.exp(smoothed), 1 / num, rtol=1e-4)


def test_nearly_equal_weights_in_float32_have_no_tail():
    """Rounding leaves a handful of distinct values, on which a fit would be NaN."""
    noise = 1e-4 * jax.random.normal(jax.random.key(0), (1000,), jnp.float32)
    log_weight = jnp.float32(-500.0) + noise
    assert len(np.unique(log_weight)) < 30
    assert weights.pareto_smooth(log_weight).pareto_k == -np.inf


@pytest.mark.parametrize("low", [-jnp.inf, -1e10])
def test_draws_of_zero_weight_stay_at_zero(low):
    log_weight = pareto_log_weight(jax.random.key(6), 0.5, 2000)
    with_zeros = jnp.concatenate([log_weight, jnp.full(500, low)])
    smoothed, pareto_k = weights.pareto_smooth(with_zeros)
    assert not np.any(np.isnan(smoothed))
    np.testing.assert_array_equal(jnp.exp(smoothed[2000:]), 0)
    np.testing.assert_allclose(jnp.sum(jnp.exp(smoothed)), 1.0, rtol=1e-9)
    assert abs(pareto_k - weights.pareto_smooth(log_weight).pareto_k) < 0.1


def test_a_single_draw_that_carries_everything_is_not_called_harmless():
    one_heavy = jnp.zeros(1000).at[3].set(500.0)
    smoothed, pareto_k = weights.pareto_smooth(one_heavy)
    assert pareto_k > 0.7
    np.testing.assert_allclose(jnp.exp(smoothed[3]), 1.0)


def test_a_tail_that_is_lost_to_rounding_is_not_called_harmless():
    """Beside one weight that carries everything the others differ by nothing that counts."""
    log_weight = jnp.where(jnp.arange(1000) == 3, 0.0, -700.0 + 1e-13 * jnp.arange(1000))
    assert weights.pareto_smooth(log_weight).pareto_k == np.inf


@pytest.mark.parametrize("num", [1, 2, 10, 24])
def test_few_draws_cannot_be_judged(num):
    log_weight = jnp.linspace(0, 2, num)
    smoothed, pareto_k = weights.pareto_smooth(log_weight)
    assert pareto_k == np.inf
    np.testing.assert_allclose(jnp.exp(smoothed), jax.nn.softmax(log_weight))


def test_weights_that_rank_nothing_are_refused():
    with pytest.raises(ValueError, match="2 of 30 values are NaN"):
        weights.pareto_smooth(jnp.zeros(30).at[4].set(jnp.nan).at[5].set(jnp.inf))
    with pytest.raises(ValueError, match="all 30 are -inf"):
        weights.pareto_smooth(jnp.full(30, -jnp.inf))


# --- resampling -----------------------------------------------------------------------------------


def test_resampling_takes_floor_or_ceiling_of_the_expected_count():
    log_weight = 2 * jax.random.normal(jax.random.key(0), (300,))
    indices = weights.resample_indices(jax.random.key(1), log_weight, 1000)
    expected = 1000 * np.asarray(jax.nn.softmax(log_weight))
    assert np.all(np.abs(np.bincount(indices, minlength=300) - expected) < 1 + 1e-9)


def test_resampling_is_unbiased_and_in_random_order():
    log_weight = jnp.log(jnp.array([0.05, 0.15, 0.35, 0.45]))
    keys = jax.random.split(jax.random.key(2), 20_000)
    indices = jax.vmap(lambda key: weights.resample_indices(key, log_weight, 3))(keys)
    for position in range(3):  # each place in the output follows the weights
        share = np.bincount(indices[:, position], minlength=4) / 20_000
        p = np.exp(log_weight)
        assert np.all(np.abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / 20_000))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_resampling_never_takes_a_draw_of_zero_weight(dtype):
    log_weight = jnp.full(100_000, -jnp.inf, dtype).at[1000:99_000].set(0.0)
    indices = weights.resample_indices(jax.random.key(3), log_weight, 100_000)
    assert indices.shape == (100_000,)
    assert indices.min() >= 1000 and indices.max() < 99_000


# --- Metropolis -----------------------------------------------------------------------------------

TARGET = np.array([0.05, 0.15, 0.3, 0.5])
PROPOSAL = np.array([0.35, 0.25, 0.25, 0.15])


def discrete_chains(rng_key, num_chains, num_proposals):
    propose_key, chain_key = jax.random.split(rng_key)
    states = jax.random.choice(propose_key, 4, (num_chains, num_proposals), p=PROPOSAL)
    log_weight = jnp.log(TARGET / PROPOSAL)[states]
    chains = weights.independence_metropolis(chain_key, log_weight)
    return jnp.take_along_axis(states, chains.indices, axis=1), chains


def test_metropolis_is_stationary_from_the_first_step_to_the_last():
    """Chains follow the target at *every* step; 16 proposals leave a bias of (1 - 0.3)^16 = 0.003.

    A start at the first proposal, or at one chosen by weight among the 16, is wrong by ten times as
    much at the first steps, which this many chains show.
    """
    num_chains = 30_000
    states, _ = discrete_chains(jax.random.key(0), num_chains, 16)
    for step in range(16):
        share = np.bincount(states[:, step], minlength=4) / num_chains
        error = np.sqrt(TARGET * (1 - TARGET) / num_chains)
        assert np.all(np.abs(share - TARGET) < 4 * error + 0.003), step


def test_metropolis_moves_with_detailed_balance():
    """Flows between two states are equal both ways, which stationarity alone does not imply."""
    states, _ = discrete_chains(jax.random.key(1), 400, 500)
    flow = np.zeros((4, 4))
    np.add.at(flow, (np.asarray(states[:, :-1]).ravel(), np.asarray(states[:, 1:]).ravel()), 1)
    off = ~np.eye(4, dtype=bool)
    # A path crosses every edge back and forth in turns, so that flows differ less than a count's.
    assert np.all(np.abs(flow - flow.T)[off] < 4 * np.sqrt((flow + flow.T)[off]))
    probability = PROPOSAL[None, :] * np.minimum(
        1, (TARGET / PROPOSAL)[None, :] / (TARGET / PROPOSAL)[:, None]
    )
    expected = TARGET[:, None] * probability * 400 * 499
    np.testing.assert_allclose(flow[off], expected[off], rtol=0.1)


def test_metropolis_reports_what_it_did():
    states, chains = discrete_chains(jax.random.key(2), 50, 400)
    own = np.broadcast_to(np.arange(400), (50, 400))
    np.testing.assert_array_equal(chains.indices == own, chains.accepted)
    stayed = np.asarray(chains.indices) == np.roll(chains.indices, 1, axis=1)
    np.testing.assert_array_equal(stayed, ~np.asarray(chains.accepted))
    rate, p = chains.accepted.mean(), chains.acceptance_probability.mean()
    assert abs(rate - p) < 4 * (0.25 / chains.accepted.size) ** 0.5
    assert float(chains.acceptance_probability.max()) == 1.0


def test_metropolis_accepts_everything_where_weights_are_equal():
    chains = weights.independence_metropolis(jax.random.key(3), jnp.full((3, 40), -7.0))
    assert np.all(chains.accepted)
    np.testing.assert_array_equal(chains.acceptance_probability, 1.0)
    np.testing.assert_array_equal(chains.indices, np.tile(np.arange(40), (3, 1)))


def test_metropolis_sticks_where_one_weight_is_heavy():
    log_weight = jax.random.normal(jax.random.key(4), (2, 200)).at[:, 77].set(50.0)
    chains = weights.independence_metropolis(jax.random.key(5), log_weight)
    np.testing.assert_array_equal(chains.indices, 77)
    assert chains.accepted.sum() == 2


def test_metropolis_never_visits_a_proposal_of_zero_weight():
    log_weight = jnp.where(jnp.arange(100) % 2 == 0, 0.0, -jnp.inf)[None]
    chains = weights.independence_metropolis(jax.random.key(6), log_weight)
    np.testing.assert_array_equal(chains.indices % 2, 0)
    assert not np.any(np.isnan(chains.acceptance_probability))
