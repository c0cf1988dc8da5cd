"""What was compiled for one function serves another that does the same, and no other."""

import math
from functools import partial
from types import FunctionType

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

from numpyro_bridge._core.sameness import Same
from numpyro_bridge.target import target_from_log_density, target_from_model
from tests.compilations import listed_compilations

DATA = np.ones(3)
SHIFT = {"by": 1.0}


def shifted(by, *, scale=1.0):
    """A function that closes over two values, one of them a function."""

    def inner(x):
        return x * scale

    return lambda x: inner(x) + by


def counting():
    """A function that calls itself."""

    def down(n):
        return 0 if n == 0 else down(n - 1)

    return down


SAME = {
    "closure": (shifted(1.0), shifted(1.0)),
    "an array that is the same": (shifted(DATA), shifted(DATA)),
    "not a number": (shifted(math.nan), shifted(math.nan)),
    "partial": (partial(shifted, 1.0, scale=2.0), partial(shifted, 1.0, scale=2.0)),
    "method": (Same(1).__eq__, Same(1).__eq__),
    "recursion": (counting(), counting()),
    "optimiser": (optax.adamw(1e-3), optax.adamw(1e-3)),
    "numbers": ((1, "a"), (1, "a")),
}

DIFFERENT = {
    "closure": (shifted(1.0), shifted(2.0)),
    "inner closure": (shifted(1.0), shifted(1.0, scale=2.0)),
    "type": (shifted(1.0), shifted(1)),
    "sign of zero": (shifted(0.0), shifted(-0.0)),
    "an equal array": (shifted(DATA), shifted(DATA.copy())),
    "partial": (partial(shifted, 1.0, scale=2.0), partial(shifted, 1.0, scale=3.0)),
    "code": (lambda x: x + 1, lambda x: x + 2),
    "default": (lambda x=1: x, lambda x=2: x),
    "optimiser": (optax.adamw(1e-3), optax.adamw(1e-2)),
    "globals": (shifted, FunctionType(shifted.__code__, {}, "shifted")),
}


@pytest.mark.parametrize("name", SAME)
def test_what_does_the_same_is_the_same(name):
    one, two = map(Same, SAME[name])
    assert one == two and hash(one) == hash(two)


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_may_do_something_else_is_not_the_same(name):
    one, two = map(Same, DIFFERENT[name])
    assert one != two


def test_a_variable_that_is_bound_to_something_else_later_changes_nothing_before():
    """The identity is that of the moment at which code was first compiled."""
    made = []
    for number in range(2):
        made.append(Same(lambda: number))  # noqa: B023
        assert made[-1].identity
    assert made[0] != made[1]


def model_of(scale):
    def model(y):
        mean = numpyro.sample("mean", dist.Normal(0.0, scale))
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    return model


@jax.jit
def log_density(target):
    return target.log_density(jnp.zeros(1))


def test_a_model_that_is_defined_anew_needs_no_new_compilation():
    """Otherwise every run of a notebook's cell would take time, and memory that stays."""
    values = []
    for scale in (2.0, 2.0, 3.0):
        target = target_from_model(jax.random.key(0), model_of(scale), jnp.asarray(DATA))
        with listed_compilations() as compiled:
            values.append(float(log_density(target)))
        assert bool(compiled) == (len(values) != 2)
    expected = [
        dist.Normal(0.0, scale).log_prob(0.0) + jnp.sum(dist.Normal().log_prob(DATA))
        for scale in (2.0, 2.0, 3.0)
    ]
    np.testing.assert_allclose(values, expected)


def test_a_log_density_that_is_defined_anew_reads_what_is_there_now(monkeypatch):
    def made():
        return target_from_log_density(lambda x: -0.5 * jnp.sum((x - SHIFT["by"]) ** 2), 1)

    first = made()
    np.testing.assert_allclose(log_density(first), -0.5)
    with listed_compilations() as compiled:
        log_density(made())
    assert compiled == []
    monkeypatch.setitem(SHIFT, "by", 2.0)
    np.testing.assert_allclose(log_density(made()), -2.0)
    assert not first.reads_as_before()
