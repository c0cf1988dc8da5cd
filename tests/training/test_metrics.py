"""Metrics: what an iteration reports, and how decisions and plots use it."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib import pyplot

import numpyro_bridge as nb
from numpyro_bridge.diffusion.samples import SampleLosses
from numpyro_bridge.training import LossMetrics, SVIMetrics, TrajectoryMetrics
from numpyro_bridge.training.metrics import COLLAPSE, concatenate
from tests.hill import runs_with

KEPT = jnp.zeros(())


def test_trajectories_are_summarised_by_their_weights():
    log_weight = jnp.log(jnp.asarray([1.0, 1.0, 1.0, 3.0, 1.0, 1.0, 1.0, 3.0]))
    metrics = TrajectoryMetrics.of(runs_with(log_weight), KEPT)
    assert metrics.elbo == pytest.approx(0.25 * np.log(3))
    assert metrics.log_weight_sd == pytest.approx(np.std(log_weight))
    assert metrics.ess == pytest.approx(1.5**2 / 3)
    assert (metrics.num_non_finite, metrics.skipped) == (0, 0)
    np.testing.assert_array_equal(metrics.height, metrics.elbo)


def test_draws_are_summarised_by_their_losses():
    metrics = LossMetrics.of(SampleLosses(jnp.asarray([1.0, 3.0, 5.0])), KEPT)
    assert (metrics.loss, metrics.num_non_finite) == (3.0, 0)
    assert metrics.height == -3.0
    broken = LossMetrics.of(SampleLosses(jnp.asarray([1.0, jnp.nan, jnp.inf])), KEPT)
    assert broken.num_non_finite == 2


def test_a_loss_of_draws_is_told_to_say_so():
    with pytest.raises(TypeError, match="metrics=nb.training.LossMetrics|Type-check"):
        TrajectoryMetrics.of(SampleLosses(jnp.ones(3)), KEPT)  # pyright: ignore


def batch(sd: float) -> TrajectoryMetrics:
    values = np.full(25, sd)
    return TrajectoryMetrics(-values, values, np.ones(25), np.zeros(25), np.zeros(25))


def test_only_metrics_of_weights_bound_the_remaining_gap():
    assert batch(0.1).nearly_perfect and not batch(1.0).nearly_perfect
    assert batch(0.1).collapse == COLLAPSE and batch(20.0).collapse == 60.0
    assert batch(np.nan).collapse == COLLAPSE and not batch(np.nan).nearly_perfect
    losses = LossMetrics(np.zeros(25), np.zeros(25), np.zeros(25))
    assert losses.collapse == COLLAPSE and not losses.nearly_perfect


def test_parts_are_joined_in_turn():
    joined = concatenate([TrajectoryMetrics.blank(0), batch(1.0), batch(2.0)])
    assert joined.num_iterations == 50
    np.testing.assert_array_equal(joined.log_weight_sd, [1.0] * 25 + [2.0] * 25)
    assert TrajectoryMetrics.blank(3).num_iterations == 3


def test_without_a_training_there_is_no_curve(as_users):
    metrics: Any = None
    with pytest.raises(ValueError, match="nothing was trained"):
        nb.plots.plot_training(metrics)


@pytest.mark.parametrize(
    ("metrics", "shown", "labels"),
    [
        (batch(2.0), {"ELBO": -2.0, "ESS": 1.0}, ["ELBO [nats]", "effective sample size"]),
        (LossMetrics(*np.eye(3)), {"loss": 1 / 3}, ["loss [nats]"]),
    ],
)
def test_a_loss_is_not_shown_as_an_elbo(metrics, shown, labels):
    assert metrics.averages() == pytest.approx(shown)
    figure = nb.plots.plot_training(metrics, log_evidence=1.5, log_evidence_error=0.1)
    pyplot.close(figure)
    assert [panel.get_ylabel().split("\n")[0] for panel in figure.axes] == labels
    has_evidence = ["log evidence" in _legend(panel) for panel in figure.axes]
    assert has_evidence == [label.startswith("ELBO") for label in labels]
    if has_evidence[0]:
        assert figure.axes[0].get_ylim()[1] > 1.5


def _legend(panel) -> list:
    return [line.get_label() for line in panel.lines]


def test_losses_of_svi_are_a_curve():
    (curve,) = SVIMetrics(np.linspace(-5.0, -1.0, 40)).curves()
    assert curve.bounds_evidence and curve.label == "ELBO [nats]"
    assert -5.2 < curve.limits[0] < -4.5 and -1.0 < curve.limits[1] < -0.5
