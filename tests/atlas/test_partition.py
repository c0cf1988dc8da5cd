"""The partition of unity: shares add up to one, and pieces to the density that they divide."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_t

from numpyro_bridge.atlas.partition import DEGREES_OF_FREEDOM, Piece
from numpyro_bridge.atlas.stacked import mixture_partition, row, student_partition
from numpyro_bridge.atlas.standardised_target import log_weights_of
from numpyro_bridge.target import REPLACED_LOG_DENSITY, target_from_log_density
from tests.mixtures import mixture, normals_at, rows_of
from tests.targets import each

pytestmark = pytest.mark.fast

LOG_MASS = np.log([0.2, 0.5, 0.3])
TILTED = np.asarray([[0.8, 0.0], [0.5, 1.5]])
NORMALS = normals_at([[0.0, 0.0], [2.0, -1.0], [-1.0, 3.0]], [1.0, TILTED, 0.5])
"""Three charts, which fit the target below poorly."""

PARTITIONS = {
    "student": student_partition(NORMALS, LOG_MASS),
    "mixture": mixture_partition(rows_of(NORMALS), LOG_MASS),
}


def target():
    return mixture([1.0, 4.0], [[1.0, 0.0], [-1.0, 2.0]], [0.7, TILTED]).target


def positions(num: int = 50, scale: float = 3.0):
    return scale * jax.random.normal(jax.random.key(0), (num, 2))


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e8, 1e200])
def test_responsibilities_add_up_to_one_and_padded_rows_get_none(partition, scale):
    share = np.exp(each(partition.log_responsibilities, positions(scale=scale)))
    assert share.shape == (50, 8)
    np.testing.assert_allclose(np.sum(share, axis=1), 1.0, rtol=1e-12)
    np.testing.assert_array_equal(share[:, 3:], 0.0)


def test_shares_of_student_densities():
    here = np.asarray(positions())
    densities = [
        math.exp(log_mass)
        * multivariate_t.pdf(here, one.location, one.factor @ one.factor.T, DEGREES_OF_FREEDOM)
        for one, log_mass in zip(rows_of(NORMALS), LOG_MASS, strict=True)
    ]
    expected = np.stack(densities, axis=1) / np.sum(densities, axis=0)[:, None]
    share = np.exp(each(PARTITIONS["student"].log_responsibilities, positions()))
    np.testing.assert_allclose(share[:, :3], expected, rtol=1e-9)


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
def test_pieces_add_up_to_the_density(partition):
    base = target()
    charts = jnp.arange(3)

    def pieces(position):
        return jax.vmap(lambda chart: Piece(base, partition, chart).log_density(position))(charts)

    total = np.logaddexp.reduce(each(pieces, positions()), axis=1)
    np.testing.assert_allclose(total, each(base.log_density, positions()), rtol=1e-10)


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
@pytest.mark.parametrize("chart", [0, 1, 2])
def test_the_score_of_a_piece_is_the_slope_of_its_log_density(partition, chart):
    piece = Piece(target(), partition, jnp.asarray(chart))
    point = each(piece.at, positions())
    value, slope = each(jax.value_and_grad(piece.log_density), positions())
    np.testing.assert_allclose(point.log_density, value, rtol=1e-12)
    np.testing.assert_allclose(point.score, slope, rtol=1e-9, atol=1e-9)
    assert np.all(point.finite)
    np.testing.assert_array_equal(point.position, positions())


def test_the_weight_of_a_draw_does_not_depend_on_the_chart_that_made_it():
    """It is the density divided by that of the whole mixture of charts."""
    base, partition = target(), PARTITIONS["mixture"]
    noise = positions(scale=1.0)
    for chart in range(3):
        transform = row(partition.maps, chart)
        piece = Piece(base, partition, jnp.asarray(chart))
        log_weight = log_weights_of(transform, piece, noise) - LOG_MASS[chart]
        position = jax.vmap(transform)(noise)
        log_mixture = each(partition.log_density, position) - math.log(2 * math.pi)
        np.testing.assert_allclose(log_weight, each(base.log_density, position) - log_mixture)


def broken(x):
    """No density on the left; on the line between, a density without a slope."""
    return jnp.where(x[0] < 0, jnp.nan, -jnp.sqrt(x[0]) - 0.5 * x[1] ** 2)


@pytest.mark.parametrize("partition", PARTITIONS.values(), ids=PARTITIONS)
def test_what_is_not_finite_stays_replaced(partition):
    base = target_from_log_density(broken, 2)
    piece = Piece(base, partition, jnp.asarray(1))
    nowhere = jnp.asarray([-1.0, 0.5])
    point = piece.at(nowhere)
    assert point.log_density == piece.log_density(nowhere) == REPLACED_LOG_DENSITY
    assert not point.finite
    np.testing.assert_array_equal(point.score, 0.0)
    no_slope = jnp.asarray([0.0, 0.5])
    point = piece.at(no_slope)
    np.testing.assert_allclose(point.log_density, -0.125 + piece.log_share(no_slope), rtol=1e-12)
    assert not point.finite
    np.testing.assert_array_equal(point.score, 0.0)
