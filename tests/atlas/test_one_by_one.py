"""Where a density has loops, draws are moved along it one after the other, to the same places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.one_by_one import in_turn, one_by_one
from numpyro_bridge.atlas.particles import from_normal, refreshed, tempered_particles
from numpyro_bridge.target import target_from_log_density
from tests.targets import halved_until_small

MANY = jax.random.normal(jax.random.key(3), (64, 2))
PRECISION = jnp.array([1.0, 4.0])


def plain_density(x):
    return -0.5 * jnp.sum(PRECISION * (x - 1.0) ** 2)


PLAIN = target_from_log_density(plain_density, 2)
LOOPING = target_from_log_density(lambda x: plain_density(x) + 0 * halved_until_small(x[1]), 2)


@pytest.mark.fast
def test_the_value_and_the_gradient_are_those_of_the_density():
    found = jax.vmap(jax.value_and_grad(in_turn(LOOPING, LOOPING.log_density)))(MANY)
    value, slope = jax.vmap(jax.value_and_grad(plain_density))(MANY)
    np.testing.assert_allclose(found[0], value, rtol=1e-6)
    np.testing.assert_allclose(found[1], slope, rtol=1e-6)


@pytest.mark.fast
def test_only_a_density_with_loops_is_evaluated_in_turn():
    assert in_turn(PLAIN, PLAIN.log_density) == PLAIN.log_density
    at_once, one_by_one = LOOPING.log_density, in_turn(LOOPING, LOOPING.log_density)
    assert "scan" not in str(jax.make_jaxpr(jax.vmap(at_once))(MANY))
    assert "scan" in str(jax.make_jaxpr(jax.vmap(one_by_one))(MANY))


@pytest.mark.fast
def test_a_target_with_loops_is_evaluated_in_turn_as_a_whole():
    assert one_by_one(PLAIN) is PLAIN
    alone = one_by_one(LOOPING)
    assert "scan" in str(jax.make_jaxpr(jax.vmap(lambda x: alone.at(x).score))(MANY))
    found, expected = (jax.vmap(target.at)(MANY) for target in (alone, PLAIN))
    np.testing.assert_allclose(found.log_density, expected.log_density, rtol=1e-6)
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-6)
    slope = jax.vmap(jax.grad(alone.log_density))(MANY)
    np.testing.assert_allclose(slope, expected.score, rtol=1e-6)


def test_moves_lead_to_the_same_places():
    moved = [refreshed(jax.random.key(1), one, MANY, num_moves=2) for one in (PLAIN, LOOPING)]
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-5)


@pytest.mark.slow
def test_particles_are_tempered_to_the_same_evidence():
    """The log evidence is that of two normal distributions, log(2 pi) - log(2)."""
    start = from_normal(jax.random.key(2), PLAIN, 256)
    found = [tempered_particles(jax.random.key(4), one, start) for one in (PLAIN, LOOPING)]
    assert found[0].log_evidence == pytest.approx(found[1].log_evidence, abs=1e-4)
    z = (found[1].log_evidence - np.log(np.pi)) / max(found[1].log_evidence_error, 0.05)
    assert abs(z) < 4
