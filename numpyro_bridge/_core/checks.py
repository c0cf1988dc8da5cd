"""Checks of settings: what cannot work is refused at once, with what to write instead."""

import difflib
import inspect
import math
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import optax
from numpyro.util import is_prng_key


def check_key(rng_key: Any) -> None:
    """Raise a ValueError unless this is a single JAX key."""
    if not (hasattr(rng_key, "dtype") and is_prng_key(rng_key)):
        raise ValueError(
            "rng_key must be one JAX key, such as jax.random.key(0), got " + _described(rng_key)
        )


def check_optimizer(optimizer: Any) -> None:
    """Raise a ValueError unless this is an optax transformation."""
    if isinstance(optimizer, optax.GradientTransformation):
        return
    rate = optimizer if isinstance(optimizer, float) else 1e-3
    raise ValueError(
        f"optimizer must be an optax transformation, such as optax.adam({rate}) or "
        f"nb.bridge_optimizer(control={rate}), got {_described(optimizer)}"
    )


def check_count(name: str, value: Any, minimum: int) -> int:
    """The value as an integer; a ValueError unless it is one of at least `minimum`."""
    try:
        # Integers of NumPy and JAX are accepted; True and False are integers to Python, not here.
        whole = None if type(value) is bool else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or whole < minimum:
        raise ValueError(
            f"{name} must be a whole number >= {minimum}, such as {max(minimum, 10)}, got "
            f"{_described(value)}"
        )
    return whole


def check_positive(name: str, value: Any) -> None:
    """Raise a ValueError unless this is a positive finite number."""
    if not 0 < _number(value) < math.inf:
        raise ValueError(f"{name} must be a positive number, such as 0.25, got {_described(value)}")


def _number(value: Any) -> float:
    """The value as a float; NaN if it is not a number."""
    return float(value) if hasattr(value, "__float__") and type(value) is not bool else math.nan


def check_instance(name: str, value: Any, kind: type, such_as: str) -> None:
    """Raise a ValueError unless this is an instance of `kind`, not the class itself or its name."""
    if not isinstance(value, kind):
        got = getattr(value, "__name__", repr(value))
        raise ValueError(f"{name} must be an instance such as {such_as}, got {got}")


def check_not_negative(name: str, value: Any) -> None:
    """Raise a ValueError unless this is a number that is not negative."""
    if not _number(value) >= 0:
        raise ValueError(f"{name} must be a number >= 0, such as 0.01, got {_described(value)}")


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
        eqx.filter_eval_shape(process, jax.random.key(0), 2)
    except ValueError as error:
        raise ValueError(f"process: {error}") from error
    except jax.errors.JAXTypeError:
        return


def check_trainable(trainable: Any) -> None:
    """Raise a ValueError unless this is a filter of arrays in Equinox's sense."""
    if callable(trainable):
        return
    for leaf in jax.tree.leaves(trainable):
        if type(leaf) is not bool and not callable(leaf):
            raise ValueError(
                "trainable must be a function of an array, such as eqx.is_inexact_array, or a tree "
                f"of True and False in the shape of the process, got {_described(leaf)}"
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


def _partials(function: Any) -> Iterator[partial]:
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
        got = _described(function)
        raise ValueError(f"{name} must be a function or class such as {such_as}, got {got}")
    for part in _partials(function):
        _check_keywords(name, part.func, part.keywords)


def _check_keywords(name: str, function: Callable, keywords: dict[str, Any]) -> None:
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


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"an array of shape {shape} and type {value.dtype}"
    return repr(value) if type(value) in (int, float, bool, str) else type(value).__name__
