"""Every kind of model as a target: its density, values, names and data agree with NumPyro."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import math
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import scipy.special
import scipy.stats
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer.util import initialize_model

from numpyro_bridge.target import target_from_model
from tests.target.models import (
    COUNTS,
    EFFECTS,
    ERRORS,
    KEY,
    Y,
    chain,
    conditioned_base,
    dynamic_support,
    eight_schools,
    factored,
    improper,
    masked,
    matrices,
    nested_plates,
    numbers,
    one_site,
    projected,
    schools,
    scoped,
    vectors,
    with_key,
)

MODELS = {
    "eight schools": (eight_schools, (ERRORS, EFFECTS)),
    "dynamic support": (dynamic_support, ()),
    "masked NaN": (masked, (np.array([1.0, math.nan, 2.0, 0.5]),)),
    "factor": (factored, (0.3,)),
    "scan": (chain, (Y,)),
    "improper": (improper, (Y,)),
    "plates": (nested_plates, (COUNTS,)),
    "prng_key": (with_key, (Y,)),
    "scope": (scoped, ()),
    "condition": (handlers.condition(conditioned_base, {"y": jnp.array(0.4)}), ()),
    "reparam": (projected, ()),
    "numbers": (numbers, ()),
    "vectors": (vectors, ()),
    "matrices": (matrices, ()),
}


def costly_as_slow(name):
    """Matrices take as long as all other models together; a Cholesky factor has a closed form."""
    return pytest.param(MODELS[name], marks=pytest.mark.slow if name == "matrices" else (), id=name)


@pytest.fixture(scope="module", params=map(costly_as_slow, MODELS))
def accepted(request):
    """A target, some positions, and what it and NumPyro say about them; compiled once."""
    model, args = request.param
    target = target_from_model(KEY, model, *args)
    positions = jax.random.normal(jax.random.key(1), (3, target.dim))

    @jax.jit
    @jax.vmap
    def evaluate(position):
        info = initialize_model(KEY, model, model_args=args, validate_grad=False)
        prototype, unravel = ravel_pytree(info.param_info.z)
        assert target.dim == prototype.size
        assert target.sites == {k: v.shape for k, v in sorted(info.param_info.z.items())}
        steps = 1e-5 * jnp.concatenate([jnp.eye(target.dim), -jnp.eye(target.dim)])
        ahead, behind = jnp.split(jax.vmap(target.log_density)(position + steps), 2)
        sites = target.constrain(position)
        return {
            "point": target.at(position),
            "log_prior": target.log_prior(position),
            "log_likelihood": target.log_likelihood(position),
            "slope": (ahead - behind) / 2e-5,
            "sites": sites,
            "position": target.unconstrain(sites),
            "numpyro_density": -info.potential_fn(unravel(position)),
            "numpyro_sites": jax.tree.map(jnp.asarray, info.postprocess_fn(unravel(position))),
        }

    return target, evaluate(positions)


def test_density_is_minus_the_potential_of_numpyro(accepted):
    target, results = accepted
    assert results["point"].finite.all() and not target.data_are_constants
    density = results["point"].log_density
    np.testing.assert_allclose(density, results["numpyro_density"], rtol=1e-10)


def test_values_are_those_of_numpyro(accepted):
    _, results = accepted
    close = partial(np.testing.assert_allclose, rtol=1e-10)
    jax.tree.map(close, results["sites"], results["numpyro_sites"])


def test_values_go_back_to_their_position(accepted):
    _, results = accepted
    np.testing.assert_allclose(results["position"], results["point"].position, atol=1e-8)


def test_score_is_the_slope_of_the_density(accepted):
    _, results = accepted
    np.testing.assert_allclose(results["point"].score, results["slope"], rtol=1e-4, atol=1e-5)


def test_prior_and_likelihood_make_the_joint_density(accepted):
    target, results = accepted
    joint = results["log_prior"] + results["log_likelihood"]
    np.testing.assert_allclose(joint, results["point"].log_density, rtol=1e-10)
    has_likelihood = bool({"y", "effect"} & set(target.dims)) or target.model is factored
    assert has_likelihood == bool((results["log_likelihood"] != 0).any())


def log_sigmoid(x):
    return -np.logaddexp(0, -x)


CLOSED_FORMS = {
    # log-determinants included, with x the unconstrained value
    "positive": (
        dist.Gamma(3.0, 2.0),
        lambda x: scipy.stats.gamma(3, scale=0.5).logpdf(np.exp(x)) + x,
    ),
    "half line": (
        dist.HalfNormal(2.0),
        lambda x: scipy.stats.halfnorm(scale=2).logpdf(np.exp(x)) + x,
    ),
    "interval": (dist.Uniform(-1.0, 4.0), lambda x: log_sigmoid(x) + log_sigmoid(-x)),
    "unit interval": (
        dist.Beta(2.0, 3.0),
        lambda x: (
            scipy.stats.beta(2, 3).logpdf(scipy.special.expit(x)) + log_sigmoid(x) + log_sigmoid(-x)
        ),
    ),
    "real line": (dist.StudentT(4.0, 1.0, 2.0), lambda x: scipy.stats.t(4, 1, 2).logpdf(x)),
    "Cholesky": (
        dist.LKJCholesky(2, 1.0),  # uniform correlation on (-1, 1), equal to tanh(x)
        lambda x: np.log(0.5) + np.log1p(-(np.tanh(x) ** 2)),
    ),
    "simplex": (  # stick breaking of two: a logit
        dist.Dirichlet(jnp.array([2.0, 3.0])),
        lambda x: (
            scipy.stats.beta(2, 3).logpdf(scipy.special.expit(x)) + log_sigmoid(x) + log_sigmoid(-x)
        ),
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_density_in_closed_form(name):
    fn, formula = CLOSED_FORMS[name]
    x = np.array([-1.3, 0.4, 2.0])
    target = target_from_model(KEY, one_site(fn))
    values = jax.jit(jax.vmap(target.log_density))(x[:, None])
    np.testing.assert_allclose(values, formula(x), rtol=1e-9)


@pytest.mark.fast
def test_eight_schools_in_closed_form():
    target = schools()
    assert list(target.sites) == ["mu", "tau", "z"] and target.dim == 10
    mu, log_tau, z = 1.5, 0.7, np.linspace(-1, 1, 8)
    position = jnp.array([mu, log_tau, *z])
    tau = math.exp(log_tau)
    prior = scipy.stats.norm(0, 5).logpdf(mu) + scipy.stats.halfcauchy(0, 5).logpdf(tau) + log_tau
    prior += scipy.stats.norm.logpdf(z).sum()
    likelihood = scipy.stats.norm(mu + tau * z, ERRORS).logpdf(EFFECTS).sum()
    np.testing.assert_allclose(target.log_prior(position), prior)
    np.testing.assert_allclose(target.log_likelihood(position), likelihood)
    np.testing.assert_allclose(target.constrain(position)["theta"], mu + tau * z)
    np.testing.assert_allclose(target.unconstrain({"mu": mu, "tau": tau, "z": z}), position)
    with pytest.raises(ValueError, match=r"\['tau'\] are missing"):
        target.unconstrain({"mu": mu, "z": z})


def test_plates_name_the_axes():
    assert schools().dims == {
        "mu": [], "tau": [], "z": ["school"], "theta": ["school"], "effect": ["school"]
    }  # fmt: skip
    target = target_from_model(KEY, nested_plates, COUNTS)
    assert target.dims == {
        "rate": ["group"],
        "weight": ["group", "item"],
        "first": ["group", "item"],
        "y": ["group", "item"],
    }


def test_axes_without_a_plate_are_named_only_where_needed():
    def model(y):
        with numpyro.plate("column", 3):
            x = numpyro.sample("x", dist.Normal(jnp.zeros((2, 1))))  # one batch axis has no plate
            vector = numpyro.sample(
                "vector", dist.Normal().expand([2]).to_event(1), infer={"event_dims": ["pair"]}
            )
            numpyro.deterministic("table", jnp.ones((3, 5)))
            numpyro.deterministic("total", x.sum() + vector.sum())

    def scanned(y):
        def step(level, y):
            with numpyro.plate("series", 2):
                level = numpyro.sample("level", dist.Normal(level))
            return level, None

        scan(step, jnp.zeros(2), y)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Missing a plate statement")  # that is the point here
        target = target_from_model(KEY, model, Y)
    assert target.dims == {
        "x": ["x_dim_0", "column"],
        "vector": ["column", "pair"],
        "table": ["column"],
        "total": [],
    }
    assert target_from_model(KEY, scanned, Y).dims == {"level": ["level_dim_0", "series"]}


def test_observed_sites_are_the_data():
    np.testing.assert_array_equal(schools().observed["effect"], EFFECTS)
    assert list(schools().observed) == ["effect"]
    assert target_from_model(KEY, factored, 0.3).observed == {}
    model, _ = MODELS["condition"]
    assert target_from_model(KEY, model).observed == {"y": 0.4}
    np.testing.assert_array_equal(target_from_model(KEY, chain, Y).observed["y"], Y)


def test_arguments_come_back_as_they_were():
    def model(x, *, mode, frame, options, missing=None):
        loc = numpyro.sample("loc", dist.Normal(0.0, options["scale"] if mode == "wide" else 1.0))
        y = jnp.asarray(frame["y"].to_numpy()) if missing is None else missing
        numpyro.sample("y", dist.Normal(loc + x.sum(), 1).expand([2]).to_event(1), obs=y)

    frame = pd.DataFrame({"y": [1.0, 2.0]})
    options = {"scale": np.array(3), 1: "keys of two types"}
    target = target_from_model(KEY, model, np.arange(3), mode="wide", frame=frame, options=options)
    assert target.model is model and isinstance(target.model_args[0], jax.Array)
    assert jnp.issubdtype(target.model_args[0].dtype, jnp.integer)
    kwargs = target.model_kwargs
    assert kwargs["mode"] == "wide" and kwargs["frame"] is frame and kwargs["options"] is options
    expected = scipy.stats.norm(0, 3).logpdf(0) + scipy.stats.norm(3, 1).logpdf([1, 2]).sum()
    np.testing.assert_allclose(target.log_density(jnp.zeros(1)), expected)


@pytest.mark.parametrize(
    "rng_key", [jax.random.key(5), jax.random.PRNGKey(5)], ids=["typed", "raw"]
)
def test_both_kinds_of_key(rng_key):
    target = target_from_model(rng_key, one_site(dist.Normal(0, 5)))
    assert target.initial_positions(rng_key, 3).shape == (3, 1)
    assert target.prior_positions(rng_key, 3).shape == (3, 1)
