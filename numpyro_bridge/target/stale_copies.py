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
    if any(_is_stale(array) for array in _arrays(function, DEPTH, set())):
        jax.clear_caches()


def _is_stale(array: np.ndarray) -> bool:
    (copy,) = jax.make_jaxpr(lambda: jnp.negative(array))().consts
    return not np.array_equal(np.asarray(copy), array.astype(copy.dtype), equal_nan=True)


def _arrays(value: Any, depth: int, seen: set[int]) -> Iterator[np.ndarray]:
    """The arrays of more than 32 bits that can be reached from a value."""
    if depth < 0 or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        # An array without axes becomes a number of the program, and is read anew.
        if value.ndim and value.dtype in (np.float64, np.int64, np.uint64, np.complex128):
            yield value
        return
    for inner in _inside(value):
        yield from _arrays(inner, depth - 1, seen)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        named = [value.__globals__.get(name) for name in value.__code__.co_names]
        wrapped = getattr(value, "__wrapped__", None)
        keywords = (value.__kwdefaults__ or {}).values()
        return [*cells, *named, *(value.__defaults__ or ()), *keywords, wrapped]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    is_of_user = type(value).__module__.partition(".")[0] not in ("builtins", "numpy", "jax")
    if is_of_user and not isinstance(value, type) and hasattr(value, "__dict__"):
        return [*vars(value).values(), vars(type(value)).get("__call__")]
    return []


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return None
