"""Posteriors that need no training: bridges at given parameters, in coordinates that fit."""

from functools import partial

import jax.numpy as jnp

import numpyro_bridge as nb
from numpyro_bridge.atlas.maps import DenseMap, identity_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from tests import targets
from tests.catalogue import SMALL

CMCD = partial(nb.CMCD, **SMALL)
X, Y = targets.regression_data()


def nearly_standard(rng_key, target):
    """Coordinates in which the posterior of `regression` is a little too wide and off centre."""
    mean, covariance, _ = targets.regression_posterior(X, Y)
    factor = jnp.linalg.cholesky(jnp.asarray(covariance))
    return nb.atlas.Standardisation(DenseMap(mean + 0.3 * factor[:, 0], 0.8 * factor))


def posterior_of(target: nb.target.Target, process, affine=None) -> nb.Posterior:
    """A bridge at given parameters."""
    affine = identity_map(target.dim) if affine is None else affine
    return nb.Posterior(
        process,
        StandardisedTarget(target, affine),
        nb.atlas.Standardisation(affine),
        None,
    )
