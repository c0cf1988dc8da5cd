"""Draws near the posterior of `tests/schools.py`, made once for all files that convert them."""

import jax
import pytest

from numpyro_bridge.draws.inference_data import to_inference_data
from numpyro_bridge.target import target_from_model
from tests.schools import DATA, REPORT, SCALE, draws_near, schools


@pytest.fixture(scope="session")
def target():
    return target_from_model(jax.random.key(0), schools, SCALE, data=DATA)


@pytest.fixture(scope="session")
def draws(target):
    return draws_near(target, jax.random.key(1), report=REPORT)


@pytest.fixture(scope="session")
def idata(draws):
    return to_inference_data(draws, coords={"school": ["A", "B", "C", "D"]})
