"""Only those charts are trained whose untrained process has uneven weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer.need import needs_training
from tests.catalogue import narrow
from tests.targets import normal


def piece(scale: float) -> StandardisedTarget:
    """A normal distribution seen through a map that is too narrow or too wide by a factor."""
    target = normal(np.zeros(2), np.eye(2)).target
    return StandardisedTarget(target, DenseMap(jnp.zeros(2), scale * jnp.eye(2)))


def needed(*scales: float, share: tuple[float, ...] | None = None) -> list[bool]:
    make = partial(nb.CMCD, num_steps=4, control=narrow(8), diffusion=0.1)
    processes = [make(key, 2) for key in jax.random.split(jax.random.key(0), len(scales))]
    of_each = np.full(len(scales), 1 / len(scales)) if share is None else np.asarray(share)
    pieces = [piece(scale) for scale in scales]
    return needs_training(jax.random.key(1), processes, pieces, of_each)


def test_charts_that_are_good_without_training_are_left_alone():
    assert needed(1.0, 3.0, 1.0) == [False, True, False]


def test_where_no_chart_stands_out_all_are_trained():
    assert needed(1.0, 1.0) == [True, True]
    assert needed(1.0) == [True]


def test_a_chart_that_is_too_light_to_be_felt_is_left_alone():
    assert needed(3.0, 3.0, share=(0.999, 0.001)) == [True, False]
