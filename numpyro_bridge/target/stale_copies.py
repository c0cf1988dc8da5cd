"""Copies of arrays that JAX goes on with after the arrays have changed.

JAX rounds a NumPy array of 64 bits to 32 bits once, and keeps the copy as long as a program needs
it. If the array is changed in place, every later program is made with the old numbers.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DEPTH = 4
"""How far arrays are looked for: in an attribute of an object in a list that a function reads."""


def forget_stale_copies(function: Any) -> None:
    """Let JAX forget all programs, if it has an old copy of an array that the function can reach.

    Arrays are found in variables that the function closes over, globals that it names, defaults,
    bound arguments, and attributes, also inside of lists and dictionaries there.
    """
    if jnp.result_type(float) == jnp.float64:
        return  # nothing is rounded then
    if any(_is_stale(array) for _, array in wide_arrays(function)):
        jax.clear_caches()


def _is_stale(array: np.ndarray) -> bool:
    (copy,) = jax.make_jaxpr(lambda: jnp.negative(array))().consts
    return not np.array_equal(np.asarray(copy), array.astype(copy.dtype), equal_nan=True)


def wide_arrays(function: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of more than 32 bits that a function can reach, with their names."""
    yield from _arrays("", function, DEPTH, set())


def _arrays(name: str, value: Any, depth: int, seen: set[int]) -> Iterator[tuple[str, np.ndarray]]:
    if depth < 0 or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        # An array without axes becomes a number of the program, and is read anew.
        if value.ndim and value.dtype in (np.float64, np.int64, np.uint64, np.complex128):
            yield name, value
        return
    for inner_name, inner in _inside(value):
        # A container gives its own name to what has none.
        yield from _arrays(inner_name or name, inner, depth - 1, seen)


def _inside(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, FunctionType):
        return [*_variables(value), ("", getattr(value, "__wrapped__", None))]
    if isinstance(value, MethodType):
        return [("", value.__func__), ("", value.__self__)]
    if isinstance(value, partial):
        return [("", value.func), *(("", one) for one in value.args), *value.keywords.items()]
    if isinstance(value, Mapping):
        return [(str(key), one) for key, one in value.items()]
    if isinstance(value, list | tuple):
        return [("", one) for one in value]
    is_of_user = type(value).__module__.partition(".")[0] not in ("builtins", "numpy", "jax")
    if is_of_user and not isinstance(value, type) and hasattr(value, "__dict__"):
        return [*vars(value).items(), ("", vars(type(value)).get("__call__"))]
    return []


def _variables(function: FunctionType) -> list[tuple[str, Any]]:
    """What a function closes over, the globals that it names, and its defaults."""
    code = function.__code__
    cells = zip(code.co_freevars, map(_content, function.__closure__ or ()), strict=True)
    named = [(name, function.__globals__.get(name)) for name in code.co_names]
    defaults = function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    of_positional = zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    return [*cells, *named, *of_positional, *(function.__kwdefaults__ or {}).items()]


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None
