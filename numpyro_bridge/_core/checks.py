"""Checks of settings: what cannot work is refused at once, with what to write instead."""

import difflib
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpyro.util import is_prng_key

MOST = 1_000_000_000
"""The largest count: beyond it no array of so many rows fits into memory."""

MOST_STEPS = 1_000_000
"""The largest number of steps or units of a process: each has arrays of its own."""

MOST_LAYERS = 1_000
"""The largest number of hidden layers: each is compiled by itself."""


def check_key(rng_key: Any, name: str = "rng_key") -> None:
    """Raise a ValueError unless this is a single JAX key, typed or raw (`jax.random.PRNGKey`)."""
    if not (hasattr(rng_key, "dtype") and is_prng_key(rng_key)):
        raise ValueError(
            f"{name} must be one JAX key, such as jax.random.key(0), got {described(rng_key)}"
        )


def check_optimizer(optimizer: Any) -> None:
    """Raise a ValueError unless this is an optax transformation."""
    if isinstance(optimizer, optax.GradientTransformation):
        return
    rate = optimizer if isinstance(optimizer, float) else 1e-3
    raise ValueError(
        f"optimizer must be an optax transformation, such as optax.adam({rate}) or "
        f"nb.bridge_optimizer(control={rate}), got {described(optimizer)}"
    )


def check_count(name: str, value: Any, minimum: int, maximum: int = MOST) -> int:
    """The value as an integer; a ValueError unless it is one from `minimum` to `maximum`."""
    try:
        # Integers of NumPy and JAX are accepted; True and False are integers to Python, not here.
        whole = None if _is_flag(value) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < minimum:
        raise ValueError(
            f"{name} must be a whole number >= {minimum}, such as {max(minimum, 10)}, got "
            f"{described(value)}"
        )
    if whole > maximum:
        raise ValueError(f"{name} must be at most {maximum:,}, got {whole:,}")
    return whole


def check_positive(name: str, value: Any, such_as: str = "0.25") -> float:
    """The value as a number of Python; a ValueError unless it is positive and finite."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(
            f"{name} must be a positive number, such as {such_as}, got {described(value)}"
        )
    return number


def check_not_negative(name: str, value: Any) -> float:
    """The value as a number of Python; a ValueError unless it is at least zero."""
    number = _number(value)
    if not number >= 0:
        raise ValueError(f"{name} must be a number >= 0, such as 0.01, got {described(value)}")
    return number


def check_number(name: str, value: Any, *, finite: bool = True) -> float:
    """The value as a number of Python; a ValueError unless it is one, and finite if it must be."""
    number = _number(value)
    if math.isnan(number) and (finite or not _is_number(value)):
        raise ValueError(f"{name} must be a number, such as 0.5, got {described(value)}")
    if finite and math.isinf(number):
        raise ValueError(f"{name} must be a finite number, such as 0.5, got {described(value)}")
    return number


def check_share(name: str, value: Any) -> float:
    """The value as a number of Python; a ValueError unless it is between zero and one."""
    number = _number(value)
    if not 0 < number < 1:
        raise ValueError(
            f"{name} must be a number between 0 and 1, such as 0.9, got {described(value)}"
        )
    return number


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a number."""
    return float(value) if _is_number(value) else math.nan


def _is_number(value: Any) -> bool:
    """Whether this is a single real number, of Python, NumPy or JAX; True and False are none."""
    if _is_flag(value):
        return False
    is_real = hasattr(value, "__float__") and not jnp.issubdtype(
        getattr(value, "dtype", float), jnp.complexfloating
    )
    return is_real and getattr(value, "shape", ()) == ()


def _is_flag(value: Any) -> bool:
    """Whether this is True, False or an array of them."""
    return isinstance(value, bool) or jnp.issubdtype(getattr(value, "dtype", float), np.bool_)


def check_flag(name: str, value: Any) -> bool:
    """The value as True or False; a ValueError unless it is one of them, NumPy's included."""
    if not (_is_flag(value) and getattr(value, "shape", ()) == ()):
        raise ValueError(f"{name} must be True or False, got {described(value)}")
    return bool(value)


def check_instance(name: str, value: Any, kind: Any, such_as: str) -> None:
    """Raise a ValueError unless this is an instance of `kind`, not the class itself or its name."""
    if not isinstance(value, kind):
        got = getattr(value, "__name__", described(value))
        raise ValueError(f"{name} must be an instance such as {such_as}, got {got}")


def check_text(name: str, value: Any, such_as: str) -> str:
    """The value; a ValueError unless it is a text."""
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, such as {such_as!r}, got {described(value)}")
    return value


def check_names(name: str, value: Any, such_as: str) -> list[str]:
    """The names as a list; a ValueError unless this is a list of texts, and not a single text."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    names: list[Any] = list(value) if is_list and getattr(value, "shape", (1,)) else [None]
    if not all(isinstance(each, str) for each in names):
        got = repr(value) if is_list and len(names) < 10 else described(value)
        raise ValueError(f"{name} must be a list of names, such as {such_as}, got {got}")
    return names


def check_mapping(name: str, value: Any, such_as: str) -> None:
    """Raise a ValueError unless this is a dictionary, or something that can be read as one."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dictionary, such as {such_as}, got {described(value)}")


