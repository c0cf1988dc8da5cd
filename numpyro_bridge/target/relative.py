"""Take log densities relative to a place near the top, where they are large."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from numpyro_bridge._core.quick_jit import brief_jit, quick_jit
from numpyro_bridge._core.types import RNGKey, Scalar, Vector
from numpyro_bridge.target.arguments import holds_tracers
from numpyro_bridge.target.base import Target
from numpyro_bridge.target.reference import spacing

COARSE = 5e-4
"""Distance of neighbouring numbers, in nats, from which on a reference is worth its cost."""

NUM_STARTS = 8
"""Starting points, of which the highest is climbed from."""

NUM_STEPS = 200
"""Steps of that climb. It need not arrive: some hundred nats below the top are near enough."""


def with_reference(rng_key: RNGKey, target: Target) -> Target:
    """The target relative to a place near its top, if its log densities are large; else itself.

    Raises:
        ValueError: if no starting point is finite.
    """
    starts = target.initial_positions(rng_key, NUM_STARTS)
    if holds_tracers(starts):
        return target
    start, height = _highest(target, starts)
    if spacing(float(height)) < COARSE:
        return target
    position, height = _climbed(target, start)
    if spacing(float(height)) < COARSE:
        return target
    return target.relative_to(position)


@brief_jit
def _highest(target: Target, starts: Float[Array, "starts dim"]) -> tuple[Vector, Scalar]:
    heights = jax.vmap(target.log_density)(starts)
    best = jnp.argmax(heights)
    return starts[best], heights[best]


@quick_jit
def _climbed(target: Target, start: Vector) -> tuple[Vector, Scalar]:
    """Climb by the quasi-Newton method L-BFGS, and return the highest position on the way."""

    def cost(position):
        return -target.log_density(position)

    optimiser = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(cost)

    def step(carry, _):
        position, state, best, least = carry
        value, gradient = value_and_grad(position, state=state)
        lower = value < least  # False where it is not finite
        best, least = jnp.where(lower, position, best), jnp.where(lower, value, least)
        updates, state = optimiser.update(
            gradient, state, position, value=value, grad=gradient, value_fn=cost
        )
        return (optax.apply_updates(position, updates), state, best, least), None

    first = (start, optimiser.init(start), start, cost(start))
    (_, _, best, least), _ = jax.lax.scan(step, first, length=NUM_STEPS)
    return best, -least
