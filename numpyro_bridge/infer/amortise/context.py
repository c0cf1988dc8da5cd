"""Context: data as the vector that a conditional network reads, and whether it is familiar."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from numpyro_bridge.atlas.maps import DenseMap

LINEAR_UP_TO = 2.0
"""Scales from the median beyond which an entry grows logarithmically."""

NOISE = 0.01
"""Scales by which entries that hang together exactly may still differ."""

Summaries = Callable[[dict[str, Array]], Any]
"""From values of the observed sites by name to a pytree of numbers."""

Context = Float[Array, " features"]


def all_values(data: dict[str, Array]) -> dict[str, Array]:
    """The data themselves, the default of `summaries`."""
    return data


def flattened(summaries: Summaries, data: dict[str, Array]) -> Context:
    """All summaries of one data set, in one vector."""
    leaves = jax.tree.leaves(summaries(data))
    if not leaves:
        raise ValueError("summaries should return numbers or arrays made of the data, got none")
    return jnp.concatenate([jnp.ravel(leaf).astype(float) for leaf in leaves])


class ContextScale(eqx.Module):
    r"""Brings every entry of the flattened data to a common scale.

    $$u = (x - \text{median}) / \text{scale}, \qquad
      c = \begin{cases} u & |u| \le 2 \\ 2\,\mathrm{sign}(u)\,(1 + \log(|u| / 2)) & |u| > 2
      \end{cases}$$

    The scale is the interquartile range of the simulations, that of a normal law taken for one.
    Prior predictive laws may have tails without moments: the logarithm keeps their order and leaves
    the bulk as it is.
    """

    median: Context
    scale: Context
    low: Context
    """The smallest value of every entry among the simulations."""
    high: Context
    law: DenseMap
    """Mean and covariance of the contexts of the simulations."""
    farthest: Float[Array, ""]
    """The largest distance of a simulation from the mean, in that covariance."""

    def __call__(self, values: Context) -> Context:
        """The context of flattened data."""
        return compressed((values - self.median) / self.scale)

    @property
    def size(self) -> int:
        """Entries of a context."""
        return self.median.size

    def num_beyond(self, values: Context) -> int:
        """How many entries lie outside all that simulations had there."""
        return int(jnp.sum((values < self.low) | (values > self.high)))

    def is_far(self, values: Context) -> bool:
        """Whether the entries together are further from the mean than those of any simulation."""
        return bool(jnp.linalg.norm(self.law.inverse(self(values))) > self.farthest)


def compressed(u: Context) -> Context:
    """Linear in the middle, logarithmic beyond, with a continuous derivative."""
    size = jnp.maximum(jnp.abs(u), LINEAR_UP_TO)
    beyond = LINEAR_UP_TO * jnp.sign(u) * (1 + jnp.log(size / LINEAR_UP_TO))
    return jnp.where(jnp.abs(u) > LINEAR_UP_TO, beyond, u)


@jax.jit
def context_scale(values: Float[Array, "num features"]) -> ContextScale:
    """Fit the scale to flattened data of simulations, one a row, finite."""
    median, scale = median_and_scale(values)
    contexts = jax.vmap(compressed)((values - median) / scale)
    mean = jnp.mean(contexts, axis=0)
    covariance = jnp.atleast_2d(jnp.cov(contexts, rowvar=False)) + NOISE**2 * jnp.eye(len(mean))
    law = DenseMap(mean, jnp.linalg.cholesky(covariance))
    farthest = jnp.max(jnp.linalg.norm(jax.vmap(law.inverse)(contexts), axis=1))
    low, high = jnp.min(values, axis=0), jnp.max(values, axis=0)
    return ContextScale(median, scale, low, high, law, farthest)


def median_and_scale(values: Float[Array, "num features"]) -> tuple[Context, Context]:
    """Median of every column, and a scale that tails do not move; positive for constants too."""
    low, quarter, median, three_quarters, high = jnp.quantile(
        values, jnp.asarray([0.0, 0.25, 0.5, 0.75, 1.0]), axis=0
    )
    # Counts that are nearly always the same have no interquartile range; constants no range.
    scale = (three_quarters - quarter) / 1.349
    scale = jnp.where(scale > 0, scale, 0.5 * (high - low))
    return median, jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1.0)
