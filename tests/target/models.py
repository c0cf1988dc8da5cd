"""Models and numbers that the tests of targets share, and a count of compilations."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.infer.reparam import ProjectedNormalReparam

import numpyro_bridge as nb
from numpyro_bridge.target import ModelTarget, target_from_model
from tests.catalogue import SMALL

KEY = jax.random.key(0)
Y = np.array([0.3, -1.0, 0.5])
COUNTS = np.array([[1, 2], [0, 3], [2, 2]])
ENUMERATE = {"enumerate": "parallel"}
EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])

UNTRAINED = {
    "process": partial(nb.CMCD, **SMALL),
    "standardise": nb.no_standardisation,
    "num_iterations": 2,
    "num_trajectories": 16,
    "progress_bar": False,
}
"""Settings of a sampler of which only the wording of a verdict, or a refusal, is asked."""


def eight_schools(errors, effects=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", errors.shape[0]):
        z = numpyro.sample("z", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("effect", dist.Normal(theta, errors), obs=effects)


def schools() -> ModelTarget:
    return target_from_model(KEY, eight_schools, ERRORS, effects=EFFECTS)


def one_site(fn, **kwargs):
    """A model of a single latent site "x"."""
    return lambda: numpyro.sample("x", fn, **kwargs)


def dynamic_support():
    low = numpyro.sample("low", dist.Normal())
    numpyro.sample("x", dist.Uniform(low, low + 2))


def masked(y):
    loc = numpyro.sample("loc", dist.Normal(0, 10))
    with numpyro.plate("row", 4), handlers.mask(mask=~jnp.isnan(y)):
        numpyro.sample("y", dist.Normal(loc, 1), obs=y)


def factored(shift):
    x = numpyro.sample("x", dist.Gamma(2.0))
    numpyro.factor("tilt", -shift * x**2)


def chain(y):
    def step(level, y):
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.3))
        level = numpyro.sample("level", dist.Normal(level, scale))
        numpyro.deterministic("doubled", 2 * level)
        numpyro.sample("y", dist.Normal(level, 0.5), obs=y)
        return level, None

    start = numpyro.sample("start", dist.Normal())
    scan(step, start, y)


def improper(y):
    loc = numpyro.sample("loc", dist.ImproperUniform(constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(loc, 1).expand([3]).to_event(1), obs=y)


def nested_plates(y):
    with numpyro.plate("group", 3, dim=-2):
        rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
        with numpyro.plate("item", 2, dim=-1):
            weight = numpyro.sample("weight", dist.Dirichlet(jnp.ones(4)))
            numpyro.deterministic("first", weight[..., 0])
            numpyro.sample("y", dist.Poisson(rate), obs=y)


def with_key(y):
    noise = jax.random.normal(numpyro.prng_key(), (3,))
    loc = numpyro.sample("loc", dist.Normal())
    numpyro.sample("y", dist.Normal(loc + 0.1 * noise, 1).to_event(1), obs=y)


def scoped():
    with handlers.scope(prefix="inner"):
        x = numpyro.sample("x", dist.Gamma(2.0))
    numpyro.sample("y", dist.Normal(x, 1), obs=1.0)


def conditioned_base():
    x = numpyro.sample("x", dist.Beta(2.0, 3.0))
    numpyro.sample("y", dist.Normal(x, 1))


def projected():
    with handlers.reparam(config={"x": ProjectedNormalReparam()}):
        numpyro.sample("x", dist.ProjectedNormal(jnp.array([1.0, 2.0])))


def numbers():
    numpyro.sample("positive", dist.Gamma(3.0, 2.0))
    numpyro.sample("bounded", dist.Uniform(jnp.array([-1.0, 2.0]), 5.0))
    numpyro.sample("truncated", dist.TruncatedNormal(1.0, 2.0, low=0.0))


def vectors():
    ordered = dist.transforms.OrderedTransform()
    normal = dist.Normal(0, 1).expand([3]).to_event(1)
    numpyro.sample("ordered", dist.TransformedDistribution(normal, ordered))
    numpyro.sample("simplex", dist.Dirichlet(jnp.array([1.0, 2.0, 3.0, 0.5])))
    numpyro.sample("zero sum", dist.ZeroSumNormal(1.5, (4,)))
    numpyro.sample("normal", dist.MultivariateNormal(jnp.zeros(2), 2 * jnp.eye(2)))


def matrices():
    numpyro.sample("Cholesky", dist.LKJCholesky(3, 2.0))
    numpyro.sample("positive definite", dist.Wishart(5.0, jnp.eye(3)))


def model_max(group, y):
    loc = numpyro.sample("loc", dist.Normal().expand([int(group.max()) + 1]).to_event(1))
    numpyro.sample("y", dist.Normal(loc[group], 1).to_event(1), obs=y)


def count_traces(function):
    """A jitted function of a target, and the list that grows by one with each compilation."""
    traces = []

    @eqx.filter_jit
    def run(target, position):
        traces.append(1)
        return function(target, position)

    return run, traces
