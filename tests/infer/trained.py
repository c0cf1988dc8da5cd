"""A bridge that is trained once on a regression, for all files that ask something of it."""

from functools import partial

import jax
import numpy as np

import numpyro_bridge as nb
from numpyro_bridge.atlas.fit_normal import laplace
from tests.catalogue import narrow

TINY = {
    "process": partial(nb.CMCD, num_steps=4, control=narrow(8)),
    "standardise": partial(nb.standardise, candidates=(laplace,), num_starts=2, nonlinear=False),
    "num_iterations": 50,
    "num_trajectories": 32,
    "progress_bar": False,
}


def assert_same_draws(a: nb.Draws, b: nb.Draws) -> None:
    np.testing.assert_array_equal(a.log_weight, b.log_weight)
    np.testing.assert_array_equal(a.position, b.position)
    jax.tree.map(np.testing.assert_array_equal, a.sites, b.sites)
