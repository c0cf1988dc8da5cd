"""Repair: charts where weights are heavy, and where particles lie that no chart covers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.judge import Judgement, judge
from numpyro_bridge.atlas.repair import (
    divided,
    heaviest,
    normal_of,
    numpy_generator,
    resampled,
    with_uncovered,
)
from numpyro_bridge.atlas.stacked import mixture_partition
from numpyro_bridge.target import target_from_log_density
from tests.mixtures import normals_at, rows_of
from tests.statistics import assert_same_mean

RADIUS, WIDTH = 4.0, 0.4


def ring(x):
    return -0.5 * ((jnp.sqrt(x @ x + 1e-12) - RADIUS) / WIDTH) ** 2


def test_dividing_a_ring_raises_the_effective_sample_size():
    target = target_from_log_density(ring, 2)
    evidence = 2 * np.pi * RADIUS * WIDTH * np.sqrt(2 * np.pi)
    judge_key, divide_key, again_key = jax.random.split(jax.random.key(0), 3)
    wide = normals_at([[0.0, 0.0]], [3.0])
    before = judge(judge_key, target, rows_of(wide), np.zeros(1))
    assert before.ess < 0.5
    charts, one = (wide, before.log_mass), np.zeros(1, int)
    (normals, log_mass), place, stayed = divided(divide_key, target, charts, one, before, None)
    assert len(log_mass) > 3 and len(stayed) == 0 and not np.any(place)
    np.testing.assert_allclose(np.logaddexp.reduce(log_mass), before.log_evidence, atol=1e-9)
    after = judge(again_key, target, rows_of(normals), log_mass)
    assert after.good and after.ess > 1.5 * before.ess
    for seen in (before, after):
        assert_same_mean(np.exp(seen.log_weight), evidence)


@pytest.mark.slow
def test_a_light_mode_stays_when_a_heavy_one_is_divided():
    """A ring of nearly all the mass, and a normal mode of one percent beside it."""
    share, centre = 0.01, jnp.asarray([30.0, 0.0])
    log_ring = np.log(2 * np.pi * RADIUS * WIDTH * np.sqrt(2 * np.pi))

    def both(x):
        log_mode = np.log(share) - np.log(2 * np.pi) - 0.5 * jnp.sum((x - centre) ** 2)
        return jnp.logaddexp(np.log(1 - share) - log_ring + ring(x), log_mode)

    target = target_from_log_density(both, 2)
    judge_key, divide_key = jax.random.split(jax.random.key(0))
    normals = normals_at([[0.0, 0.0], centre], [3.0, 1.0])
    seen = judge(judge_key, target, rows_of(normals), np.log([0.99, 0.01]))
    charts, place = (normals, seen.log_mass), np.array([4, 7])
    (normals, log_mass), place, stayed = divided(divide_key, target, charts, place, seen, None)
    assert stayed.tolist() == [1] and len(log_mass) > 4
    assert place.tolist() == [7] + [4] * (len(log_mass) - 1)
    np.testing.assert_array_equal(normals.location[0], centre)
    assert log_mass[0] == seen.log_mass[1] == pytest.approx(np.log(share), abs=0.3)
    np.testing.assert_allclose(np.logaddexp.reduce(log_mass[1:]), seen.log_mass[0], atol=1e-9)


def judged(position, log_weight) -> Judgement:
    """What a chart's draws of these weights would say."""
    log_weight = np.asarray(log_weight, float)
    partition = mixture_partition(rows_of(normals_at([[0.0]], [1.0])), np.zeros(1))
    log_evidence = float(np.logaddexp.reduce(log_weight) - np.log(len(log_weight)))
    mass = np.asarray([log_evidence])
    share = np.zeros((len(log_weight), 1))
    return Judgement(partition, position, log_weight, log_evidence, mass, 0.1, 0.5, share)


@pytest.mark.fast
def test_resampling_truncates_the_heaviest_weights():
    """At the square root of their number times their mean (Ionides 2008)."""
    weight = np.ones(100)
    weight[3] = 1_000.0
    seen = judged(np.arange(100.0)[:, None], 5.0 + np.log(weight))
    drawn = resampled(np.random.default_rng(0), seen, 20_000)
    limit = 10 * np.mean(weight)
    assert_same_mean(drawn[:, 0] == 3, limit / (limit + 99))


@pytest.mark.fast
def test_uncovered_particles_get_charts_with_their_share_of_the_mass():
    rng = np.random.default_rng(0)
    uncovered = np.asarray([20.0]) + 0.5 * rng.normal(size=(200, 1))
    seen = judged(np.zeros((10, 1)), np.full(10, -3.0))
    old = normals_at([[0.0]], [1.0])
    key, charts = jax.random.key(0), (old, seen.log_mass)
    normals, log_mass = with_uncovered(key, charts, seen, uncovered, share=0.2, most=64)
    np.testing.assert_allclose(log_mass, [-3.0, -3.0 + np.log(0.2)])
    np.testing.assert_allclose(normals.location[:, 0], [0.0, np.mean(uncovered)], atol=1e-9)
    assert normals.factor[1, 0, 0] == pytest.approx(np.std(uncovered), rel=0.05)
    # Where there is no room, the old chart goes and the new one stays.
    alone, _ = with_uncovered(key, charts, seen, uncovered, share=0.2, most=1)
    np.testing.assert_allclose(alone.location, normals.location[1:])


@pytest.mark.fast
def test_the_normal_distribution_of_points_has_their_moments_and_is_never_singular():
    rng = np.random.default_rng(0)
    factor = np.asarray([[1e-4, 0.0], [30.0, 40.0]])
    points = np.asarray([1.0, -1e3]) + rng.normal(size=(4_000, 2)) @ factor.T
    one = normal_of(points)
    scale = np.std(points, axis=0)
    np.testing.assert_allclose(one.location, np.mean(points, axis=0), rtol=1e-9)
    covariance = np.asarray(one.factor @ one.factor.T) / np.outer(scale, scale)
    np.testing.assert_allclose(covariance, np.corrcoef(points.T), atol=0.05)
    for few in (points[:1], points[:2], np.repeat(points[:1], 9, axis=0), np.zeros((5, 2))):
        factor = np.asarray(normal_of(few).factor)
        assert np.all(np.isfinite(factor)) and np.all(np.diagonal(factor) > 0)


@pytest.mark.fast
def test_the_heaviest_charts_are_kept_in_their_order():
    normals = normals_at([[0.0], [1.0], [2.0]], [1.0, 1.0, 1.0])
    kept, log_mass = heaviest((normals, np.asarray([0.5, -1.0, 2.0])), 2)
    np.testing.assert_array_equal(kept.location[:, 0], [0.0, 2.0])
    np.testing.assert_array_equal(log_mass, [0.5, 2.0])


@pytest.mark.fast
def test_the_same_key_gives_the_same_random_numbers():
    first, second = (numpy_generator(jax.random.key(5)).random(3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
