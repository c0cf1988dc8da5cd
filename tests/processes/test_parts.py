"""The parts of samplers: found whole, and widened if they make noise."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.processes.annealing import AnnealingSchedule
from numpyro_bridge.processes.diffusion import Diffusion
from numpyro_bridge.processes.initial import InitialMixture, InitialNormal
from numpyro_bridge.processes.parts import is_part, map_parts, widened_parts
from numpyro_bridge.processes.underdamped.scales import UnderdampedScales
from tests import catalogue

FACTOR = 1.5


class Noise(NamedTuple):
    """Where a part keeps its noise, and the standard deviation that is meant."""

    field: Callable
    deviation: Callable


NOISE = {
    Diffusion: Noise(lambda part: part.log_noise, jnp.exp),
    InitialNormal: Noise(lambda part: part.log_scale, jnp.exp),
    InitialMixture: Noise(lambda part: part.factors, lambda factors: factors),
    # The friction is a variance.
    UnderdampedScales: Noise(lambda part: part.log_friction, lambda x: jnp.exp(0.5 * x)),
}
"""The parts that make noise."""


def parts_and_other_leaves(tree) -> list:
    return jax.tree.leaves(tree, is_leaf=is_part)


def assert_same(a, b) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", catalogue.PROCESSES)
def test_every_part_that_makes_noise_is_widened_and_nothing_else_changes(name):
    process = catalogue.untrained(name)
    before, after = map(parts_and_other_leaves, (process, widened_parts(process, FACTOR)))
    assert any(type(part) in NOISE for part in before)
    for old, new in zip(before, after, strict=True):
        if type(old) in NOISE:
            field, deviation = NOISE[type(old)]
            expected = FACTOR * deviation(field(old))
            np.testing.assert_allclose(deviation(field(new)), expected, rtol=1e-9)
            new = eqx.tree_at(field, new, field(old))
        assert_same(new, old)


def test_a_function_of_parts_sees_each_of_them_whole():
    tree = {
        "noise": Diffusion(3, 2, 0.5),
        "others": [jnp.zeros(2), AnnealingSchedule(3), None],
    }
    assert map_parts(is_part, tree) == {"noise": True, "others": [False, True, None]}


def test_parts_without_noise_stay_the_same_when_widened():
    schedule = AnnealingSchedule(3)
    assert schedule.widened(FACTOR) is schedule
