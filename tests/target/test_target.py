"""Targets: densities and their guards, every kind of model, and the refusals."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import math
import sys
import warnings
from functools import partial

import equinox as eqx
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
from numpyro.contrib.module import random_eqx_module
from numpyro.distributions import constraints
from numpyro.infer.reparam import CircularReparam, ProjectedNormalReparam
from numpyro.infer.util import initialize_model

from numpyro_bridge.atlas.maps import diagonal_map
from numpyro_bridge.atlas.standardised_target import StandardisedTarget
from numpyro_bridge.target import (
    REPLACED_LOG_DENSITY,
    LogDensityTarget,
    ModelTarget,
    Target,
    reading,
    target_from_log_density,
    target_from_model,
)
from tests import targets

KEY = jax.random.key(0)
ENUMERATE = {"enumerate": "parallel"}
EFFECTS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


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


# --- models that are accepted, each with its arguments ------------------------------------------


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


COUNTS = np.array([[1, 2], [0, 3], [2, 2]])
Y = np.array([0.3, -1.0, 0.5])
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


@pytest.fixture(scope="module", params=MODELS.values(), ids=list(MODELS))
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


# --- densities in closed form -------------------------------------------------------------------


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


# --- names and data -----------------------------------------------------------------------------


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


# --- compilation --------------------------------------------------------------------------------


def count_traces(function):
    """A jitted function of a target, and the list that grows by one with each compilation."""
    traces = []

    @eqx.filter_jit
    def run(target, position):
        traces.append(1)
        return function(target, position)

    return run, traces


def test_new_data_need_no_new_compilation():
    run, traces = count_traces(lambda target, position: target.at(position).log_density)
    first = schools()
    second = target_from_model(jax.random.key(1), eight_schools, ERRORS, effects=EFFECTS + 1)
    a, b = run(first, jnp.zeros(10)), run(second, jnp.zeros(10))
    assert len(traces) == 1 and a != b
    np.testing.assert_allclose(b, second.log_density(jnp.zeros(10)))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))
    run(target_from_model(KEY, eight_schools, ERRORS[:4], effects=EFFECTS[:4]), jnp.zeros(6))
    assert len(traces) == 2


@pytest.mark.parametrize(
    ("one", "two", "traces_expected"),
    [(2, 2, 1), (2, 3, 2), (2, 2.0, 2), (np.int64(2), np.int64(2), 1)],
    ids=repr,
)
def test_numbers_are_constants(one, two, traces_expected):
    def model(size):
        with numpyro.plate("row", int(size)):
            numpyro.sample("x", dist.Normal())

    run, traces = count_traces(lambda target, position: target.log_density(position))
    for size in (one, two):
        target = target_from_model(KEY, model, size)
        run(target, jnp.zeros(target.dim))
    assert len(traces) == traces_expected and not target.data_are_constants


def model_unique(group, y):
    with numpyro.plate("group", np.unique(group).size):
        loc = numpyro.sample("loc", dist.Normal())
    numpyro.sample("y", dist.Normal(loc[group], 1).to_event(1), obs=y)


def model_max(group, y):
    loc = numpyro.sample("loc", dist.Normal().expand([int(group.max()) + 1]).to_event(1))
    numpyro.sample("y", dist.Normal(loc[group], 1).to_event(1), obs=y)


def model_boolean(group, y):
    loc = numpyro.sample("loc", dist.Normal().expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(loc[0], 1), obs=y[group == 0])
    numpyro.sample("z", dist.Normal(loc[1], 1), obs=y[group == 1])


def model_in_place(group, y):
    y = y.copy()
    y[0] = 0.3  # fails on a JAX array with an error of no special type
    model_max(group, y)


@pytest.mark.parametrize("model", [model_unique, model_max, model_boolean, model_in_place])
def test_data_whose_numbers_are_needed_become_constants(model):
    group, y = np.array([0, 1, 1]), Y
    target = target_from_model(KEY, model, group, y)
    assert target.data_are_constants and target.model_args[0] is group
    expected = scipy.stats.norm.logpdf([0, 0]).sum() + scipy.stats.norm.logpdf(y).sum()
    run, traces = count_traces(lambda target, position: target.log_density(position))
    np.testing.assert_allclose(run(target, jnp.zeros(2)), expected)
    run(target_from_model(KEY, model, group, y), jnp.zeros(2))
    assert len(traces) == 1
    run(target_from_model(KEY, model, group, y + 1), jnp.zeros(2))
    assert len(traces) == 2


def test_batches_are_one_vectorised_computation():
    """As many operations for sixteen thousand positions as for two, and no loop among them."""
    target = schools()
    programs = [
        str(jax.make_jaxpr(jax.vmap(target.at))(jnp.zeros((num, 10)))) for num in (2, 16_384)
    ]
    lengths = [program.count(" = ") for program in programs]
    assert lengths[0] == lengths[1] > 10 and not any(
        loop in programs[1] for loop in ("while", "scan")
    )
    with numpyro.validation_enabled():
        checked = str(jax.make_jaxpr(jax.vmap(target.at))(jnp.zeros((2, 10))))
    assert checked.count(" = ") == lengths[0]
    points = jax.jit(jax.vmap(target.at))(jax.random.normal(KEY, (16_384, 10)))
    assert points.score.shape == (16_384, 10) and points.finite.all()


def test_validation_does_not_reach_the_tails():
    def model():
        scale = numpyro.sample("scale", dist.LogNormal(0, 1))
        numpyro.sample("x", dist.Normal(0, scale))

    with numpyro.validation_enabled():
        point = target_from_model(KEY, model).at(jnp.array([-1e4, 1.0]))  # a scale of zero
    assert not point.finite


def test_a_target_can_be_made_inside_a_transformation():
    def log_density(effects):
        target = target_from_model(KEY, eight_schools, ERRORS, effects=effects)
        start = target.initial_positions(KEY, 1)
        return target.log_density(0 * start[0])

    batch = jnp.stack([EFFECTS, EFFECTS + 1])
    values = jax.jit(jax.vmap(log_density))(batch)
    np.testing.assert_allclose(values[0], schools().log_density(jnp.zeros(10)))
    assert values[0] != values[1]


# --- non-finite numbers -------------------------------------------------------------------------


def spiky(x):
    """Overflows at large x; -inf below -3; NaN slope at 0."""
    inside = -jnp.sum(jnp.exp(jnp.exp(x))) - jnp.sum(jnp.sqrt(jnp.abs(x)))
    return jnp.where(jnp.all(x > -3), inside, -jnp.inf)


GOOD, BAD = jnp.array([0.3, 1.0]), {
    "overflow": jnp.array([0.3, 1000.0]),
    "outside": jnp.array([-4.0, 1.0]),
    "slope": jnp.array([0.0, 1.0]),
    "nan": jnp.array([jnp.nan, 1.0]),
}  # fmt: skip


def test_what_is_not_finite_is_replaced():
    target = target_from_log_density(spiky, 2)
    points = jax.jit(jax.vmap(target.at))(jnp.stack([GOOD, *BAD.values()]))
    np.testing.assert_array_equal(points.finite, [True, False, False, False, False])
    replaced = np.asarray([name != "slope" for name in BAD])
    np.testing.assert_array_equal(points.log_density[1:][replaced], REPLACED_LOG_DENSITY)
    # The density is finite there and weights need no more; only the gradient is replaced.
    np.testing.assert_allclose(points.log_density[1:][~replaced], spiky(BAD["slope"]))
    np.testing.assert_array_equal(points.score[1:], 0)
    np.testing.assert_allclose(points.score[0], jax.grad(spiky)(GOOD))
    alone = target.at(BAD["overflow"])
    assert not alone.finite and alone.log_density == REPLACED_LOG_DENSITY


def test_a_map_keeps_what_is_known_of_the_density():
    """Also where its gradient is not finite: replaced, its mass would be missing in the weights."""
    base = target_from_log_density(spiky, 2)
    target = StandardisedTarget(base, diagonal_map(jnp.zeros(2), jnp.ones(2)))
    positions = jnp.stack([GOOD, *BAD.values()])
    points = jax.jit(jax.vmap(target.at))(positions)
    np.testing.assert_allclose(points.log_density, jax.vmap(target.log_density)(positions))
    np.testing.assert_array_equal(points.finite, jax.vmap(base.at)(positions).finite)


def test_infinite_density_is_replaced():
    target = target_from_log_density(lambda x: -0.5 * jnp.log(x[0]) / (x[0] > 0), 1)
    assert target.log_density(jnp.zeros(1)) == REPLACED_LOG_DENSITY
    assert not target.at(jnp.zeros(1)).finite


@pytest.mark.parametrize("transform", [jax.jacfwd, jax.jacrev])
def test_derivatives_are_zero_where_a_point_was_replaced(transform):
    target = target_from_log_density(spiky, 2)
    start = jnp.stack([GOOD, *BAD.values()])
    gradient = transform(lambda position: target.at(position).log_density)
    hessian = transform(lambda position: target.at(position).score)
    for derivative, expected in ((gradient, jax.grad(spiky)), (hessian, jax.hessian(spiky))):
        values = jax.jit(jax.vmap(derivative))(start)
        np.testing.assert_allclose(values[0], jax.jit(expected)(GOOD))
        np.testing.assert_array_equal(values[1:], 0)
    value_only = jax.jit(jax.vmap(transform(target.log_density)))(start)
    assert jnp.isfinite(value_only[jnp.array([0, 1, 2, 4])]).all()
    hessian = jax.jit(jax.hessian(target.log_density))(GOOD)
    np.testing.assert_allclose(hessian, jax.jit(jax.hessian(spiky))(GOOD))


def test_gradient_through_a_scan_of_scores():
    target = target_from_log_density(spiky, 2)

    def walk(start):
        def step(x, _):
            point = target.at(x)
            return x + 0.1 * point.score, point.log_density

        end, densities = jax.lax.scan(step, start, length=3)
        return end.sum() + 1e-3 * densities.sum()

    starts = jnp.stack([GOOD, *BAD.values()])
    gradients = jax.jit(jax.vmap(jax.grad(walk)))(starts)
    assert jnp.isfinite(gradients).all()
    np.testing.assert_allclose(gradients[1], 1.0)  # replaced at every step, so it does not move
    _, slope = jax.jit(lambda x: jax.jvp(walk, (x,), (jnp.ones(2),)))(GOOD)
    np.testing.assert_allclose(slope, gradients[0].sum())


def test_gradient_with_respect_to_data():
    target = schools()

    def density(arrays):
        return eqx.tree_at(lambda t: t.arrays, target, arrays).at(jnp.zeros(10)).log_density

    gradients = jax.grad(density)(target.arrays)
    effects = [g for g, a in zip(gradients, target.arrays, strict=True) if (a == EFFECTS).all()][0]
    np.testing.assert_allclose(effects, -EFFECTS / ERRORS**2)


def test_float32_tails_are_guarded():
    with jax.enable_x64(False):
        target = target_from_model(jax.random.key(0), one_site(dist.LKJCholesky(4)))
        positions = 20 * jax.random.normal(jax.random.key(1), (200, target.dim))
        points = jax.jit(jax.vmap(target.at))(positions)
        assert points.log_density.dtype == points.score.dtype == jnp.float32
        assert points.log_density.shape == (200,) and points.score.shape == (200, 6)
        assert jnp.isfinite(points.log_density).all() and jnp.isfinite(points.score).all()
        assert 0 < points.finite.sum() < 200
        weights = jax.nn.softmax(points.log_density)
        np.testing.assert_array_equal(weights[~points.finite], 0)
        assert jnp.isfinite(jnp.sum(points.log_density**2, where=~points.finite))


# --- starting points and prior draws ------------------------------------------------------------


def test_starting_points_are_distinct_and_finite():
    target = target_from_model(KEY, dynamic_support)
    starts = target.initial_positions(KEY, 50)
    assert starts.shape == (50, 2) and jnp.unique(starts).size == 100
    assert jnp.abs(starts).max() < 2 and jax.jit(jax.vmap(target.at))(starts).finite.all()


def test_rare_starting_points_are_repeated():
    target = target_from_log_density(lambda x: jnp.where(x[0] > 1.98, -x[0], -jnp.inf), 1)
    starts = target.initial_positions(KEY, 20)
    assert jax.jit(jax.vmap(target.at))(starts).finite.all()


def test_prior_positions_follow_the_prior():
    target = schools()
    sites = jax.jit(jax.vmap(target.constrain))(target.prior_positions(jax.random.key(1), 2_000))
    laws = {
        "mu": scipy.stats.norm(0, 5),
        "tau": scipy.stats.halfcauchy(0, 5),
        "z": scipy.stats.norm(),
    }
    for name, law in laws.items():
        assert scipy.stats.kstest(np.ravel(sites[name]), law.cdf).pvalue > 1e-3


def test_prior_positions_of_supports_that_depend_on_values():
    target = target_from_model(KEY, dynamic_support)
    sites = jax.jit(jax.vmap(target.constrain))(target.prior_positions(KEY, 4_000))
    uniform = (sites["x"] - sites["low"]) / 2
    assert scipy.stats.kstest(np.asarray(uniform), "uniform").pvalue > 1e-3


def test_prior_draws_that_underflow_are_replaced():
    target = target_from_model(KEY, one_site(dist.Beta(1e-3, 1e-3)))
    positions = target.prior_positions(KEY, 50)
    assert jnp.isfinite(positions).all()


@pytest.mark.parametrize(
    ("model", "sites"),
    [
        (lambda: improper(Y), ("loc",)),
        (lambda: improper_in_plate(Y), ("loc",)),
        (handlers.mask(one_site(dist.Normal()), mask=False), ("x",)),
    ],
    ids=["improper", "improper in a plate", "masked prior"],
)
def test_improper_priors_have_no_evidence(model, sites):
    target = target_from_model(KEY, model)
    assert target.improper_sites == sites and not target.has_evidence
    assert target.prior_positions(KEY, 2) is None
    assert target.at(jnp.zeros(target.dim)).finite


def improper_in_plate(y):
    with numpyro.plate("row", 3):
        loc = numpyro.sample("loc", dist.ImproperUniform(constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(loc, 1), obs=y)


def test_scaled_prior_is_not_drawn():
    target = target_from_model(KEY, handlers.scale(one_site(dist.Normal()), 0.5))
    assert target.has_evidence and target.prior_positions(KEY, 2) is None


def test_prior_without_a_sampler_is_not_drawn():
    class Unsampled(dist.Normal):
        def sample(self, key, sample_shape=()):
            raise NotImplementedError

    assert target_from_model(KEY, one_site(Unsampled())).prior_positions(KEY, 2) is None


# --- discrete latent sites ----------------------------------------------------------------------


def mixture(y):
    weight = numpyro.sample("weight", dist.Beta(1.0, 1.0))
    loc = numpyro.sample("loc", dist.Normal(0, 5).expand([2]).to_event(1))
    shift = numpyro.deterministic("shift", loc[1] - loc[0])
    with numpyro.plate("row", y.shape[0]):
        kind = numpyro.sample("kind", dist.Bernoulli(weight), infer=ENUMERATE)
        centre = numpyro.deterministic("centre", loc[0] + kind * shift)
        numpyro.sample("y", dist.Normal(centre, 1), obs=y)


def test_discrete_sites_are_summed_out():
    target = target_from_model(KEY, mixture, Y)
    assert list(target.sites) == ["loc", "weight"] and target.dim == 3
    loc, logit = np.array([-0.5, 1.0]), 0.4
    position = jnp.array([*loc, logit])
    weight = scipy.special.expit(logit)
    expected = scipy.stats.norm(0, 5).logpdf(loc).sum() + np.log(weight * (1 - weight))
    pdf = scipy.stats.norm(loc[:, None], 1).pdf(Y)
    expected += np.log((1 - weight) * pdf[0] + weight * pdf[1]).sum()
    batch = jax.jit(jax.vmap(target.at))(jnp.stack([position, position]))
    np.testing.assert_allclose(batch.log_density, expected)
    constrained = target.constrain(position)
    assert set(constrained) == {"weight", "loc", "shift"}  # "centre" depends on "kind"
    np.testing.assert_allclose(constrained["shift"], 1.5)
    assert target.dims == {"weight": [], "loc": [], "shift": [], "y": ["row"]}
    np.testing.assert_array_equal(target.observed["y"], Y)
    np.testing.assert_allclose(target.unconstrain(constrained), position)
    assert target.prior_positions(KEY, 2) is None and target.has_evidence
    with pytest.raises(ValueError, match="does not split into prior and likelihood"):
        target.log_prior(position)


def test_hidden_markov_chain_is_summed_out():
    def model(y):
        stay = numpyro.sample("stay", dist.Beta(2.0, 1.0))
        matrix = jnp.stack([jnp.stack([stay, 1 - stay]), jnp.stack([1 - stay, stay])])

        def step(state, y):
            state = numpyro.sample("state", dist.Categorical(matrix[state]), infer=ENUMERATE)
            numpyro.sample("y", dist.Normal(2.0 * state, 1), obs=y)
            return state, None

        scan(step, 0, y)

    target = target_from_model(KEY, model, Y)
    stay = scipy.special.expit(0.3)
    forward, matrix = np.array([1.0, 0.0]), np.array([[stay, 1 - stay], [1 - stay, stay]])
    for y in Y:
        forward = (forward @ matrix) * scipy.stats.norm([0, 2], 1).pdf(y)
    prior = scipy.stats.beta(2, 1).logpdf(stay) + np.log(stay * (1 - stay))
    value = target.log_density(jnp.array([0.3]))
    np.testing.assert_allclose(value, prior + np.log(forward.sum()))


def test_unmarked_discrete_sites_are_summed_out_with_a_warning():
    def model():
        p = numpyro.sample("p", dist.Beta(1.0, 1.0))
        numpyro.sample("coin", dist.Bernoulli(p))

    with pytest.warns(UserWarning, match="'coin' .Bernoulli.* is summed out"):
        target = target_from_model(KEY, model)
    p = scipy.special.expit(0.3)
    np.testing.assert_allclose(target.log_density(jnp.array([0.3])), np.log(p * (1 - p)))


def test_missing_funsor_is_named(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "funsor" or "contrib.funsor" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "funsor", None)
    with pytest.raises(ImportError, match="pip install funsor"):
        target_from_model(KEY, mixture, Y)


# --- functions as targets -----------------------------------------------------------------------


def test_target_of_a_function():
    target = target_from_log_density(lambda x: -0.5 * jnp.sum(x**2), 3)
    assert isinstance(target, LogDensityTarget) and isinstance(target, Target)
    assert target.dim == 3 and target.has_evidence
    point = target.at(jnp.array([1.0, 2.0, 3.0]))
    assert point.log_density == -7 and point.finite
    np.testing.assert_array_equal(point.score, [-1, -2, -3])
    np.testing.assert_array_equal(target.constrain(point.position)["x"], point.position)
    assert jnp.unique(target.initial_positions(KEY, 5)).size == 15


def test_arrays_of_a_function_are_arguments():
    def log_density(mean, x):
        return -0.5 * jnp.sum((x - mean) ** 2)

    run, traces = count_traces(lambda target, position: target.log_density(position))
    values = [
        run(target_from_log_density(jax.tree_util.Partial(log_density, mean), 2), jnp.zeros(2))
        for mean in (jnp.zeros(2), np.ones(2))
    ]
    assert values == [0, -1] and len(traces) == 1


@pytest.mark.parametrize("dim", [0, -1, True])
def test_dimension_must_be_a_positive_integer(dim):
    with pytest.raises(ValueError, match="positive integer"):
        target_from_log_density(jnp.sum, dim)


@pytest.mark.parametrize(
    ("fn", "got"),
    [
        (lambda x: x, r"shape \(2,\)"),
        (lambda x: jnp.sum(x, keepdims=True), r"shape \(1,\)"),
        (lambda x: 1.0, "float"),
        (lambda x: jnp.array(1), "int"),
    ],
    ids=["vector", "one entry", "number", "integer"],
)
def test_function_must_return_a_scalar(fn, got):
    with pytest.raises(ValueError, match=f"real JAX scalar.*returned {got}|returned shape.*{got}"):
        target_from_log_density(fn, 2)


def test_function_without_a_finite_start_is_refused():
    target = target_from_log_density(lambda x: jnp.log(x[0] - 5), 1)
    with pytest.raises(ValueError, match="No starting point"):
        target.initial_positions(KEY, 3)


@pytest.mark.parametrize("method", ["at", "log_density", "constrain", "log_prior"])
def test_batches_are_referred_to_vmap(method):
    # The run-time type checker of this test suite is faster than the message for two axes.
    with pytest.raises(ValueError, match=r"shape \(10,\), got shape \(9,\).*jax.vmap"):
        getattr(schools(), method)(jnp.zeros(9))


# --- models that are refused --------------------------------------------------------------------


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
    "unexpected": (eight_schools, (1, 2, 3), r"signature is eight_schools\(errors, effects=None\)"),
    "missing": (eight_schools, (), "missing a required argument: 'errors'.*given ()"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_model_is_refused_with_advice(name):
    model, args, message = REFUSALS[name]
    with pytest.raises(ValueError, match=message):
        target_from_model(KEY, model, *args)


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
    with pytest.raises(ValueError, match="A NumPyro model is a function.*type float"):
        reading.check_arguments(1.0, (), {})


def test_network_with_priors_is_accepted():
    def model(prior, x):
        net = random_eqx_module("net", eqx.nn.Linear(2, 1, key=KEY), prior)
        numpyro.sample("y", dist.Normal(jax.vmap(net)(x)[:, 0], 1), obs=x[:, 0])

    target = target_from_model(KEY, model, dist.Normal(), np.eye(2))
    assert target.sites == {"net/bias": (1,), "net/weight": (1, 2)}
    with pytest.raises(ValueError, match=r"'net\$params' is a numpyro.param.*a prior for each"):
        target_from_model(KEY, model, {"weight": dist.Normal()}, np.eye(2))


def test_fixed_parameter_is_accepted():
    target = target_from_model(KEY, handlers.substitute(parameter, data={"scale": 2.0}))
    np.testing.assert_allclose(target.log_density(jnp.zeros(1)), scipy.stats.norm(0, 2).logpdf(0))


def test_angle_without_reparametrisation_is_accepted():
    target = target_from_model(KEY, one_site(dist.VonMises(0.5, 2.0)))
    angle = target.constrain(jnp.array([0.3]))["x"]
    slope = jax.grad(lambda x: target.constrain(x)["x"].sum())(jnp.array([0.3]))[0]
    expected = scipy.stats.vonmises(2.0, 0.5).logpdf(angle) + np.log(slope)
    np.testing.assert_allclose(target.log_density(jnp.array([0.3])), expected)
