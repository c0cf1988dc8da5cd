"""Moves over whole paths: accepted by the ratio of their weights."""

import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import identity_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.trajectories.ends import End, draw_end
from numpyro_bridge.trajectories.path_moves import global_move
from tests import targets
from tests.catalogue import narrow

KEY = jax.random.key(5)


def process_and_target():
    target = targets.normal([0.5, -0.5], [[1.5, 0.4], [0.4, 0.8]]).target
    process = nb.CMCD(jax.random.key(0), 2, num_steps=2, control=narrow(4))
    return process, StandardisedTarget(target, identity_map(2))


def assert_same(a: End, b: End) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_path_of_endless_weight_is_kept_and_one_of_no_weight_is_left():
    process, target = process_and_target()
    end = draw_end(jax.random.key(1), process, target)
    heavy = end._replace(log_weight=jnp.full_like(end.log_weight, jnp.inf))
    kept, probability, accepted = global_move(KEY, process, target, heavy)
    assert probability == 0.0 and not accepted
    assert_same(kept, heavy)
    light = end._replace(log_weight=jnp.full_like(end.log_weight, -jnp.inf))
    moved, probability, accepted = global_move(KEY, process, target, light)
    assert probability == 1.0 and accepted
    proposal = draw_end(jax.random.split(KEY)[0], process, target)
    assert_same(moved, proposal)


def test_the_probability_of_accepting_is_the_ratio_of_the_weights():
    process, target = process_and_target()
    proposal = draw_end(jax.random.split(KEY)[0], process, target)
    heavier = proposal._replace(log_weight=proposal.log_weight + jnp.log(4.0))
    _, probability, _ = global_move(KEY, process, target, heavier)
    np.testing.assert_allclose(probability, 0.25, rtol=1e-9)
