"""Mixtures fitted to points: the right components, no more of them than the points ask for."""

import numpy as np
import pytest

from numpyro_bridge.atlas.mixture_fit import fit_mixture, spread_out

pytestmark = pytest.mark.fast


def test_two_components_are_recovered():
    rng = np.random.default_rng(0)
    factor = np.asarray([[0.5, 0.0], [0.4, 0.3]])
    first = rng.normal(size=(700, 2))
    second = np.asarray([4.0, -1.0]) + rng.normal(size=(300, 2)) @ factor.T
    mixture = fit_mixture(rng, rng.permutation(np.concatenate([first, second])))
    assert len(mixture.weight) == 2
    heavy, light = np.argsort(-mixture.weight)
    np.testing.assert_allclose(mixture.weight[[heavy, light]], [0.7, 0.3], atol=0.01)
    # Means and covariances are those of the points, up to the error of their number.
    np.testing.assert_allclose(mixture.location[heavy], 0.0, atol=4 / 700**0.5)
    np.testing.assert_allclose(mixture.location[light], [4.0, -1.0], atol=4 * 0.5 / 300**0.5)
    covariance = mixture.factor @ np.swapaxes(mixture.factor, 1, 2)
    np.testing.assert_allclose(covariance[heavy], np.eye(2), atol=4 * (2 / 700) ** 0.5)
    np.testing.assert_allclose(covariance[light], factor @ factor.T, atol=0.1)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_one_normal_distribution_is_one_component(dim):
    rng = np.random.default_rng(dim)
    for _ in range(3):
        assert len(fit_mixture(rng, rng.normal(size=(200, dim))).weight) == 1


@pytest.mark.parametrize("num", [1, 2, 4, 30])
@pytest.mark.parametrize("kind", ["anywhere", "the same", "on a line"])
def test_covariances_are_never_singular(num, kind):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(num, 5))
    if kind == "the same":
        points = np.repeat(points[:1], num, axis=0)
    elif kind == "on a line":
        points = np.outer(np.arange(num), np.ones(5))
    mixture = fit_mixture(rng, points)
    diagonal = np.diagonal(mixture.factor, axis1=1, axis2=2)
    assert np.all(np.isfinite(mixture.factor)) and np.all(diagonal > 0)
    np.testing.assert_allclose(mixture.weight @ mixture.location, np.mean(points, 0), atol=1e-6)


def test_points_that_are_spread_out_come_from_every_cluster():
    rng = np.random.default_rng(0)
    cluster = np.arange(400) % 4
    points = 100.0 * np.eye(4)[cluster] + rng.normal(size=(400, 4))
    for _ in range(20):
        assert sorted(cluster[spread_out(rng, points, 4)]) == [0, 1, 2, 3]
    assert len(spread_out(rng, np.ones((10, 2)), 4)) == 1
