"""Independent normal effects, whose posterior is known exactly, a bridge on them, and NUTS."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS

from numpyro_bridge.atlas.maps import DenseMap
from numpyro_bridge.atlas.standardisation import Standardisation
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.infer import Posterior
from numpyro_bridge.processes import CMCD
from numpyro_bridge.training import RunReport, Seconds, TrajectoryMetrics
from tests.catalogue import narrow

SCHOOLS = ["north", "east", "south"]
ERROR = np.array([0.5, 1.0, 2.0])
DATA = np.array([1.2, -0.4, 2.5])
PRIOR_SD = 2.0
SHORT = {"num_samples": 800, "num_chains": 2, "coords": {"school": SCHOOLS}}


def effects(error, data=None):
    """Independent normal effects: the posterior is normal, and its moments are exact."""
    with numpyro.plate("school", len(error)):
        effect = numpyro.sample("effect", dist.Normal(0, PRIOR_SD))
        numpyro.deterministic("twice", 2 * effect)
        numpyro.deterministic("constant", jnp.ones(len(error)))
        numpyro.sample("score", dist.Normal(effect, error), obs=data)


def exact_moments():
    precision = 1 / PRIOR_SD**2 + 1 / ERROR**2
    return DATA / ERROR**2 / precision, precision**-0.5


def finished_nuts(model, *args, **kwargs):
    mcmc = MCMC(
        NUTS(model),
        num_warmup=150,
        num_samples=200,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(5), *args, extra_fields=("num_steps",), **kwargs)
    return mcmc


def untrained(target, mean, sd):
    """A bridge in coordinates where the target is standard normal: good without training."""
    affine = DenseMap(jnp.asarray(mean), jnp.diag(jnp.asarray(sd)))
    elbo = jnp.linspace(-9.0, -7.0, 60) + 0.1 * jnp.sin(jnp.arange(60))
    return Posterior(
        CMCD(jax.random.key(4), target.dim, num_steps=4, control=narrow(8)),
        StandardisedTarget(target, affine),
        Standardisation(affine),
        TrajectoryMetrics(
            elbo, jnp.ones(60), jnp.linspace(0.1, 0.9, 60), jnp.zeros(60), jnp.zeros(60)
        ),
        RunReport(
            "CMCD",
            num_gradient_evaluations=4_000,
            seconds=Seconds(standardise=1.5, compile=2.0, train=0.5),
        ),
    )
