"""A place where rounding hides the density is no mode, whatever its numbers say."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.fit_normal import climb
from numpyro_bridge.atlas.judge import judge
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.roughness import are_rough, sentence_about
from numpyro_bridge.atlas.stacked import row
from numpyro_bridge.target import target_from_log_density


def rounded_far_away(x):
    """A standard normal log density; beyond 25 it is far higher, with a slope that it has not.

    Such is the likelihood of counts with a negative binomial distribution in 32 bits, where the
    coordinate is the logarithm of its size: 700 nats in place of -40, with a slope of 700.
    """
    slope_without_rise = 100.0 * (x[0] - jax.lax.stop_gradient(x[0]))
    return -0.5 * x[0] ** 2 + jnp.where(x[0] > 25, 6_000.0 + slope_without_rise, 0.0)


TARGET = target_from_log_density(rounded_far_away, 1)


def normals_at(*places):
    return jax.vmap(lambda place: DenseMap(place, jnp.eye(1)))(jnp.asarray(places)[:, None])


def test_only_where_the_gradient_is_wrong_a_place_is_rough():
    places = normals_at(0.0, 3.0, 6.0, 30.0, 38.0)
    found = are_rough(jax.random.key(0), TARGET, places)
    np.testing.assert_array_equal(found, [False, False, False, True, True])


def test_a_narrow_mode_far_away_is_not_rough():
    """Also not where it is seen through a normal distribution that is twenty times too wide."""
    far = target_from_log_density(lambda x: -0.5 * jnp.sum((x - 1e4) ** 2) / 0.05**2, 1)
    found = are_rough(jax.random.key(0), far, normals_at(1e4, 1e4 + 0.1, 1e4 - 0.5))
    assert not np.any(found)


@pytest.mark.slow
def test_a_rough_place_gets_no_chart_and_is_told(monkeypatch):
    # The function of the package hides the module of the same name.
    module = importlib.import_module("numpyro_bridge.atlas.unexplained")
    rough = 38 + jax.random.normal(jax.random.key(2), (512, 1))
    monkeypatch.setattr(module, "draw_probes", lambda *_: rough)
    best = climb(jax.random.key(0), TARGET, normals_at(1.0), 50, 64)
    seen = judge(jax.random.key(1), TARGET, [row(best, 0)], np.zeros(1))
    found = module.with_unexplained(jax.random.key(3), TARGET, best, seen, 64)
    assert found.charts is None
    assert found.rough is not None and found.rough > 25
    assert "rounding hides what it is there" in sentence_about(found.rough)
