"""Checks of settings: what passes, and what is refused by the name of the argument."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from numpyro_bridge._core import checks


@pytest.mark.parametrize("value", [1, 7, np.int64(2), np.uint8(3), np.asarray(4), jnp.asarray(5)])
def test_whole_numbers_of_python_numpy_and_jax_are_counts(value):
    checks.check_count("num_steps", value, 1)


REFUSED_COUNTS = {
    "true": (True, "True"),
    "half": (2.5, "2.5"),
    "whole float": (2.0, "2.0"),
    "text": ("3", "'3'"),
    "none": (None, "NoneType"),
    "negative": (-1, "-1"),
    "too small": (0, "0"),
    "negative of NumPy": (np.int64(-1), r"an array of shape \(\) and type int64"),
    "float of JAX": (jnp.asarray(2.5), r"an array of shape \(\) and type float"),
}
"""What is no count of at least one, and how the message describes it."""


@pytest.mark.parametrize("name", REFUSED_COUNTS)
def test_what_is_no_count_is_refused(name):
    value, described = REFUSED_COUNTS[name]
    message = f"^num_steps must be a whole number >= 1, such as 10, got {described}"
    with pytest.raises(ValueError, match=message):
        checks.check_count("num_steps", value, 1)


def test_the_example_of_a_count_is_one_that_would_pass():
    with pytest.raises(ValueError, match="num_draws must be a whole number >= 100, such as 100,"):
        checks.check_count("num_draws", 5, 100)


@pytest.mark.parametrize("value", [1, 0.25, np.float32(0.5), jnp.asarray(2.0)])
def test_positive_numbers_pass(value):
    checks.check_positive("friction", value)
    checks.check_not_negative("friction", value)


@pytest.mark.parametrize("value", [0.0, -1, float("nan"), float("inf"), "0.5", None, True])
def test_what_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match="^friction must be a positive number, such as 0.25, got "):
        checks.check_positive("friction", value)


def test_zero_is_not_negative():
    checks.check_not_negative("tolerance", 0)


@pytest.mark.parametrize("value", [-1e-9, float("nan"), "1", None, True])
def test_what_may_be_negative_is_refused(value):
    with pytest.raises(ValueError, match="^tolerance must be a number >= 0, such as 0.01, got "):
        checks.check_not_negative("tolerance", value)


def test_a_key_is_one_key():
    checks.check_key(jax.random.key(0))
    for value in (0, None, jax.random.split(jax.random.key(0))):
        with pytest.raises(ValueError, match=r"^rng_key must be one JAX key, such as jax.random.k"):
            checks.check_key(value)


def test_an_optimizer_is_a_transformation_and_not_its_rate():
    checks.check_optimizer(optax.adam(1e-3))
    with pytest.raises(ValueError, match=r"such as optax.adam\(0.002\) .*got 0.002"):
        checks.check_optimizer(0.002)


def of_width(width, depth=2):
    return width, depth


def test_keywords_that_a_function_does_not_take_are_refused():
    misspelt: dict[str, Any] = {"widht": 3}
    checks.check_function("control", partial(of_width, depth=3), "nb.CMCD")
    with pytest.raises(
        ValueError,
        match="control: of_width takes no argument 'widht'; did you mean 'width'. It takes width, ",
    ):
        checks.check_function("control", partial(of_width, **misspelt), "nb.CMCD")
    with pytest.raises(ValueError, match="control must be a function or class such as nb.CMCD, go"):
        checks.check_function("control", "CMCD", "nb.CMCD")


@pytest.mark.parametrize("value", [True, np.bool_(False), jnp.asarray(True)])
def test_true_and_false_of_python_numpy_and_jax_are_flags(value):
    assert checks.check_flag("divide", value) is bool(value)


@pytest.mark.parametrize("value", [1, 0, "no", None, np.asarray([True])])
def test_what_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ValueError, match="^divide must be True or False, got "):
        checks.check_flag("divide", value)


def test_a_count_has_a_largest_value_too():
    assert checks.check_count("dim", 3, 1, 3) == 3
    with pytest.raises(ValueError, match="^dim must be at most 1,000,000, got 1,099,511,627,776"):
        checks.check_count("dim", 2**40, 1, checks.MOST_STEPS)


def test_a_single_name_is_no_list_of_names():
    assert checks.check_names("return_sites", ("mu", "tau"), "['mu']") == ["mu", "tau"]
    for value in ("mu", [1], 3, None):
        with pytest.raises(ValueError, match="^return_sites must be a list of names, such as"):
            checks.check_names("return_sites", value, "['mu']")


def test_numbers_that_a_calculation_made_may_be_infinite():
    assert checks.check_number("pareto_k", np.inf, finite=False) == np.inf
    with pytest.raises(ValueError, match="^log_evidence must be a finite number"):
        checks.check_number("log_evidence", np.inf)
