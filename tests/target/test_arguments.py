"""Arguments of models and functions: what is compiled again for new data, and what is not."""

# NumPyro declares the value of a site as anything that can become an array.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportOptionalMemberAccess=false

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats

from numpyro_bridge.target import target_from_model
from tests.target.models import (
    EFFECTS,
    ERRORS,
    KEY,
    Y,
    count_traces,
    eight_schools,
    model_max,
    schools,
)


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
