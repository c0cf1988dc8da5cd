"""BFGS in which every turn of the loop evaluates one gradient, so that many climbs run abreast."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.types import Scalar, Vector

ENOUGH_DECREASE, ENOUGH_FLATTER = 1e-4, 0.9
"""A step is taken where the cost falls by this share of what its slope promised, and where the
slope along the step has become flatter by the other: the weak conditions of Wolfe."""

TOLERANCE = 1e-10
"""A climb ends where the next step promises to lower the cost by less than about this."""

SCALES = 1e-6, 1e3
"""The smallest and the largest length that a climb may begin with."""

MAX_TRIALS = 10
"""Lengths that are tried for one step. After them a step that lowers the cost at all is taken."""


class Lowest(NamedTuple):
    """Where a climb ended."""

    position: Vector
    num_evaluations: Int[Array, ""]
    """Evaluations of the cost with its gradient."""


class _Climb(NamedTuple):
    """A climb on its way: where it is, and the step that is being tried."""

    position: Vector
    cost: Scalar
    gradient: Vector
    inverse: Float[Array, "dim dim"]
    """The estimate of the inverse curvature."""
    direction: Vector
    length: Scalar
    """The length of the step that is tried next, as a share of the direction."""
    too_short: Scalar
    too_long: Scalar
    num_trials: Int[Array, ""]
    num_steps: Int[Array, ""]
    num_evaluations: Int[Array, ""]
    done: Bool[Array, ""]


def lowest_from(
    cost: Callable[[Vector], Scalar], start: Vector, *, max_steps: int, max_evaluations: int
) -> Lowest:
    """Follow the cost down by BFGS, in units of the length that the cost has at the start.

    The loop over steps and the search for the length of each step are one loop. Of many climbs that
    a compiled program makes side by side, some search while others step; loops inside of loops
    would make all of them wait for the longest search at every step.

    Args:
        cost: What is to be low; not a number counts as high.
        start: Where to begin.
        max_steps: Steps at most.
        max_evaluations: Evaluations of the cost and its gradient at most.

    Source: Nocedal and Wright, *Numerical Optimization*, second edition, chapters 3 and 6; for the
    search Lewis and Overton, *Nonsmooth optimization via quasi-Newton methods*, 2013.
    """
    scale = scale_at(cost, start)
    evaluated = jax.value_and_grad(lambda moved: cost(start + scale * moved))

    def goes_on(climb: _Climb):
        return ~climb.done & (climb.num_evaluations < max_evaluations)

    def turn(climb: _Climb) -> _Climb:
        trial = climb.position + climb.length * climb.direction
        height, gradient = evaluated(trial)
        usable = jnp.isfinite(height) & jnp.all(jnp.isfinite(gradient))
        slope = climb.gradient @ climb.direction
        falls = usable & (height <= climb.cost + ENOUGH_DECREASE * climb.length * slope)
        flatter = gradient @ climb.direction >= ENOUGH_FLATTER * slope
        last = climb.num_trials + 1 >= MAX_TRIALS
        taken = (falls & flatter) | (last & usable & (height < climb.cost))
        stepped = _stepped(climb, trial, height, gradient, max_steps)
        searched = _searched(climb, height, slope, falls, last)
        following = jax.tree.map(lambda a, b: jnp.where(taken, a, b), stepped, searched)
        return following._replace(num_evaluations=climb.num_evaluations + 1)

    ended = jax.lax.while_loop(goes_on, turn, _begun(*evaluated(jnp.zeros_like(start))))
    end = start + scale * ended.position
    usable = jnp.all(jnp.isfinite(end))
    # What the scale took, and the start, are two evaluations more.
    return Lowest(jnp.where(usable, end, start), ended.num_evaluations + 2)


def _begun(height: Scalar, gradient: Vector) -> _Climb:
    """The climb at its start; of the curvature no more is known than that a length of one is right.

    So the first step is no longer than that.
    """
    zero, none = jnp.zeros_like(height), jnp.zeros((), int)
    size = jnp.linalg.norm(gradient)
    return _Climb(
        position=jnp.zeros_like(gradient),
        cost=height,
        gradient=gradient,
        inverse=jnp.eye(gradient.size, dtype=gradient.dtype),
        direction=-gradient / jnp.maximum(size, 1.0),
        length=zero + 1.0,
        too_short=zero,
        too_long=zero + jnp.inf,
        num_trials=none,
        num_steps=none,
        num_evaluations=none + 1,
        done=~jnp.isfinite(size) | (size == 0),
    )


def _stepped(climb: _Climb, position, height, gradient, max_steps: int) -> _Climb:
    """The climb after a step, with what the step says of the curvature."""
    step, change = position - climb.position, gradient - climb.gradient
    along = step @ change
    curved = along > 1e-10 * jnp.linalg.norm(step) * jnp.linalg.norm(change)
    along = jnp.where(curved, along, 1.0)
    first = climb.num_steps == 0
    size = jnp.where(
        first & curved, along / jnp.maximum(change @ change, jnp.finfo(change.dtype).tiny), 1.0
    )
    inverse = size * climb.inverse
    moved = inverse @ change
    scaled = (1.0 + change @ moved / along) / along
    updated = (
        inverse
        + scaled * jnp.outer(step, step)
        - (jnp.outer(moved, step) + jnp.outer(step, moved)) / along
    )
    inverse = jnp.where(curved, updated, inverse)
    direction = -inverse @ gradient
    num_steps = climb.num_steps + 1
    done = (num_steps >= max_steps) | ~(gradient @ direction < -TOLERANCE)
    return climb._replace(
        position=position,
        cost=height,
        gradient=gradient,
        inverse=inverse,
        direction=direction,
        length=jnp.ones_like(height),
        too_short=jnp.zeros_like(height),
        too_long=jnp.full_like(height, jnp.inf),
        num_trials=jnp.zeros_like(climb.num_trials),
        num_steps=num_steps,
        done=done,
    )


def _searched(climb: _Climb, height, slope, falls, last) -> _Climb:
    """The climb with another length of the same step."""
    length = climb.length
    too_short = jnp.where(falls, length, climb.too_short)
    too_long = jnp.where(falls, climb.too_long, length)
    # Where the cost rose, a parabola says where its lowest point lies.
    bend = height - climb.cost - length * slope
    parabola = -0.5 * slope * length**2 / jnp.where(bend > 0, bend, 1.0)
    trusted = ~falls & (climb.too_short == 0) & jnp.isfinite(height) & (bend > 0)
    middle = 0.5 * (too_short + too_long)
    within = jnp.where(trusted, jnp.clip(parabola, 0.1 * length, 0.5 * length), middle)
    following = jnp.where(jnp.isfinite(too_long), within, 2.0 * length)
    return climb._replace(
        length=following,
        too_short=too_short,
        too_long=too_long,
        num_trials=climb.num_trials + 1,
        done=last,
    )


def scale_at(cost: Callable[[Vector], Scalar], start: Vector) -> Scalar:
    """A length by the curvature along the gradient, for a first step that is about right.

    With steps as long as the gradient, climbs in narrow modes would leave them at once.
    """
    gradient = jax.grad(cost)(start)
    along = jax.lax.stop_gradient(gradient)
    # In reverse mode, since a model need not have any other derivatives.
    bend = jax.grad(lambda position: jax.grad(cost)(position) @ along)(start)
    curvature = jnp.abs(along @ bend) / (along @ along)
    known = jnp.isfinite(curvature) & (curvature > 0)
    scale = jax.lax.rsqrt(jnp.where(known, curvature, 1.0))
    return jnp.where(known, jnp.clip(scale, *SCALES), 1.0)
