"""Context: the vector that a conditional network reads of the data, and whether it is unusual."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge.atlas.maps import DenseMap

LINEAR_UP_TO = 2.0
"""Entries grow linearly up to this many scales from the median, and logarithmically beyond."""

NOISE = 0.01
"""Noise, in scales, that is allowed for in entries that depend on each other exactly."""

Summaries = Callable[[dict[str, Array]], Any]
"""A function from values of the observed sites, by name, to a pytree of numbers."""

Context = Float[Array, " features"]


def all_values(data: dict[str, Array]) -> dict[str, Array]:
    """The data as they are; the default of `summaries`."""
    return data


def flattened(summaries: Summaries, data: dict[str, Array]) -> Context:
    """Join all summaries of one data set into a vector."""
    leaves = jax.tree.leaves(summaries(data))
    if not leaves:
        raise ValueError("summaries should return numbers or arrays made of the data, got none")
    return jnp.concatenate([jnp.ravel(leaf).astype(float) for leaf in leaves])


class ContextScale(eqx.Module):
    r"""Bring every entry of the flattened data to a common scale.

    $$u = (x - \text{median}) / \text{scale}, \qquad
      c = \begin{cases} u & |u| \le 2 \\ 2\,\mathrm{sign}(u)\,(1 + \log(|u| / 2)) & |u| > 2
      \end{cases}$$

    The scale comes from the interquartile range of the simulations; for a normal distribution it is
    the standard deviation. Prior predictive distributions may have tails without moments: the
    logarithm shortens them, keeps the order of the values, and leaves the bulk as it is.
    """

    median: Context
    scale: Context
    low: Context
    """The smallest value of every entry among the simulations."""
    high: Context
    """The largest value of every entry among the simulations."""
    normal: DenseMap
    """The normal distribution with the mean and covariance of the contexts of the simulations."""
    farthest: Float[Array, ""]
    """The largest distance of a simulation from the mean, in standard deviations of `normal`."""

    def __call__(self, values: Context) -> Context:
        """The context of flattened data."""
        return compressed((values - self.median) / self.scale)

    @property
    def size(self) -> int:
        """Number of entries of a context."""
        return self.median.size

    def num_beyond(self, values: Context) -> int:
        """How many entries lie outside the range that they have among the simulations."""
        return int(jnp.sum((values < self.low) | (values > self.high)))

    def is_far(self, values: Context) -> bool:
        """Whether the context as a whole is further from the mean than that of any simulation."""
        return bool(jnp.linalg.norm(self.normal.inverse(self(values))) > self.farthest)


def compressed(u: Context) -> Context:
    """Compress values: linearly near zero and logarithmically beyond, with a smooth join."""
    size = jnp.maximum(jnp.abs(u), LINEAR_UP_TO)
    beyond = LINEAR_UP_TO * jnp.sign(u) * (1 + jnp.log(size / LINEAR_UP_TO))
    return jnp.where(jnp.abs(u) > LINEAR_UP_TO, beyond, u)


@jax.jit
def context_scale(values: Float[Array, "num features"]) -> ContextScale:
    """Fit the scale to the flattened, finite data of simulations, one a row."""
    median, scale = median_and_scale(values)
    contexts = jax.vmap(compressed)((values - median) / scale)
    mean = jnp.mean(contexts, axis=0)
    covariance = jnp.atleast_2d(jnp.cov(contexts, rowvar=False)) + NOISE**2 * jnp.eye(len(mean))
    normal = DenseMap(mean, jnp.linalg.cholesky(covariance))
    farthest = jnp.max(jnp.linalg.norm(jax.vmap(normal.inverse)(contexts), axis=1))
    low, high = jnp.min(values, axis=0), jnp.max(values, axis=0)
    return ContextScale(median, scale, low, high, normal, farthest)


def median_and_scale(values: Float[Array, "num features"]) -> tuple[Context, Context]:
    """The median of every column, and a positive scale that does not depend on the tails."""
    low, quarter, median, three_quarters, high = jnp.quantile(
        values, jnp.asarray([0.0, 0.25, 0.5, 0.75, 1.0]), axis=0
    )
    # Counts that are nearly always the same have an interquartile range of zero.
    scale = (three_quarters - quarter) / 1.349
    scale = jnp.where(scale > 0, scale, 0.5 * (high - low))
    return median, jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1.0)