def check_shape(name: str, value: Any) -> tuple[int, ...]:
    """The value as whole numbers of Python; a ValueError unless it is a list of positive ones."""
    if isinstance(value, str) or np.ndim(value) != 1:
        raise ValueError(f"{name} must be a tuple, such as (1000,), got {described(value)}")
    return tuple(check_count(f"each of {name}", size, 1) for size in value)


def check_array(name: str, value: Any, shape: str) -> None:
    """Raise a ValueError unless this is an array of real numbers with as many axes as `shape` has.

    Args:
        name: The name of the user's argument.
        value: What the user gave for it; an array of NumPy or JAX.
        shape: The shape in words, such as `"(num, dim)"`.
    """
    num_axes = len([axis for axis in shape.strip("()").split(",") if axis.strip()])
    dtype = getattr(value, "dtype", object)
    real = jnp.issubdtype(dtype, np.integer) or jnp.issubdtype(dtype, jnp.floating)
    if not (real and len(value.shape) == num_axes):
        raise ValueError(
            f"{name} must be an array of numbers of shape {shape}, got {described(value)}"
        )


def check_process(process: Any) -> None:
    """Raise a ValueError unless this makes a process when called with `(rng_key, dim)`.

    JAX traces the call once, for two dimensions, so that what a constructor refuses is refused
    before anything is run. A constructor that cannot be traced is not checked any further.
    """
    check_function("process", process, "nb.CMCD")
    try:
        inspect.signature(process, follow_wrapped=False).bind(None, 1)
    except TypeError as error:
        raise ValueError(
            f"process: {_name(process)} cannot be called with (rng_key, dim), {error}; take these "
            "two as nb.CMCD does, and bind all others, and no more, with functools.partial"
        ) from None
    try:
        made = eqx.filter_eval_shape(process, jax.random.key(0), 2)
    except ValueError as error:
        raise ValueError(f"process: {error}") from error
    except jax.errors.JAXTypeError:
        return
    if not hasattr(made, "prepared"):
        raise ValueError(
            f"process: {_name(process)} makes {described(made)}, and not a process such as "
            "nb.CMCD(rng_key, dim)"
        )


def check_trainable(trainable: Any) -> None:
    """Raise a ValueError unless this is a filter of arrays in Equinox's sense."""
    if callable(trainable):
        return
    for leaf in jax.tree.leaves(trainable):
        if type(leaf) is not bool and not callable(leaf):
            raise ValueError(
                "trainable must be a function of an array, such as eqx.is_inexact_array, or a tree "
                f"of True and False in the shape of the process, got {described(leaf)}"
            )


def check_objective(objective: Any, **settings: Any) -> None:
    """Raise a ValueError unless this can be called as a loss of trajectories with the settings."""
    check_function("objective", objective, "nb.reverse_kl_ld")
    bound = _bound(objective)
    if "num_trajectories" in bound:
        raise ValueError(
            "num_trajectories is a setting of the sampler, not of its objective: write "
            f"num_trajectories={bound['num_trajectories']} beside objective="
        )
    for keyword, value in bound.items():
        if isinstance(value, str):
            raise ValueError(
                f"objective: {keyword} must be a function or a number, got the string {value!r}"
            )
    try:
        inspect.signature(objective).bind(None, None, None, num_trajectories=2, **settings)
    except TypeError as error:
        raise ValueError(
            f"objective: {_name(objective)} cannot be called as a loss (rng_key, process, target, "
            f"*, {', '.join(['num_trajectories', *settings])}), {error}; give it what it needs, as "
            "in nb.forward_kl_from_draws(positions) or "
            "nb.mixed((0.9, nb.reverse_kl_ld), (0.1, nb.forward_kl))"
        ) from None


def _bound(function: Any) -> dict[str, Any]:
    """The keywords that partial functions have bound; the outermost function wins."""
    keywords: dict[str, Any] = {}
    for part in _partials(function):
        keywords = {**part.keywords, **keywords}
    return keywords


def _name(function: Any) -> str:
    for part in _partials(function):
        function = part.func
    return getattr(function, "__name__", "the function")


def _partials(function: Any) -> Iterator[partial[Any]]:
    """The partial functions around a function, outermost first, also those inside wrappers.

    A wrapper such as `with_log_flow` names what it wraps in `__wrapped__`.
    """
    while True:
        if isinstance(function, partial):
            yield function
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            return


def check_function(name: str, function: Any, such_as: str) -> None:
    """Raise a ValueError unless this is a function, and takes the keywords that are bound to it."""
    if not callable(function):
        got = described(function)
        raise ValueError(f"{name} must be a function or class such as {such_as}, got {got}")
    for part in _partials(function):
        _check_keywords(name, part.func, part.keywords)


def _check_keywords(name: str, function: Callable[..., Any], keywords: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    known = [p.name for p in parameters if p.kind is not p.POSITIONAL_ONLY]
    for keyword in keywords:
        if keyword in known:
            continue
        close = difflib.get_close_matches(keyword, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(
            f"{name}: {getattr(function, '__name__', function)} takes no argument {keyword!r}; "
            f"{hint}It takes {', '.join(known)}."
        )


def described(value: Any) -> str:
    """A value in a few words, for the end of a message."""
    shape = getattr(value, "shape", None)
    if shape is not None and hasattr(value, "dtype"):
        return f"an array of shape {shape} and type {value.dtype}"
    if type(value) in (int, float, bool, str):
        return repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
    return type(value).__name__
