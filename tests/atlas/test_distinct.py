"""Normal distributions that stand for one place are counted as one."""

import numpy as np
import pytest

from numpyro_bridge.atlas.distinct import distinct_fits, distinct_tops
from tests.mixtures import normals_at

pytestmark = pytest.mark.fast


def chosen(places, factors, log_mass, max_deficit=20.0, max_number=10):
    leaders, counts = distinct_fits(
        normals_at(places, factors),
        np.asarray(log_mass, float),
        max_deficit=max_deficit,
        max_number=max_number,
    )
    return leaders.tolist(), counts.tolist()


def test_the_heaviest_stands_for_its_place_and_the_heaviest_place_comes_first():
    places = [[0.0, 0.0], [9.0, 9.0], [0.5, 0.0], [9.0, 9.5], [0.0, -0.5]]
    assert chosen(places, [1.0] * 5, [0.0, 2.0, 1.0, 3.0, -1.0]) == ([3, 2], [2, 3])


def test_places_are_apart_by_two_standard_deviations_of_their_difference():
    def num_places(distance, scale):
        return len(chosen([[0.0, 0.0], [distance, 0.0]], [1.0, scale], [0.0, -1.0])[0])

    assert num_places(2.8, 1.0) == 1 and num_places(2.9, 1.0) == 2
    assert num_places(2 * np.sqrt(10) - 0.1, 3.0) == 1
    assert num_places(2 * np.sqrt(10) + 0.1, 3.0) == 2


def test_along_a_narrow_ridge_distances_are_those_of_the_ridge():
    ridge = np.linalg.cholesky(np.asarray([[1.0, 0.999], [0.999, 1.0]]))
    assert chosen([[0.0, 0.0], [2.0, 2.0]], [ridge] * 2, [0.0, 0.0]) == ([0], [2])
    assert chosen([[0.0, 0.0], [0.7, -0.7]], [ridge] * 2, [0.0, 0.0]) == ([0, 1], [1, 1])


def test_tops_are_apart_by_a_standard_deviation_of_the_narrower_one():
    def num_places(distance, scale):
        normals = normals_at([[0.0, 0.0], [distance, 0.0]], [1.0, scale])
        return len(distinct_tops(normals, np.zeros(2), max_deficit=20.0, max_number=10)[0])

    assert num_places(0.9, 1.0) == 1 and num_places(1.1, 1.0) == 2
    assert num_places(0.09, 0.1) == 1 and num_places(0.11, 0.1) == 2
    assert num_places(0.9, 10.0) == 1 and num_places(1.1, 10.0) == 2


@pytest.mark.parametrize("units", [(1e-8, 1e8), (1e9, 1e-3)])
def test_units_do_not_matter(units):
    places = np.asarray([[0.0, 0.0], [1.0, 1.0], [4.0, -4.0], [-1.0, 1.0]])
    log_mass, tilted = [0.0, 1.0, -1.0, 0.5], np.asarray([[1.0, 0.0], [0.8, 0.6]])
    plain = chosen(places, [tilted] * 4, log_mass)
    scaled = chosen(places * units, [np.diag(units) @ tilted] * 4, log_mass)
    assert plain == scaled and len(plain[0]) > 1


def test_what_has_no_mass_or_too_little_is_left_out():
    places = [[0.0, 0.0], [20.0, 0.0], [40.0, 0.0], [60.0, 0.0]]
    log_mass = [np.nan, -5.0, -17.5, 7.0]
    assert chosen(places, [1.0] * 4, log_mass, max_deficit=13.0) == ([3, 1], [1, 1])
    assert chosen(places, [1.0] * 4, [-np.inf, np.nan, -np.inf, -np.inf]) == ([], [])


def test_places_beyond_the_largest_number_are_not_counted_anywhere():
    places = [[0.0, 0.0], [20.0, 0.0], [40.0, 0.0], [40.5, 0.0], [0.1, 0.0]]
    assert chosen(places, [1.0] * 5, [5.0, 4.0, 3.0, 2.0, 1.0], max_number=2) == ([0, 1], [2, 1])
