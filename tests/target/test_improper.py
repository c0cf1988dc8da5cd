"""An improper posterior is named as one, and an improper prior with data is not refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.tree_util import Partial
from numpyro import handlers
from numpyro.distributions import constraints

import numpyro_bridge as nb
from numpyro_bridge.target import target_from_model
from numpyro_bridge.target.improper import refuse_flat
from tests.target.models import KEY, UNTRAINED, one_site


def flat(support=constraints.real, shape=()):
    return dist.ImproperUniform(support, (), shape)


def without_data(y=None):
    mean = numpyro.sample("mean", flat())
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Normal(mean, 1.0).mask(False), obs=jnp.zeros(3))


def one_of_two(y):
    mean = numpyro.sample("mean", flat())
    numpyro.sample("unused", flat(constraints.positive))
    numpyro.sample("y", dist.Normal(mean, 1.0).to_event(0), obs=y)


def coefficients(x, y):
    """The second covariate is zero throughout, so that nothing says what its coefficient is."""
    beta = numpyro.sample("beta", flat(constraints.real_vector, (2,)))
    numpyro.sample("y", dist.Normal(x @ beta, 1.0).to_event(1), obs=y)


def inverse_scale(y):
    """The density of log scale is flat towards minus infinity, where 1 / scale ends as inf."""
    mean = numpyro.sample("mean", dist.Normal(0.0, 5.0))
    scale = numpyro.sample("scale", flat(constraints.positive))
    numpyro.factor("prior", -jnp.log(scale) - scale)
    numpyro.sample("y", dist.Normal(mean, jnp.sqrt(1 + scale**2)).expand([3]), obs=y)


IMPROPER = {
    "one over a scale of effects": (inverse_scale, (np.ones(3),), "scale"),
    "masked": (without_data, (), "mean"),
    "prior alone": (lambda: numpyro.sample("x", flat()), (), "x"),
    "masked prior": (handlers.mask(one_site(dist.Normal()), mask=False), (), "x"),
    "one of two": (one_of_two, (1.0,), "unused"),
    "column of zeros": (coefficients, (np.eye(2)[:, :1] * [[1.0, 0.0]], np.ones(2)), "beta"),
}


@pytest.mark.parametrize("name", IMPROPER)
def test_an_improper_posterior_is_refused_by_name(name):
    model, args, site = IMPROPER[name]
    with pytest.raises(ValueError, match=f"posterior is improper.*however far {site} is moved"):
        target_from_model(KEY, model, *args)


def test_the_values_that_obs_mask_makes_are_explained():
    def model(y):
        mean = numpyro.sample("mean", dist.Normal())
        seen = jnp.array([True, False, True])
        numpyro.sample("y", dist.Normal(mean, 1.0).expand([3]), obs=y, obs_mask=seen)

    with pytest.raises(ValueError, match=r"comes of obs_mask= at site 'y'.*handlers.mask"):
        target_from_model(KEY, model, np.ones(3))


def mean_and_scale(y, one_over=False):
    """With a flat scale three observations are needed, with one over the scale two."""
    mean = numpyro.sample("mean", flat())
    scale = numpyro.sample("scale", flat(constraints.positive))
    numpyro.factor("prior", -jnp.log(scale) if one_over else 0.0)
    numpyro.sample("y", dist.Normal(mean, scale).expand(y.shape).to_event(1), obs=y)


def regression(x, y):
    beta = numpyro.sample("beta", flat(constraints.real_vector, (x.shape[1],)))
    scale = numpyro.sample("scale", flat(constraints.positive))
    numpyro.sample("y", dist.Normal(x @ beta, scale).to_event(1), obs=y)


RNG = np.random.default_rng(0)
FEW = {
    "two": (mean_and_scale, (np.array([1.0, 2.0]),)),
    "two far away": (mean_and_scale, (1e4 + np.array([1.0, 2.0]),)),
    "four for a regression of three": (regression, (RNG.normal(size=(4, 3)), RNG.normal(size=4))),
}
ENOUGH = {
    "three": (mean_and_scale, (np.array([1.0, 2.0, 4.0]),)),
    "three with a large scale": (mean_and_scale, (1e6 * np.array([1.0, 2.0, 4.0]),)),
    "two with one over the scale": (mean_and_scale, (np.array([1.0, 2.0]), True)),
    "five for a regression": (regression, (RNG.normal(size=(5, 3)), RNG.normal(size=5))),
}


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("name", FEW)
def test_too_few_data_for_a_flat_scale_are_refused(name, precise):
    model, args = FEW[name]
    with jax.enable_x64(precise), pytest.raises(ValueError, match="as scale is moved far, and"):
        target_from_model(KEY, model, *args)


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize("name", ENOUGH)
def test_enough_data_for_a_flat_scale_are_not_refused(name, precise):
    model, args = ENOUGH[name]
    with jax.enable_x64(precise):
        assert "scale" in target_from_model(KEY, model, *args).improper_sites


def far_away(y):
    level = numpyro.sample("level", flat())
    scale = numpyro.sample("scale", flat(constraints.positive))
    numpyro.sample("y", dist.Normal(level, scale).expand(y.shape).to_event(1), obs=y)
    numpyro.sample("spread", dist.HalfCauchy(1.0), obs=scale)


def heavy(y):
    level = numpyro.sample("level", flat())
    numpyro.sample("y", dist.Cauchy(level, 1.0).expand(y.shape).to_event(1), obs=y)


@pytest.mark.parametrize("model", [far_away, heavy])
@pytest.mark.parametrize("place", [0.0, 1e5])
@pytest.mark.parametrize("precise", [True, False])
def test_data_make_a_posterior_proper_however_far_they_are(model, place, precise):
    with jax.enable_x64(precise):
        target = target_from_model(KEY, model, place + np.arange(4.0))
    assert "level" in target.improper_sites


def test_the_verdict_says_why_there_is_no_evidence(key):
    sampler = nb.BridgeSampler(heavy, **UNTRAINED)
    draws = sampler.run(key, np.arange(4.0)).sample(key, 100)
    assert "no log evidence, since the prior of level is improper" in draws.verdict.text


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize(
    ("log_density", "which"),
    [
        (lambda x: 3.0 + 0.0 * jnp.sum(x), r"x\[0\], x\[1\], x\[2\]"),
        (lambda x: -0.5 * (x[0] ** 2 + x[2] ** 2), r"x\[1\]"),
        (lambda x: -0.5 * (x[0] ** 2 + x[1] ** 2) - jax.nn.softplus(x[2]), r"x\[2\]"),
    ],
    ids=["constant", "unused", "on one side"],
)
def test_a_log_density_that_is_flat_is_refused_by_coordinate(key, log_density, which, precise):
    with jax.enable_x64(precise):
        target = nb.target_from_log_density(log_density, 3)
        with pytest.raises(ValueError, match=f"does not fall however far {which} is moved"):
            nb.atlas.explore(key, target)


def cauchy(x, constant=0.0):
    return constant - jnp.sum(jnp.log1p(x**2))


def funnel(x):
    """Ten standard deviations out, the mouth of this funnel is as wide as a hundred million."""
    log_scale = x[0] - 5.0
    return -0.5 * (log_scale / 2.0) ** 2 - jnp.sum(
        0.5 * (x[1:] * jnp.exp(-log_scale)) ** 2 + log_scale
    )


@pytest.mark.parametrize("precise", [True, False])
@pytest.mark.parametrize(
    ("log_density", "place"),
    [
        (lambda x: -(x[0] ** 2) * (1 + x[1] ** 2) ** 2 - x[2] ** 2, [0.0, 1.0, 0.0]),
        (lambda x: jnp.where(jnp.all(jnp.abs(x) < 1), 0.0, -1e4), [0.0, 0.1, 0.0]),
        (cauchy, [0.0, 1.0, -1.0]),
        (Partial(cauchy, constant=1e9), [0.0, 1.0, -1.0]),
        (funnel, [0.0, 1.0, -1.0]),
    ],
    ids=["ridge", "floor", "heavy tails", "beside a large constant", "funnel"],
)
def test_a_log_density_that_has_an_integral_or_stands_on_a_floor_is_not_refused(
    log_density, place, precise
):
    with jax.enable_x64(precise):
        target = nb.target_from_log_density(log_density, 3)
        refuse_flat(target, np.asarray([place]))
