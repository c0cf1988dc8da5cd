"""What steers a bent map: directions, or coordinates, along which the curvature changes most."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from numpyro_bridge._core.quick_jit import quick_jit
from numpyro_bridge._core.types import RNGKey, Scalar
from numpyro_bridge.atlas.coupling import most_leading
from numpyro_bridge.atlas.standardised_target import StandardisedTarget

NUM_SCORES = 16_384
"""Scores that steering is found from."""

THINNING, MANY_DIMENSIONS = 4, 64
"""In many dimensions, directions are found from one in so many of these scores, to save time."""

STEERING_SHARES = (0.75, 0.2)
"""Directions may steer if their strength is more than this share of that of the strongest.

With too few steering directions the fit leaves a gap on coupled bananas, and with too many on a
funnel, so that both numbers are tried, in one compiled program, and the higher ELBO decides;
`python -m benchmarks.bent_maps` shows how many there are on each.
"""

LEADING_SHARES = (0.2, 0.0)
"""The same for coordinates in place of directions; with 0, all that seem to steer at all."""

LEAST_KNOWN = 0.3
"""Directions are not tried where a smaller share of their strength is known from noise."""

FEW_DIMENSIONS = 3
"""Dimension up to which the fit is run twice, with the directions in either order.

To lowest order, two shapes have the same third derivatives: the width of $b$ may depend on $a$, or
the location of $a$ may depend on $b^2$. In few dimensions the wrong direction of the two may seem
the stronger one, so both orders are tried and the higher ELBO decides.
"""


class Frame(NamedTuple):
    """Orthonormal directions, as columns, the first of which steer."""

    directions: Float[np.ndarray, "dim dim"]
    num_leading: int


def frames_of(found: "Steering") -> tuple[list[Frame], list[Frame]]:
    """The frames to try: first those of steering directions, then those of the coordinates.

    Where the directions are noise, there are none of the first kind.
    """
    strength, directions, known, leading = map(np.asarray, found)
    dim = strength.size
    orders = [directions, directions[:, ::-1]] if 1 < dim <= FEW_DIMENSIONS else [directions]
    numbers = numbers_of_leading(strength, STEERING_SHARES)
    turned = [Frame(order, number) for order in orders for number in numbers]
    order = np.argsort(-leading, kind="stable")
    axes = np.eye(dim, dtype=directions.dtype)[:, order]
    numbers = numbers_of_leading(leading[order], LEADING_SHARES)
    along = [Frame(axes, number) for number in numbers] if dim > 1 else []
    return ([] if along and known < LEAST_KNOWN else turned), along


class Steering(NamedTuple):
    """How the curvature of a log density changes, and along what."""

    strength: Float[Array, " dim"]
    """How much the curvature changes along each direction, the strongest first."""
    directions: Float[Array, "dim dim"]
    """The directions, orthonormal, as columns."""
    known: Scalar
    """The share of all strength that is not noise."""
    leading: Float[Array, " dim"]
    """How much the curvatures of the other coordinates change along each coordinate."""


@quick_jit
def steering(rng_key: RNGKey, target: StandardisedTarget) -> Steering:
    """Find the directions along which the curvature of a log density changes, strongest first.

    Averaged over standard normal noise, the third derivatives $T$ of the log density follow from
    scores alone (Stein's identity). For a unit vector $v$, the matrix $T v$ says how the curvature
    changes along $v$, and its squared norm is the strength of this direction. The strengths of all
    directions, summed and divided by 12, are to lowest order the gap between the ELBO and the log
    evidence, in nats.

    Where many coordinates steer one other coordinate each, as local scales do, all directions are
    about as strong, and none of them tells the two apart. Coordinates do: the sum of $T_{abb}^2$
    over all other coordinates $b$ is large for those that steer. It is estimated by the products
    of two independent estimates, so that noise adds nothing to it on average.
    """
    dim, dtype = target.dim, jnp.result_type(float)
    noise = jax.random.normal(rng_key, (NUM_SCORES // 2, dim), dtype)
    noise = jnp.concatenate([noise, -noise])
    score = jax.vmap(lambda x: target.at(x).score)(noise)
    # Scores are cut to ten times a standard normal's length, so that no far draw dominates.
    longest = 10 * math.sqrt(dim)
    length = jnp.linalg.norm(score, axis=1, keepdims=True)
    rest = score * (longest / jnp.maximum(length, longest)) + noise

    some = THINNING if dim > MANY_DIMENSIONS else 1
    halves = [(noise[half::2], rest[half::2]) for half in (0, 1)]
    one, other = (_third(noise[::some], rest[::some]) for noise, rest in halves)
    third = (one + other) / 2
    values, vectors = jnp.linalg.eigh(jnp.einsum("abc,dbc->ad", third, third))
    known = jnp.sum(one * other) / jnp.maximum(jnp.sum(values), jnp.finfo(dtype).tiny)
    one, other = (_third_by_coordinate(noise, rest) for noise, rest in halves)
    products = one * other
    leading = jnp.sum(products, axis=1) - jnp.diagonal(products)
    return Steering(values[::-1], vectors[:, ::-1], known, leading)


def _third(noise, rest) -> Float[Array, "dim dim dim"]:
    """The mean third derivatives, from noise and scores to which the noise was added."""
    dim = noise.shape[1]

    def second_moments(column):
        return (noise * column[:, None]).T @ noise / len(noise) - jnp.mean(column) * jnp.eye(dim)

    third = jax.lax.map(second_moments, rest.T)
    return (third + third.transpose(1, 2, 0) + third.transpose(2, 0, 1)) / 3


def _third_by_coordinate(noise, rest) -> Float[Array, "dim dim"]:
    """How the curvature of each coordinate, a column, changes along each coordinate, a row."""
    first = rest.T @ noise**2 / len(noise) - jnp.mean(rest, axis=0)[:, None]
    second = noise.T @ (rest * noise) / len(noise)
    return (first + 2 * second) / 3


def numbers_of_leading(strength: np.ndarray, shares: Sequence[float]) -> list[int]:
    """How many may steer: those not much weaker than the strongest; no number twice.

    Args:
        strength: How strong each direction or coordinate is, the strongest first.
        shares: What share of the strongest the others must have.
    """
    most = most_leading(strength.size)
    return sorted({max(1, int(np.sum(strength[:most] > share * strength[0]))) for share in shares})
