"""Groups of draws: modes that lie apart are told apart, and one piece of any shape stays one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.groups import FEWEST, POOL, groups_of
from tests import targets
from tests.mixtures import mixture

pytestmark = pytest.mark.fast
NUM = 3_000


def groups(draws, log_weight=None, most=8):
    log_weight = jnp.zeros(len(draws)) if log_weight is None else jnp.asarray(log_weight)
    return groups_of(jax.random.key(0), jnp.asarray(draws), log_weight, most)


def two(dim: int, distance: float, share: float = 0.3) -> np.ndarray:
    """Standard normal draws, some of them moved along the diagonal."""
    rng = np.random.default_rng(0)
    moved = rng.random((NUM, 1)) < share
    return rng.normal(size=(NUM, dim)) + distance / np.sqrt(dim) * moved


@pytest.mark.slow
@pytest.mark.parametrize("dim", [1, 2, 50])
def test_two_modes_are_two_groups_where_they_lie_apart(dim):
    assert groups(two(dim, 4.0)) is None
    for distance in (8.0, 100.0):
        normals, log_share = groups(two(dim, distance))
        # The groups are those of the draws, of which not more than the pool are looked at.
        np.testing.assert_allclose(np.exp(log_share), [0.7, 0.3], atol=5 * np.sqrt(0.21 / POOL))
        expected = distance / np.sqrt(dim) * np.asarray([[0.0], [1.0]]) * np.ones(dim)
        np.testing.assert_allclose(normals.location, expected, atol=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [2, 10])
def test_eight_modes_are_eight_groups(dim):
    places = 6.0 * np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
    places = np.pad(places, ((0, 0), (0, dim - 2)))
    draws = mixture(np.full(8, 1 / 8), places, [0.5] * 8).draw(jax.random.key(1), NUM)
    normals, _ = groups(draws)
    distance = np.linalg.norm(np.asarray(normals.location)[:, None] - places, axis=2)
    assert sorted(np.argmin(distance, axis=1)) == list(range(8)) and np.max(distance.min(0)) < 0.5
    normals, log_share = groups(draws, most=3)
    assert len(log_share) == 3 and np.sum(np.exp(log_share)) == pytest.approx(1.0)
    assert groups(draws, most=1) is None


def ring(rng):
    angle = rng.uniform(0, 2 * np.pi, NUM)
    return 4 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.2 * rng.normal(size=(NUM, 2))


def banana(rng):
    first = 3 * rng.normal(size=NUM)
    return np.stack([first, first**2 + 0.3 * rng.normal(size=NUM)], 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: rng.normal(size=(NUM, 20)),
        lambda rng: rng.exponential(size=(NUM, 3)),
        lambda rng: np.exp(rng.normal(size=(NUM, 2))),
        lambda rng: rng.standard_t(3, size=(NUM, 5)),
        lambda rng: rng.standard_cauchy(size=(NUM, 2)),
        lambda rng: targets.funnel().draw(jax.random.key(0), NUM),
        lambda rng: rng.exponential(size=(60, 5)),
        ring,
        banana,
    ],
    ids="normal exponential log_normal student cauchy funnel few ring banana".split(),
)
def test_one_piece_is_one_group(draw):
    assert groups(draw(np.random.default_rng(0))) is None


def test_groups_of_heavy_tails_are_told_apart():
    rng = np.random.default_rng(0)
    sign = np.where(rng.random((NUM, 1)) < 0.3, 1, -1)
    normals, log_share = groups(rng.standard_t(3, size=(NUM, 2)) + 15 * sign)
    assert len(log_share) == 2
    np.testing.assert_allclose(normals.location, [[-15, -15], [15, 15]], atol=0.5)


def test_weights_say_how_large_the_groups_are():
    draws = two(2, 10.0, share=0.5)
    upper = draws.sum(axis=1) > 10 / np.sqrt(2)
    _, log_share = groups(draws, np.where(upper, np.log(4.0), 0.0))
    expected = 4 * np.mean(upper) / (4 * np.mean(upper) + np.mean(~upper))
    assert np.exp(log_share[0]) == pytest.approx(expected, abs=0.01)


def test_a_few_heavy_draws_are_no_group():
    draws = two(2, 0.0)
    draws[: FEWEST // 2] += 50.0
    assert groups(draws, np.where(np.arange(NUM) < FEWEST // 2, 4.0, 0.0)) is None
    log_weight = 5 * np.random.default_rng(1).normal(size=NUM)
    assert groups(draws, log_weight) is None


def test_draws_that_are_not_finite_are_left_out():
    draws = two(2, 10.0)
    draws[:10] = np.nan
    assert len(groups(draws, np.where(np.arange(NUM) < 20, -np.inf, 0.0))[1]) == 2
    assert groups(np.full((50, 2), np.nan)) is None
