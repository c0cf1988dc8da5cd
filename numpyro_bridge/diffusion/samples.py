"""Samples: the draws that a denoising loss learns from, and the losses that it reports."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge._core.types import RNGKey


class Samples(NamedTuple):
    """Draws to learn from, one a row, in the coordinates that the denoiser is trained in.

    >>> samples = nb.diffusion.Samples(jax.random.normal(key, (1_000, 2)))
    >>> samples.minibatch(key, 64).position.shape
    (64, 2)
    """

    position: Float[Array, "num dim"]
    log_weight: Float[Array, " num"] | None = None
    """Log importance weights, in nats, up to a constant; equal if not given."""
    score: Float[Array, "num dim"] | None = None
    """Gradient of the log density that the draws are from, where it is known."""
    noise: Float[Array, "num dim"] | None = None
    """The noise that each draw is paired with, as in reflow; drawn independently if not given."""
    context: Float[Array, "num features"] | None = None
    """What each draw is conditioned on, for a conditional denoiser."""

    def minibatch(self, rng_key: RNGKey, num: int) -> "Samples":
        """`num` equally weighted rows, drawn with replacement in proportion to the weights."""
        total = len(self.position)
        uniform = jax.random.uniform(rng_key, (num,), self.position.dtype)
        if self.log_weight is None:
            index = jnp.floor(uniform * total).astype(int)
        else:
            cumulative = jnp.cumsum(jax.nn.softmax(self.log_weight))
            index = jnp.searchsorted(cumulative, uniform * cumulative[-1], side="right")
        index = jnp.minimum(index, total - 1)
        unweighted = self._replace(log_weight=None)
        return jax.tree.map(lambda leaf: leaf[index], unweighted)


class SampleLosses(NamedTuple):
    """The loss of each draw in a batch, in nats, for training to report on."""

    loss: Float[Array, " num"]
