"""Climbs to the tops of a density from many places at once, and the normal shape at each top."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import compile_ahead, quick_jit
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.atlas.maps import DenseMap, lower_factor
from numpyro_bridge.atlas.quasi_newton import lowest_from
from numpyro_bridge.target import REPLACED_LOG_DENSITY, Target

MAX_STEPS, MAX_EVALUATIONS = 60, 120
"""Quasi-Newton steps of a climb, and the gradients that they may take."""

NEWTON_STEPS, MOST_HESSIANS = (3, 20), 120
"""Newton steps after it, at least and at most, and how many gradients their Hessians may take.

They bring a climb that is nearly there to the top, and follow narrow valleys in few dimensions, in
which a quasi-Newton method gets stuck where scales differ by many powers of ten.
"""

SHARES = (1.0, 0.5, 0.2, 0.05, 0.01, 0.001)
"""Shares of a Newton step that are tried."""

THERE = 1e-14
"""Newton steps end where the next one has a squared length below this, in standard deviations."""

ARRIVED, ROUNDING = 0.01, 64
"""A climb has arrived where the next Newton step would be shorter than the root of the first
number, in standard deviations, or no longer than rounding of the density, by so many units in its
last place, would make it.

Along a narrow valley that bends, climbs that are further from the top look like tops of their own.
"""

NUM_PROBES = 16
"""Positions around a top at which its shape is checked."""


class Tops(NamedTuple):
    """Where climbs ended; one row for each."""

    normals: DenseMap
    """The normal distribution that has the curvature of the density at the top."""
    log_mass: Float[Array, " climbs"]
    """Log of the mass under that normal distribution, in nats (Laplace's approximation)."""
    arrived: Bool[Array, " climbs"]
    """Whether the climb ended at a top: the density curves down in all directions, and the next
    Newton step would be short."""
    num_evaluations: Int[Array, " climbs"]
    """Gradients that each climb evaluated; a Hessian counts as one for each dimension."""


def compile_climbs_ahead(rng_key: RNGKey, target: Target, num: int) -> None:
    """Begin to compile `climb_from` for so many starts."""
    starts = on_device(np.zeros((num, target.dim)), jnp.result_type(float))
    compile_ahead(climb_from, rng_key, target, starts)


@quick_jit
def climb_from(rng_key: RNGKey, target: Target, starts: Float[Array, "climbs dim"]) -> Tops:
    """Climb by BFGS from each start, all in one program, then take a few Newton steps."""
    num_newton = int(np.clip(MOST_HESSIANS // target.dim, *NEWTON_STEPS))

    def cost(position):
        return -target.log_density(position)

    def one(key, start):
        climb = lowest_from(cost, start, max_steps=MAX_STEPS, max_evaluations=MAX_EVALUATIONS)
        found = _newton(cost, climb.position, num_newton)
        top, height, factor = found.position, found.height, found.factor
        rounding = ROUNDING * jnp.finfo(height.dtype).eps * jnp.abs(height)
        arrived = found.convex & (found.distance < ARRIVED + rounding)
        arrived = arrived & (height > REPLACED_LOG_DENSITY)
        arrived = arrived & _is_shaped_so(key, target, top, factor, height)
        log_det = jnp.sum(jnp.log(jnp.diagonal(factor)))
        log_mass = height + log_det + 0.5 * target.dim * np.log(2 * np.pi)
        num = climb.num_evaluations + found.num_steps * (target.dim + 2 + len(SHARES))
        return Tops(DenseMap(top, factor), log_mass, arrived & jnp.isfinite(log_mass), num)

    keys = jax.random.split(rng_key, len(starts))
    if target.innermost.has_loops:
        return jax.lax.map(lambda climb: one(*climb), (keys, starts))
    return jax.vmap(one)(keys, starts)


class _Newton(NamedTuple):
    """A position on the way to a top, and the Newton step from there."""

    position: Vector
    height: Scalar
    factor: Float[Array, "dim dim"]
    """The lower-triangular factor of the inverse curvature at the position."""
    convex: Bool[Array, ""]
    distance: Scalar
    """The squared length of the step, in standard deviations."""
    following: Vector
    """Where the step, or a share of it, leads."""
    ended: Bool[Array, ""]
    num_steps: Int[Array, ""]


def _newton(cost, start: Vector, most_steps: int) -> _Newton:
    """Newton steps until the next one would be short or lead nowhere lower."""

    def goes_on(so_far: _Newton):
        return ~so_far.ended & (so_far.num_steps <= most_steps)

    def turn(so_far: _Newton) -> _Newton:
        position = so_far.following
        step, factor, convex = _newton_step(cost, position)
        candidates = position + jnp.asarray(SHARES, step.dtype)[:, None] * step
        costs = jax.vmap(cost)(candidates)
        best = jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf))
        here = cost(position)
        lower = costs[best] < here  # False where it is not finite
        distance = jnp.sum(jax.scipy.linalg.solve_triangular(factor, step, lower=True) ** 2)
        return _Newton(
            position=position,
            height=-here,
            factor=factor,
            convex=convex,
            distance=distance,
            following=jnp.where(lower, candidates[best], position),
            ended=~lower | (convex & (distance < THERE)),
            num_steps=so_far.num_steps + 1,
        )

    nothing = jnp.zeros_like(start[0])
    no = nothing > 0
    square = jnp.eye(start.size, dtype=start.dtype)
    first = _Newton(start, nothing, square, no, nothing, start, no, jnp.zeros((), int))
    return jax.lax.while_loop(goes_on, turn, first)


def _is_shaped_so(rng_key, target: Target, top, factor, height) -> Bool[Array, ""]:
    """Whether the density falls, one standard deviation away, by roughly what its curvature says.

    At the top of a ridge, a curvature that is nearly zero stands for no scale at all.
    """
    noise = jax.random.normal(rng_key, (NUM_PROBES, top.size), top.dtype)
    around = jax.vmap(target.log_density)(top + noise @ factor.T)
    drop = (height - jnp.mean(around)) / (0.5 * top.size)
    return (drop > 0.1) & (drop < 50)


def _newton_step(cost, position):
    """The Newton step, the factor of the inverse curvature, and whether the cost is convex here.

    The curvature is scaled to ones on its diagonal before it is decomposed, since coordinates may
    differ in scale by many orders of magnitude.
    """
    gradient = jax.grad(cost)(position)
    hessian = jax.jacrev(jax.grad(cost))(position)
    diagonal = jnp.diagonal(hessian)
    size = jnp.abs(diagonal)
    scale = jnp.where(size > 0, jax.lax.rsqrt(jnp.where(size > 0, size, 1.0)), 1.0)
    values, vectors = jnp.linalg.eigh(scale[:, None] * hessian * scale)
    convex = jnp.all(diagonal > 0) & (values[0] > 1e-5)
    # Where the density curves up, a step by the size of the curvature leads away from there.
    values = jnp.where(values > 1e-5, values, jnp.maximum(jnp.abs(values), 1e-2))
    root = scale[:, None] * (vectors / jnp.sqrt(values))
    return -root @ (root.T @ gradient), lower_factor(root), convex
