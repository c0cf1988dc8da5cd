"""Indices among the data that lie outside of the array they point into.

JAX does not raise an error then, as NumPy does: it takes the nearest element. Groups that are
counted from one are silently shifted into each other.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import GatherScatterMode

Known = Callable[[], Any]
"""Computes a value when it is asked, or None where it depends on the position."""

NESTED = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
"""Operations that are a computation of their own, whose operands are its arguments."""


def indices_outside(function: Callable[..., Any], dim: int) -> tuple[str, ...]:
    """Describe the indices that lie outside, as "1 to 3 among 3 elements (0 to 2)".

    Only those are looked at that do not depend on the position, and not inside of loops.

    Args:
        function: A log density of one position.
        dim: Number of dimensions of a position.
    """
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((dim,), jnp.result_type(float)))
    return tuple(dict.fromkeys(_outside(closed, [_unknown])))


def _unknown() -> None:
    return None


def _outside(computation: Any, operands: list[Known]) -> Iterator[str]:
    """Walk through a computation; what it gives is what `yield from` returns."""
    inner = getattr(computation, "jaxpr", computation)
    constants = [_constant(value) for value in getattr(computation, "consts", ())]
    # Keyed by identity, since literals have no hash.
    known = dict(zip(map(id, inner.constvars), constants, strict=False))
    known |= dict(zip(map(id, inner.invars), operands, strict=True))

    def look_up(variable: Any) -> Known:
        return _constant(variable.val) if hasattr(variable, "val") else known[id(variable)]

    for equation in inner.eqns:
        values = [look_up(variable) for variable in equation.invars]
        if equation.primitive.name == "gather":
            yield from _outside_of_gather(equation, values[1])
        elif equation.primitive.name == "dynamic_slice":
            yield from _outside_of_slice(equation, values[1:])
        nested = _nested(equation, len(values))
        if nested is None:
            outputs = _outputs(equation, values)
        else:
            outputs = yield from _outside(nested, values)
        known |= dict(zip(map(id, equation.outvars), outputs, strict=True))
    return [look_up(variable) for variable in inner.outvars]


def _constant(value: Any) -> Known:
    return lambda: value


def _nested(equation: Any, num_operands: int) -> Any:
    if equation.primitive.name not in NESTED:
        return None
    found = [equation.params.get(name) for name in ("jaxpr", "call_jaxpr", "fun_jaxpr")]
    for computation in found:
        inner = getattr(computation, "jaxpr", computation)
        if inner is not None and len(inner.invars) == num_operands:
            return computation
    return None


def _outputs(equation: Any, operands: list[Known]) -> list[Known]:
    """The outputs of one operation, computed at most once, and only when asked for."""

    @cache
    def compute() -> Any:
        values = [operand() for operand in operands]
        is_loop = any(hasattr(x, "eqns") or hasattr(x, "jaxpr") for x in equation.params.values())
        if is_loop or any(value is None for value in values):
            return None
        results = equation.primitive.bind(*values, **equation.params)
        return results if equation.primitive.multiple_results else [results]

    def output(number: int) -> Known:
        return lambda: None if (results := compute()) is None else results[number]

    return [output(number) for number in range(len(equation.outvars))]


def _outside_of_gather(equation: Any, indices: Known) -> Iterator[str]:
    if equation.params["mode"] == GatherScatterMode.CLIP:
        return  # the nearest element was asked for
    values = indices()
    if values is None or np.size(values) == 0:
        return
    axes = equation.params["dimension_numbers"].start_index_map
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    for axis, column in zip(axes, np.moveaxis(np.asarray(values), -1, 0), strict=True):
        yield from _sentence(column, shape[axis], sizes[axis])


def _outside_of_slice(equation: Any, starts: list[Known]) -> Iterator[str]:
    shape, sizes = equation.invars[0].aval.shape, equation.params["slice_sizes"]
    for start, length, size in zip(starts, shape, sizes, strict=True):
        value = start()
        if value is not None:
            yield from _sentence(np.asarray(value), length, size)


def _sentence(indices: np.ndarray, length: int, size: int) -> Iterator[str]:
    lowest, highest = int(indices.min()), int(indices.max())
    if lowest < 0 or highest > length - size:
        yield f"{lowest} to {highest} among {length} elements (0 to {length - 1})"
