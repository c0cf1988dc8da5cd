"""Draws in shares: every chart makes the number of draws that it should, and weights stay right."""

import functools

import jax
import numpy as np
import pytest

import numpyro_bridge as nb
from numpyro_bridge._core.strata import masses, stratified_log_evidence
from numpyro_bridge.atlas.seen_target import pieces_of
from numpyro_bridge.atlas.stacked import stack
from numpyro_bridge.infer.drawing import BATCH, apportioned, drawn
from tests.mixtures import atlas_of, mixture, normals_at

KNOWN = mixture([1.4, 0.6], [[-1.0, 0.0], [3.0, 1.0]], [0.8, 0.6])
CHARTS = normals_at([[-0.8, 0.1], [2.9, 0.8]], [0.9, 0.8])
SHARE = np.asarray([0.65, 0.35])


@pytest.mark.fast
@pytest.mark.parametrize("num", [5, 7, 100, 4_000])
def test_numbers_are_in_proportion_and_nobody_goes_empty(num):
    rng = np.random.default_rng(num)
    for _ in range(50):
        share = rng.dirichlet(np.full(5, 0.3))
        counts = apportioned(share, num)
        assert counts.sum() == num and np.all(counts >= 1)
        # More than the proportion only by rounding up, less only for what others need at least.
        assert np.all(counts <= np.maximum(1, np.floor(share * num) + 1))
        if num * np.min(share) >= 1:
            assert np.all(np.abs(counts - share * num) < 1)


@pytest.mark.fast
def test_no_share_is_no_draw():
    np.testing.assert_array_equal(apportioned(np.asarray([0.5, 0.0, 0.5]), 10), [5, 0, 5])
    np.testing.assert_array_equal(apportioned(np.asarray([1.0, 0.0]), 3), [3, 0])


def charted():
    return atlas_of(CHARTS, np.log(SHARE)).target(KNOWN.target, bridged=False)


def direct(num_charts: int = 2):
    return stack([nb.processes.Direct(jax.random.key(0), 2)] * num_charts)


@functools.cache
def some_draws(num: int):
    (end, sites), num_paths = drawn(jax.random.key(1), direct(), charted(), num, None)
    return end, sites, num_paths


@pytest.mark.parametrize("num", [1_501, 3])
def test_every_chart_makes_its_share_of_the_draws(num):
    end, sites, num_paths = some_draws(num)
    np.testing.assert_array_equal(np.bincount(end.chart), apportioned(SHARE, num))
    assert end.position.shape == (num, 2) and num_paths >= num
    np.testing.assert_array_equal(sites["x"], end.position)
    assert len(np.unique(end.position, axis=0)) == num


def test_the_draws_are_in_random_order():
    chart = np.asarray(some_draws(1_501)[0].chart)
    changes = np.mean(chart[1:] != chart[:-1])
    assert changes == pytest.approx(2 * SHARE.prod(), abs=4.5 * (0.25 / 1_500) ** 0.5)


def test_the_weights_average_to_the_evidence_and_to_the_masses():
    end, _, _ = some_draws(1_501)
    chart, log_weight = np.asarray(end.chart), np.asarray(end.log_weight)
    estimate, error = stratified_log_evidence(log_weight, chart)
    assert error < 0.05
    assert abs(estimate - KNOWN.log_evidence) < 4.5 * error
    # The places are so far apart that each chart's mass is that of its component.
    mass, mass_error = masses(log_weight, chart)
    assert np.all(np.abs(mass - [0.7, 0.3]) < 4.5 * mass_error + 0.005)


def test_the_weight_counts_the_share_that_a_chart_really_has():
    """Of three draws two are on the first chart: each stands for a third and not for the share."""
    end, _, _ = some_draws(3)
    target = charted()
    share = np.asarray(apportioned(SHARE, 3) / 3)[np.asarray(end.chart)]
    position = end.position
    log_mixture = jax.vmap(target.partition.log_density)(position) - np.log(2 * np.pi)
    correction = np.log(SHARE)[np.asarray(end.chart)] - np.log(share)
    expected = end.log_density - log_mixture + correction
    np.testing.assert_allclose(end.log_weight, expected, rtol=1e-9)


def test_fewer_draws_than_charts_are_drawn_by_chance():
    (end, _), num_paths = drawn(jax.random.key(1), direct(), charted(), 1, None)
    assert end.chart.shape == (1,) and num_paths == BATCH


@pytest.mark.fast
def test_the_pieces_of_a_target_are_its_charts():
    target = charted()
    pieces = pieces_of(target)
    assert len(pieces) == 2
    position = np.asarray([0.3, 0.4])
    log_densities = [float(piece.base.log_density(jax.numpy.asarray(position))) for piece in pieces]
    whole = float(KNOWN.target.log_density(jax.numpy.asarray(position)))
    assert np.logaddexp.reduce(log_densities) == pytest.approx(whole)
    assert pieces_of(pieces[0]) == [pieces[0]]
