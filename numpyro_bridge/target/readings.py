"""What a model reads besides its arguments: globals, closures and attributes, as a short digest."""

import hashlib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from numpyro_bridge._core.memory import most_within_memory

ADDRESS = re.compile(r"0x[0-9a-f]+")
"""Where in memory an object is says nothing about it."""


LARGEST_BATCH = 4_096
"""If so many evaluations fit in memory, batches are not divided."""


class Reading(NamedTuple):
    """Digests of what a function computes."""

    code: str = ""
    """The digest of every operation, and of every number that is not in the arguments.

    Two functions of the same digest compute the same, so that one may use code that was compiled
    for the other."""
    numbers: str = ""
    """The digest of the numbers alone, which changes when the data do."""
    has_loops: bool = False
    """Whether there is a loop whose end depends on numbers, as in an adaptive solver."""
    num_bytes: int = 0
    """The size of all numbers that the computation makes on its way."""
    most_at_once: int | None = None
    """How many evaluations may be in memory at once; None for any number."""


def read(function: Callable[..., Any], *args: Any) -> Reading:
    """Digest the computation of a function, with the numbers that it takes from elsewhere.

    Compiled code holds what a function has read from a global, a closure or an object when it was
    traced, and does not see it change.

    Args:
        function: Any function that JAX can trace, but no compiled one, which is not traced again.
        *args: Its arguments, of which only shapes and types count.
    """
    closed = _traced(function, args)
    state = hashlib.blake2b(digest_size=16)
    _add(state, closed)
    numbers = state.hexdigest()
    state.update(ADDRESS.sub("", str(closed.jaxpr)).encode())
    num_bytes = num_bytes_of(closed)
    most = most_within_memory(num_bytes)
    most_at_once = None if most >= LARGEST_BATCH else most
    return Reading(state.hexdigest(), numbers, has_loops(closed), num_bytes, most_at_once)


def num_bytes_of(part: Any) -> int:
    """The size of all numbers that a computation makes on its way.

    Compilers join many steps, so that less is in memory at a time; derivatives need about that much
    again.
    """
    if isinstance(part, tuple | list):
        return sum(map(num_bytes_of, part))
    total = 0
    for equation in getattr(getattr(part, "jaxpr", part), "eqns", ()):
        inside = num_bytes_of(list(equation.params.values()))
        made = sum(_num_bytes(variable.aval) for variable in equation.outvars)
        total += made + inside * equation.params.get("length", 1)  # of a loop
    return total


def _num_bytes(aval: Any) -> int:
    return math.prod(getattr(aval, "shape", ())) * getattr(aval.dtype, "itemsize", 4)


def _traced(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # As a new function, because JAX remembers what it has traced of an old one.
    return jax.make_jaxpr(lambda *args: function(*args))(*args)


def constants_of(part: Any) -> Iterator[np.ndarray]:
    """The arrays in a traced computation that are none of its arguments."""
    if isinstance(part, tuple | list):
        for each in part:
            yield from constants_of(each)
    for const in getattr(part, "consts", ()):
        yield np.asarray(const)
    for equation in getattr(getattr(part, "jaxpr", part), "eqns", ()):
        for operand in equation.invars:
            if np.ndim(getattr(operand, "val", 0)):
                yield np.asarray(operand.val)
        yield from constants_of(list(equation.params.values()))


def has_loops(part: Any) -> bool:
    """Whether a computation has a loop whose end depends on numbers."""
    if isinstance(part, tuple | list):
        return any(map(has_loops, part))
    equations = getattr(getattr(part, "jaxpr", part), "eqns", ())
    return any(
        equation.primitive.name == "while" or has_loops(list(equation.params.values()))
        for equation in equations
    )


def _add(state, part: Any) -> None:
    """Add the numbers of a part of a computation."""
    if hasattr(part, "eqns"):
        # JAX 0.12 has no type of its own any more for a computation together with its constants.
        for const in getattr(part, "consts", ()):
            _add_array(state, const)
        inner = getattr(part, "jaxpr", part)
        used = [operand for equation in inner.eqns for operand in equation.invars]
        for literal in (operand for operand in [*inner.outvars, *used] if hasattr(operand, "val")):
            _add_array(state, literal.val)
        for equation in inner.eqns:
            for value in equation.params.values():
                _add(state, value)
    elif isinstance(part, tuple | list):
        for value in part:
            _add(state, value)


def _add_array(state, value: Any) -> None:
    if isinstance(value, Tracer):  # known only while other code runs
        state.update(str(value.aval).encode())
        return
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    numbers = np.asarray(value)
    state.update(f"{numbers.dtype}{numbers.shape}".encode())
    state.update(np.ascontiguousarray(numbers).tobytes())
