"""A search for starting points: positions where log density and score are finite."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from numpyro_bridge._core.on_device import on_device
from numpyro_bridge._core.quick_jit import brief_jit
from numpyro_bridge._core.types import RNGKey, Vector
from numpyro_bridge.target.arguments import holds_tracers
from numpyro_bridge.target.point import Point

NUM_ROUNDS = 100
"""How often a position that is not finite is drawn again, as in NumPyro's NUTS."""

Rows = TypeVar("Rows")


class StartingPoints(NamedTuple):
    """Positions, one a row, and which of them can be started from."""

    positions: Float[Array, "num dim"]
    finite: Bool[Array, " num"]

    @property
    def known_to_be_complete(self) -> bool:
        """Whether every one is known to be finite; inside a JAX transformation nothing is known."""
        return not holds_tracers(self.finite) and bool(np.all(np.asarray(self.finite)))


def no_starting_points(num: int, dim: int) -> StartingPoints:
    """Where a search begins: nothing is finite yet."""
    positions = np.zeros((num, dim), jnp.result_type(float))
    return StartingPoints(on_device(positions), on_device(np.zeros(num, bool)))


@brief_jit
def search(
    rng_key: RNGKey,
    found: StartingPoints,
    draw: Callable[[RNGKey], Float[Array, "num dim"]],
    evaluate: Callable[[Vector], Point],
) -> StartingPoints:
    """Draw anew, up to 100 times, the positions that are not finite.

    Args:
        rng_key: A JAX key.
        found: What an earlier search has found; its finite rows are kept.
        draw: Draws a whole batch of candidates.
        evaluate: The target at one position.
    """

    def unfinished(state):
        num_tries, _, found = state
        return (num_tries < NUM_ROUNDS) & ~jnp.all(found.finite)

    def draw_again(state):
        num_tries, rng_key, (positions, finite) = state
        rng_key, draw_key = jax.random.split(rng_key)
        candidates = draw(draw_key).astype(positions.dtype)
        positions = jnp.where(finite[:, None], positions, candidates)
        finite = finite | jax.vmap(evaluate)(candidates).finite
        return num_tries + 1, rng_key, StartingPoints(positions, finite)

    return jax.lax.while_loop(unfinished, draw_again, (jnp.array(0), rng_key, found))[-1]


class UniformDraws(eqx.Module):
    """Batches of positions as NUTS starts from: uniform on (-2, 2) in every coordinate."""

    num: int
    dim: int

    def __call__(self, rng_key: RNGKey) -> Float[Array, "{self.num} {self.dim}"]:
        """Draw one batch."""
        return jax.random.uniform(rng_key, (self.num, self.dim), minval=-2.0, maxval=2.0)


def known_to_fail(good: Bool[Array, " num"]) -> bool:
    """Whether every one is known to be bad; inside a JAX transformation nothing is known."""
    return not holds_tracers(good) and not np.any(np.asarray(good))


def why_nowhere(num: int, *, of_model: bool) -> str:
    """What to tell if no search has found any starting point.

    Args:
        num: How many positions each round had.
        of_model: Whether the density is that of a model, so that its prior was drawn from as well.
    """
    text = (
        "No starting point with a finite log density and gradient in "
        f"{NUM_ROUNDS} rounds of {num} uniform draws on (-2, 2)^dim"
    )
    if not of_model:
        return f"{text}. Check the log density there, or shift and rescale its argument."
    return (
        f"{text}, nor in as many draws from the prior, if it can be drawn from. If a factor or an "
        "observation allows a small part of the prior only, write that into the prior itself, as "
        "dist.TruncatedNormal(low=3.0) in place of a factor that is -inf below 3."
    )


@jax.jit
def repeat_good_rows(rows: Rows, good: Bool[Array, " num"]) -> Rows:
    """Overwrite each bad row by a good one, taking the good ones in turn.

    >>> rows, good = jnp.array([1.0, 2.0, 3.0]), jnp.array([True, False, True])
    >>> nb.target.repeat_good_rows(rows, good).tolist()
    [1.0, 1.0, 3.0]

    Args:
        rows: A pytree of arrays whose leading axis counts rows.
        good: Which rows to keep.
    """
    good_first = jnp.argsort(~good, stable=True)
    turn = (jnp.cumsum(~good) - 1) % jnp.maximum(jnp.sum(good), 1)
    index = jnp.where(good, jnp.arange(len(good)), good_first[turn])
    return jax.tree.map(lambda leaf: leaf[index], rows)
