"""A log density and its gradient with non-finite numbers replaced, safe to differentiate again.

A log density here is a pytree, such as a bound method of an `eqx.Module`: its arrays pass through
the custom derivative as arguments, so that derivatives with respect to data are right too.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from numpyro_bridge._core.types import Scalar, Vector
from numpyro_bridge.target.few_at_once import few_at_once, few_values_at_once
from numpyro_bridge.target.point import REPLACED_LOG_DENSITY, Point


def guarded_point(
    log_density: Callable[[Vector], Scalar], position: Vector, most: int | None = None
) -> Point:
    """Evaluate value and gradient once, replacing what is not finite.

    A value whose gradient is not finite is kept: weights need the value only, and stay exact
    whatever drift stands in for the gradient.

    Args:
        log_density: A pytree.
        position: Where.
        most: At how many positions at once, at most; None for any number.
    """
    if most is None:
        (value, score), finite = _guarded(position, log_density, True)
        return Point(position, value, score, finite)
    arrays, rest = eqx.partition(log_density, eqx.is_array)

    def guarded(position, arrays):
        values, finite = _guarded(position, eqx.combine(arrays, rest), True)
        return *values, finite.astype(position.dtype)  # a number, since numbers have derivatives

    value, score, finite = few_at_once(guarded, most)(position, arrays)
    return Point(position, value, score, finite > 0.5)


def guarded_value(
    log_density: Callable[[Vector], Scalar], position: Vector, most: int | None = None
) -> Scalar:
    """Evaluate the value alone; replace it where it is not finite. Arguments as above."""
    if most is None:
        (value,), _ = _guarded(position, log_density, False)
        return value
    arrays, rest = eqx.partition(log_density, eqx.is_array)

    def guarded(position, arrays):
        (value,), _ = _guarded(position, eqx.combine(arrays, rest), False)
        return value

    return few_values_at_once(guarded, most)(position, arrays)


@eqx.filter_custom_jvp
def _guarded(position: Vector, log_density: Callable[[Vector], Scalar], with_score: bool):
    values = _evaluate(position, log_density, with_score)
    return _replace(values), _all_finite(values)


@_guarded.def_jvp
def _guarded_jvp(primals, tangents):
    # What was replaced is constant. A `where` behind the density does not suffice for that: going
    # backward, its zero meets the infinite derivatives inside and becomes NaN. So the tangents
    # pass a second `where` before the density.
    def is_none(leaf):
        return leaf is None

    def keep(moving: bool):
        def choose(tangent, primal):
            return primal if (tangent is not None) == moving else None

        return jax.tree.map(choose, tangents, primals, is_leaf=is_none)

    fixed = keep(moving=False)
    values, push = jax.linearize(lambda part: _evaluate(*eqx.combine(part, fixed)), keep(True))
    finite = _all_finite(values)
    pushed = push(jax.tree.map(lambda tangent: jnp.where(finite, tangent, 0), tangents))
    pushed = tuple(jnp.where(finite, tangent, 0) for tangent in pushed)
    return (_replace(values), finite), (pushed, None)


@eqx.filter_jit  # one call is then fast too, and NumPyro has no numbers to object to
def _evaluate(position, log_density, with_score):
    return jax.value_and_grad(log_density)(position) if with_score else (log_density(position),)


def _all_finite(values: tuple[Array, ...]) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(value)) for value in values]))


def _replace(values: tuple[Array, ...]) -> tuple[Array, ...]:
    value, *scores = values
    replaced = jnp.where(jnp.isfinite(value), value, REPLACED_LOG_DENSITY)
    finite = _all_finite(values)
    return (replaced, *(jnp.where(finite, score, 0.0) for score in scores))
