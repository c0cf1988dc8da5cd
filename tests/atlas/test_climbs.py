"""Climbs end at tops, with their exact normal shape; where there is no top, none is claimed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.climbs import climb_from
from numpyro_bridge.target import target_from_log_density
from tests.mixtures import mixture
from tests.targets import halved_until_small

STARTS = 6.0 * jax.random.normal(jax.random.key(0), (32, 2))


def test_tops_and_masses_of_separated_normals_are_exact():
    tilted = np.asarray([[0.05, 0.0], [1.0, 2.0]])
    known = mixture([3.0, 1.0], [[-9.0, 0.0], [9.0, 20.0]], [1.0, tilted])
    tops = climb_from(jax.random.key(1), known.target, STARTS + known.normals.location[1] * 0.5)
    assert np.mean(tops.arrived) > 0.9
    place = (tops.normals.location[:, 0] > 0).astype(int)[tops.arrived]
    assert set(place.tolist()) == {0, 1}

    def here(leaf):
        return leaf[tops.arrived]

    location, factor = here(tops.normals.location), here(tops.normals.factor)
    np.testing.assert_allclose(location, known.normals.location[place], atol=1e-5)
    np.testing.assert_allclose(factor, known.normals.factor[place], atol=1e-5)
    np.testing.assert_allclose(here(tops.log_mass), known.log_mass[place], atol=1e-6)


TOPLESS = {
    "a flat ridge": lambda x: -0.5 * x[0] ** 2,
    "a top without curvature": lambda x: -0.5 * x[0] ** 2 - x[1] ** 4,
    "a rise without end": lambda x: x[1] - 0.5 * x[0] ** 2 * jnp.exp(2 * x[1]),
    "no density anywhere": lambda x: x[0] * jnp.nan,
}


@pytest.mark.slow
@pytest.mark.parametrize("log_density", TOPLESS.values(), ids=TOPLESS)
def test_where_there_is_no_normal_shape_no_climb_arrives(log_density):
    target = target_from_log_density(log_density, 2)
    tops = climb_from(jax.random.key(1), target, STARTS[:4])
    assert not np.any(tops.arrived)
    assert np.all(np.isfinite(tops.normals.location))


def test_a_density_with_loops_is_climbed_one_start_after_the_other():
    """Each climb then takes as long as its own positions do, and leads to the same top."""

    def log_density(x):
        return -jnp.sum((x - 1.0) ** 2) - 0.5 * x[0] ** 4

    plain = target_from_log_density(log_density, 2)
    looping = target_from_log_density(lambda x: log_density(x) + 0 * halved_until_small(x[1]), 2)
    assert looping.has_loops and not plain.has_loops
    tops = [climb_from(jax.random.key(1), target, STARTS[:8]) for target in (plain, looping)]
    assert np.all(tops[1].arrived)
    np.testing.assert_allclose(tops[0].normals.location, tops[1].normals.location, atol=1e-6)
    np.testing.assert_allclose(tops[0].log_mass, tops[1].log_mass, atol=1e-6)
