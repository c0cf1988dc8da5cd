"""Settings that cannot work, refused where they are given, with what to write instead."""

import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import optax
from numpyro.util import is_prng_key


def check_key(rng_key: Any) -> None:
    """Raise a ValueError unless this is one JAX key."""
    if not (hasattr(rng_key, "dtype") and is_prng_key(rng_key)):
        got = repr(rng_key) if isinstance(rng_key, int) else _described(rng_key)
        raise ValueError(f"rng_key must be one JAX key, such as jax.random.key(0), got {got}")


def check_optimizer(optimizer: Any) -> None:
    """Raise a ValueError unless this is an optax transformation."""
    if isinstance(optimizer, optax.GradientTransformation):
        return
    rate = optimizer if isinstance(optimizer, float) else 1e-3
    raise ValueError(
        f"optimizer must be an optax transformation, such as optax.adam({rate}) or "
        f"nb.bridge_optimizer(control={rate}), got {_described(optimizer)}"
    )


def check_function(name: str, function: Any, such_as: str) -> None:
    """Raise a ValueError unless this can be called with the keywords of its `functools.partial`."""
    if not callable(function):
        got = _described(function)
        raise ValueError(f"{name} must be a function or class such as {such_as}, got {got}")
    while isinstance(function, partial):
        _check_keywords(name, function.func, function.keywords)
        function = function.func


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
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__
