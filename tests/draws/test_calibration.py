"""Ranks: uniform for draws of the posterior, and seen not to be uniform for other draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.draws.calibration import Calibration, calibration_of
from numpyro_bridge.draws.plots import plot_ranks
from numpyro_bridge.draws.ranking import LOG_JOINT, RankedRun, below_truth, rank
from numpyro_bridge.draws.uniformity import simultaneous_band, uniformity

NUM, NUM_DRAWS = 400, 39


def calibration(scale: float = 1.0, shift: float = 0.0, informed: bool = True) -> Calibration:
    """Ranks of theta ~ N(0, 1) given y ~ N(theta, 1), among draws from near its posterior."""
    rng = np.random.default_rng(3)
    theta = rng.normal(size=(NUM, 1))
    y = theta + rng.normal(size=(NUM, 1))
    mean, sd = (y / 2, np.sqrt(0.5)) if informed else (0.0, 1.0)
    draws = mean + shift + scale * sd * rng.normal(size=(NUM, NUM_DRAWS))

    def log_joint(theta):
        return -0.5 * theta**2 - 0.5 * (y - theta) ** 2

    ranks = {
        "theta": np.sum(draws < theta, axis=1),
        "log joint": np.sum(log_joint(draws) < log_joint(theta), axis=1),
    }
    return Calibration(ranks, NUM_DRAWS, np.ones(NUM), None)


def test_exact_draws_are_calibrated():
    exact = calibration()
    assert exact.p_value > 0.05
    assert "No sign of miscalibration" in str(exact)


@pytest.mark.parametrize("wrong", [{"scale": 0.5}, {"scale": 1.6}, {"shift": 0.3}])
def test_draws_of_another_distribution_are_not_calibrated(wrong):
    assert calibration(**wrong).p_values["theta"] < 1e-3
    assert "Not calibrated" in str(calibration(**wrong))


def test_the_prior_passes_for_parameters_and_not_for_the_log_joint():
    prior = calibration(informed=False)
    assert prior.p_values["theta"] > 0.05
    assert prior.p_values["log joint"] < 1e-3


def test_p_values_of_uniform_ranks_are_uniform():
    ranks = np.random.default_rng(0).integers(0, NUM_DRAWS + 1, size=(400, NUM))
    p_values = np.asarray([uniformity(row, NUM_DRAWS) for row in ranks])
    for level in (0.05, 0.5):
        error = np.sqrt(level * (1 - level) / len(p_values))
        assert abs(np.mean(p_values <= level) - level) < 4 * error


def test_p_values_are_exact():
    """Three ranks on 0, 1, 2: all 27 outcomes can be counted."""
    outcomes = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(27, 3)
    p_values = np.asarray([uniformity(ranks, 2) for ranks in outcomes])
    for p_value in np.unique(p_values):
        np.testing.assert_allclose(np.mean(p_values <= p_value + 1e-9), p_value, rtol=1e-9)
    assert p_values.min() == pytest.approx(2 / 27)


def test_ranks_of_many_parameters_can_be_condemned():
    """A p-value times the number of parameters is small only if it can be very small itself."""
    assert uniformity(np.zeros(NUM, int), NUM_DRAWS) < 1e-11


def test_a_line_is_in_the_band_where_its_p_value_is_not_small():
    rng = np.random.default_rng(4)
    _, low, high = simultaneous_band(100, NUM_DRAWS, prob=0.8)
    for ranks in rng.integers(0, NUM_DRAWS + 1, size=(300, 100)):
        shares = np.cumsum(np.bincount(ranks, minlength=NUM_DRAWS + 1))[:-1] / 100
        inside = bool(np.all((low <= shares) & (shares <= high)))
        assert inside == (uniformity(ranks, NUM_DRAWS) > 0.2 - 1e-9)


def test_uniform_ranks_stay_in_the_band_as_often_as_it_says():
    places, low, high = simultaneous_band(NUM, NUM_DRAWS, prob=0.8)
    counts = np.random.default_rng(1).multinomial(NUM, np.full(NUM_DRAWS + 1, 0.025), size=2_000)
    shares = np.cumsum(counts, axis=1)[:, :-1] / NUM
    inside = np.all((low <= shares) & (shares <= high), axis=1)
    # The counts are whole, so that the band may be a little too wide.
    assert 0.78 < np.mean(inside) < 0.86
    np.testing.assert_allclose(places, np.arange(1, 40) / 40)


def test_a_table_and_a_figure_show_every_site():
    rng = np.random.default_rng(2)
    ranks = {"a": rng.integers(0, 40, 200), "b": rng.integers(0, 40, (200, 2))}
    shown = Calibration(ranks, NUM_DRAWS, np.linspace(0.5, 1.0, 200), "psis")
    lines = str(shown).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b[0]", "b[1]"]
    assert "median 0.75, above 0.55 for nine in ten" in lines[5]
    figure = plot_ranks(shown)
    assert [panel.get_title() for panel in figure.axes] == ["a", "b"]
    assert [len(panel.lines) for panel in figure.axes] == [1, 2]


# --- ranks of draws -------------------------------------------------------------------------------


def test_values_that_are_equal_are_ordered_by_chance(key):
    """Where rounding makes all draws equal to the truth, its rank is still uniform."""
    draws, truth = jnp.zeros((NUM_DRAWS, 1)), jnp.zeros(1)

    def rank_of(key):
        below = below_truth(key, draws, jnp.zeros(NUM_DRAWS), truth, jnp.zeros(()))
        return jnp.sum(below, axis=0)

    ranks = np.asarray(jax.vmap(rank_of)(jax.random.split(key, NUM)))
    assert all(uniformity(column, NUM_DRAWS) > 0.01 for column in ranks.T)


@pytest.mark.parametrize("correction", ["metropolis", "psis", None])
def test_corrected_ranks_are_uniform_and_others_are_not(key, correction):
    """Draws from N(0.7, 1.2²) with weights to N(0, 1), among 39 of 1,200."""
    rng = np.random.default_rng(8)
    ranks = []
    for number, truth in enumerate(rng.normal(size=200)):
        draws = 0.7 + 1.2 * rng.normal(size=1_200)
        log_weight = -0.5 * draws**2 + 0.5 * ((draws - 0.7) / 1.2) ** 2
        below = (draws < truth)[:, None]
        (found,) = rank(jax.random.fold_in(key, number), below, log_weight, NUM_DRAWS, correction)
        ranks.append(found)
    p_value = uniformity(np.asarray(ranks), NUM_DRAWS)
    assert p_value > 0.05 if correction else p_value < 1e-6


def run(rank: int, **facts) -> RankedRun:
    return RankedRun({"mu": np.asarray(rank), LOG_JOINT: np.asarray(rank)}, 0.9, 90.0, **facts)


def test_runs_that_fail_or_are_doubted_are_said_and_none_is_dropped():
    uniform = [run(number) for number in range(NUM_DRAWS + 1)]
    doubted = [run(0, doubt="Use with care.") for _ in range(40)]
    failed = [RankedRun(failure="ValueError: no start")] * 2
    found = calibration_of([*uniform, *doubted, *failed], NUM_DRAWS, "psis", num_replaced=3)
    assert (found.num_simulations, found.num_doubted, len(found.failures)) == (82, 40, 2)
    assert found.p_value < 1e-6 and not found.verdict.trustworthy
    # The mean rank is low, since draws lie above the truth.
    text = found.verdict.text
    assert "mu: draws too high" in text
    assert "2 of 82 runs gave no draws" in text and "ValueError: no start" in text
    assert "40 of 82 runs are not trusted by their own verdict" in text
    assert "p = 1 for the 40 that are" in text
    assert "3 simulations had numbers that are not finite" in text
    assert found.of_trusted().p_value > 0.99
    without = calibration_of([*uniform, *failed], NUM_DRAWS, "psis")
    assert without.p_value > 0.99 and not without.verdict.trustworthy
    assert calibration_of(uniform, NUM_DRAWS, "psis").verdict.trustworthy


def test_draws_that_repeat_each_other_are_said():
    short = [run(number)._replace(num_effective=5.0) for number in range(NUM_DRAWS + 1)]
    found = calibration_of(short, NUM_DRAWS, "metropolis")
    assert found.num_short == 40
    assert "In 40 of 40 runs the 39 draws are worth less than a quarter" in found.verdict.text
    with pytest.raises(ValueError, match="none of 1 runs gave draws to rank: no start"):
        calibration_of([RankedRun(failure="no start")], NUM_DRAWS, None)
    with pytest.raises(ValueError, match="no run that is trusted"):
        calibration_of([run(0, doubt="Use with care.")], NUM_DRAWS, None).of_trusted()
