"""Charts judged by their draws: exact where they are, and honest where they are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.judge import Judgement, judge, log_weights_at
from numpyro_bridge.atlas.stacked import mixture_partition
from numpyro_bridge.target import target_from_log_density
from tests.mixtures import mixture, normals_at, rows_of
from tests.statistics import assert_same_mean
from tests.targets import normal

MASSES = [0.75, 0.25]


def two_normals(distance: float):
    """Times two, so that the evidence is not one."""
    places = [[0.0, 0.0], [distance, 0.0]]
    tilted = np.asarray([[0.7, 0.0], [0.4, 1.2]])
    return mixture([2 * mass for mass in MASSES], places, [1.0, tilted])


def test_exact_charts_give_everything_exactly_whatever_masses_are_guessed():
    known = two_normals(distance=30.0)
    seen = judge(jax.random.key(0), known.target, known.maps, np.asarray([0.0, 1.0]))
    np.testing.assert_allclose(seen.log_evidence, known.log_evidence, rtol=1e-9)
    np.testing.assert_allclose(seen.log_mass, known.log_mass, rtol=1e-9)
    np.testing.assert_allclose(seen.share, MASSES, rtol=1e-9)
    assert seen.ess == pytest.approx(1.0, abs=1e-9)
    assert seen.tail_share < 1e-3 and seen.good
    # As many draws on each chart as there is mass.
    assert np.mean(seen.position[:, 0] < 15) == pytest.approx(0.75, abs=1e-3)


def poor_charts(known):
    """Too wide, beside the places, and three where two would do."""
    return normals_at([[-0.5, 0.0], [3.5, 0.5], [1.5, 0.0]], [1.3, 1.5, 1.0])


def test_poor_charts_give_the_right_evidence_and_masses_that_add_up_to_it():
    known = two_normals(distance=3.0)
    charts = poor_charts(known)
    seen = judge(jax.random.key(1), known.target, rows_of(charts), np.zeros(3))
    assert_same_mean(np.exp(seen.log_weight - known.log_evidence), 1.0)
    assert seen.log_evidence == pytest.approx(np.logaddexp.reduce(seen.log_mass), abs=1e-9)
    assert np.sum(seen.share) == pytest.approx(1.0)
    assert 0.3 < seen.ess < 0.99
    # The weights are the excess of the target over the mixture of the charts.
    position = seen.position[::100]
    log_density, log_weight = log_weights_at(known.target, seen.partition, position)
    np.testing.assert_allclose(log_weight, seen.log_weight[::100], rtol=1e-7, atol=1e-7)
    expected = jax.vmap(known.target.log_density)(jnp.asarray(position))
    np.testing.assert_allclose(log_density, expected, rtol=1e-7, atol=1e-7)


def test_the_effective_sample_size_of_a_wide_chart_is_what_arithmetic_says():
    """For a standard normal and a chart of scale s, E[w^2] = (s^2 / sqrt(2 s^2 - 1))^dim."""
    known, scale = normal([0.0, 0.0], np.eye(2)), 2.5
    seen = judge(
        jax.random.key(2), known.target, rows_of(normals_at([[0, 0]], [scale])), np.zeros(1)
    )
    expected = (2 * scale**2 - 1) / scale**4
    assert seen.ess == pytest.approx(expected, abs=0.02) and not seen.good
    assert_same_mean(np.exp(seen.log_weight - known.log_evidence), 1.0)


def test_charts_that_miss_the_density_altogether_are_not_good():
    target = target_from_log_density(lambda x: jnp.where(x[0] > 0, -(x[0] ** 2), jnp.nan), 2)
    seen = judge(jax.random.key(3), target, rows_of(normals_at([[-50, 0]], [1.0])), np.zeros(1))
    assert not seen.good and seen.ess == 0.0


def test_the_same_key_gives_the_same_draws():
    known = two_normals(distance=3.0)
    runs = [judge(jax.random.key(4), known.target, known.maps, np.zeros(2)) for _ in range(2)]
    jax.tree.map(np.testing.assert_array_equal, *runs)


@pytest.mark.fast
def test_good_charts_are_better_than_charts_that_are_not():
    maps = rows_of(normals_at([[0.0, 0.0]], [1.0]))

    def judged(ess: float, tail_share: float) -> Judgement:
        none, one = np.zeros((9, 2)), np.zeros((9, 1))
        partition = mixture_partition(maps, np.zeros(1))
        return Judgement(partition, none, one[:, 0], 0.0, np.zeros(1), ess, tail_share, one)

    good, better, heavy, poor = (
        judged(0.6, 0.005),
        judged(0.8, 0.005),
        judged(0.9, 0.05),
        judged(0.4, 0.001),
    )
    assert good.good and better.good and not heavy.good and not poor.good
    assert better.better_than(good) and good.better_than(heavy) and heavy.better_than(poor)
    assert not good.better_than(better) and not good.better_than(good)


def test_charts_that_leave_something_out_are_worse_however_even_their_weights_are():
    known = two_normals(distance=30.0)
    whole, one = poor_charts(known), known.maps[:1]
    both = judge(jax.random.key(0), known.target, [*rows_of(whole), *known.maps[1:]], np.zeros(4))
    half = judge(jax.random.key(0), known.target, one, np.zeros(1))
    assert half.good and half.ess > both.ess
    assert both.better_than(half) and not half.better_than(both)
    # A difference that chance may have made does not count.
    other = judge(jax.random.key(1), known.target, known.maps, np.zeros(2))
    same = judge(jax.random.key(2), known.target, known.maps, np.zeros(2))
    assert other.better_than(same) == (other.ess > same.ess)
