"""Models that are refused with advice, and their neighbours that are accepted."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.contrib.module import random_eqx_module
from numpyro.distributions import constraints
from numpyro.infer.reparam import CircularReparam, LocScaleReparam

from numpyro_bridge.target import refusals, target_from_model
from tests import targets
from tests.target.models import ENUMERATE, ERRORS, KEY, Y, eight_schools, model_max, one_site


def subsampled(y):
    loc = numpyro.sample("loc", dist.Normal())
    with numpyro.plate("row", 3, subsample_size=2) as rows:
        numpyro.sample("y", dist.Normal(loc, 1), obs=y[rows])


def parameter():
    scale = numpyro.param("scale", 1.0, constraint=constraints.positive)
    numpyro.sample("x", dist.Normal(0, scale))


def circular():
    with handlers.reparam(config={"angle": CircularReparam()}):
        numpyro.sample("angle", dist.VonMises(0.0, 1.0))


def counts(y=None):
    rate = numpyro.sample("rate", dist.Gamma(2.0))
    with numpyro.plate("row", 3):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def sequential():
    p = numpyro.sample("p", dist.Beta(1.0, 1.0))
    numpyro.sample("coin", dist.Bernoulli(p), infer={"enumerate": "sequential"})


def branching():
    x = numpyro.sample("x", dist.Normal())
    if x > 0:
        numpyro.factor("half", -x)


def kinked(y):
    x = numpyro.sample("x", dist.Normal())
    numpyro.factor("zero over zero", jnp.where(x > 9, jnp.sqrt(0 * x), 0.0))


def positive_data(y):
    loc = numpyro.sample("loc", dist.Normal())
    numpyro.sample("y", dist.LogNormal(loc).expand([2]).to_event(1), obs=y)


def normal_data(y):
    loc = numpyro.sample("loc", dist.Normal())
    numpyro.sample("good", dist.Normal(loc), obs=1.0)
    numpyro.sample("y", dist.Normal(loc).expand([3]).to_event(1), obs=y)


def impossible():
    x = numpyro.sample("x", dist.Normal())
    numpyro.factor("never", jnp.where(x > 100, 0.0, -jnp.inf))


def walk():
    def step(level, _):
        level = numpyro.sample("level", dist.Normal(level))
        return level, level

    _, levels = scan(step, numpyro.sample("first", dist.Normal()), None, length=2)
    numpyro.factor("data", -(levels.sum() ** 2))


def walk_of_scoped_steps():
    scan(
        handlers.scope(
            lambda level, _: (numpyro.sample("level", dist.Normal(level)), None), prefix="inner"
        ),
        0.0,
        None,
        length=2,
    )


REFUSALS = {
    "no latent": (handlers.condition(one_site(dist.Normal()), {"x": 0.0}), (), "no continuous"),
    "discrete": (one_site(dist.Bernoulli(0.5), infer=ENUMERATE), (), "no continuous"),
    "subsample": (subsampled, (Y,), "'row' takes a subsample of 2 of its 3.*subsample_size"),
    "param": (parameter, (), "'scale' is a numpyro.param.*numpyro.sample.*handlers.substitute"),
    "circular": (circular, (), "'angle' uses CircularReparam.*Remove"),
    "Poisson": (counts, (), "'y' is discrete .Poisson.*was None passed.*'enumerate': 'parallel'"),
    "sequential": (sequential, (), "'coin' is discrete"),
    "Delta": (one_site(dist.Delta(1.0)), (), "'x' has a Delta.*numpyro.deterministic"),
    "Delta in a plate": (numpyro.plate("row", 2)(one_site(dist.Delta(1.0))), (), "has a Delta"),
    "branch": (branching, (), "jnp.where or jax.lax.cond"),
    "JAX array": (model_max, (jnp.array([0, 1, 1]), Y), "NumPy arrays rather than JAX arrays"),
    "NaN data": (normal_data, (np.array([1, math.nan, 2]),), "site 'y' has .*1 of its values are"),
    "NaN covariate": (targets.regression, (np.array([1, math.nan]), Y[:2]), "x holds 1 NaN"),
    "outside": (positive_data, (np.array([1.0, -2.0]),), "'y'.*outside the support of LogNormal"),
    "infinite factor": (impossible, (), "factor 'never' has log probability -inf"),
    "gradient": (kinked, (Y,), "its gradient never is"),
    "scan in a scope": (handlers.scope(walk, "inner"), (), "'inner/level' does not take"),
    "unexpected": (eight_schools, (1, 2, 3), r"signature is eight_schools\(errors, effects=None\)"),
    "complex": (normal_data, (1j * np.ones(3),), "is a complex number.*jnp.real"),
    "missing": (eight_schools, (), "missing a required argument: 'errors'.*given ()"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_model_is_refused_with_advice(name):
    model, args, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        target_from_model(KEY, model, *args)


def test_a_scope_inside_of_a_scan_is_accepted():
    target = target_from_model(KEY, walk_of_scoped_steps)
    position = jnp.array([0.5, 2.0])
    np.testing.assert_array_equal(target.constrain(position)["inner/level"], position)
    expected = scipy.stats.norm([0.0, 0.5]).logpdf(position).sum()
    np.testing.assert_allclose(target.log_density(position), expected)


def test_wrong_arguments_are_shown_with_their_cause():
    with pytest.raises(ValueError, match=r"given \(float64\[8\], y=None\)") as caught:
        target_from_model(KEY, eight_schools, ERRORS, y=None)
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_error_inside_the_model_is_not_hidden():
    def model():
        numpyro.sample("x", dist.Normal())
        return len(3)

    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)") as caught:
        target_from_model(KEY, model)
    assert caught.value.__context__ is None


def test_an_error_inside_the_model_comes_with_the_shapes_of_the_data():
    with pytest.raises(ValueError, match="shape") as caught:
        target_from_model(KEY, targets.regression, np.ones(4), y=np.ones(3))
    assert any("run on (float64[4], y=float64[3])" in note for note in caught.value.__notes__)


def test_values_of_wrong_shapes_are_refused():
    """Even where their sizes add up to the right number."""
    target = target_from_model(KEY, targets.unordered)
    swapped = {"z": np.zeros(2), "a": np.zeros(1)}
    with pytest.raises(ValueError, match=r"the shapes \{'a': \(2,\), 'z': \(\)\}, by site, got"):
        target.joined(swapped)
    with pytest.raises(ValueError, match="by site, got {'z'"):
        target.joined({"z": np.zeros(())})
    with pytest.raises(ValueError, match="several draws should be rows"):
        target.unconstrain(swapped)


def test_model_must_be_callable():
    with pytest.raises(ValueError, match="model: a NumPyro model is a function.*type float"):
        refusals.check_arguments(1.0, (), {})


def test_network_with_priors_is_accepted():
    def model(prior, x):
        net = random_eqx_module("net", eqx.nn.Linear(2, 1, key=KEY), prior)
        numpyro.sample("y", dist.Normal(jax.vmap(net)(x)[:, 0], 1), obs=x[:, 0])

    target = target_from_model(KEY, model, dist.Normal(), np.eye(2))
    assert target.sites == {"net/bias": (1,), "net/weight": (1, 2)}
    with pytest.raises(ValueError, match=r"'net\$params' is a numpyro.param.*a prior for each"):
        target_from_model(KEY, model, {"weight": dist.Normal()}, np.eye(2))


def centred_by_a_parameter(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with handlers.reparam(config={"x": LocScaleReparam(None)}):
        x = numpyro.sample("x", dist.Normal(mean, 2.0))
    numpyro.sample("y", dist.Normal(x, 1.0), obs=y)


def test_a_centring_that_could_be_learned_is_held_and_noted():
    """NUTS runs such a model too; the marginal of what is not centred is the same."""
    target = target_from_model(KEY, centred_by_a_parameter, 0.5)
    assert set(target.sites) == {"mean", "x_decentered"}
    assert "x_centered stays at its initial value" in " ".join(target.notes)
    grid = jnp.linspace(-30.0, 30.0, 601)
    pairs = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    log_evidence = jax.nn.logsumexp(jax.vmap(target.log_density)(pairs)) + 2 * jnp.log(0.1)
    expected = dist.Normal(0.0, jnp.sqrt(1.0 + 4.0 + 1.0)).log_prob(0.5)
    np.testing.assert_allclose(log_evidence, expected, atol=1e-6)


def test_fixed_parameter_is_accepted():
    target = target_from_model(KEY, handlers.substitute(parameter, data={"scale": 2.0}))
    np.testing.assert_allclose(target.log_density(jnp.zeros(1)), scipy.stats.norm(0, 2).logpdf(0))


def test_angle_without_reparametrisation_is_accepted():
    target = target_from_model(KEY, one_site(dist.VonMises(0.5, 2.0)))
    angle = target.constrain(jnp.array([0.3]))["x"]
    slope = jax.grad(lambda x: target.constrain(x)["x"].sum())(jnp.array([0.3]))[0]
    expected = scipy.stats.vonmises(2.0, 0.5).logpdf(angle) + np.log(slope)
    np.testing.assert_allclose(target.log_density(jnp.array([0.3])), expected)
