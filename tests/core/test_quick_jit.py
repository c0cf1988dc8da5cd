"""A program that is compiled with little optimisation gives the same numbers, and may be nested."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from numpyro_bridge._core import quick_jit as quick
from numpyro_bridge._core.quick_jit import (
    FEW_BYTES,
    FEW_DIMENSIONS,
    FEW_NUMBERS,
    MANY_NUMBERS,
    OPTIMISATION,
    OPTIONS,
    brief_jit,
    known_options,
    num_numbers,
    quick_jit,
)

pytestmark = pytest.mark.fast


@quick_jit
def squares(x, power: int):
    """A number that is no array is part of the program."""
    return jnp.sum(jnp.sin(x) ** power)


def test_it_computes_what_the_function_does():
    x = jnp.linspace(0.0, 3.0, 7)
    np.testing.assert_allclose(squares(x, 2), np.sum(np.sin(x) ** 2), rtol=1e-6)
    assert squares.__name__ == "squares" and "part of the program" in squares.__doc__


def test_it_may_be_called_by_compiled_code_and_transformed():
    x = jnp.linspace(0.0, 3.0, 7)
    np.testing.assert_allclose(jax.jit(lambda x: squares(x, 2))(x), squares(x, 2), rtol=1e-6)
    np.testing.assert_allclose(
        jax.grad(lambda x: squares(x, 2))(x), np.sin(2 * np.asarray(x)), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(jax.vmap(lambda x: squares(x, 1))(x[:, None]), np.sin(x), rtol=1e-6)


def test_compiled_code_may_call_it_with_what_is_known():
    x = jnp.linspace(0.0, 3.0, 7)
    inside = jax.jit(lambda factor: factor * squares(x, 2))
    np.testing.assert_allclose(inside(2.0), 2 * squares(x, 2), rtol=1e-6)


def test_an_option_that_this_release_of_xla_does_not_have_is_left_out(monkeypatch):
    assert known_options().keys() <= OPTIONS.keys()
    monkeypatch.setitem(OPTIONS, "xla_cpu_option_of_another_release", True)
    assert "xla_cpu_option_of_another_release" not in quick.known_options.__wrapped__()


@pytest.mark.parametrize("asked", [True, False])
def test_nothing_is_optimised_where_jax_is_asked_for_that(asked):
    level = "xla_backend_optimization_level"
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", asked)
    try:
        assert quick.known_options.__wrapped__()[level] == (0 if asked else OPTIONS[level])
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


class Few(eqx.Module):
    """A module that holds some numbers, in some dimensions."""

    numbers: jax.Array
    dim: int = 2
    num_bytes: int = 0

    def total(self):
        return jnp.sum(self.numbers)


MANY = jnp.zeros(2 * MANY_NUMBERS)
SMALL, LARGE = Few(jnp.zeros(3)), Few(jnp.zeros(FEW_NUMBERS))


def test_only_numbers_of_modules_count():
    """Arrays that are no module, such as positions, do not."""
    assert num_numbers((SMALL, MANY, "text")) == 3
    assert num_numbers((LARGE, SMALL)) == FEW_NUMBERS + 3


@pytest.mark.parametrize(
    "jit, module, optimised",
    [
        (quick_jit, SMALL, False),
        (quick_jit, LARGE, True),
        (quick_jit, Few(jnp.zeros(3), FEW_DIMENSIONS + 1), True),
        (quick_jit, Few(jnp.zeros(3), num_bytes=FEW_BYTES), True),
        (brief_jit, LARGE, False),
        (brief_jit, Few(MANY), True),
    ],
)
def test_a_program_is_optimised_where_that_pays(jit, module, optimised, monkeypatch):
    asked = []
    monkeypatch.setattr(quick, "known_options", lambda pays: asked.append(pays) or {})
    total = jit(lambda module, x: module.total() + jnp.sum(x))
    assert total(module, MANY) == 0.0
    assert asked == [optimised]


def test_nothing_is_optimised_that_is_not_to_be():
    assert known_options(optimised=False)[OPTIMISATION] == 0
