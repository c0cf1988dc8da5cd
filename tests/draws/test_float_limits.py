"""Sites whose values are rounded coarsely, or lie where the numbers end: the verdict says so."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import numpyro_bridge as nb
from numpyro_bridge.draws.float_limits import doubts_about_numbers

NUM = 1_000


def doubts(values, shape=(), chart=None, weight=None):
    weight = np.full(len(values), 1 / len(values)) if weight is None else weight
    chart = np.zeros(len(values), int) if chart is None else chart
    return " ".join(doubts_about_numbers({"x": values}, {"x": shape}, weight, chart))


@pytest.fixture
def normal():
    return np.random.default_rng(0).normal(size=NUM)


@pytest.mark.fast
@pytest.mark.parametrize("width, rounded", [(0.01, True), (1.0, True), (5.0, False), (50.0, False)])
def test_values_a_fifth_of_the_posterior_apart_are_coarse(normal, width, rounded):
    """Neighbours near 2,455,000 are a quarter apart in 32 bits."""
    values = (2_455_000 + width * normal).astype(np.float32)
    assert ("can take a few values only" in doubts(values)) == rounded
    assert doubts(2_455_000 + width * normal) == ""  # in 64 bits


@pytest.mark.fast
def test_each_mode_is_looked_at_by_itself(normal):
    far = np.arange(NUM) % 2
    values = (1e6 * far + 1e-3 * normal + 1e6).astype(np.float32)
    assert len(np.unique(values)) > 1
    assert "x can take a few values" in doubts(values, chart=far)


@pytest.mark.fast
def test_weight_below_the_smallest_number_is_seen():
    """The logarithm of a rate whose density falls like exp(rate/50) down to the last number."""
    log_rate = np.random.default_rng(1).uniform(-87.3, 0.0, NUM)
    rate = np.exp(log_rate).astype(np.float32)
    assert "lies where numbers of 32 bits end" in doubts(rate)
    assert doubts(np.exp(log_rate)) == ""
    # Draws of no weight do not count.
    weight = np.where(log_rate > -60, 1.0, 0.0)
    assert doubts(rate, weight=weight / weight.sum()) == ""


@pytest.mark.fast
def test_weight_next_to_one_is_seen():
    away = np.random.default_rng(2).exponential(5e-7, NUM)
    assert "% of the posterior of x" in doubts((1 - away).astype(np.float32))
    assert doubts((1 - 1e4 * away).astype(np.float32)) == ""


@pytest.mark.fast
def test_zeros_and_ones_of_a_matrix_are_no_reason_for_doubt(normal):
    """A Cholesky factor of a correlation matrix, which one unconstrained number makes."""
    correlation = np.tanh(normal)
    rows = np.zeros((NUM, 2, 2), np.float32)
    rows[:, 0, 0], rows[:, 1, 0], rows[:, 1, 1] = 1.0, correlation, np.sqrt(1 - correlation**2)
    assert doubts(rows, shape=(1,)) == ""


@pytest.mark.slow
def test_a_posterior_narrower_than_its_numbers_is_not_trusted(as_users):
    def model():
        mean = numpyro.sample("mean", dist.Uniform(-1e6, 1e6))
        numpyro.sample("y", dist.Normal(mean, 1e-2), obs=123.456)

    with jax.enable_x64(False):
        draws = (
            nb.BridgeSampler(model, progress_bar=False)
            .run(jax.random.key(0))
            .sample(jax.random.key(1), 1_000)
        )
        assert draws.log_evidence < -np.log(2e6) - 1  # which is what it should be
        assert not draws.verdict.trustworthy and "mean can take" in draws.verdict.text
