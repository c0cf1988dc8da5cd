"""Settings that cannot work, refused where they are given, with what to write instead."""

import difflib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from numbers import Integral, Real
from typing import Any

import jax
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


def check_count(name: str, value: Any, minimum: int) -> None:
    """Raise a ValueError unless this is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise ValueError(
            f"{name} must be a whole number >= {minimum}, such as {max(minimum, 10)}, got "
            f"{_described(value)}"
        )


def check_not_negative(name: str, value: Any) -> None:
    """Raise a ValueError unless this is a number, zero or more."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
        raise ValueError(f"{name} must be a number >= 0, such as 0.01, got {_described(value)}")


def check_process(process: Any) -> None:
    """Raise a ValueError unless this can make a process, as far as can be seen from outside."""
    check_function("process", process, "nb.CMCD")
    for keyword, value in _bound(process).items():
        if keyword in COUNTS:
            check_count(f"process: {keyword}", value, COUNTS[keyword])
        elif keyword in PARTS and isinstance(value, type | str):
            got = value.__name__ if isinstance(value, type) else repr(value)
            raise ValueError(
                f"process: {keyword} must be an instance such as {PARTS[keyword]}, got {got}"
            )
    try:
        inspect.signature(process, follow_wrapped=False).bind(None, 1)
    except TypeError as error:
        raise ValueError(
            f"process: {_name(process)} cannot be called with (rng_key, dim), {error}; take these "
            "two as nb.CMCD does, and bind all others, and no more, with functools.partial"
        ) from None


def check_trainable(trainable: Any) -> None:
    """Raise a ValueError unless this is a filter of arrays in Equinox's sense."""
    if callable(trainable):
        return
    for leaf in jax.tree.leaves(trainable):
        if not isinstance(leaf, bool) and not callable(leaf):
            raise ValueError(
                "trainable must be a function of an array, such as eqx.is_inexact_array, or a tree "
                f"of True and False in the shape of the process, got {_described(leaf)}"
            )


COUNTS = {"num_steps": 1, "width": 1, "depth": 0}
"""Settings of processes that are integers, and the least of each."""

PARTS = {"initial": "nb.processes.InitialPrior()", "integrator": "nb.processes.OBABO()"}
"""Settings of processes that are objects, and what one looks like."""


def check_objective(objective: Any) -> None:
    """Raise a ValueError unless this can be called as a loss of trajectories."""
    check_function("objective", objective, "nb.reverse_kl_ld")
    bound, name = _bound(objective), _name(objective)
    if "num_trajectories" in bound:
        raise ValueError(
            "num_trajectories is a setting of the sampler, not of its objective: write "
            f"num_trajectories={bound['num_trajectories']} beside objective="
        )
    if isinstance(bound.get("sampling"), str):
        raise ValueError(
            f"objective: sampling must be a function such as nb.{bound['sampling']}, got a string"
        )
    try:
        inspect.signature(objective).bind(None, None, None, num_trajectories=2)
    except TypeError as error:
        raise ValueError(
            f"objective: {name} cannot be called as a loss (rng_key, process, target, *, "
            f"num_trajectories), {error}; bind what it needs, as in "
            "partial(nb.forward_kl_from_draws, positions=positions), or give it its parts, as in "
            "nb.mixed((0.9, nb.reverse_kl_ld), (0.1, nb.forward_kl))"
        ) from None


def _bound(function: Any) -> dict[str, Any]:
    """Keywords that partial functions have bound; an outer one goes before an inner one."""
    keywords: dict[str, Any] = {}
    for part in _partials(function):
        keywords = {**part.keywords, **keywords}
    return keywords


def _innermost(function: Any) -> Any:
    """The function inside partial ones."""
    while isinstance(function, partial):
        function = function.func
    return function


def _name(function: Any) -> str:
    return getattr(_innermost(function), "__name__", "the function")


def _partials(function: Any) -> Iterator[partial]:
    """The partial functions around a function, and inside wrappers such as `with_log_flow`."""
    while True:
        if isinstance(function, partial):
            yield function
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            return


def reads_what_it_samples(objective: Any, sampling: Callable) -> bool:
    """Whether a loss samples by this function; True for losses from elsewhere that do not say."""
    parts = getattr(objective, "parts", ())
    if parts:
        return any(reads_what_it_samples(part, sampling) for _, part in parts)
    if "sampling" in inspect.signature(objective).parameters:
        return _bound(objective).get("sampling") is sampling
    return not getattr(_innermost(objective), "__module__", "").startswith("numpyro_bridge.")


def check_function(name: str, function: Any, such_as: str) -> None:
    """Raise a ValueError unless this can be called with the keywords of its `functools.partial`."""
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
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__
