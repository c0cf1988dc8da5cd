"""A bridge on the effects of `tests/effects.py`, and one on a log density, made once a file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge.target import target_from_log_density, target_from_model
from tests.effects import DATA, ERROR, effects, exact_moments, untrained


@pytest.fixture(scope="module")
def posterior():
    target = target_from_model(jax.random.key(0), effects, ERROR, data=DATA)
    return untrained(target, *exact_moments())


@pytest.fixture(scope="module")
def of_log_density():
    """A normal density with mean one, given as a function."""
    target = target_from_log_density(lambda x: -0.5 * jnp.sum((x - 1.0) ** 2), 2)
    return untrained(target, np.ones(2), np.ones(2))
