"""A hierarchical normal model, whose posterior is known exactly, and its draws as ArviZ objects."""

from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.stats import multivariate_normal

from numpyro_bridge.draws.draws import Draws
from numpyro_bridge.target import target_from_model
from numpyro_bridge.training import RunReport, Seconds, Stop
from tests import targets

DATA = np.array([1.2, -0.4, 0.9, 2.5])
SCALE = np.array([1.5, 2.0, 1.5, 2.5])
AZ1 = int(az.__version__.split(".")[0]) >= 1
BARE: dict[str, Any] = dict(prior=False, predictive=False, log_likelihood=False, log_prior=False)
REPORT = RunReport(
    "CMCD",
    stopped=Stop.PLATEAU,
    num_gradient_evaluations=512,
    seconds=Seconds(train=12.5, draw=0.25),
)


def schools(scale, data=None):
    mean = numpyro.sample("mean", dist.Normal(0, 2))
    with numpyro.plate("school", 4):
        effect = numpyro.sample("effect", dist.Normal(mean, 1))
        numpyro.deterministic("twice", 2 * effect)
        numpyro.sample("score", dist.Normal(effect, scale), obs=data)


def draws_near(target, rng_key, num=4000, shift=0.3, widen=1.2, **fields):
    """Importance draws from the posterior, moved by `shift` and `widen` posterior deviations."""
    mean, covariance = targets.normal_posterior(target)
    root = jnp.linalg.cholesky(covariance)
    centre = mean + shift * jnp.diag(root)
    position = centre + widen * jax.random.normal(rng_key, (num, target.dim)) @ root.T
    return draws_at(
        target,
        position,
        multivariate_normal.logpdf(position, centre, widen**2 * covariance),
        **fields,
    )


def draws_at(target, position, log_proposal, **fields):
    log_density = targets.each(target.log_density, position)
    sites = targets.each(target.constrain, position)
    return Draws(sites, log_density - log_proposal, position, log_density, target, **fields)


def equally_weighted(model, *args, num=400):
    """Draws that only have to be there, for what the model allows."""
    target = target_from_model(jax.random.key(0), model, *args)
    position = target.initial_positions(jax.random.key(1), num)
    return draws_at(target, position, targets.each(target.log_density, position))


def groups_of(idata):
    names = idata.groups if AZ1 else idata.groups()
    return {name.strip("/") for name in names} - {""}


def values(idata, group, name):
    return np.asarray(idata[group][name].values)
