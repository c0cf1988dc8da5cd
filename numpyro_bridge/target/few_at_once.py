"""Functions that take a large batch in parts, so that the memory it needs is bounded."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

Function = Callable[[Any, Any], Any]
"""A function of two pytrees of arrays; those of the first have real numbers only."""


def few_at_once(function: Function, most: int) -> Function:
    """The same function, which `jax.vmap` evaluates at no more than `most` places at once.

    That holds for `jax.vmap` inside of `jax.vmap` too: the product of both sizes is bounded.
    Derivatives of any order are taken in reverse mode, each in parts of its own; there are none in
    forward mode.
    """
    evaluated = jax.custom_vjp(_in_parts(function, most))

    def forward(first, second):
        return evaluated(first, second), (first, second)

    def backward(kept, weight):
        first, second = kept
        by_first = few_at_once(_pullback(function), most)((first, weight), second)
        return by_first, _pulled_to_second(function, most, first, second, weight)

    evaluated.defvjp(forward, backward)
    return evaluated


def few_values_at_once(function: Function, most: int) -> Function:
    """The same for a function with one number as its value, whose gradient costs no second look."""
    evaluated = jax.custom_vjp(_in_parts(function, most))

    def forward(first, second):
        value, slope = few_at_once(jax.value_and_grad(function), most)(first, second)
        return value, (slope, first, second)

    def backward(kept, weight):
        slope, first, second = kept
        by_first = jax.tree.map(lambda part: weight * part, slope)
        return by_first, _pulled_to_second(function, most, first, second, weight)

    evaluated.defvjp(forward, backward)
    return evaluated


def _pullback(function: Function) -> Function:
    """The product of a weight with the derivatives of a function by its first argument."""

    def pulled_back(first_and_weight, second):
        first, weight = first_and_weight
        _, pull = jax.vjp(lambda first: function(first, second), first)
        return pull(weight)[0]

    return pulled_back


def _pulled_to_second(function: Function, most: int, first: Any, second: Any, weight: Any) -> Any:
    """The same for the second argument; None where it has no real numbers.

    Where nobody asks for it the compiler leaves it out.
    """
    numbers, rest = eqx.partition(second, eqx.is_inexact_array)

    def swapped(numbers, first_and_rest):
        first, rest = first_and_rest
        return function(first, eqx.combine(numbers, rest))

    return few_at_once(_pullback(swapped), most)((numbers, weight), (first, rest))


def _in_parts(function: Callable[..., Any], most: int) -> Callable[..., Any]:
    """The same function with another rule for `jax.vmap`."""
    evaluated = custom_vmap(function)

    @evaluated.def_vmap
    def in_parts(num: int, moves: Any, *args: Any):
        axes = tuple(jax.tree.map(lambda moves: 0 if moves else None, each) for each in moves)
        num_parts = -(-num // most)
        size = -(-num // num_parts)
        # Whoever maps over these parts in turn is left with a smaller share.
        part = _in_parts(jax.vmap(function, in_axes=axes), max(1, most // size))
        if num_parts == 1:
            values = part(*args)
        else:
            values = _joined(part, args, moves, num, size)
        return values, jax.tree.map(lambda _: True, values)

    return evaluated


def _joined(part: Callable[..., Any], args: Any, moves: Any, num: int, size: int) -> Any:
    """Values at all places, part after part; the last part repeats some places to be full."""
    leaves, structure = jax.tree.flatten(args)
    is_moving = jax.tree.leaves(moves)
    num_parts = -(-num // size)
    places = jnp.minimum(jnp.arange(num_parts * size), num - 1)
    moving = [leaf[places] for leaf, is_one in zip(leaves, is_moving, strict=True) if is_one]
    moving = [leaf.reshape(num_parts, size, *leaf.shape[1:]) for leaf in moving]

    def at_part(moving):
        rest = iter(moving)
        both = zip(leaves, is_moving, strict=True)
        return part(*structure.unflatten(next(rest) if is_one else leaf for leaf, is_one in both))

    values = jax.lax.map(at_part, moving)
    return jax.tree.map(lambda leaf: leaf.reshape(num_parts * size, *leaf.shape[2:])[:num], values)
