"""Weights of draws that were made in fixed shares, and how much a tail may carry."""

import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge._core import strata, weights

pytestmark = pytest.mark.fast

COUNT = np.asarray([300, 150, 50])
STRATUM = np.repeat(np.arange(3), COUNT)
SHARE = COUNT / COUNT.sum()
MEAN, SPREAD = np.asarray([0.0, 1.5, -2.0]), np.asarray([0.3, 0.2, 0.6])
"""Of the log weights in each stratum, which are normal."""

MASS = SHARE * np.exp(MEAN + SPREAD**2 / 2)
"""The mass that each stratum stands for, up to the constant of the evidence."""

LOG_EVIDENCE = np.log(MASS.sum())
REPEATS = 600


def log_weights() -> np.ndarray:
    """One set of weighted draws a row, in no order."""
    noise = np.random.default_rng(0).normal(size=(REPEATS, len(STRATUM)))
    return MEAN[STRATUM] + SPREAD[STRATUM] * noise


def assert_calibrated(z: np.ndarray) -> None:
    """Standard scores of many repetitions have mean zero and variance one."""
    assert np.all(np.abs(np.mean(z, axis=0)) * REPEATS**0.5 < 5)
    assert np.all(np.abs(np.std(z, axis=0) - 1) < 5 / (2 * REPEATS) ** 0.5)


def test_the_evidence_of_strata_has_the_right_error_and_a_smaller_one():
    rows = log_weights()
    estimates, errors = np.transpose([strata.stratified_log_evidence(one, STRATUM) for one in rows])
    assert_calibrated((estimates - LOG_EVIDENCE) / errors)
    plain = [weights.log_evidence(one) for one in rows[:5]]
    np.testing.assert_allclose(estimates[:5], [estimate for estimate, _ in plain], rtol=1e-9)
    assert np.all(errors[:5] < 0.5 * np.asarray([error for _, error in plain]))


def test_the_order_of_draws_and_empty_strata_do_not_matter():
    one = log_weights()[0]
    order = np.random.default_rng(1).permutation(len(one))
    for function in (strata.stratified_log_evidence, strata.stratified_elbo):
        plain = function(one, STRATUM)
        np.testing.assert_allclose(function(one[order], STRATUM[order]), plain, rtol=1e-9)
        np.testing.assert_allclose(function(one, 2 * STRATUM), plain, rtol=1e-9)


def test_one_stratum_is_none():
    one, nought = log_weights()[0, :300], np.zeros(300, int)
    for stratified, plain in (
        (strata.stratified_log_evidence, weights.log_evidence),
        (strata.stratified_elbo, weights.elbo),
    ):
        np.testing.assert_allclose(stratified(one, nought), plain(one), rtol=1e-9)


def test_a_stratum_of_one_draw_leaves_the_error_of_all_draws():
    one = log_weights()[0]
    stratum = STRATUM.copy()
    stratum[-1] = 3
    np.testing.assert_allclose(
        strata.stratified_log_evidence(one, stratum), weights.log_evidence(one), rtol=1e-9
    )


def test_the_bound_of_strata_lies_between_the_plain_one_and_the_evidence():
    expected = np.log(np.sum(SHARE * np.exp(MEAN)))
    assert SHARE @ MEAN < expected < LOG_EVIDENCE
    bounds, errors = np.transpose([strata.stratified_elbo(one, STRATUM) for one in log_weights()])
    assert np.mean(bounds) < LOG_EVIDENCE - 2 * np.mean(errors)
    # The logarithm bends the mean by half the variance, far below the error of one estimate.
    assert np.all(errors < 0.03)
    assert_calibrated((bounds - expected) / errors)


def test_masses_add_up_and_have_the_right_errors():
    found = [strata.masses(one, STRATUM) for one in log_weights()]
    mass = np.stack([one.mass for one in found])
    np.testing.assert_allclose(np.sum(mass, axis=1), 1.0, rtol=1e-12)
    assert_calibrated((mass - MASS / MASS.sum()) / np.stack([one.error for one in found]))


def test_the_mass_of_a_stratum_of_one_draw_is_uncertain_by_itself():
    mass, error = strata.masses(np.zeros(101), np.append(np.zeros(100, int), 1))
    np.testing.assert_allclose(mass, [100 / 101, 1 / 101])
    assert error[1] == pytest.approx(1 / 101, rel=0.02)


# --- the share of the tail ------------------------------------------------------------------------


def tail_share(log_weight, pareto_k: float) -> float:
    return weights.tail_share(jnp.asarray(log_weight), pareto_k)


def test_weights_that_are_nearly_equal_have_no_tail_whatever_the_tail_index():
    log_weight = 1e-3 * np.random.default_rng(0).normal(size=4_000)
    assert tail_share(log_weight, 1.3) < 1e-3
    assert tail_share(log_weight + 700.0, 1.3) < 1e-3


def test_one_weight_that_dominates_carries_everything():
    log_weight = np.zeros(4_000)
    log_weight[17] = 30.0
    assert tail_share(log_weight, 1.3) == pytest.approx(1.0, abs=1e-6)
    assert tail_share(log_weight, np.inf) == pytest.approx(1.0, abs=1e-6)


def test_no_share_is_known_of_a_single_weight():
    assert tail_share(np.zeros(1), 0.0) == 1.0
    assert tail_share(np.full(50, -np.inf), 0.0) == 1.0


@pytest.mark.parametrize("k", [0.3, 0.5, 0.7])
def test_the_share_of_a_pareto_tail_is_about_that_beyond_the_largest_weight(k):
    """Of weights u^-k the mean is 1/(1-k), and what one in num exceeds is the share num^(k-1)."""
    num = 4_000
    uniform = np.random.default_rng(0).uniform(size=(200, num))
    shares = [tail_share(-k * np.log(one), k) for one in uniform]
    beyond = num ** (k - 1.0)
    assert 0.5 < np.median(shares) / beyond < 3
