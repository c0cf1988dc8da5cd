"""A large batch is taken in parts, with the same values and derivatives, and in less memory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from numpyro_bridge import set_memory_limit, target_from_log_density, target_from_model
from numpyro_bridge._core import memory
from numpyro_bridge.target.few_at_once import few_at_once

KEY = jax.random.key(0)
ROWS, MOST = 50, 6
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=ROWS).astype(np.float32)
MANY = 0.3 * jax.random.normal(jax.random.key(1), (20, 4))


def regression(x, y=None):
    slopes = numpyro.sample("slopes", dist.Normal().expand([3]).to_event(1))
    scale = numpyro.sample("scale", dist.HalfNormal())
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(x @ slopes, scale), obs=y)


PLAIN = target_from_model(KEY, regression, X, Y)
IN_PARTS = replace(PLAIN, reading=PLAIN.reading._replace(most_at_once=MOST))


def with_data(target, y):
    """The same target, still in parts, with other data."""
    first, _ = target.arrays
    return replace(target, arrays=(first, y))


USES = {
    "values": lambda target: jax.vmap(target.log_density),
    "points": lambda target: lambda x: jax.vmap(target.at)(x)[1:3],
    "gradients": lambda target: jax.vmap(jax.grad(target.log_density)),
    "Hessians": lambda target: jax.vmap(jax.jacrev(jax.grad(target.log_density))),
    "derivatives of scores": lambda target: jax.grad(
        lambda x: jnp.mean(jax.vmap(lambda one: target.at(one).score)(x) ** 2)
    ),
    "batches of batches": lambda target: (
        lambda x: jax.vmap(jax.vmap(target.at))(x.reshape(5, 4, 4))[1:3]
    ),
    "derivatives by data": lambda target: jax.grad(
        lambda x: jnp.mean(jax.vmap(with_data(target, x[0, 0] + Y).log_density)(MANY))
    ),
    "one alone": lambda target: lambda x: jax.value_and_grad(target.log_density)(x[0]),
}


@pytest.mark.fast
@pytest.mark.parametrize("use", USES)
def test_the_numbers_are_the_same(use):
    plain, in_parts = (jax.jit(USES[use](target))(MANY) for target in (PLAIN, IN_PARTS))
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(in_parts), strict=True):
        np.testing.assert_allclose(other, one, rtol=2e-4, atol=1e-5 * float(jnp.max(jnp.abs(one))))


@pytest.mark.parametrize("use", ["points", "gradients"])
def test_a_large_batch_takes_little_memory(use):
    many = jnp.tile(MANY, (100, 1))

    def num_bytes(target):
        return jax.jit(USES[use](target)).lower(many).compile().memory_analysis().temp_size_in_bytes

    assert num_bytes(IN_PARTS) < 0.1 * num_bytes(PLAIN)


@pytest.mark.fast
def test_parts_that_do_not_divide_the_batch_are_filled():
    doubled = few_at_once(lambda first, second: 2 * first + second, 4)
    numbers = jnp.arange(11.0)
    np.testing.assert_array_equal(jax.vmap(doubled, (0, None))(numbers, 1.0), 2 * numbers + 1)
    np.testing.assert_array_equal(jax.vmap(doubled)(numbers, numbers), 3 * numbers)


@pytest.mark.fast
def test_the_memory_limit_says_how_many(monkeypatch):
    monkeypatch.setattr(memory, "_limit", 500_000_000)
    assert PLAIN.reading.most_at_once is None and PLAIN.num_bytes > 4 * ROWS
    set_memory_limit(10 * PLAIN.num_bytes)
    assert target_from_model(KEY, regression, X, Y).reading.most_at_once == 10
    set_memory_limit(1)
    assert target_from_log_density(lambda x: -jnp.sum(x**2), 2).reading.most_at_once == 1


@pytest.mark.fast
def test_a_loop_makes_as_many_numbers_as_it_has_steps():
    def scanned(steps):
        def log_density(x):
            return jax.lax.scan(lambda c, _: (c + jnp.sum(x * c), None), 0.0, length=steps)[0]

        return target_from_log_density(log_density, 100).num_bytes

    assert 90 < scanned(100) / scanned(1) < 110
