"""Positions in the model's own coordinates, seen through maps and wrappers, and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.atlas.maps import DenseMap, diagonal_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.objectives.curricula.tempering import TemperedTarget
from numpyro_bridge.target import target_from_log_density, target_from_model
from numpyro_bridge.target.clipped import ClippedScore
from tests.target.models import KEY, dynamic_support

DENSE = DenseMap(jnp.array([3.0, -1.0]), jnp.array([[2.0, 0.0], [0.5, 0.1]]))
DIAGONAL = diagonal_map(jnp.ones(2), jnp.array([0.3, 4.0]))
POSITIONS = jax.random.normal(jax.random.key(1), (5, 2))

WRAPPINGS = {
    "plain": lambda given: given,
    "standardised": lambda given: StandardisedTarget(given, DENSE),
    "wrapper around a plain one": ClippedScore,
    "wrappers around a standardised one": lambda given: TemperedTarget(
        ClippedScore(StandardisedTarget(given, DENSE)), jnp.array(2.0)
    ),
    "standardised twice": lambda given: StandardisedTarget(
        ClippedScore(StandardisedTarget(given, DENSE)), DIAGONAL
    ),
}


@pytest.fixture(scope="module")
def given():
    return target_from_model(KEY, dynamic_support)


@pytest.fixture(scope="module", params=WRAPPINGS.values(), ids=list(WRAPPINGS))
def target(request, given):
    return request.param(given)


def assert_close(a, b):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), a, b)


def test_positions_go_to_the_model_and_back(target):
    there, back = jax.vmap(target.to_model)(POSITIONS), jax.vmap(target.from_model)(POSITIONS)
    assert_close(jax.vmap(target.from_model)(there), POSITIONS)
    assert_close(jax.vmap(target.to_model)(back), POSITIONS)


def test_maps_compose_from_the_inside_out(given):
    twice = WRAPPINGS["standardised twice"](given)
    expected = DENSE.location + DENSE.factor @ DIAGONAL(POSITIONS[0])
    assert_close(twice.to_model(POSITIONS[0]), expected)


def test_sites_are_the_same_in_both_coordinates(target, given):
    there = jax.vmap(target.to_model)(POSITIONS)
    for here, of_model in (
        (target.constrain, given.constrain),
        (target.by_site, given.by_site),
    ):
        assert_close(jax.vmap(here)(POSITIONS), jax.vmap(of_model)(there))
    sites = jax.vmap(target.by_site)(POSITIONS)
    assert_close(jax.vmap(target.joined)(sites), POSITIONS)


def test_the_target_that_was_given_is_innermost(target, given):
    assert target.innermost is given


def test_starts_and_prior_draws_are_those_of_the_model(target, given):
    for here, of_model in (
        (target.initial_positions, given.initial_positions),
        (target.prior_positions, given.prior_positions),
    ):
        assert_close(jax.vmap(target.to_model)(here(KEY, 4)), of_model(KEY, 4))


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=list(WRAPPINGS))
def test_a_function_has_no_prior_to_draw(wrapping):
    target = wrapping(target_from_log_density(lambda x: -jnp.sum(x**2), 2))
    assert target.prior_positions(KEY, 4) is None
