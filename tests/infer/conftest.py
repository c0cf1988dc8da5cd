"""The posterior of a regression, trained once for all files that draw from it or save it."""

import jax
import pytest

import numpyro_bridge as nb
from tests import targets
from tests.infer.trained import TINY


@pytest.fixture(scope="session")
def data():
    return targets.regression_data()


@pytest.fixture(scope="session")
def posterior(data) -> nb.Posterior:
    x, y = data
    return nb.BridgeSampler(targets.regression, **TINY).run(jax.random.key(0), x, y=y)
