"""Ranks: uniform for draws of the posterior, and seen not to be uniform for other draws."""

import numpy as np
import pytest

from numpyro_bridge.draws.calibration import Calibration, simultaneous_band, uniformity
from numpyro_bridge.draws.plots import plot_ranks

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
    return Calibration(ranks, NUM_DRAWS, np.ones(NUM), False)


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
    shown = Calibration(ranks, NUM_DRAWS, np.linspace(0.5, 1.0, 200), True)
    lines = str(shown).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["a", "b[0]", "b[1]"]
    assert "median 0.75, above 0.55 for nine in ten" in lines[5]
    figure = plot_ranks(shown)
    assert [panel.get_title() for panel in figure.axes] == ["a", "b"]
    assert [len(panel.lines) for panel in figure.axes] == [1, 2]
